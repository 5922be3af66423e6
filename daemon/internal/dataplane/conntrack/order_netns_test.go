// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// reconcile is a pass of one of the two alone.
func (l *lane) reconcile(filter bool) (err error) {
	l.ns.MustDo(func() error {
		if filter {
			_, err = l.filter.Reconcile(context.Background())
			return nil
		}
		_, err = l.part.Reconcile(context.Background())
		return nil
	})
	return err
}

// TestNetnsConntrack_RulesComeFirst: nothing is cut before what denies it is in
// the kernel; an object that the kernel does not take is no reason to wait.
func TestNetnsConntrack_RulesComeFirst(t *testing.T) {
	b := newBed(t)
	serve(t, b.host, host4+":80")
	b.say(settings(intent.Settings{}), open, guard([]string{"in"}, nil), policy("in", &intent.Policy{Ingress: []intent.Rule{all}}))
	f := dialFlow(t, b.client, "tcp", host4+":80")
	b.plan(policy("in", &intent.Policy{Ingress: []intent.Rule{ports(api.Deny, protoTCP, 80), all}}))
	for range 3 {
		if err := b.reconcile(false); err != nil {
			t.Fatal(err)
		}
	}
	if s := b.part.Summary(); !s.LastTime.IsZero() || len(b.part.noted) == 0 {
		t.Errorf("before the filter's pass: %+v, want no pass", s)
	}
	expect(t, true, f)
	// The filter alone is told of a chain that it cannot make.
	b.filter.Want(ruleset.ID{Kind: ruleset.KindChain, Name: "broken"}, &ruleset.Chain{Rules: []ruleset.Rule{
		{Match: ruleset.Match{Family: ruleset.IPv4, SrcSets: []string{"missing"}}, Action: ruleset.Action{Verb: ruleset.Drop}},
	}})
	if err := b.reconcile(true); err == nil || !b.filter.InForce() {
		t.Fatalf("a rule that names an absent set: Reconcile = %v, in force %v; want an error and all the rest in force", err, b.filter.InForce())
	}
	for b.part.Summary().LastTime.IsZero() {
		if err := b.reconcile(false); err != nil {
			t.Fatal(err)
		}
	}
	if s := b.part.Summary(); s.LastCut != 1 {
		t.Errorf("%d flows cut, want 1", s.LastCut)
	}
	expect(t, false, f)
}

// TestNetnsConntrack_FirstPlanIsTheBaselineEvenIfItIsNotInForce: what it
// allowed and the second plan denies is cut, though the filter was late.
func TestNetnsConntrack_FirstPlanIsTheBaselineEvenIfItIsNotInForce(t *testing.T) {
	b := newBed(t)
	serve(t, b.host, host4+":80")
	b.host.Run("sh", "-c", "nft add table inet t; nft 'add chain inet t c { type filter hook input priority 0; }'; nft add rule inet t c ct state established accept")
	f := dialFlow(t, b.client, "tcp", host4+":80")
	b.plan(settings(intent.Settings{}), open, guard([]string{"in"}, nil), policy("in", &intent.Policy{Ingress: []intent.Rule{all}}))
	if err := b.reconcile(false); err != nil {
		t.Fatal(err)
	}
	if s := b.say(policy("in", &intent.Policy{Ingress: []intent.Rule{ports(api.Deny, protoTCP, 80), all}})); s.LastCut != 1 {
		t.Errorf("%d flows cut, want 1", s.LastCut)
	}
	expect(t, false, f)
}

// TestNetnsConntrack_PassThatFailedIsBegunAnew: what could not be listed or
// deleted is, the next time.
func TestNetnsConntrack_PassThatFailedIsBegunAnew(t *testing.T) {
	b := newBed(t)
	serve(t, b.host, host4+":80")
	b.say(settings(intent.Settings{}), open, guard([]string{"in"}, nil), policy("in", &intent.Policy{Ingress: []intent.Rule{all}}))
	f := dialFlow(t, b.client, "tcp", host4+":80")
	b.plan(policy("in", &intent.Policy{Ingress: []intent.Rule{ports(api.Deny, protoTCP, 80), all}}))
	if err := b.reconcile(true); err != nil {
		t.Fatal(err)
	}
	healthy := b.part.c
	b.part.c = &conn{fd: -1}
	var err error
	for err == nil && b.part.Summary().LastTime.IsZero() { // a slice may end before it has come so far
		err = b.reconcile(false)
	}
	if err == nil {
		t.Error("with a broken socket: no error")
	}
	b.part.c = healthy
	if s := b.settle(); s.LastCut != 1 {
		t.Errorf("%d flows cut, want 1", s.LastCut)
	}
	expect(t, false, f)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	b.part.rest = time.Time{} // the pause behind the last pass
	b.plan(policy("in", &intent.Policy{Ingress: []intent.Rule{all}}))
	b.host.MustDo(func() error {
		if _, err := b.filter.Reconcile(context.Background()); err != nil {
			return err
		}
		_, err := b.part.Reconcile(ctx)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	})
	if b.part.pass == nil {
		t.Error("a pass that was called off is over")
	}
}

// TestNetnsConntrack_FlowOfARulesetThatWasReplacedSoonIsCut: while a pass or
// the pause behind it lasts, several changes may come into force; what only one
// of those in between let in is cut as well, and what all let in goes on.
func TestNetnsConntrack_FlowOfARulesetThatWasReplacedSoonIsCut(t *testing.T) {
	b := newBed(t)
	serve(t, b.host, host4+":80")
	serve(t, b.host, host4+":81")
	in := func(list ...uint16) intent.Change {
		return policy("in", &intent.Policy{Ingress: []intent.Rule{ports(api.Allow, protoTCP, list...)}})
	}
	b.say(settings(intent.Settings{}), open, guard([]string{"in"}, nil), in(81))
	kept := dialFlow(t, b.client, "tcp", host4+":81")
	b.part.rest = time.Now().Add(time.Hour)
	b.plan(in(80, 81))
	b.turn()
	soon := dialFlow(t, b.client, "tcp", host4+":80")
	b.plan(in(81, 82))
	b.turn()
	b.plan(in(81, 83))
	b.turn()
	if b.part.pass != nil {
		t.Fatal("a pass began in the pause")
	}
	b.part.rest = time.Time{}
	if s := b.settle(); s.LastCut != 1 {
		t.Errorf("%d flows cut, want 1", s.LastCut)
	}
	expect(t, false, soon)
	expect(t, true, kept)
}

// TestNetnsConntrack_MoreChangesThanOnePassTellsApart: they are held in
// bounded memory, and the first of them is told apart all the same.
func TestNetnsConntrack_MoreChangesThanOnePassTellsApart(t *testing.T) {
	b := newBed(t)
	serve(t, b.host, host4+":80")
	in := func(list ...uint16) intent.Change {
		return policy("in", &intent.Policy{Ingress: []intent.Rule{ports(api.Allow, protoTCP, list...)}})
	}
	b.say(settings(intent.Settings{}), open, guard([]string{"in"}, nil), in(80))
	f := dialFlow(t, b.client, "tcp", host4+":80")
	b.part.rest = time.Now().Add(time.Hour)
	for n := range uint16(mostSteps + 10) {
		b.plan(in(1000 + n))
		b.turn()
	}
	if n := len(b.part.steps); n != mostSteps {
		t.Errorf("%d steps are held, want %d", n, mostSteps)
	}
	b.part.rest = time.Time{}
	if s := b.settle(); s.LastCut != 1 {
		t.Errorf("%d flows cut, want 1", s.LastCut)
	}
	expect(t, false, f)
}
