// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
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

// tiers lists policies of one sort.
func (w *world) tiers(of sort) []intent.Tier {
	var out []intent.Tier
	for _, name := range []string{"t1", "t2"} {
		t := intent.Tier{Name: name, DefaultPass: w.r.IntN(2) == 0}
		for k := range w.facts {
			if k.Kind == intent.KindPolicy && sortOf(w.facts[k].(*intent.Policy)) == of && w.r.IntN(2) == 0 {
				if w.r.IntN(3) > 0 {
					t.Ingress = append(t.Ingress, k.Policy)
				}
				if w.r.IntN(3) > 0 && of != sortPreDNAT {
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
	workload := func() intent.Key {
		return intent.Key{Kind: intent.KindWorkloadEndpoint, Name: fmt.Sprint("ns/w", w.r.IntN(3))}
	}
	switch w.r.IntN(12) {
	case 9, 10:
		return set(workload(), w.workload())
	case 11:
		k := workload()
		delete(w.facts, k)
		return []intent.Change{{Key: k}}
	case 0:
		return set(intent.Key{Kind: intent.KindSettings}, &intent.Settings{
			DenyReject: w.r.IntN(2) == 0, AllowInvalid: w.r.IntN(2) == 0,
			FailsafeInbound:  []intent.Failsafe{{Protocol: 6, Port: 22}, {Protocol: 6, Port: uint16(w.r.IntN(3) + 1), Net: netip.MustParsePrefix("fd00::/8")}},
			WorkloadPrefixes: []string{"cali"}, InterfaceExclude: []string{"/^x/"}, LogPrefix: pick(w.r, "a", "b %t %k %p"),
			MaxSetSize: w.r.IntN(3), EndpointToHost: intent.ToHost(w.r.IntN(3)), VXLANPort: 4789,
			AllowVXLANFromWorkloads: w.r.IntN(2) == 0, AllowIPIPFromWorkloads: w.r.IntN(2) == 0,
			YieldFilter: w.r.IntN(2) == 0, YieldMangle: w.r.IntN(2) == 0,
		})
	case 1, 2: // a policy comes or changes, perhaps into another sort
		k, v := pol(), &intent.Policy{Tier: "t", Ingress: w.rules(), Egress: w.rules()}
		switch w.r.IntN(4) {
		case 0:
			v.Untracked = true
		case 1:
			v.PreDNAT = true
		}
		old, had := w.facts[k].(*intent.Policy)
		out := set(k, v)
		if had && sortOf(old) != sortOf(v) {
			out = append(out, w.relist(set)...)
		}
		return out
	case 3: // a policy goes: the endpoints stop listing it in the same batch
		k := pol()
		if _, ok := w.facts[k]; !ok {
			return nil
		}
		delete(w.facts, k)
		return append([]intent.Change{{Key: k}}, w.relist(set)...)
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

// relist makes every endpoint list only what there is, each policy in the
// tiers of its sort.
func (w *world) relist(set func(intent.Key, intent.Value) []intent.Change) (out []intent.Change) {
	for k := range w.facts {
		switch k.Kind {
		case intent.KindHostEndpoint:
			out = append(out, set(k, w.endpoint())...)
		case intent.KindWorkloadEndpoint:
			out = append(out, set(k, w.workload())...)
		}
	}
	return out
}

func (w *world) workload() *intent.WorkloadEndpoint {
	ep := &intent.WorkloadEndpoint{Interface: pick(w.r, "cali1", "cali2", "tap0", "eth0"), Tiers: w.tiers(sortNormal), Profiles: []string{"pr"}}
	ep.Addrs = []netip.Addr{pick(w.r, netip.MustParseAddr("10.0.1.1"), netip.MustParseAddr("fd00:1::1"))}
	if w.r.IntN(3) == 0 {
		ep.AllowedSources = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}
	}
	return ep
}

func (w *world) endpoint() *intent.HostEndpoint {
	ep := &intent.HostEndpoint{Interface: pick(w.r, "*", "*", "eth0", "eth9", "", "lo", "cali2"), Tiers: w.tiers(sortNormal), Profiles: []string{"pr"}}
	if ep.Interface == "" {
		ep.ExpectedIPs = []netip.Addr{netip.MustParseAddr("10.0.0.2")}
	}
	if w.r.IntN(2) == 0 {
		ep.ForwardTiers = w.tiers(sortNormal)
	}
	if w.r.IntN(2) == 0 {
		ep.UntrackedTiers = w.tiers(sortUntracked)
	}
	if w.r.IntN(2) == 0 {
		ep.PreDNATTiers = w.tiers(sortPreDNAT)
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
	for name, newPlanner := range planners {
		t.Run(name, func(t *testing.T) { pathDoesNotMatter(t, newPlanner) })
	}
}

// planners are both kinds.
var planners = map[string]func(Out) *Planner{"one by one": NewPlanner, "compiled": NewCompilingPlanner}

func pathDoesNotMatter(t *testing.T, newPlanner func(Out) *Planner) {
	r := newRand(t)
	for round := range 300 {
		w, first := newWorld(r)
		got := ruleset.NewState()
		p := newPlanner(got)
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
		fresh := newPlanner(want)
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

// TestPlanner_EveryVerbIsWhereTheKernelTakesIt: what is reached from a hook
// refuses by an answer, or keeps tracking away, only where that can be; and no
// two base chains of a hook have one priority.
func TestPlanner_EveryVerbIsWhereTheKernelTakesIt(t *testing.T) {
	r := newRand(t)
	for i := range 100 {
		w, first := newWorld(r)
		s := ruleset.NewState()
		p := []func(Out) *Planner{NewPlanner, NewCompilingPlanner}[i%2](s)
		for _, c := range first {
			p.Note(c)
		}
		for range 60 {
			for _, c := range w.step() {
				p.Note(c)
			}
		}
		p.Flush()
		at := map[string]string{}
		for name, c := range s.Chains {
			if c.Hook == ruleset.NoHook {
				continue
			}
			place := fmt.Sprint(c.Hook, c.Priority)
			if at[place] != "" {
				t.Fatalf("chains %s and %s are both at %s", name, at[place], place)
			}
			at[place] = name
			for reached := range reach(s, name) {
				for i := range s.Chains[reached].Rules {
					rule := &s.Chains[reached].Rules[i]
					early := c.Priority < -200
					switch v := rule.Action.Verb; {
					case v == ruleset.Reject && (c.Hook == ruleset.HookPrerouting || c.Hook == ruleset.HookPostrouting || early),
						v == ruleset.NoTrack && !early,
						early && (rule.Match.CtState != 0 || rule.Match.DNATed || rule.Match.NotDNATed || rule.Match.Cut):
						t.Fatalf("base chain %s reaches chain %s with rule %s", name, reached, rule)
					}
				}
			}
		}
	}
}

// reach is every chain that packets of a base chain can get to.
func reach(s *ruleset.State, from string) map[string]bool {
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		for i := range s.Chains[name].Rules {
			switch a := &s.Chains[name].Rules[i].Action; a.Verb {
			case ruleset.Jump, ruleset.Goto:
				visit(a.Target)
			case ruleset.DispatchIn, ruleset.DispatchOut:
				for _, e := range s.Entries[a.Target] {
					if e.Chain != "" {
						visit(e.Chain)
					}
				}
			case ruleset.Classify:
				for _, e := range s.Verdicts[a.Target].Of {
					visit(e.Chain)
				}
			}
		}
	}
	visit(from)
	return seen
}

func checkReferences(t *testing.T, s *ruleset.State) {
	t.Helper()
	for name, c := range s.Chains {
		if c.Hook != ruleset.NoHook {
			last := c.Rules[len(c.Rules)-1]
			if last.Action.Verb != ruleset.Drop || !reflect.DeepEqual(last.Match, ruleset.Match{}) {
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
			if m := s.Verdicts[r.Action.Target]; r.Action.Verb == ruleset.Classify && (m == nil || m.Def == nil) {
				t.Fatalf("chain %s rule %d refers to verdicts %s, which are not there", name, i, r.Action.Target)
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
	for name, m := range s.Verdicts {
		for k, r := range m.Of {
			if m.Def == nil || s.Chains[r.Chain] == nil {
				t.Fatalf("verdicts %s lead %s to chain %s, which is not there, or are not wanted themselves", name, k, r.Chain)
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
	for name, newPlanner := range planners {
		t.Run(name, func(t *testing.T) { flushIsSilent(t, newPlanner) })
	}
}

func flushIsSilent(t *testing.T, newPlanner func(Out) *Planner) {
	r := newRand(t)
	w, first := newWorld(r)
	out := &recorder{}
	p := newPlanner(out)
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
