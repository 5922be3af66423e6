// SPDX-License-Identifier: Apache-2.0

package iptables_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/filtertest"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// TestNetnsRoom: agents that were killed between making a set and using it have
// left sets under all the names that one has. The next change of the set and
// its rules makes room for itself at once. Where others use those sets, there
// is none: then the rules stay as they were, for new rules would look into what
// the set held before.
func TestNetnsRoom(t *testing.T) {
	eachVariant(t, func(t *testing.T, name string, v iptables.Variant) {
		inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
		var f *iptables.Filter
		const members = 2
		show := func(i int) { // 10.1.0.2 and .3 to port 1, or .4 and .5 to port 2
			rule := verb(ruleset.Accept, uint16(1+i))
			rule.Match.Family, rule.Match.SrcSets = ruleset.IPv4, []string{"s"}
			f.Want(filtertest.ChainID("in"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: []ruleset.Rule{rule, verb(ruleset.Drop, 0)}})
			for m := range members {
				f.Want(filtertest.MemberID("s", fmt.Sprintf("10.1.0.%d/32", 2+members*i+m)), ruleset.Member{})
				f.Unwant(filtertest.MemberID("s", fmt.Sprintf("10.1.0.%d/32", 2+members*(1-i)+m)))
			}
		}
		start := func(i int) {
			f = open(t, inj.NS, config(v))
			f.Want(filtertest.SetID("s"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
			show(i)
		}
		check := func(when string, i int) {
			t.Helper()
			for host := range byte(2 * members) {
				for port := range uint16(2) {
					p := tcp(1 + port)
					p.Src = netip.AddrFrom4([4]byte{10, 1, 0, 2 + host})
					if got, want := inj.In("rstun0", p), int(port) == i && int(host)/members == i; got != want {
						t.Errorf("%s: %v to port %d: admitted %v, want %v", when, p.Src, p.DstPort, got, want)
					}
				}
			}
		}
		litter := func() {
			inj.NS.Run("sh", "-ec", "for n in '' $(seq -f '~%g' 7); do ipset create rs-s$n hash:net maxelem 2097152 -exist; done")
		}
		left := func() int { return strings.Count(inj.NS.Run("ipset", "list", "-n"), "rs-s") }

		start(0)
		reconcile(t, f)
		check("at first", 0)
		litter()
		show(1)
		reconcile(t, f)
		check("a change among what was left", 1)
		reconcile(t, f)
		if n := left(); n != 1 {
			t.Errorf("%d sets are left, want one", n)
		}
		litter()
		f.Close()
		start(0)
		reconcile(t, f)
		check("a start among what was left", 0)

		litter()
		inj.NS.Run("sh", "-ec", "for n in '' $(seq -f '~%g' 7); do iptables-"+name+" -t nat -A POSTROUTING -m set --match-set rs-s$n src -j RETURN; done")
		show(1)
		if _, err := f.Reconcile(t.Context()); err == nil || !strings.Contains(err.Error(), "no free name for rs-s") {
			t.Errorf("no room: %v, want an error that says so", err)
		}
		check("no room", 0)
		inj.NS.Run("iptables-"+name, "-t", "nat", "-F", "POSTROUTING")
		for range 100 { // rules that nf_tables has deleted give up their sets some time later
			if _, err := f.Reconcile(t.Context()); err == nil {
				break
			}
		}
		reconcile(t, f)
		check("room again", 1)
	})
}
