// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/calc"
	"github.com/ripstop/ripstop/daemon/internal/dataplane"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/policy"
)

var (
	seed    = flag.Uint64("seed", 0, "seed of the random tests; 0: from the clock")
	packets = flag.Int("packets", 1_000_000, "packets that the kernel judges in the differential test")
)

func newRand(t testing.TB) *rand.Rand {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	return rand.New(rand.NewPCG(s, 0))
}

// failsafes are the defaults of the daemon's configuration in these tests.
var (
	failsafeIn  = []intent.Failsafe{{Protocol: 6, Port: 22}}
	failsafeOut = []intent.Failsafe{{Protocol: 17, Port: 53}}
)

var oneByOne = flag.Bool("one-by-one", false, "the random tests plan rules one after the other, and do not compile them")

// planned runs calc and the planner over resources.
func planned(objs []api.Object) *ruleset.State {
	return plannedBy(newPlanner, objs)
}

func plannedBy(newPlanner func(dataplane.Out) *dataplane.Planner, objs []api.Object) *ruleset.State {
	s := ruleset.NewState()
	g := calc.New(calc.Config{Host: here, Settings: intent.Settings{
		FailsafeInbound: failsafeIn, FailsafeOutbound: failsafeOut, WorkloadPrefixes: []string{"cali"},
		LogPrefix: "calico-packet", VXLANPort: 4789,
	}})
	for _, o := range objs {
		g.Note(api.Event{Key: o.Key(), Object: o, Revision: 1})
	}
	p := newPlanner(s)
	g.Flush(p.Note)
	for name, addrs := range interfaces {
		p.Note(intent.Change{Key: intent.Key{Kind: intent.KindInterface, Name: name}, Value: &intent.Interface{Addrs: addrs, Up: true}})
	}
	for _, name := range workloadInterfaces {
		p.Note(intent.Change{Key: intent.Key{Kind: intent.KindInterface, Name: name}, Value: &intent.Interface{Up: true}})
	}
	p.Flush()
	return s
}

func worldOf(objs []api.Object) *policy.World {
	f := func(list []intent.Failsafe) (out []policy.Failsafe) {
		for _, x := range list {
			out = append(out, policy.Failsafe{Protocol: x.Protocol, Port: x.Port, Net: x.Net})
		}
		return out
	}
	return policy.NewWorld(objs, policy.Options{FailsafeInbound: f(failsafeIn), FailsafeOutbound: f(failsafeOut)})
}

// allowedByPolicy is the reference's verdict.
func allowedByPolicy(w *policy.World, p probe) (bool, policy.Decision) {
	d := w.Evaluate(p.flow())
	return d.Verdict != policy.Deny, d
}

// allowedByEval is the interpreter's verdict on the plan.
func allowedByEval(s *ruleset.State, p probe) (bool, ruleset.Trace) {
	v, trace := evaluated(s, p)
	return v == ruleset.Accepted, trace
}

// evaluated takes a packet through the hooks that it passes: what comes in
// passes prerouting first, with the destination that was dialled, what the
// host sends or forwards passes postrouting too. The trace is that of the rule
// that decided, with all that was logged on the way.
func evaluated(s *ruleset.State, p probe) (ruleset.Verdict, ruleset.Trace) {
	k := p.packet
	var logged []string
	at := func(s *ruleset.State, h ruleset.Hook, k *ruleset.Packet) (ruleset.Verdict, ruleset.Trace) {
		v, t := s.Eval(h, *k)
		logged = append(logged, t.Logged...)
		t.Logged, k.Mark = logged, t.Mark
		if t.NoTrack {
			k.State = ruleset.CtUntracked
		}
		return v, t
	}
	// dialled is the packet before its destination is rewritten, which it is
	// not if tracking is kept away from it.
	dialled := k
	dialled.DNATed = false
	if k.DNATed {
		dialled.Dst, dialled.DstPort = p.dialled.Addr(), p.dialled.Port()
	}
	rewrite := func() {
		if k.Mark, k.State = dialled.Mark, dialled.State; k.State == ruleset.CtUntracked && k.DNATed {
			k = dialled
		}
	}
	switch p.hook {
	case ruleset.HookOutput:
		if k.DNATed {
			dialled.Out = p.before
			if v, t := at(without(s, "output"), ruleset.HookOutput, &dialled); v != ruleset.Accepted {
				return v, t
			}
			if dialled.State == ruleset.CtUntracked {
				k = dialled
			}
			k.Mark = dialled.Mark
			if v, t := at(without(s, "raw-out"), ruleset.HookOutput, &k); v != ruleset.Accepted {
				return v, t
			}
			return at(s, ruleset.HookPostrouting, &k)
		}
		v, t := at(s, ruleset.HookOutput, &k)
		if v != ruleset.Accepted {
			return v, t
		}
		v, last := at(s, ruleset.HookPostrouting, &k)
		last.Chain, last.Rule, last.Comment = t.Chain, t.Rule, t.Comment
		return v, last
	case ruleset.HookForward:
		if v, t := at(s, ruleset.HookPrerouting, &dialled); v != ruleset.Accepted {
			return v, t
		}
		rewrite()
		v, t := at(s, ruleset.HookForward, &k)
		if v != ruleset.Accepted {
			return v, t
		}
		return at(s, ruleset.HookPostrouting, &k)
	}
	if v, t := at(s, ruleset.HookPrerouting, &dialled); v != ruleset.Accepted {
		return v, t
	}
	rewrite()
	return at(s, ruleset.HookInput, &k)
}

