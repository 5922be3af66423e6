// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"

	"github.com/ripstop/ripstop/daemon/internal/host"
)

// Brake slows down repairs of what somebody else keeps changing, so that a
// fight costs both sides little: Free repairs within Window come at once, then
// one comes each Pause. It is used by one Part.
type Brake struct {
	// Clock is the machine's if nil.
	Clock host.Clock
	// Free, Window and Pause are five, ten seconds and one second if zero.
	Free          int
	Window, Pause time.Duration

	recent []time.Time
}

// Repair asks to repair now. Zero: go on, it is counted. Else it is the time
// after which to ask again.
func (b *Brake) Repair() time.Duration {
	wait := b.Wait()
	if wait == 0 {
		b.Repaired()
	}
	return wait
}

// Repaired counts a repair.
func (b *Brake) Repaired() { b.recent = append(b.recent, b.now()) }

// Wait is how long to wait with the next repair.
func (b *Brake) Wait() time.Duration {
	free, window, pause := b.Free, b.Window, b.Pause
	if free == 0 {
		free = 5
	}
	if window == 0 {
		window = 10 * time.Second
	}
	if pause == 0 {
		pause = time.Second
	}
	now := b.now()
	for len(b.recent) > 0 && now.Sub(b.recent[0]) >= window {
		b.recent = b.recent[1:]
	}
	if n := len(b.recent); n >= free {
		return max(0, pause-now.Sub(b.recent[n-1]))
	}
	return 0
}

func (b *Brake) now() time.Time {
	if b.Clock == nil {
		return host.RealClock{}.Now()
	}
	return b.Clock.Now()
}
