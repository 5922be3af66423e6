// SPDX-License-Identifier: Apache-2.0

package host

import (
	"sync"
	"time"
)

// Clock tells the time and wakes up later. All methods may be called from
// many goroutines.
//
// Durations are measured on the monotonic clock: when somebody sets the wall
// clock, no timer fires early or late.
type Clock interface {
	// Now is the present time, with a monotonic reading.
	Now() time.Time
	// NewTimer gives a timer that fires once after d; d <= 0: at once.
	NewTimer(d time.Duration) Timer
	// After is NewTimer(d).C() for a timer that is never stopped.
	After(d time.Duration) <-chan time.Time
}

// Timer fires once. It is used by one goroutine.
type Timer interface {
	// C delivers the time at which the timer fired.
	C() <-chan time.Time
	// Stop keeps the timer from firing and reports whether it did so.
	Stop() bool
	// Reset starts the timer anew; what it had delivered before and nobody
	// has received is gone.
	Reset(d time.Duration)
}

// RealClock is the machine's clock. The zero value is ready to use.
type RealClock struct{}

// Now is time.Now.
func (RealClock) Now() time.Time { return time.Now() }

// NewTimer is time.NewTimer.
func (RealClock) NewTimer(d time.Duration) Timer { return realTimer{time.NewTimer(d)} }

// After is time.After.
func (RealClock) After(d time.Duration) <-chan time.Time { return time.After(d) }

type realTimer struct{ t *time.Timer }

func (t realTimer) C() <-chan time.Time   { return t.t.C }
func (t realTimer) Stop() bool            { return t.t.Stop() }
func (t realTimer) Reset(d time.Duration) { t.t.Reset(d) }

// FakeClock stands still until a test moves it. The zero value is not usable;
// see NewFakeClock.
type FakeClock struct {
	mu     sync.Mutex // guards all below
	now    time.Time
	timers map[*fakeTimer]struct{}
}

// NewFakeClock gives a clock that stands at now.
func NewFakeClock(now time.Time) *FakeClock {
	return &FakeClock{now: now, timers: map[*fakeTimer]struct{}{}}
}

// Now is where the clock stands.
func (c *FakeClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// NewTimer gives a timer that fires when the clock is moved to now+d.
func (c *FakeClock) NewTimer(d time.Duration) Timer {
	t := &fakeTimer{clock: c, ch: make(chan time.Time, 1)}
	t.Reset(d)
	return t
}

// After is NewTimer(d).C().
func (c *FakeClock) After(d time.Duration) <-chan time.Time { return c.NewTimer(d).C() }

// Advance moves the clock by d and fires what is due, in order of time.
func (c *FakeClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := c.now.Add(d)
	for {
		var first *fakeTimer
		for t := range c.timers {
			if !t.at.After(end) && (first == nil || t.at.Before(first.at)) {
				first = t
			}
		}
		if first == nil {
			break
		}
		if first.at.After(c.now) {
			c.now = first.at
		}
		c.fireLocked(first)
	}
	c.now = end
}

// Set puts the wall clock to now without letting time pass: no timer fires
// and those that run keep the time they have left.
func (c *FakeClock) Set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	shift := now.Sub(c.now)
	for t := range c.timers {
		t.at = t.at.Add(shift)
	}
	c.now = now
}

// Waiting is the number of timers that have not fired yet; tests wait for it
// before they advance the clock.
func (c *FakeClock) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.timers)
}

func (c *FakeClock) fireLocked(t *fakeTimer) {
	delete(c.timers, t)
	select {
	case t.ch <- c.now:
	default:
	}
}

type fakeTimer struct {
	clock *FakeClock
	at    time.Time // guarded by clock.mu
	ch    chan time.Time
}

func (t *fakeTimer) C() <-chan time.Time { return t.ch }

func (t *fakeTimer) Stop() bool {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	_, ran := t.clock.timers[t]
	delete(t.clock.timers, t)
	return ran
}

func (t *fakeTimer) Reset(d time.Duration) {
	t.clock.mu.Lock()
	defer t.clock.mu.Unlock()
	select {
	case <-t.ch:
	default:
	}
	t.at = t.clock.now.Add(d)
	t.clock.timers[t] = struct{}{}
	if d <= 0 {
		t.clock.fireLocked(t)
	}
}
