// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

var seed = flag.Uint64("seed", 0, "seed of the random tests; 0: from the clock")

func newRand(t *testing.T) *rand.Rand {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// world is a consistent picture of intents that random steps change.
type world struct {
	r     *rand.Rand
	facts map[intent.Key]intent.Value
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func (w *world) entity() intent.Entity {
	var e intent.Entity
	switch w.r.IntN(6) {
	case 0:
		e.Nets = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	case 1:
		e.NotNets = []netip.Prefix{netip.MustParsePrefix("fd00::/8")}
	case 2:
		e.Set = pick(w.r, "s1", "s2")
	case 3:
		e.NotSet = pick(w.r, "s1", "s2")
	}
	switch w.r.IntN(5) {
	case 0:
		e.Ports = []intent.PortRange{{Min: 80, Max: 80}, {Min: 90, Max: 99}}
	case 1:
		e.NamedPorts = []string{"n1"}
	case 2:
		e.NotPorts = []intent.PortRange{{Min: 1, Max: 9}}
	}
	return e
}

func (w *world) rules() []intent.Rule {
	var out []intent.Rule
	for i := range w.r.IntN(4) {
		r := intent.Rule{Action: pick(w.r, api.Allow, api.Deny, api.Pass, api.Log), Index: i, Protocol: pick[uint8](w.r, 0, 6, 17)}
		if w.r.IntN(2) == 0 {
			r.Source = w.entity()
		} else {
			r.Destination = w.entity()
		}
		r.Never = w.r.IntN(10) == 0
		out = append(out, r)
	}
	return out
}

func (w *world) tiers() []intent.Tier {
	var out []intent.Tier
	for _, name := range []string{"t1", "t2"} {
		t := intent.Tier{Name: name, DefaultPass: w.r.IntN(2) == 0}
		for k := range w.facts {
			if k.Kind == intent.KindPolicy && w.r.IntN(2) == 0 {
				if w.r.IntN(3) > 0 {
					t.Ingress = append(t.Ingress, k.Policy)
				}
				if w.r.IntN(3) > 0 {
					t.Egress = append(t.Egress, k.Policy)
				}
			}
		}
		out = append(out, t)
	}
	return out
}

// step makes a random change that keeps the picture consistent.
func (w *world) step() []intent.Change {
	set := func(k intent.Key, v intent.Value) []intent.Change {
		w.facts[k] = v
		return []intent.Change{{Key: k, Value: v}}
	}
	pol := func() intent.Key {
		return intent.Key{Kind: intent.KindPolicy, Policy: api.Key{Kind: api.KindGlobalNetworkPolicy, Name: fmt.Sprint("p", w.r.IntN(4))}}
	}
	switch w.r.IntN(9) {
	case 0:
		return set(intent.Key{Kind: intent.KindSettings}, &intent.Settings{
			DenyReject: w.r.IntN(2) == 0, AllowInvalid: w.r.IntN(2) == 0,
			FailsafeInbound:  []intent.Failsafe{{Protocol: 6, Port: 22}, {Protocol: 6, Port: uint16(w.r.IntN(3) + 1), Net: netip.MustParsePrefix("fd00::/8")}},
			WorkloadPrefixes: []string{"cali"}, InterfaceExclude: []string{"/^x/"}, LogPrefix: pick(w.r, "a", "b %t %k %p"),
			MaxSetSize: w.r.IntN(3),
		})
	case 1, 2:
		return set(pol(), &intent.Policy{Tier: "t", Ingress: w.rules(), Egress: w.rules()})
	case 3: // a policy goes: the endpoints stop listing it in the same batch
		k := pol()
		if _, ok := w.facts[k]; !ok {
			return nil
		}
		delete(w.facts, k)
		out := []intent.Change{{Key: k}}
		for ek := range w.facts {
			if ek.Kind == intent.KindHostEndpoint {
				out = append(out, set(ek, w.endpoint())...)
			}
		}
		return out
	case 4, 5:
		return set(intent.Key{Kind: intent.KindHostEndpoint, Name: fmt.Sprint("h", w.r.IntN(4))}, w.endpoint())
	case 6:
		k := intent.Key{Kind: intent.KindHostEndpoint, Name: fmt.Sprint("h", w.r.IntN(4))}
		delete(w.facts, k)
		return []intent.Change{{Key: k}}
	case 7:
		return set(intent.Key{Kind: intent.KindInterface, Name: pick(w.r, "lo", "eth0", "eth1", "cali1", "x0")},
			&intent.Interface{Up: true, Addrs: []netip.Addr{pick(w.r, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"))}})
	default:
		k := intent.Key{Kind: intent.KindMember, Name: "s1", Member: intent.Member{Net: netip.MustParsePrefix(fmt.Sprintf("10.0.%d.0/24", w.r.IntN(5)))}}
		if _, ok := w.facts[k]; ok {
			delete(w.facts, k)
			return []intent.Change{{Key: k}}
		}
		return set(k, intent.IsMember{})
	}
}

func (w *world) endpoint() *intent.HostEndpoint {
	ep := &intent.HostEndpoint{Interface: pick(w.r, "*", "*", "eth0", "eth9", "", "lo"), Tiers: w.tiers(), Profiles: []string{"pr"}}
	if ep.Interface == "" {
		ep.ExpectedIPs = []netip.Addr{netip.MustParseAddr("10.0.0.2")}
	}
	if w.r.IntN(2) == 0 {
		ep.ForwardTiers = w.tiers()
	}
	return ep
}

func newWorld(r *rand.Rand) (*world, []intent.Change) {
	w := &world{r: r, facts: map[intent.Key]intent.Value{}}
	for _, s := range []string{"s1", "s2"} {
		w.facts[intent.Key{Kind: intent.KindSet, Name: s}] = &intent.Set{Type: intent.Nets}
	}
	w.facts[intent.Key{Kind: intent.KindSet, Name: "n1"}] = &intent.Set{Type: intent.NamedPorts}
	w.facts[intent.Key{Kind: intent.KindProfile, Name: "pr"}] = &intent.Profile{Ingress: w.rules(), Egress: w.rules()}
	var first []intent.Change
	for k, v := range w.facts {
		first = append(first, intent.Change{Key: k, Value: v})
	}
	return w, first
}

// TestPlanner_PathDoesNotMatter: after any sequence of changes, flushed at any
// moment, the plan is the one that a new planner makes of the final picture;
// and no chain refers to what is not there.
func TestPlanner_PathDoesNotMatter(t *testing.T) {
	r := newRand(t)
	for round := range 300 {
		w, first := newWorld(r)
		got := ruleset.NewState()
		p := NewPlanner(got)
		for _, c := range first {
			p.Note(c)
		}
		for range r.IntN(40) {
			for _, c := range w.step() {
				p.Note(c)
			}
			if r.IntN(2) == 0 {
				p.Flush()
				checkReferences(t, got)
			}
		}
		p.Flush()
		want := ruleset.NewState()
		fresh := NewPlanner(want)
		for k, v := range w.facts {
			fresh.Note(intent.Change{Key: k, Value: v})
		}
		fresh.Flush()
		if diff := cmp.Diff(want.String(), got.String()); diff != "" {
			t.Fatalf("round %d: incremental plan differs from a fresh one (-fresh +incremental):\n%s", round, diff)
		}
		checkReferences(t, got)
	}
}

func checkReferences(t *testing.T, s *ruleset.State) {
	t.Helper()
	for name, c := range s.Chains {
		if c.Hook != ruleset.NoHook {
			last := c.Rules[len(c.Rules)-1]
			if last.Action.Verb != ruleset.Drop || len((&last).Match.Src) != 0 {
				t.Fatalf("base chain %s does not end in an explicit drop:\n%s", name, c)
			}
		}
		for i := range c.Rules {
			r := &c.Rules[i]
			switch r.Action.Verb {
			case ruleset.Jump, ruleset.Goto:
				if s.Chains[r.Action.Target] == nil {
					t.Fatalf("chain %s rule %d refers to chain %s, which is not there", name, i, r.Action.Target)
				}
			case ruleset.DispatchIn, ruleset.DispatchOut:
				if s.Dispatches[r.Action.Target] == nil {
					t.Fatalf("chain %s rule %d refers to map %s, which is not there", name, i, r.Action.Target)
				}
			}
			for _, l := range [][]string{r.Match.SrcSets, r.Match.NotSrcSets, r.Match.DstSets, r.Match.NotDstSets, r.Match.SrcPortSets, r.Match.DstPortSets, r.Match.NotSrcPortSets, r.Match.NotDstPortSets} {
				for _, set := range l {
					if s.Sets[set] == nil {
						t.Fatalf("chain %s rule %d refers to set %s, which is not there", name, i, set)
					}
				}
			}
		}
	}
	for m, entries := range s.Entries {
		for iface, e := range entries {
			if e.Chain != "" && s.Chains[e.Chain] == nil {
				t.Fatalf("map %s sends %s to chain %s, which is not there", m, iface, e.Chain)
			}
		}
	}
}

// TestPlanner_FlushWithoutChangeIsSilent: nothing is passed on twice.
func TestPlanner_FlushWithoutChangeIsSilent(t *testing.T) {
	r := newRand(t)
	w, first := newWorld(r)
	out := &recorder{}
	p := NewPlanner(out)
	for _, c := range first {
		p.Note(c)
	}
	for range 60 {
		for _, c := range w.step() {
			p.Note(c)
		}
	}
	p.Flush()
	for k, v := range w.facts { // the same picture once more
		if k.Kind != intent.KindSet && k.Kind != intent.KindMember {
			p.Note(intent.Change{Key: k, Value: v})
		}
	}
	out.n = 0
	p.Flush()
	if out.n != 0 {
		t.Fatalf("Flush after an unchanged picture passed on %d objects, want none", out.n)
	}
}

type recorder struct{ n int }

func (r *recorder) Want(ruleset.ID, ruleset.Object) { r.n++ }
func (r *recorder) Unwant(ruleset.ID)               { r.n++ }
