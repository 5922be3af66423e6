// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// wait takes what was told until ok, 10 s at the most.
func wait[T any](t *testing.T, told <-chan T, what string, ok func(T) bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case v := <-told:
			if ok(v) {
				return
			}
		case <-deadline:
			t.Fatalf("not told within 10 s: %s", what)
		}
	}
}

func TestNetnsMonitor_NamesWhoTouchedOurTable(t *testing.T) {
	ns := netnstest.New(t)
	ctx, cancel := context.WithCancel(context.Background())
	told := make(chan Event, 100)
	ended := ns.Go(func() error { return New(Config{Table: "ripstop"}).Run(ctx, func(e Event) { told <- e }) })
	wait(t, told, "that what was before is not known", func(e Event) bool { return e.Lost })
	ns.Run("nft", "add", "table", "inet", "stranger")
	wait(t, told, "a change of another table", func(e Event) bool { return !e.Touched && strings.HasPrefix(e.By, "nft[") })
	ns.Run("nft", "add", "table", "inet", "ripstop")
	wait(t, told, "a change of our table", func(e Event) bool { return e.Touched && !e.Lost && strings.HasPrefix(e.By, "nft[") && e.Generation > 0 })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v, want nil after its context ended", err)
	}
}

func TestNetnsLinks_FollowInterfacesAndAddresses(t *testing.T) {
	ns := netnstest.New(t)
	ctx, cancel := context.WithCancel(context.Background())
	told := make(chan map[string]intent.Interface, 100)
	ended := ns.Go(func() error {
		return NewLinks(LinksConfig{}).Run(ctx, func(m map[string]intent.Interface) { told <- m })
	})
	wait(t, told, "the first listing", func(m map[string]intent.Interface) bool { return m["lo"].Up })
	ns.Run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
	wait(t, told, "a new interface, down", func(m map[string]intent.Interface) bool { i, ok := m["eth0"]; return ok && !i.Up })
	ns.Run("ip", "addr", "add", "10.9.0.1/24", "dev", "eth0")
	ns.Run("ip", "addr", "add", "fd09::1/64", "dev", "eth0", "nodad")
	ns.Run("ip", "link", "set", "eth0", "up")
	wait(t, told, "up, with both addresses", func(m map[string]intent.Interface) bool {
		i := m["eth0"]
		return i.Up && slices.Contains(i.Addrs, netip.MustParseAddr("10.9.0.1")) && slices.Contains(i.Addrs, netip.MustParseAddr("fd09::1"))
	})
	ns.Run("ip", "link", "set", "eth0", "down")
	ns.Run("ip", "link", "set", "eth0", "name", "wan0")
	wait(t, told, "a new name", func(m map[string]intent.Interface) bool { _, old := m["eth0"]; _, now := m["wan0"]; return now && !old })
	ns.Run("ip", "link", "del", "wan0")
	wait(t, told, "an interface gone", func(m map[string]intent.Interface) bool { _, ok := m["wan0"]; return !ok })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run = %v, want nil after its context ended", err)
	}
}
