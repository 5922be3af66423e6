// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/host"
)

// Cleanup removes our chains, the rules that call them, and our ipsets, and
// nothing else. The host is then as open as the rules of others leave it. A
// legacy table that the kernel has made for us stays, empty: it cannot be
// unmade.
func (f *Filter) Cleanup(ctx context.Context) error {
	err := f.removeChains(ctx)
	if err == nil {
		err = removeSets(ctx, f.sock)
	}
	if err != nil {
		return fmt.Errorf("iptables: %w", err)
	}
	return nil
}

// Cleanup does so for both variants of iptables, from a process that has no
// Filter, in the network namespace of the calling thread; found tells whether
// there was anything. A variant that is not installed has nothing.
func Cleanup(ctx context.Context, run host.Runner) (found bool, err error) {
	var errs []error
	for _, v := range []Variant{Legacy, NFT} {
		there, err := RemoveVariant(ctx, run, v)
		found = found || there
		errs = append(errs, err)
	}
	sock, err := openIPSets()
	if err != nil {
		return found, fmt.Errorf("iptables: %w", err)
	}
	defer sock.close()
	sets, err := sock.list()
	if err == nil {
		found = found || anyMade(sets)
		err = removeSets(ctx, sock)
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return found, fmt.Errorf("iptables: %w", err)
	}
	return found, nil
}

// RemoveVariant removes the chains of one variant and the rules that call
// them, and leaves ipsets alone, which both variants share.
func RemoveVariant(ctx context.Context, run host.Runner, v Variant) (found bool, err error) {
	prog, err := find(v)
	if err != nil || !census(ctx, run, prog).ours {
		return false, nil
	}
	cfg := Default()
	cfg.Variant, cfg.Run = v, run
	f, err := New(cfg)
	if err != nil {
		return true, err
	}
	defer f.Close()
	return true, f.removeChains(ctx)
}

// Remains tells whether there are chains or ipsets of ours.
func Remains(ctx context.Context, run host.Runner) (bool, error) {
	for _, v := range []Variant{Legacy, NFT} {
		if prog, err := find(v); err == nil && census(ctx, run, prog).ours {
			return true, nil
		}
	}
	sock, err := openIPSets()
	if err != nil {
		return false, fmt.Errorf("iptables: %w", err)
	}
	defer sock.close()
	sets, err := sock.list()
	if err != nil {
		return false, fmt.Errorf("iptables: %w", err)
	}
	return anyMade(sets), nil
}

func anyMade(sets map[string]*kset) bool {
	for _, k := range sets {
		if k.made() {
			return true
		}
	}
	return false
}

func (f *Filter) removeChains(ctx context.Context) error {
	f.k = nil
	k, err := f.read(ctx)
	if err != nil {
		return err
	}
	f.k = k
	defer func() { f.k = nil }()
	p := &plan{f: f, tables: map[place]*wanted{}, evict: true}
	var errs []error
	for at, t := range k.tables {
		notes := notesIn(t)
		p.tables[at] = &wanted{}
		err := p.restore(ctx, at)
		if err == nil && len(notes) > 0 {
			err = f.unmake(at, notes, func() (*ktable, error) {
				tables, err := f.save(ctx, at.family, "-t", at.table.String())
				return tables[at.table], err
			})
			if err != nil {
				err = fmt.Errorf("table %s: removing what was made for us: %w", at, err)
			}
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func removeSets(ctx context.Context, sock *ipsets) error {
	sets, err := sock.list()
	if err != nil {
		return err
	}
	var errs []error
	for _, kname := range slices.Sorted(maps.Keys(sets)) {
		if !sets[kname].made() {
			continue
		}
		err := sock.destroy(kname)
		// Rules that nf_tables has deleted give up their sets some time later.
		for try := 0; errors.Is(err, errBusy) && try < 100 && ctx.Err() == nil; try++ {
			time.Sleep(5 * time.Millisecond)
			err = sock.destroy(kname)
		}
		if err != nil {
			errs = append(errs, ipsetError(kname, err))
		}
	}
	return errors.Join(errs...)
}
