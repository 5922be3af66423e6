// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

// thrift gives memory back to the machine. A cold start and a listing of a
// large datastore need much for a moment; the runtime of Go keeps it for
// minutes and gives it back little by little, and a host's firewall shares its
// host.
type thrift struct {
	clock host.Clock
	seen  int           // events since the last word; think's goroutine only
	big   chan struct{} // has room for one
	free  func()
}

const (
	// muchNews is how many events are worth the price: one more garbage
	// collection, some 50 ms of one processor at 60,000 objects.
	muchNews = 1000
	// thriftAfter is how long it must be quiet first, so that what is being
	// planned meanwhile is done.
	thriftAfter = 5 * time.Second
)

func newThrift() *thrift {
	return &thrift{clock: host.RealClock{}, big: make(chan struct{}, 1), free: debug.FreeOSMemory}
}

// note takes the size of a batch. It never blocks.
func (t *thrift) note(events int) {
	if t.seen += events; t.seen < muchNews {
		return
	}
	t.seen = 0
	t.burst()
}

// synced takes the state of the stream. A listing needs memory even if it
// brings no news. It may be called from any goroutine and never blocks.
func (t *thrift) synced(s syncer.State) {
	if s.Phase == syncer.InSync {
		t.burst()
	}
}

func (t *thrift) burst() {
	select {
	case t.big <- struct{}{}:
	default:
	}
}

// run gives memory back, some time after much was news, until ctx ends.
func (t *thrift) run(ctx context.Context) error {
	var quiet <-chan time.Time
	var timer host.Timer
	for {
		select {
		case <-ctx.Done():
			if timer != nil {
				timer.Stop()
			}
			return nil
		case <-t.big:
			if timer != nil {
				timer.Stop()
			}
			timer = t.clock.NewTimer(thriftAfter)
			quiet = timer.C()
		case <-quiet:
			quiet = nil
			t.free()
		}
	}
}
