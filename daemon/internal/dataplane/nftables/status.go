// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func sameRanges(a, b []krange) bool {
	order := func(x, y krange) int { return strings.Compare(x.lo, y.lo) }
	a, b = slices.Clone(a), slices.Clone(b)
	slices.SortFunc(a, order)
	slices.SortFunc(b, order)
	return slices.Equal(a, b)
}

// Summary is what the table holds, as last read or read back.
type Summary struct {
	Chains, Rules, Sets int
	// Members is the number of elements of sets in the kernel.
	Members int
	// VerdictElements is the number of elements of verdict maps.
	VerdictElements int
	// Owner: nobody else can change the table; if not, OwnerReason says why.
	Owner       bool
	OwnerReason string
}

// summarise copies what other goroutines may ask for.
func (f *Filter) summarise() {
	s := Summary{Owner: f.owns, OwnerReason: f.why}
	if f.k != nil {
		s.Chains, s.Sets = len(f.k.chains), len(f.k.sets)
		for _, c := range f.k.chains {
			s.Rules += len(c.rules)
		}
		for _, m := range f.verdicts {
			if ks := f.k.sets[m.kname]; ks != nil {
				s.VerdictElements += len(ks.verdicts)
			}
		}
	}
	var over []string
	for name, set := range f.sets {
		if set.m != nil {
			s.Members += set.m.had()
		}
		if set.over && set.want != nil {
			over = append(over, name)
		}
	}
	slices.Sort(over)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.summary, f.over = s, over
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
// rules. Rules of one chain with one comment are counted together.
type CounterKey struct{ Chain, Comment string }

// Counters reads the counters of all rules that have one and a comment. It
// may be called from any goroutine. Chains whose name the kernel does not
// take as it is are left out.
func (f *Filter) Counters(ctx context.Context) (map[CounterKey]ruleset.Count, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, errors.New("nftables: closed")
	}
	var out map[CounterKey]ruleset.Count
	var err error
	var d digester
	for range 10 {
		if err = ctx.Err(); err != nil {
			return nil, err
		}
		out = map[CounterKey]ruleset.Count{}
		err = f.rx.get(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, func(e *enc) {
			e.str(unix.NFTA_RULE_TABLE, f.cfg.Table)
		}, func(m message) error {
			table, chain, _, b, cmt, err := readRule(m, &d)
			chain, _, _ = strings.Cut(chain, "~")
			chain, ours := strings.CutPrefix(chain, prefixOurs)
			if err != nil || table != f.cfg.Table || !ours || cmt == "" {
				return err
			}
			k := CounterKey{chain, cmt}
			c := out[k]
			c.Packets += b.packets
			c.Bytes += b.bytes
			out[k] = c
			return nil
		})
		if !errors.Is(err, errInterrupted) && !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if errors.Is(err, errInterrupted) {
		err = nil // of no importance for counters
	}
	if err != nil {
		return nil, fmt.Errorf("nftables: reading counters: %w", err)
	}
	return out, nil
}

// Cleanup deletes our table, and nothing else. The host is then as open as
// the tables of others leave it.
func (f *Filter) Cleanup(context.Context) error {
	f.k = nil
	return cleanup(f.c, f.cfg.Table)
}

// Cleanup deletes the table of that name from a process that has no Filter.
// Of a table that is not there: no error. A table owned by another process
// that lives is refused.
func Cleanup(_ context.Context, table string) error {
	w, err := openSocket()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	defer w.close()
	return cleanup(newConn(w), table)
}

// Removable reports why Cleanup would be refused; nil if it would not, or if
// there is no such table. It changes nothing.
func Removable(table string) error {
	w, err := openSocket()
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	defer w.close()
	_, err = removable(newConn(w), table)
	return err
}

func removable(c *conn, table string) (exists bool, err error) {
	t, err := readTable(c, table)
	if err != nil {
		return false, fmt.Errorf("nftables: %w", err)
	}
	if t.exists && t.flags&flagOwner != 0 && t.owner != c.w.port() {
		return true, fmt.Errorf("nftables: table %s: owned by a process that still runs (netlink port %d)", table, t.owner)
	}
	return t.exists, nil
}

func cleanup(c *conn, table string) error {
	exists, err := removable(c, table)
	if err != nil || !exists {
		return err
	}
	b := newBatch()
	b.msg(unix.NFT_MSG_DELTABLE, 0, object{kind: 't', name: table})
	b.str(unix.NFTA_TABLE_NAME, table)
	if err := c.commit(b); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("nftables: deleting table %s: %w", table, err)
	}
	return nil
}
