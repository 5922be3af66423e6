// SPDX-License-Identifier: Apache-2.0

// Package syncer turns a Store into a stream: the whole state once, then
// changes, with the deletions that were missed during a break added. Sources
// of other kinds (the snapshot on disk, later the fan-out and Kubernetes) keep
// the same contract.
//
// At start the agent enforces the last snapshot first and then goes live:
//
//	snapshot on disk ─► Known ─┬─► Replay ─► events + InSync ─┐
//	                           │                              ├─► Tee ─► Buffer ─► calc
//	                           └─► Watcher (New) ─ difference ┘     └──► snapshot.Writer
//
// Replay does not wait for the network. The Watcher is told what is Known, so
// that its first listing brings only the difference to it: objects changed and
// objects gone. A listing that looks wrong (another cluster, an older
// revision, empty, half of it gone, a datastore that is not ready) is held: it
// never becomes events, and the sink goes on with what it has.
//
// Package syncer decides nothing about policy and writes nothing to the store.
//
// A bookmark (an event without a name) normally carries a higher revision
// than all before it. One with a lower revision means that an operator has
// accepted a store that went back in time: count from there.
package syncer

import (
	"context"

	"github.com/ripstop/ripstop/daemon/api"
)

// Phase is how complete a stream's picture is.
type Phase int

// Phases of a stream. Waiting: the upstream cannot be reached. Resyncing: the
// picture is being built. InSync: everything up to now has been sent.
const (
	Waiting Phase = iota
	Resyncing
	InSync
)

// String is the phase's name.
func (p Phase) String() string { return [...]string{"Waiting", "Resyncing", "InSync"}[p] }

// Source streams resources into a Sink until ctx ends. It never returns
// because the upstream is away: it waits, retries with back-off and reports
// through Phase. After a break it sends what changed meanwhile, deletions
// included, and nothing else: the sink's picture is never taken down.
type Source interface {
	Run(ctx context.Context, sink Sink) error
}

// Sink takes a stream from one goroutine. An error ends the Source.
type Sink interface {
	Phase(ctx context.Context, p Phase) error
	Events(ctx context.Context, evs []api.Event) error
}
