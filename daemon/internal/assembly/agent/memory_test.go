// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

func TestThrift_GivesBackOnceAfterMuchNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		freed := 0
		th := newThrift()
		th.free = func() { freed++ }
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
		if freed != 0 {
			t.Errorf("%d times while batches came, want none", freed)
		}
		time.Sleep(10 * thriftAfter)
		synctest.Wait()
		if freed != 1 {
			t.Errorf("%d times after them, want once", freed)
		}
		th.note(muchNews - 1)
		time.Sleep(10 * thriftAfter)
		synctest.Wait()
		if freed != 1 {
			t.Errorf("%d times after a small batch, want no more", freed)
		}
		for _, p := range []syncer.Phase{syncer.Resyncing, syncer.InSync, syncer.Waiting} {
			th.synced(syncer.State{Phase: p})
		}
		time.Sleep(10 * thriftAfter)
		synctest.Wait()
		if freed != 2 {
			t.Errorf("%d times after a listing without news, want once more", freed)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run = %v, want nil", err)
		}
	})
}
