// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/classify"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

func randomPacket(r *rand.Rand, h ruleset.Hook) ruleset.Packet {
	addrs := []string{"10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.3.9", "11.0.0.1", "192.0.2.1"}
	if r.IntN(3) == 0 {
		addrs = []string{"fd00::1", "fd00:1::1", "2001:db8::1"}
	}
	p := ruleset.Packet{
		Src: netip.MustParseAddr(pick(r, addrs...)), Dst: netip.MustParseAddr(pick(r, addrs...)),
		Protocol: pick[uint8](r, 6, 6, 17, 132, 1, 47), State: pick(r, ruleset.CtNew, ruleset.CtNew, ruleset.CtNew, ruleset.CtInvalid, ruleset.CtUntracked),
		HopLimit: 64, Mark: pick[uint32](r, 0, MarkPass, 0x10),
	}
	if ruleset.HasPorts(p.Protocol) {
		p.SrcPort, p.DstPort = pick[uint16](r, 1, 5, 9, 10, 80, 90), pick[uint16](r, 1, 9, 10, 79, 80, 81, 89, 90, 99, 100)
	}
	ifaces := []string{"eth0", "eth1", "cali1", "cali2", "lo", "tap0"}
	if h != ruleset.HookOutput {
		p.In = pick(r, ifaces...)
	}
	if h != ruleset.HookInput {
		p.Out = pick(r, ifaces...)
	}
	return p
}

// TestCompilingPlanner_JudgesAsTheOtherDoes: of random pictures, while they
// change, both plans say the same of a packet: the verdict, the rule, the logs
// on the way, and what is left of its mark.
func TestCompilingPlanner_JudgesAsTheOtherDoes(t *testing.T) {
	r := newRand(t)
	compared, programs, refused := 0, 0, 0
	for round := range 150 {
		w, first := newWorld(r)
		linear, compiled := ruleset.NewState(), ruleset.NewState()
		a, b := NewPlanner(linear), NewCompilingPlanner(compiled)
		if round%5 == 0 { // some are too large
			b.compiler.limits = classify.Limits{Entries: 4, Classes: 2, Lists: 2, Work: 100_000}
		}
		for _, c := range first {
			a.Note(c)
			b.Note(c)
		}
		for range 30 {
			for _, c := range w.step() {
				a.Note(c)
				b.Note(c)
			}
			if r.IntN(3) > 0 {
				continue
			}
			a.Flush()
			b.Flush()
			checkReferences(t, compiled)
			for _, u := range b.Units() {
				if u.Program != "" {
					programs++
				} else {
					refused++
				}
			}
			for range 60 {
				h := pick(r, ruleset.HookInput, ruleset.HookOutput, ruleset.HookForward)
				p := randomPacket(r, h)
				v1, t1 := linear.Eval(h, p)
				v2, t2 := compiled.Eval(h, p)
				compared++
				if v1 != v2 || t1.Comment != t2.Comment || !slices.Equal(t1.Logged, t2.Logged) || t1.Mark&^MarkPass != t2.Mark&^MarkPass || t2.Mark&^p.Mark&MarkPass != 0 {
					t.Fatalf("round %d, hook %s, packet %+v:\none by one: %s by %q in %s, logs %q, mark %#x\ncompiled:   %s by %q in %s, logs %q, mark %#x\n%s\n%s",
						round, h, p, v1, t1.Comment, t1.Chain, t1.Logged, t1.Mark, v2, t2.Comment, t2.Chain, t2.Logged, t2.Mark, linear, compiled)
				}
			}
		}
	}
	t.Logf("%d packets; %d times a unit was compiled, %d times not", compared, programs, refused)
	if programs == 0 || refused == 0 {
		t.Errorf("%d compiled, %d not: want some of both", programs, refused)
	}
}

// TestCompilingPlanner_SharesWhatIsTheSame: endpoints that judge by the same
// policies have one program; nothing of it is there twice.
func TestCompilingPlanner_SharesWhatIsTheSame(t *testing.T) {
	s := ruleset.NewState()
	p := NewCompilingPlanner(s)
	for _, name := range []string{"eth0", "eth1"} {
		p.Note(endpoint(name, &intent.HostEndpoint{Interface: name, Profiles: []string{"pr"}}))
	}
	p.Note(profileOf("pr", &intent.Profile{}))
	p.Flush()
	units := p.Units()
	if len(units) == 0 {
		t.Fatal("Units(): none")
	}
	for _, u := range units {
		if u.Program == "" || u.Program == "hi-eth1" || u.Program == "ho-eth1" {
			t.Errorf("unit %s: program %q, want that of eth0", u.Chain, u.Program)
		}
	}
}
