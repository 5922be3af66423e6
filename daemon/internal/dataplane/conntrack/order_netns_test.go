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

// TestNetnsConntrack_PassRestsFromTheOneBefore: a change right after another
// has the table listed when the Part has rested, and is obeyed then.
func TestNetnsConntrack_PassRestsFromTheOneBefore(t *testing.T) {
	b := newBed(t)
	b.host.MustDo(func() error { return put(b.part.c, many(5000)) })
	b.say(policies(1, all)...)
	s := b.say(policies(1, ports(api.Deny, protoTCP, 80), all)...)
	if rest, want := time.Until(b.part.rested), max(0, min(10*s.LastTook, 500*time.Millisecond-s.LastTook)); rest > want || s.LastTime.Add(want).Sub(b.part.rested).Abs() > 10*time.Millisecond {
		t.Errorf("after a pass of %v it rests for another %v, want %v in all", s.LastTook, rest, want)
	}
	b.part.rested = time.Now().Add(200 * time.Millisecond)
	b.note(policies(1, ports(api.Deny, 17, 80), all)...)
	for time.Now().Before(b.part.rested) {
		if again := b.turn(); b.part.pass != nil && time.Now().Before(b.part.rested) || again > 250*time.Millisecond {
			t.Fatalf("a turn while it rests: pass begun %v, next turn in %v", b.part.pass != nil, again)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if s := b.settle(); s.LastCut == 0 {
		t.Error("after its rest it has cut no flow")
	}
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
