// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
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

// planned runs calc and the planner over resources.
func planned(objs []api.Object) *ruleset.State {
	s := ruleset.NewState()
	planInto(s, objs)
	return s
}

func planInto(out dataplane.Out, objs []api.Object) {
	g := calc.New(calc.Config{Host: here, Settings: intent.Settings{
		FailsafeInbound: failsafeIn, FailsafeOutbound: failsafeOut, WorkloadPrefixes: []string{"cali"},
		LogPrefix: "calico-packet",
	}})
	for _, o := range objs {
		g.Note(api.Event{Key: o.Key(), Object: o, Revision: 1})
	}
	p := dataplane.NewPlanner(out)
	g.Flush(p.Note)
	for name, addrs := range interfaces {
		p.Note(intent.Change{Key: intent.Key{Kind: intent.KindInterface, Name: name}, Value: &intent.Interface{Addrs: addrs, Up: true}})
	}
	p.Note(intent.Change{Key: intent.Key{Kind: intent.KindInterface, Name: "cali1"}, Value: &intent.Interface{Up: true}})
	p.Flush()
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

// evaluated takes a packet through the hooks that it passes: what the host
// sends, and what it forwards, passes postrouting too.
func evaluated(s *ruleset.State, p probe) (ruleset.Verdict, ruleset.Trace) {
	first := p.packet
	if p.before != "" && p.hook == ruleset.HookOutput {
		first.Out = p.before
	}
	v, trace := s.Eval(p.hook, first)
	if v != ruleset.Accepted || p.hook == ruleset.HookInput {
		return v, trace
	}
	after := p.packet
	after.Mark = trace.Mark
	v, second := s.Eval(ruleset.HookPostrouting, after)
	second.Logged = append(trace.Logged, second.Logged...)
	if p.hook != ruleset.HookOutput || !p.packet.DNATed {
		second.Chain, second.Rule, second.Comment = trace.Chain, trace.Rule, trace.Comment
	}
	return v, second
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
		if rejects(objs) && d.Reason != policy.ReasonInvalid && !(p.hook == ruleset.HookOutput && p.packet.DNATed) {
			want = ruleset.Rejected
		}
	}
	switch {
	case v != want:
		return fmt.Sprintf("policy wants it %s, the plan has it %s", want, v)
	case v == ruleset.Accepted && trace.Mark != p.packet.Mark && trace.Mark != p.packet.Mark&^dataplane.MarkPass:
		return fmt.Sprintf("the mark was %#x and is %#x", p.packet.Mark, trace.Mark)
	}
	if by := decidedBy(d); by != "" && by != trace.Comment && !(p.hook == ruleset.HookForward && v == ruleset.Accepted) {
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
	return fmt.Sprintf("%s%s %s %d", short, d.Policy.Name, strings.ToLower(string(d.Direction)), d.RuleIndex)
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
	for range rounds {
		objs := g.resources()
		w, s := worldOf(objs), planned(objs)
		for range each {
			p := g.probeOf(objs)
			if want, _ := allowedByPolicy(w, p); want {
				allowed++
			} else {
				denied++
			}
			if disagreement(objs, w, s, p) != "" {
				reportSmallest(t, objs, p)
				return
			}
		}
	}
	t.Logf("%d packets over %d pictures: %d allowed, %d denied", allowed+denied, rounds, allowed, denied)
}

func reportSmallest(t *testing.T, objs []api.Object, p probe) {
	t.Helper()
	objs = shrink(objs, func(objs []api.Object) bool {
		return disagreement(objs, worldOf(objs), planned(objs), p) != ""
	})
	want, d := allowedByPolicy(worldOf(objs), p)
	got, trace := allowedByEval(planned(objs), p)
	t.Errorf("hook %s packet %+v\n%s\npolicy: allowed=%v\n  %s\nplan: allowed=%v at chain %s rule %d (%s)\nsmallest picture:\n%s\nplan:\n%s",
		p.hook, p.packet, disagreement(objs, worldOf(objs), planned(objs), p), want, strings.Join(d.Sentences(), "\n  "), got, trace.Chain, trace.Rule, trace.Comment, text(objs), planned(objs))
}
