// SPDX-License-Identifier: Apache-2.0

package syncer

import (
	"context"

	"github.com/ripstop/ripstop/daemon/api"
)

// Replay sends what is known from the last snapshot into sink, batch by batch,
// followed by InSync. Then a Watcher that was made with the same Known goes on
// with the difference. A Known without events is nothing to replay, and nothing
// is sent: then it is the Watcher alone that leads to InSync.
//
// The replay does not wait for the network, not even for a moment to see
// whether the store answers: yesterday's rules are in the kernel already, so
// working them out again changes nothing there and costs milliseconds, and
// what the store has to add to them is little.
func (k Known) Replay(ctx context.Context, sink Sink) error {
	if k.Events == nil {
		return nil
	}
	if err := sink.Phase(ctx, Resyncing); err != nil {
		return err
	}
	for batch := range k.Events {
		if err := sink.Events(ctx, batch); err != nil {
			return err
		}
	}
	if err := sink.Events(ctx, []api.Event{{Key: api.Key{Kind: api.KindClusterInformation}, Revision: k.Revision}}); err != nil {
		return err
	}
	return sink.Phase(ctx, InSync)
}
