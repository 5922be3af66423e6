// SPDX-License-Identifier: Apache-2.0

package mem_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/mem"
	"github.com/ripstop/ripstop/daemon/internal/store/storetest"
	"github.com/ripstop/ripstop/daemon/store"
)

func TestStore_KeepsTheContract(t *testing.T) {
	storetest.Run(t, func(*testing.T) store.Store {
		return mem.New(mem.Config{BookmarkEvery: 50 * time.Millisecond})
	})
}

func TestStore_HistoryIsBounded(t *testing.T) {
	s := mem.New(mem.Config{History: 5})
	ctx := context.Background()
	var revs []api.Revision
	for i := range 20 {
		o := &api.Tier{}
		o.Kind, o.APIVersion, o.Name = api.KindTier, api.VersionCalico, fmt.Sprint("t", i)
		rev, err := s.Put(ctx, o, store.Absent())
		if err != nil {
			t.Fatal(err)
		}
		revs = append(revs, rev)
	}
	w, err := s.Watch(ctx, api.KindTier, revs[13])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Next(ctx); !errors.Is(err, store.ErrCompacted) {
		t.Errorf("Next from six writes ago: error %v, want %v", err, store.ErrCompacted)
	}
	w, err = s.Watch(ctx, api.KindTier, revs[14])
	if err != nil {
		t.Fatal(err)
	}
	if evs, err := w.Next(ctx); err != nil || len(evs) != 5 {
		t.Errorf("Next from five writes ago: %d events, error %v, want 5", len(evs), err)
	}
}
