// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// Summary is what our chains and sets hold, of both families, as last read or
// read back.
type Summary struct {
	Chains, Rules, Sets int
	// Members is the number of elements of sets in the kernel.
	Members int
}

// summarise copies what other goroutines may ask for.
func (f *Filter) summarise() {
	var s Summary
	if f.k != nil {
		s.Sets = len(f.k.sets)
		for _, t := range f.k.tables {
			s.Chains += len(t.chains)
			for _, lines := range t.chains {
				s.Rules += len(lines)
			}
		}
	}
	var over []string
	for name, set := range f.sets {
		s.Members += set.haves
		if set.over && set.want != nil {
			over = append(over, name)
		}
	}
	slices.Sort(over)
	names := map[string]string{}
	for kname, c := range f.byName {
		names[kname] = c.name
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.summary, f.over, f.names = s, over, names
}

// Summary may be called from any goroutine.
func (f *Filter) Summary() Summary {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.summary
}

// OverSize names the sets that the kernel does not hold in full, sorted. It
// may be called from any goroutine.
func (f *Filter) OverSize() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.over)
}

// CounterKey names a counter: a chain of the ruleset and the comment of its
// rules. Rules of one chain with one comment are counted together, and those
// of both families and of all tables.
type CounterKey struct{ Chain, Comment string }

// Counters reads the counters of all rules that have a comment. It may be
// called from any goroutine.
func (f *Filter) Counters(ctx context.Context) (map[CounterKey]ruleset.Count, error) {
	f.mu.Lock()
	names := maps.Clone(f.names)
	f.mu.Unlock()
	out := map[CounterKey]ruleset.Count{}
	for _, fam := range f.prog.families {
		tables, err := f.save(ctx, fam, "-c")
		if err != nil {
			return nil, fmt.Errorf("iptables: reading counters: %w", err)
		}
		for _, t := range tables {
			for kname, lines := range t.chains {
				name, ok := names[kname]
				for i, l := range lines {
					text := counterOf(l)
					if !ok || text == "" {
						continue
					}
					k := CounterKey{name, text}
					c := out[k]
					c.Packets += t.counts[kname][i].Packets
					c.Bytes += t.counts[kname][i].Bytes
					out[k] = c
				}
			}
		}
	}
	return out, nil
}

// Cleanup removes our chains, the rules that call them, and our ipsets, and
// nothing else. The host is then as open as the rules of others leave it. A
// legacy table that the kernel has made for us stays, empty: it cannot be
// unmade.
func (f *Filter) Cleanup(ctx context.Context) error {
	f.k = nil
	k, err := f.read(ctx)
	if err != nil {
		return fmt.Errorf("iptables: %w", err)
	}
	f.k = k
	p := &plan{f: f, tables: map[place]*wanted{}, keep: map[*chainState]struct{}{}, usedSets: map[string]bool{}, evict: true}
	var errs []error
	for at := range k.tables {
		notes := notesIn(k.tables[at])
		p.tables[at] = &wanted{}
		if err := p.restore(ctx, at); err != nil {
			errs = append(errs, err)
		} else if len(notes) > 0 {
			err := f.unmake(at, notes, func() (*ktable, error) {
				tables, err := f.save(ctx, at.family, "-t", at.table.String())
				return tables[at.table], err
			})
			if err != nil {
				errs = append(errs, fmt.Errorf("table %s: removing what was made for us: %w", at, err))
			}
		}
	}
	for kname := range k.sets {
		err := f.sock.destroy(kname)
		// Rules that nf_tables has deleted give up their sets some time later.
		for try := 0; errors.Is(err, errBusy) && try < 100 && len(errs) == 0 && ctx.Err() == nil; try++ {
			time.Sleep(5 * time.Millisecond)
			err = f.sock.destroy(kname)
		}
		if err != nil {
			errs = append(errs, ipsetError(kname, err))
		}
	}
	f.k = nil
	if len(errs) > 0 {
		return fmt.Errorf("iptables: %w", errors.Join(errs...))
	}
	return nil
}
