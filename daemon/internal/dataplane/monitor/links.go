// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// LinksConfig says how Links works.
type LinksConfig struct {
	// Every is how often the interfaces are listed even if no notice came;
	// zero: 90 s, as in Felix.
	Every time.Duration
	// Log is told when listing or listening broke.
	Log *slog.Logger
}

// Links tells of the interfaces of this host and their addresses.
type Links struct{ cfg LinksConfig }

// NewLinks gives a Links that does nothing before Run.
func NewLinks(cfg LinksConfig) *Links {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Every <= 0 {
		cfg.Every = 90 * time.Second
	}
	return &Links{cfg}
}

// Run tells tell of all interfaces in the network namespace of the calling
// process, at first and after each change, from Run's goroutine, until ctx
// ends; then it returns nil. The map is the callee's.
func (l *Links) Run(ctx context.Context, tell func(map[string]intent.Interface)) error {
	for {
		err := l.follow(ctx, tell)
		if ctx.Err() != nil {
			return nil
		}
		l.cfg.Log.Warn("Listening to interfaces broke, beginning anew", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// follow subscribes first and lists then, so that nothing falls between.
func (l *Links) follow(ctx context.Context, tell func(map[string]intent.Interface)) error {
	done := make(chan struct{})
	broke := make(chan error, 2) // one slot for each subscription
	failed := func(err error) {
		select {
		case broke <- err:
		default:
		}
	}
	// The library blocks while nobody takes a notice, and a reader that is
	// slow loses notices: it then says so, and all is listed anew.
	links := make(chan netlink.LinkUpdate, 64)
	addrs := make(chan netlink.AddrUpdate, 64)
	defer func() { // the library closes its channels when done is closed
		close(done)
		for range links {
		}
		for range addrs {
		}
	}()
	if err := netlink.LinkSubscribeWithOptions(links, done, netlink.LinkSubscribeOptions{ErrorCallback: failed}); err != nil {
		close(links)
		close(addrs)
		return fmt.Errorf("subscribing to links: %w", err)
	}
	if err := netlink.AddrSubscribeWithOptions(addrs, done, netlink.AddrSubscribeOptions{ErrorCallback: failed}); err != nil {
		close(addrs)
		return fmt.Errorf("subscribing to addresses: %w", err)
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-broke:
			return err
		case <-timer.C:
		case _, ok := <-links:
			if !ok {
				return errors.New("link notices ended")
			}
		case _, ok := <-addrs:
			if !ok {
				return errors.New("address notices ended")
			}
		}
		// What has come together is listed once.
		for drained := false; !drained; {
			select {
			case _, ok := <-links:
				drained = !ok
			case _, ok := <-addrs:
				drained = !ok
			default:
				drained = true
			}
		}
		all, err := list()
		if err != nil {
			return err
		}
		tell(all)
		timer.Reset(l.cfg.Every)
	}
}

// list reads all interfaces with their addresses.
func list() (map[string]intent.Interface, error) {
	links, err := retry(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("listing links: %w", err)
	}
	addrs, err := retry(func() ([]netlink.Addr, error) { return netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	byIndex := map[int][]netip.Addr{}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			byIndex[a.LinkIndex] = append(byIndex[a.LinkIndex], ip.Unmap())
		}
	}
	out := make(map[string]intent.Interface, len(links))
	for _, l := range links {
		at := l.Attrs()
		list := byIndex[at.Index]
		slices.SortFunc(list, netip.Addr.Compare)
		out[at.Name] = intent.Interface{
			Index: at.Index, Addrs: list, Up: at.RawFlags&unix.IFF_UP != 0, Running: at.RawFlags&unix.IFF_RUNNING != 0,
		}
	}
	return out, nil
}

// retry repeats a dump that changed while it was read.
func retry[T any](dump func() ([]T, error)) ([]T, error) {
	for range 10 {
		out, err := dump()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return dump()
}
