// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"

	"github.com/ripstop/ripstop/daemon/api"
)

// EntityText is one side of a rule in words, as explain says it: "role ==
// 'web' and port 80"; empty: anything.
func EntityText(e api.EntityRule) string { return entityText(e) }

// Peers gives a test of addresses: whether they are what one side of a rule of
// the policy or profile "of" asks for. Ports are not looked at. What cannot be
// read restricts nothing.
func (w *World) Peers(of api.Key, e api.EntityRule) func(netip.Addr) bool {
	positive, negative, err := entitySelectors(e, of)
	if err != nil {
		positive, negative = nil, nil
	}
	nets, not := lenientNets(e.Nets), lenientNets(e.NotNets)
	return func(a netip.Addr) bool {
		a = plain(a)
		return (positive == nil || w.selects(positive, a)) && (negative == nil || !w.selects(negative, a)) &&
			(len(nets) == 0 || inAny(nets, a)) && !inAny(not, a)
	}
}
