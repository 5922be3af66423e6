// SPDX-License-Identifier: Apache-2.0

package host

import (
	"testing"
	"time"
)

func fired(t Timer) bool {
	select {
	case <-t.C():
		return true
	default:
		return false
	}
}

func TestFakeClock_FiresWhatIsDueWhenItIsMoved(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := NewFakeClock(start)
	a, b, stopped, now := c.NewTimer(time.Second), c.NewTimer(2*time.Second), c.NewTimer(time.Second), c.NewTimer(0)
	if !stopped.Stop() || stopped.Stop() {
		t.Error("Stop must say true once")
	}
	if !fired(now) || fired(a) || c.Waiting() != 2 {
		t.Errorf("before: a timer of 0 must have fired, others not; %d wait, want 2", c.Waiting())
	}
	c.Advance(time.Second)
	if !fired(a) || fired(b) || fired(stopped) {
		t.Error("after 1 s: a must have fired, b and the stopped one not")
	}
	b.Reset(5 * time.Second)
	c.Advance(4 * time.Second)
	if fired(b) {
		t.Error("b has fired before the time it was reset to")
	}
	c.Advance(time.Second)
	if !fired(b) || !c.Now().Equal(start.Add(6*time.Second)) {
		t.Errorf("b must have fired; now is %v", c.Now())
	}
}

func TestFakeClock_SettingTheWallClockFiresNothing(t *testing.T) {
	c := NewFakeClock(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	a := c.NewTimer(time.Minute)
	c.Set(c.Now().AddDate(1, 0, 0))
	if fired(a) {
		t.Error("a timer fired because the wall clock was set a year ahead")
	}
	c.Set(c.Now().AddDate(-2, 0, 0))
	c.Advance(59 * time.Second)
	if fired(a) {
		t.Error("a timer fired early")
	}
	c.Advance(time.Second)
	if !fired(a) {
		t.Error("a timer did not fire after its time, because the wall clock was set back")
	}
}

func TestRealClock_TimersFire(t *testing.T) {
	var c Clock = RealClock{}
	before := c.Now()
	tm := c.NewTimer(time.Hour)
	tm.Reset(0)
	<-tm.C()
	<-c.After(0)
	if c.Now().Before(before) || tm.Stop() {
		t.Error("time went back, or a timer that has fired could be stopped")
	}
}
