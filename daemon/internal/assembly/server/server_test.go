// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/mem"
	"github.com/ripstop/ripstop/daemon/store"
)

// away is a Store that does not answer before a time.
type away struct {
	store.Store
	until time.Time
}

func (a *away) answers(ctx context.Context) error {
	if time.Now().Before(a.until) {
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Second):
		}
		return errors.New("nobody there")
	}
	return nil
}

func (a *away) Get(ctx context.Context, k api.Key) (api.Object, error) {
	if err := a.answers(ctx); err != nil {
		return nil, err
	}
	return a.Store.Get(ctx, k)
}

func (a *away) Put(ctx context.Context, o api.Object, cond store.If) (api.Revision, error) {
	if err := a.answers(ctx); err != nil {
		return 0, err
	}
	return a.Store.Put(ctx, o, cond)
}

func TestInitialise_SaysSoonThatTheDatastoreIsAwayAndDoesNotRepeatIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer // read when initialise is over
		s := &away{Store: mem.New(mem.Config{}), until: time.Now().Add(2 * time.Minute)}
		began := time.Now()
		initialise(t.Context(), s, slog.New(slog.NewTextHandler(&log, nil)))
		if n := strings.Count(log.String(), "Datastore not ready"); n < 3 || n > 5 {
			t.Errorf("%d lines in two minutes, want 3 to 5:\n%s", n, log.String())
		}
		first, _, _ := strings.Cut(log.String(), "\n")
		if !strings.Contains(first, "nobody there") || !strings.Contains(log.String(), "Datastore ready") {
			t.Errorf("log:\n%s\nwant why at first, and the end", log.String())
		}
		if took := time.Since(began); took > 3*time.Minute {
			t.Errorf("ready after %v, want soon after two minutes", took)
		}
	})
}

func TestMain_RefusesACommandLineThatMakesNoSense(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"serve", `argument "serve" is not expected`},
		{"--no-such-flag", "unknown flag: --no-such-flag"},
		{"--quota lots", `"lots" is no size`},
	} {
		var out, err bytes.Buffer
		if code := Main(strings.Fields(c.args), nil, &out, &err); code != 2 || !strings.Contains(err.String(), c.want) {
			t.Errorf("ripstop-server %s: exit status %d, want 2, and %q in: %s", c.args, code, c.want, err.String())
		}
	}
}
