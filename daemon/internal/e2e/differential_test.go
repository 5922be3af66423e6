// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
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
	v, trace := s.Eval(p.hook, p.packet)
	return v == ruleset.Accepted, trace
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
	g := generator{newRand(t)}
	rounds, each := 3000, 150
	if testing.Short() {
		rounds = 300
	}
	allowed, denied := 0, 0
	for range rounds {
		objs := g.resources()
		w, s := worldOf(objs), planned(objs)
		for range each {
			p := g.probe()
			want, _ := allowedByPolicy(w, p)
			got, _ := allowedByEval(s, p)
			if want {
				allowed++
			} else {
				denied++
			}
			if want != got {
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
		a, _ := allowedByPolicy(worldOf(objs), p)
		b, _ := allowedByEval(planned(objs), p)
		return a != b
	})
	want, d := allowedByPolicy(worldOf(objs), p)
	got, trace := allowedByEval(planned(objs), p)
	t.Errorf("hook %s packet %+v\npolicy: allowed=%v\n  %s\nplan: allowed=%v at chain %s rule %d (%s)\nsmallest picture:\n%s\nplan:\n%s",
		p.hook, p.packet, want, strings.Join(d.Sentences(), "\n  "), got, trace.Chain, trace.Rule, trace.Comment, text(objs), planned(objs))
}
