// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"iter"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

// Questions are what a case asks of the World: one for each pair of ends that
// can send each other something over a network, in an order in which each end
// comes early. It fails if an end stands for nothing.
func Questions(c *api.PolicyTestCase, w *policy.World) (iter.Seq[policy.Query], error) {
	from, err := ends(w, "from", c.From)
	if err != nil {
		return nil, err
	}
	to, err := ends(w, "to", c.To)
	if err != nil {
		return nil, err
	}
	if to, err = withPorts(to, c); err != nil {
		return nil, err
	}
	return func(yield func(policy.Query) bool) {
		for a, b := range spread(from, to) {
			if !possible(a, b, c.Protocol.Number()) {
				continue
			}
			q := policy.Query{Protocol: c.Protocol.Number(), From: a.place, To: b.place}
			q.ICMPType, q.ICMPCode = icmp(c)
			if !yield(q) {
				return
			}
		}
	}, nil
}

// Echo requests of ICMP (RFC 792) and ICMPv6 (RFC 4443).
const (
	echoRequest       = 8
	echoRequestICMPv6 = 128
)

// icmp is the type and code of a valid case: of other protocols none.
func icmp(c *api.PolicyTestCase) (kind, code *uint8) {
	var k, n uint8
	switch c.Protocol.Number() {
	case 1:
		k = echoRequest
	case 58:
		k = echoRequestICMPv6
	default:
		return nil, nil
	}
	if c.ICMPType != nil {
		k = uint8(*c.ICMPType)
	}
	if c.ICMPCode != nil {
		n = uint8(*c.ICMPCode)
	}
	return &k, &n
}
