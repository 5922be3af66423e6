// SPDX-License-Identifier: Apache-2.0

// Package clienttest lends the Store in memory to tests outside of daemon/,
// which cannot import daemon/internal. It is imported by tests only.
package clienttest

import (
	"context"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/mem"
	"github.com/ripstop/ripstop/daemon/store"
)

// Store is a Store in memory with two handles that only tests want.
type Store interface {
	store.Store
	// PutBytes stores a value as it is, as a foreign program would.
	PutBytes(ctx context.Context, k api.Key, value []byte) (api.Revision, error)
	// Compact forgets the changes up to and including rev.
	Compact(ctx context.Context, rev api.Revision) error
}

// NewStore is an initialised Store that keeps history past writes (0: the
// default).
func NewStore(t testing.TB, history int) Store {
	t.Helper()
	s := mem.New(mem.Config{History: history})
	if err := store.Initialise(context.Background(), s); err != nil {
		t.Fatalf("initialising the store: %v", err)
	}
	return s
}
