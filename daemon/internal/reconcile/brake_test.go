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
