// SPDX-License-Identifier: Apache-2.0

package syncer

import (
	"context"

	"github.com/ripstop/ripstop/daemon/api"
)

// Replay is a Source that first sends what is known from the last snapshot,
// with InSync, and then goes on as live. live must have been made with the
// same Known, so that it sends only the difference. A Known without events is
// nothing to replay: then it is live alone that leads to InSync.
//
// The replay does not wait for the network, not even for a moment to see
// whether live answers: yesterday's rules are in the kernel already, so
// working them out again changes nothing there and costs milliseconds, and
// what live has to add to them is little.
func Replay(known Known, live Source) Source { return &replay{known, live} }

type replay struct {
	known Known
	live  Source
}

// Run replays and then runs live.
func (r *replay) Run(ctx context.Context, sink Sink) error {
	if err := r.known.Replay(ctx, sink); err != nil {
		return err
	}
	r.known.Events = nil // give the memory back
	return r.live.Run(ctx, sink)
}

// Replay sends the picture into sink in one piece, followed by InSync. If
// there are no events it sends nothing.
func (k Known) Replay(ctx context.Context, sink Sink) error {
	if len(k.Events) == 0 {
		return nil
	}
	if err := sink.Phase(ctx, Resyncing); err != nil {
		return err
	}
	events := append(k.Events[:len(k.Events):len(k.Events)], api.Event{Key: api.Key{Kind: api.KindClusterInformation}, Revision: k.Revision})
	if err := sink.Events(ctx, events); err != nil {
		return err
	}
	return sink.Phase(ctx, InSync)
}
