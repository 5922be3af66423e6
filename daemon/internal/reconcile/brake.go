// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"time"

	"github.com/ripstop/ripstop/daemon/internal/host"
)

// How a Brake slows down: as many repairs as brakeFree within brakeWindow are
// done at once, more wait until brakePause has passed since the last.
const (
	brakeFree   = 5
	brakeWindow = 10 * time.Second
	brakePause  = time.Second
)

// Brake slows down repairs of what somebody else keeps changing, so that a
// fight costs both sides little: five within ten seconds come at once, then
// one a second. It is used by one Part.
type Brake struct {
	// Clock is the machine's if nil.
	Clock  host.Clock
	recent []time.Time
}

// Repair asks to repair now. Zero: go on, it is counted. Else it is the time
// after which to ask again.
func (b *Brake) Repair() time.Duration {
	clock := b.Clock
	if clock == nil {
		clock = host.RealClock{}
	}
	now := clock.Now()
	for len(b.recent) > 0 && now.Sub(b.recent[0]) >= brakeWindow {
		b.recent = b.recent[1:]
	}
	if n := len(b.recent); n >= brakeFree {
		if since := now.Sub(b.recent[n-1]); since < brakePause {
			return brakePause - since
		}
	}
	b.recent = append(b.recent, now)
	return 0
}
