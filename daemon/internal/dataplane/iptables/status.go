// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

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

// Verify reads everything of ours and compares it with what is believed to be
// there; the error names what differs. It changes nothing. The next Reconcile
// repairs what it found.
func (f *Filter) Verify(ctx context.Context) error {
	if f.k == nil {
		return errors.New("iptables: nothing was read yet")
	}
	k, err := f.read(ctx)
	if err != nil {
		return fmt.Errorf("iptables: %w", err)
	}
	n := len(f.drift)
	if err := f.readMembers(k, true); err != nil {
		return fmt.Errorf("iptables: %w", err)
	}
	f.compare(f.k, k)
	if len(f.drift) == n {
		return nil
	}
	err = fmt.Errorf("iptables: differs: %s", strings.Join(f.drift[n:], "; "))
	f.Resync()
	return err
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
