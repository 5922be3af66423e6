// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bufio"
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client/clienttest"
	"github.com/ripstop/ripstop/daemon/store"
)

// lines reads what a command prints, line by line.
type lines struct {
	t  *testing.T
	in chan string
}

func (l lines) want(text string) {
	l.t.Helper()
	select {
	case got := <-l.in:
		if got != text {
			l.t.Fatalf("printed %q, want %q", got, text)
		}
	case <-time.After(20 * time.Second):
		l.t.Fatalf("nothing is printed, want %q", text)
	}
}

// following runs get -w beside the test; end interrupts it.
func following(t *testing.T, args ...string) (out lines, end func() error) {
	t.Helper()
	r, w := io.Pipe()
	a := &app{Streams: Streams{nil, w, io.Discard}, now: time.Now}
	root := a.root()
	root.SetArgs(args)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- root.ExecuteContext(ctx); w.Close() }()
	out = lines{t, make(chan string, 100)}
	go func() {
		for s := bufio.NewScanner(r); s.Scan(); {
			out.in <- s.Text()
		}
	}()
	t.Cleanup(cancel)
	return out, func() error { cancel(); return <-done }
}

func tierOf(name string, order float64) *api.Tier {
	return &api.Tier{
		TypeMeta: api.TypeMeta{Kind: api.KindTier, APIVersion: api.VersionCalico},
		Meta:     api.Meta{Name: name, Labels: map[string]string{"test": "yes"}}, Spec: api.TierSpec{Order: &order, DefaultAction: api.Deny},
	}
}

func TestGet_WatchShowsWhatChanges(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	s := serve(t, path)
	defer s.stop()
	put := func(o api.Object) {
		t.Helper()
		if _, err := s.store.Put(t.Context(), o, store.Always()); err != nil {
			t.Fatal(err)
		}
	}
	put(tierOf("a", 1))
	out, end := following(t, "get", "tiers", "-l", "test=yes", "-w", "--server", "unix://"+path)
	out.want("NAME   ORDER")
	out.want("a      1")
	put(tierOf("longer", 2))
	out.want("longer   2")
	put(tierOf("a", 3))
	out.want("a        3")
	if err := s.store.Delete(t.Context(), tierOf("a", 0).Key(), store.Always()); err != nil {
		t.Fatal(err)
	}
	out.want("a        3") // its last state
	put(tierOf("b", 4))
	out.want("b        4")
	if err := end(); err != nil {
		t.Errorf("an interrupt is an error: %v", err)
	}
}

func TestGet_WatchOfOneAsDocuments(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	s := serve(t, path)
	defer s.stop()
	if _, err := s.store.Put(t.Context(), tierOf("a", 1), store.Always()); err != nil {
		t.Fatal(err)
	}
	out, end := following(t, "get", "tier/a", "-o", "jsonpath={.metadata.name} {.spec.order}{\"\\n\"}", "-w", "--server", "unix://"+path)
	out.want("a 1")
	for _, o := range []*api.Tier{tierOf("other", 5), tierOf("a", 2)} {
		if _, err := s.store.Put(t.Context(), o, store.Always()); err != nil {
			t.Fatal(err)
		}
	}
	out.want("a 2")
	if err := end(); err != nil {
		t.Error(err)
	}
}

// TestGet_WatchGoesOnWhenTheServerComesBack: what changed meanwhile is shown,
// what did not is not.
func TestGet_WatchGoesOnWhenTheServerComesBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	st := clienttest.NewStore(t, 0)
	s := serveStore(t, path, st)
	for _, o := range []*api.Tier{tierOf("a", 1), tierOf("b", 1)} {
		if _, err := st.Put(t.Context(), o, store.Always()); err != nil {
			t.Fatal(err)
		}
	}
	out, end := following(t, "get", "tiers", "-l", "test=yes", "-w", "--no-headers", "--server", "unix://"+path)
	out.want("a   1")
	out.want("b   1")
	s.stop()
	rev, err := st.Put(t.Context(), tierOf("b", 2), store.Always())
	if err != nil {
		t.Fatal(err)
	}
	if err := st.Compact(t.Context(), rev); err != nil { // what it would ask for next is forgotten
		t.Fatal(err)
	}
	defer serveStore(t, path, st).stop()
	out.want("b   2")
	if _, err := st.Put(t.Context(), tierOf("c", 3), store.Always()); err != nil {
		t.Fatal(err)
	}
	out.want("c   3")
	if err := end(); err != nil {
		t.Error(err)
	}
}
