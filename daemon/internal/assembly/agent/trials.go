// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/change"
	"github.com/ripstop/ripstop/daemon/internal/trial"
	"github.com/ripstop/ripstop/daemon/store"
)

// Times of probes.
const (
	// probeFirst is how long after a change was seen it is probed first: by
	// then its rules are in force.
	probeFirst = 2 * time.Second
	// probeEvery is the pause between two probes, probeTime how long one may
	// take. One that fails probeTries times in a row is a reason to go back.
	probeEvery = 3 * time.Second
	probeTime  = 2 * time.Second
	probeTries = 2
	// storeTime is the pause between two tries to make the store go back, and
	// serverFirst the time that the server has for it.
	storeTime   = 5 * time.Second
	serverFirst = time.Second
)

// goBack makes the store go back from a change, once the host has: the server
// does so too, whoever comes first. It tries until the store has, or until ctx
// ends.
func goBack(ctx context.Context, st store.Store, log *slog.Logger, f *trial.Filter, name, reason string) {
	for pause := serverFirst; ; pause = storeTime {
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		open := false
		for _, c := range f.Open() {
			open = open || c.Name == name
		}
		if !open {
			return
		}
		call, cancel := context.WithTimeout(ctx, storeTime)
		_, err := change.RollBack(call, st, name, reason)
		cancel()
		if err == nil || errors.Is(err, store.ErrNotFound) {
			return
		}
		log.Debug("The store has not gone back from a change yet", "change", name, "err", err)
	}
}

// probe looks, while a change is open, whether this host still reaches what it
// must, over new connections, and goes back if it does not.
func probe(ctx context.Context, f *trial.Filter, endpoints []string, then func(ctx context.Context, name, reason string)) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	failed := map[string]int{} // by change
	since := map[string]time.Time{}
	t := time.NewTicker(probeEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		open := map[string]bool{}
		for _, c := range f.Open() {
			open[c.Name] = true
			if since[c.Name].IsZero() {
				since[c.Name] = time.Now()
			}
			if c.WentBack || time.Since(since[c.Name]) < probeFirst {
				continue
			}
			err := reach(ctx, endpoints, c.MustReach)
			switch {
			case ctx.Err() != nil:
				return nil
			case err == nil:
				failed[c.Name] = 0
				continue
			}
			if failed[c.Name]++; failed[c.Name] < probeTries {
				continue
			}
			if went, err2 := f.Back(ctx, c.Name, err.Error()); err2 != nil {
				return err2
			} else if went {
				wg.Go(func() { then(ctx, c.Name, err.Error()) })
			}
		}
		for name := range since {
			if !open[name] {
				delete(since, name)
				delete(failed, name)
			}
		}
	}
}

// reach dials one of the datastore's endpoints, any of them, and all that must
// be reached.
func reach(ctx context.Context, endpoints, must []string) error {
	dial := func(network, address string) error {
		ctx, cancel := context.WithTimeout(ctx, probeTime)
		defer cancel()
		c, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if err != nil {
			return err
		}
		return c.Close()
	}
	var errs []error
	for _, e := range endpoints {
		network, address := "unix", strings.TrimPrefix(e, "unix://")
		if u, err := url.Parse(e); err == nil && u.Scheme != "unix" {
			network, address = "tcp", u.Host
		}
		err := dial(network, address)
		if err == nil {
			errs = nil
			break
		}
		errs = append(errs, fmt.Errorf("the datastore at %s is not reached: %w", e, err))
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for _, m := range must {
		address, ok := strings.CutPrefix(m, "tcp:")
		if !ok {
			continue // the server takes no others
		}
		if err := dial("tcp", address); err != nil {
			return fmt.Errorf("%s is not reached, and must be: %w", m, err)
		}
	}
	return nil
}
