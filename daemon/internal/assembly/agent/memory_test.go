// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

func TestThrift_GivesBackOnceAfterMuchNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var freed atomic.Int32
		th := newThrift()
		th.free = func() { freed.Add(1) }
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- th.run(ctx) }()
		for range 4 {
			for range 10 {
				th.note(muchNews / 10)
			}
			time.Sleep(thriftAfter - time.Second)
			synctest.Wait()
		}
		if freed.Load() != 0 {
			t.Errorf("%d times while batches came, want none", freed.Load())
		}
		time.Sleep(10 * thriftAfter)
		synctest.Wait()
		if freed.Load() != 1 {
			t.Errorf("%d times after them, want once", freed.Load())
		}
		th.note(muchNews - 1)
		time.Sleep(10 * thriftAfter)
		synctest.Wait()
		if freed.Load() != 1 {
			t.Errorf("%d times after a small batch, want no more", freed.Load())
		}
		for _, p := range []syncer.Phase{syncer.Resyncing, syncer.InSync, syncer.Waiting} {
			th.synced(syncer.State{Phase: p})
		}
		time.Sleep(10 * thriftAfter)
		synctest.Wait()
		if freed.Load() != 2 {
			t.Errorf("%d times after a listing without news, want once more", freed.Load())
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run = %v, want nil", err)
		}
	})
}