// without is a ruleset that lacks one base chain.
func without(s *ruleset.State, base string) *ruleset.State {
	less := *s
	less.Chains = maps.Clone(s.Chains)
	less.Unwant(ruleset.ID{Kind: ruleset.KindChain, Name: base})
	return &less
}

// disagreement compares all that the two accounts say of a packet: whether it
// passes, how it is refused, which rule decided, whether it is logged, and
// what becomes of its mark. Empty: they agree.
func disagreement(objs []api.Object, w *policy.World, s *ruleset.State, p probe) string {
	d := w.Evaluate(p.flow())
	v, trace := evaluated(s, p)
	want := ruleset.Accepted
	if d.Verdict == policy.Deny {
		want = ruleset.Dropped
		if rejects(objs) && answered(p, d) {
			want = ruleset.Rejected
		}
	}
	const ours = dataplane.MarkPass | dataplane.MarkAccept
	switch {
	case v != want:
		return fmt.Sprintf("policy wants it %s, the plan has it %s", want, v)
	case v == ruleset.Accepted && (trace.Mark&^ours != p.packet.Mark&^ours || trace.Mark&^p.packet.Mark != 0):
		return fmt.Sprintf("the mark was %#x and is %#x", p.packet.Mark, trace.Mark)
	}
	// Of what passes, only traffic of the host itself has one rule that
	// decided.
	one := v != ruleset.Accepted || d.Phase == policy.PhaseNormal && p.hook != ruleset.HookForward
	if by := decidedBy(d); one && by != "" && by != trace.Comment {
		return fmt.Sprintf("policy decides by %q, the plan by %q", by, trace.Comment)
	}
	logs := 0
	for _, step := range d.Steps {
		if step.Matched && step.RuleIndex >= 0 && step.Outcome == policy.Continues {
			logs++
		}
	}
	if logs > len(trace.Logged) || logs == 0 && len(trace.Logged) > 0 {
		return fmt.Sprintf("policy logs it %d times, the plan %d times", logs, len(trace.Logged))
	}
	return ""
}

// answered tells whether a denied packet is one to answer, if any is: denied
// by policy of the sort that judges where an answer is possible.
func answered(p probe, d policy.Decision) bool {
	switch d.Reason {
	case policy.ReasonRule, policy.ReasonEndOfTier, policy.ReasonProfile, policy.ReasonMissingProfile, policy.ReasonNothingAllows:
	default:
		return false
	}
	return d.Phase != policy.PhaseUntracked && d.Phase != policy.PhasePreDNAT && !(p.hook == ruleset.HookOutput && p.packet.DNATed)
}

// rejects tells whether denied packets are to be answered.
func rejects(objs []api.Object) bool {
	for _, o := range objs {
		if f, ok := o.(*api.FelixConfiguration); ok && f.Name == "default" {
			return strings.EqualFold(f.Spec.NftablesFilterDenyAction, "Reject")
		}
	}
	return false
}

// decidedBy is the comment of the rule that policy says decided; empty: none.
func decidedBy(d policy.Decision) string {
	short := map[api.Kind]string{api.KindGlobalNetworkPolicy: "gnp/", api.KindNetworkPolicy: "np/", api.KindProfile: "pro/"}[d.Policy.Kind]
	if short == "" || d.RuleIndex < 0 {
		return ""
	}
	name := d.Policy.Name
	if d.Policy.Namespace != "" {
		name = d.Policy.Namespace + "/" + name
	}
	return fmt.Sprintf("%s%s %s %d", short, name, strings.ToLower(string(d.Direction)), d.RuleIndex)
}

