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
			q.ICMPType, q.ICMPCode = octet(c.ICMPType), octet(c.ICMPCode)
			if !yield(q) {
				return
			}
		}
	}, nil
}

// octet is a number of a valid case as questions have it.
func octet(n *int) *uint8 {
	if n == nil {
		return nil
	}
	o := uint8(*n)
	return &o
}
