// SPDX-License-Identifier: Apache-2.0

package reconcile_test

import (
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
)

func TestBrake_FiveAtOnceThenOneASecondThenFreeAgain(t *testing.T) {
	clock := host.NewFakeClock(time.Unix(0, 0))
	b := reconcile.Brake{Clock: clock}
	for i := range 5 {
		if d := b.Repair(); d != 0 {
			t.Fatalf("repair %d of a calm host waits %v", i+1, d)
		}
	}
	if d := b.Repair(); d != time.Second {
		t.Errorf("sixth repair at once: wait %v, want 1s", d)
	}
	clock.Advance(400 * time.Millisecond)
	if d := b.Repair(); d != 600*time.Millisecond {
		t.Errorf("0.4 s later: wait %v, want 600ms", d)
	}
	done := 0
	for range 60 { // half a minute of a fight
		clock.Advance(500 * time.Millisecond)
		if b.Repair() == 0 {
			done++
		}
	}
	if done != 30 {
		t.Errorf("%d repairs in 30 s of a fight, want 30", done)
	}
	clock.Advance(10 * time.Second)
	for i := range 5 {
		if d := b.Repair(); d != 0 {
			t.Errorf("repair %d after ten quiet seconds waits %v", i+1, d)
		}
	}
}

func TestBrake_IsSetAsThePartSays(t *testing.T) {
	clock := host.NewFakeClock(time.Unix(0, 0))
	b := reconcile.Brake{Clock: clock, Free: 2, Window: time.Minute, Pause: 3 * time.Second}
	b.Repaired()
	if d := b.Wait(); d != 0 {
		t.Errorf("after one repair: wait %v, want 0", d)
	}
	b.Repaired()
	clock.Advance(time.Second)
	if d := b.Wait(); d != 2*time.Second {
		t.Errorf("1 s after the second: wait %v, want 2s", d)
	}
	clock.Advance(2 * time.Second)
	if d := b.Wait(); d != 0 {
		t.Errorf("3 s after the second: wait %v, want 0", d)
	}
	b.Repaired()
	clock.Advance(59 * time.Second)
	b.Repaired()
	if d := b.Wait(); d != 3*time.Second {
		t.Errorf("two repairs within the last minute: wait %v, want 3s", d)
	}
}