func text(objs []api.Object) string {
	var b strings.Builder
	for _, o := range objs {
		y, err := yaml.Marshal(o)
		if err != nil {
			panic(err)
		}
		b.WriteString("---\n")
		b.Write(y)
	}
	return b.String()
}

// TestDifferential_PolicyAgreesWithPlan: the reference semantics and the
// planned ruleset say the same of random resources and boundary packets.
func TestDifferential_PolicyAgreesWithPlan(t *testing.T) {
	g := generator{Rand: newRand(t)}
	rounds, each := 3000, 150
	if testing.Short() {
		rounds = 1000
	}
	allowed, denied := 0, 0
	seen := coverage{}
	for range rounds {
		objs := g.resources()
		w, s := worldOf(objs), planned(objs)
		other := plannedBy(dataplane.NewPlanner, objs)
		for range each {
			p := g.probeOf(objs)
			want, d := allowedByPolicy(w, p)
			seen.note(p, d)
			if want {
				allowed++
			} else {
				denied++
			}
			if why := disagreement(objs, w, other, p); why != "" {
				t.Fatalf("one by one: hook %s packet %+v: %s\n%s\n%s", p.hook, p.packet, why, text(objs), other)
			}
			if disagreement(objs, w, s, p) != "" {
				reportSmallest(t, objs, p)
				return
			}
		}
	}
	t.Logf("%d packets over %d pictures: %d allowed, %d denied\n%s", allowed+denied, rounds, allowed, denied, seen)
	seen.check(t)
}

// coverage counts packets by who decided them: hook, phase, reason, verdict.
type coverage map[string]int

func (c coverage) note(p probe, d policy.Decision) {
	c[fmt.Sprintf("%s %s %s %s", p.hook, d.Phase, d.Reason, d.Verdict)]++
	if p.dialled.IsValid() {
		c[fmt.Sprintf("%s rewritten %s", p.hook, d.Verdict)]++
	}
}

// check wants every way in which a packet can be decided by policy, and every
// way in which it can be stopped before, to have been met.
func (c coverage) check(t *testing.T) {
	t.Helper()
	for _, want := range []string{
		"input untracked Rule Allow", "input untracked Rule Deny", "output untracked Rule Deny",
		"forward untracked Rule Deny", "input preDNAT Rule Allow", "input preDNAT Rule Deny", "forward preDNAT Rule Deny",
		"input normal Rule Allow", "input normal Rule Deny", "output normal Rule Allow", "output normal Rule Deny",
		"input normal Failsafe Allow", "input normal Essential Allow", "forward forward Essential Allow",
		"forward forward Rule Deny", "forward forward EndOfTier Deny", "forward forward NoForwardPolicy Allow",
		"input workload Rule Allow", "input workload Rule Deny", "input workload EndpointToHost Deny", "input workload Essential Allow",
		"input workload Encapsulated Deny", "forward workload Rule Allow", "forward workload Rule Deny", "forward workload Profile Allow",
		"output workload ToWorkload NotGoverned",
		"input rewritten Allow", "forward rewritten Allow", "output rewritten Allow",
		"input admission SpoofedSource Deny", "forward admission SpoofedSource Deny", "input admission RouterMessage Deny",
		"input admission UnknownInterface Deny", "forward admission UnknownInterface Deny", "input admission LoopbackAddress Deny",
	} {
		if c[want] == 0 {
			t.Errorf("no packet was decided by %q: the generator does not get there", want)
		}
	}
}

// String lists the counts.
func (c coverage) String() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(c)) {
		fmt.Fprintf(&b, "%8d %s\n", c[k], k)
	}
	return b.String()
}

func reportSmallest(t *testing.T, objs []api.Object, p probe) {
	t.Helper()
	objs = shrink(objs, func(objs []api.Object) bool {
		return disagreement(objs, worldOf(objs), planned(objs), p) != ""
	})
	want, d := allowedByPolicy(worldOf(objs), p)
	got, trace := allowedByEval(planned(objs), p)
	t.Errorf("hook %s packet %+v dialled %s before %q\n%s\npolicy: allowed=%v\n  %s\nplan: allowed=%v at chain %s rule %d (%s)\nsmallest picture:\n%s\nplan:\n%s",
		p.hook, p.packet, p.dialled, p.before, disagreement(objs, worldOf(objs), planned(objs), p), want, strings.Join(d.Sentences(), "\n  "), got, trace.Chain, trace.Rule, trace.Comment, text(objs), planned(objs))
}
