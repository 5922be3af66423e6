// SPDX-License-Identifier: Apache-2.0

package follow

import (
	"context"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
)

// awaitMost is how long a write waits for those who decide by what it wrote.
const awaitMost = time.Second

// Progress tells how far the follower of a kind has come, so that whoever has
// written an object can wait until it counts: a token that is refused because
// it is too new, or one that is good just after it was revoked, is a riddle.
// The zero Progress is of a follower that does not run; its methods may be
// called from many goroutines.
type Progress struct {
	mu    sync.Mutex
	runs  bool
	at    api.Revision
	has   map[api.Key]bool
	moved chan struct{} // closed at the next move
}

// begin says that the follower runs, end that it does not any more.
func (p *Progress) begin() { p.set(func() { p.runs = true }) }
func (p *Progress) end()   { p.set(func() { p.runs = false }) }

// move says that all up to a revision counts.
func (p *Progress) move(rev api.Revision, state map[api.Key]api.Object) {
	has := make(map[api.Key]bool, len(state))
	for k := range state {
		has[k] = true
	}
	p.set(func() { p.at, p.has = max(p.at, rev), has })
}

func (p *Progress) set(change func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change()
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// Await waits until a write counts: of key at revision rev, or, if rev is
// zero, its deletion. It waits for a second at the most, and not at all for a
// follower that does not run: a store that is away keeps nobody.
func (p *Progress) Await(ctx context.Context, key api.Key, rev api.Revision) {
	ctx, cancel := context.WithTimeout(ctx, awaitMost)
	defer cancel()
	for {
		p.mu.Lock()
		counts := !p.runs || rev != 0 && p.at >= rev || rev == 0 && !p.has[key]
		if !counts && p.moved == nil {
			p.moved = make(chan struct{})
		}
		moved := p.moved
		p.mu.Unlock()
		if counts {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-moved:
		}
	}
}
