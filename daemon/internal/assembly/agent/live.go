// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/reconcile"
)

// How long a piece may be at one thing before /livez calls it hung: Felix's
// limits.
const (
	calcMost = 30 * time.Second
	laneMost = 90 * time.Second
)

// liveness is what /livez asks.
func liveness(loop *reconcile.Loop, calc *pulse) map[string]func() error {
	return map[string]func() error{
		"calc": func() error { return calc.check(calcMost) },
		"lane": func() error { return loop.Check(laneMost) },
	}
}

// pulse tells how long a goroutine has been at work without a rest. work and
// rest are that goroutine's, check is anybody's.
type pulse struct {
	mu    sync.Mutex // guards since
	since time.Time  // zero: at rest
}

func (p *pulse) work() {
	p.mu.Lock()
	p.since = time.Now()
	p.mu.Unlock()
}

func (p *pulse) rest() {
	p.mu.Lock()
	p.since = time.Time{}
	p.mu.Unlock()
}

func (p *pulse) check(most time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.since.IsZero() {
		return nil
	}
	if d := time.Since(p.since); d > most {
		return fmt.Errorf("at one batch for %s", d.Round(time.Second))
	}
	return nil
}
