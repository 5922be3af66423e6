// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// fakePart does what its fields say and counts.
type fakePart struct {
	name    string
	do      func(call int) (time.Duration, error)
	calls   int
	resyncs int
	times   []time.Time
	order   *[]string
}

func (p *fakePart) Name() string { return p.name }
func (p *fakePart) Resync()      { p.resyncs++ }
func (p *fakePart) Reconcile(context.Context) (time.Duration, error) {
	p.calls++
	p.times = append(p.times, time.Now())
	if p.order != nil {
		*p.order = append(*p.order, p.name)
	}
	if p.do == nil {
		return 0, nil
	}
	return p.do(p.calls)
}

// rest lets d pass and waits until all goroutines of the bubble stand still.
func rest(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func running(t *testing.T, cfg Config) (l *Loop, stop func()) {
	t.Helper()
	cfg.Name = "test"
	l = NewLoop(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	synctest.Wait()
	return l, func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	}
}

func TestLoop_GateKeepsPartsStillUntilOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var order []string
		plans := 0
		a, b := &fakePart{name: "a", order: &order}, &fakePart{name: "b", order: &order}
		l, stop := running(t, Config{Parts: []Part{a, b}, Before: func(context.Context) error { plans++; return nil }, ResyncEvery: time.Second})
		defer stop()
		l.Wake()
		rest(10 * time.Second)
		if a.calls+b.calls != 0 || a.resyncs != 0 || plans < 2 {
			t.Fatalf("with the gate shut: %d passes, %d plannings; want none, several", a.calls+b.calls, plans)
		}
		l.Open()
		synctest.Wait()
		if !slices.Equal(order, []string{"a", "b"}) || a.resyncs != 1 {
			t.Errorf("once open: order %v, %d resyncs asked for before; want a, b and one", order, a.resyncs)
		}
	})
}

func TestLoop_ManyWakesAreOneTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started, goOn := make(chan bool), make(chan bool)
		p := &fakePart{name: "p", do: func(n int) (time.Duration, error) {
			if n == 1 {
				started <- true
				<-goOn
			}
			return 0, nil
		}}
		l, stop := running(t, Config{Parts: []Part{p}})
		defer stop()
		l.Open()
		<-started
		for range 100 {
			l.Wake()
		}
		close(goOn)
		synctest.Wait()
		if p.calls != 2 {
			t.Errorf("%d passes, want 2: the one that ran and one for all that was said meanwhile", p.calls)
		}
	})
}

func TestLoop_FailingPartBacksOffAndOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		bad := &fakePart{name: "bad", do: func(int) (time.Duration, error) { return 0, errors.New("no such thing") }}
		good := &fakePart{name: "good"}
		l, stop := running(t, Config{Parts: []Part{bad, good}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer stop()
		l.Open()
		rest(10 * time.Minute)
		if n := bad.calls; n < 60 || n > 85 {
			t.Errorf("%d passes of the failing part in 10 minutes, want 60 to 85", n)
		}
		if first := bad.times[1].Sub(bad.times[0]); first < 15*time.Millisecond || first > 25*time.Millisecond {
			t.Errorf("first pause %v, want 20 ms give or take a quarter", first)
		}
		if good.calls != 1 {
			t.Errorf("%d passes of the good part, want 1: nothing was wanted of it", good.calls)
		}
		if n := strings.Count(log.String(), "\n"); n < 2 || n > 10 {
			t.Errorf("%d log lines, want 2 to 10:\n%s", n, log.String())
		}
		before := bad.calls
		l.Wake()
		rest(1100 * time.Millisecond)
		if bad.calls == before || good.calls != 2 {
			t.Errorf("after news: the failing part was not called within 1.1 s, or the good one %d times instead of 2", good.calls)
		}
	})
}

func TestLoop_NewsDoNotDefeatTheBackOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad := &fakePart{name: "bad", do: func(int) (time.Duration, error) { return 0, errors.New("no") }}
		l, stop := running(t, Config{Parts: []Part{bad}})
		defer stop()
		l.Open()
		for range 10_000 { // 100 s
			rest(10 * time.Millisecond)
			l.Wake()
		}
		if bad.calls > 130 {
			t.Errorf("%d passes in 100 s of news, want at most 130: about one a second", bad.calls)
		}
	})
}

func TestLoop_PanicIsCaughtReportedAndHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reports []Report
		p := &fakePart{name: "p", do: func(n int) (time.Duration, error) {
			if n < 3 {
				panic("index out of range")
			}
			return 0, nil
		}}
		l, stop := running(t, Config{Parts: []Part{p}, Report: func(r Report) { reports = append(reports, r) }})
		defer stop()
		l.Open()
		rest(time.Second)
		var seen []bool
		for _, r := range reports {
			for _, pr := range r.Parts {
				var pe *PanicError
				seen = append(seen, errors.As(pr.Err, &pe) && strings.Contains(string(pe.Stack), "fakePart"))
			}
		}
		if !slices.Equal(seen, []bool{true, true, false}) || p.resyncs != 2 {
			t.Errorf("panics in reports %v with %d resyncs, want two, then none, and a resync after each", seen, p.resyncs)
		}
	})
}

func TestLoop_PanicInBeforeDoesNotEndIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plans := 0
		var order []string
		p := &fakePart{name: "pass", order: &order}
		l, stop := running(t, Config{Parts: []Part{p}, Before: func(context.Context) error {
			order = append(order, "plan")
			if plans++; plans < 4 {
				panic("bad plan")
			}
			return nil
		}})
		defer stop()
		l.Open()
		rest(time.Second)
		if plans != 4 || order[len(order)-1] != "pass" {
			t.Errorf("%d plannings, order %v; want 4 (tried again until it went well) and a pass after the last", plans, order)
		}
	})
}

func TestLoop_AgainIsHeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &fakePart{name: "p", do: func(n int) (time.Duration, error) {
			if n < 4 {
				return time.Minute, nil
			}
			return 0, nil
		}}
		other := &fakePart{name: "other"}
		l, stop := running(t, Config{Parts: []Part{p, other}})
		defer stop()
		l.Open()
		rest(time.Hour)
		if p.calls != 4 || p.times[3].Sub(p.times[0]) != 3*time.Minute || other.calls != 1 {
			t.Errorf("passes at %v and %d of the other part, want 4 a minute apart, and 1", p.times, other.calls)
		}
	})
}

func TestLoop_ResyncByTimerAndByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := &fakePart{name: "a"}, &fakePart{name: "b"}
		l, stop := running(t, Config{Parts: []Part{a, b}, ResyncEvery: time.Minute})
		defer stop()
		l.Open()
		rest(10 * time.Minute)
		if a.resyncs < 9 || a.resyncs > 11 || a.resyncs != b.resyncs {
			t.Errorf("%d and %d resyncs in 10 minutes, want 9 to 11 of each", a.resyncs, b.resyncs)
		}
		wasA, wasB := a.resyncs, b.resyncs
		l.ResyncPart("b")
		l.ResyncPart("nobody")
		synctest.Wait()
		if a.resyncs != wasA || b.resyncs != wasB+1 {
			t.Errorf("ResyncPart(b): a was told %d times, b %d times; want 0 and 1", a.resyncs-wasA, b.resyncs-wasB)
		}
	})
}

func TestLoop_CheckFindsAPartThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan bool)
		p := &fakePart{name: "slow", do: func(int) (time.Duration, error) { <-goOn; return 0, nil }}
		l, stop := running(t, Config{Parts: []Part{p}})
		defer stop()
		if err := l.Check(time.Minute); err != nil {
			t.Errorf("Check of an idle loop = %v", err)
		}
		l.Open()
		synctest.Wait()
		rest(2 * time.Minute)
		if err := l.Check(time.Minute); err == nil || !strings.Contains(err.Error(), "slow") {
			t.Errorf("Check after two minutes in a pass = %v, want an error that names the part", err)
		}
		close(goOn)
		synctest.Wait()
		if err := l.Check(time.Minute); err != nil {
			t.Errorf("Check when it is done = %v", err)
		}
	})
}

func TestInbox_KeepsTheLastWordAndTheMark(t *testing.T) {
	type word struct {
		about string
		n     int
	}
	wakes := 0
	b := NewInbox(func(w word) string { return w.about }, func() { wakes++ })
	if _, _, ok := b.Take(); ok {
		t.Error("Take of an empty Inbox says that there was something")
	}
	b.Put([]word{{"a", 1}, {"b", 1}}, 7)
	b.Put([]word{{"a", 2}}, 8)
	b.Put(nil, 8)
	batch, mark, ok := b.Take()
	if !slices.Equal(batch, []word{{"a", 2}, {"b", 1}}) || mark != 8 || !ok || wakes != 2 {
		t.Errorf("Take = %v, %d, %v after %d wakes; want a:2 b:1, 8, true after 2", batch, mark, ok, wakes)
	}
	b.Put(nil, 9)
	if batch, mark, ok = b.Take(); len(batch) != 0 || mark != 9 || !ok {
		t.Errorf("Take after a mark alone = %v, %d, %v; want nothing, 9, true", batch, mark, ok)
	}
	if b.Len() != 0 {
		t.Errorf("Len = %d, want 0", b.Len())
	}
}
