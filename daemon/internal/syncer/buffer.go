// SPDX-License-Identifier: Apache-2.0

package syncer

import (
	"context"
	"sync"

	"github.com/ripstop/ripstop/daemon/api"
)

// Batch is what a Buffer hands over at once.
type Batch struct {
	// Events are what has changed since the last batch, at most one of a
	// key: its last state. No bookmarks are among them.
	Events []api.Event
	// Phase is the stream's phase now.
	Phase Phase
	// Synced: the stream has been InSync at least once, and everything up to
	// then is in this batch or in an earlier one. It never turns false again.
	Synced bool
	// Revision is the newest revision seen. With one watch per kind it does
	// not promise that all kinds have come as far; the difference is what is
	// under way between store and host, normally less than a millisecond.
	Revision api.Revision
}

// Buffer is a Sink that one consumer empties at its own pace: events of one
// key collapse into the last, so that it never holds more than one event per
// key. It is the first of the three places in Ripstop that have a queue. What
// one call of Events brings is handed over in one Batch, never in two.
type Buffer struct {
	news chan struct{} // has room for one: something waits

	mu     sync.Mutex // guards all below
	events []api.Event
	at     map[api.Key]int // place in events
	last   Batch           // all but Events
}

// NewBuffer gives an empty Buffer.
func NewBuffer() *Buffer {
	return &Buffer{news: make(chan struct{}, 1), at: map[api.Key]int{}}
}

// Phase takes note of the stream's phase. It never blocks.
func (b *Buffer) Phase(_ context.Context, p Phase) error {
	b.mu.Lock()
	b.last.Phase = p
	b.last.Synced = b.last.Synced || p == InSync
	b.mu.Unlock()
	b.wake()
	return nil
}

// Events takes events in. It never blocks and does not keep evs.
func (b *Buffer) Events(_ context.Context, evs []api.Event) error {
	b.mu.Lock()
	for _, ev := range evs {
		b.addLocked(ev)
	}
	b.mu.Unlock()
	b.wake()
	return nil
}

func (b *Buffer) addLocked(ev api.Event) {
	if ev.Key.Name == "" {
		b.last.Revision = ev.Revision
		return
	}
	b.last.Revision = max(b.last.Revision, ev.Revision)
	if i, ok := b.at[ev.Key]; ok {
		b.events[i] = ev
		return
	}
	b.at[ev.Key] = len(b.events)
	b.events = append(b.events, ev)
}

// Next waits until something has changed since the last call and returns all
// of it, or ctx's error. It is called by one goroutine.
func (b *Buffer) Next(ctx context.Context) (Batch, error) {
	select {
	case <-ctx.Done():
		return Batch{}, ctx.Err()
	case <-b.news:
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	out := b.last
	out.Events = b.events
	b.events = nil
	if len(b.at) > 1024 {
		b.at = map[api.Key]int{} // give the memory of a burst back
	}
	clear(b.at)
	return out, nil
}

func (b *Buffer) wake() {
	select {
	case b.news <- struct{}{}:
	default:
	}
}

// Tee is a Sink that passes everything on to several, in order. The first
// error ends it.
type Tee []Sink

// Phase passes p on.
func (t Tee) Phase(ctx context.Context, p Phase) error {
	for _, s := range t {
		if err := s.Phase(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// Events passes evs on.
func (t Tee) Events(ctx context.Context, evs []api.Event) error {
	for _, s := range t {
		if err := s.Events(ctx, evs); err != nil {
			return err
		}
	}
	return nil
}
