// SPDX-License-Identifier: Apache-2.0

package reconcile

import "sync"

// Inbox hands what one goroutine says to another, the lane's: it keeps only
// the last word on each key, so its size is bounded by the number of keys,
// however slow the taker is. It is the second of the three places in Ripstop
// that have a queue. All methods may be called from many goroutines.
type Inbox[K comparable, V any] struct {
	key  func(V) K
	wake func()

	mu    sync.Mutex // guards all below
	batch []V
	at    map[K]int // place in batch; empty while nothing was added to the first
	mark  int64
	news  bool
}

// NewInbox gives an empty Inbox. key names what a value is about; wake, if not
// nil, is called after each Put that brought something, without a lock held
// (usually Loop.Wake).
func NewInbox[K comparable, V any](key func(V) K, wake func()) *Inbox[K, V] {
	return &Inbox[K, V]{key: key, wake: wake, at: map[K]int{}}
}

// Put adds a batch that belongs together: one Take gives all of it or none.
// A value replaces an older one of the same key that nobody has taken yet.
// mark says how far the sayer has come (a store's revision); Take gives the
// last one put. A batch has a key once, and is the Inbox's from now on.
func (b *Inbox[K, V]) Put(batch []V, mark int64) {
	b.put(batch, &mark)
}

// Merge is Put by somebody else than the one who marks: the mark stays.
func (b *Inbox[K, V]) Merge(batch []V) {
	b.put(batch, nil)
}

func (b *Inbox[K, V]) put(batch []V, mark *int64) {
	b.mu.Lock()
	if mark == nil {
		mark = &b.mark
	}
	news := len(batch) > 0 || *mark != b.mark
	switch {
	case len(batch) == 0:
	case len(b.batch) == 0: // as it mostly is, and at a cold start, when it matters
		b.batch = batch
	default:
		b.add(batch)
	}
	b.mark = *mark
	b.news = b.news || news
	b.mu.Unlock()
	if news && b.wake != nil {
		b.wake()
	}
}

// add puts a batch to one that waits.
func (b *Inbox[K, V]) add(batch []V) {
	if len(b.at) == 0 {
		for i, v := range b.batch {
			b.at[b.key(v)] = i
		}
	}
	for _, v := range batch {
		k := b.key(v)
		if i, ok := b.at[k]; ok {
			b.batch[i] = v
			continue
		}
		b.at[k] = len(b.batch)
		b.batch = append(b.batch, v)
	}
}

// Take gives all that was put since the last Take, in the order in which the
// keys were first put, and the last mark. ok is false if nothing was put.
func (b *Inbox[K, V]) Take() (batch []V, mark int64, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	batch, ok = b.batch, b.news
	b.batch, b.news = nil, false
	if len(b.at) > 1024 {
		b.at = map[K]int{} // give the memory of a burst back
	}
	clear(b.at)
	return batch, b.mark, ok
}

// Len is the number of values that wait to be taken.
func (b *Inbox[K, V]) Len() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.batch)
}
