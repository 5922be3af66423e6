// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// resync reads our chains and sets, notes what differs from what was
// believed, and marks everything to be planned.
func (f *Filter) resync(ctx context.Context) error {
	old := f.k
	f.k = nil
	var k *kernel
	var seen stamp
	for try := 0; ; try++ {
		var err error
		if seen, err = f.eyes.look(f.sock); err != nil {
			return err
		}
		if k, err = f.read(ctx); err != nil {
			return err
		}
		if err := f.readMembers(k, old != nil); err != nil {
			if errors.Is(err, unix.ENOENT) && try < 5 { // went away meanwhile
				continue
			}
			return err
		}
		after, err := f.eyes.look(f.sock)
		if err != nil {
			return err
		}
		if seen.same(after) || try == 5 { // if it moved on, the next pass finds out
			break
		}
	}
	f.compare(old, k)
	f.k, f.stamp = k, seen
	for _, c := range f.chains {
		f.dirtyChains[c] = struct{}{}
	}
	for _, s := range f.sets {
		f.dirtySets[s] = struct{}{}
	}
	f.unclean = true
	return nil
}

func (f *Filter) read(ctx context.Context) (*kernel, error) {
	k := &kernel{tables: map[place]*ktable{}}
	for _, fam := range f.prog.families {
		tables, err := f.save(ctx, fam)
		if err != nil {
			return nil, err
		}
		for t, kt := range tables {
			k.tables[place{fam, t}] = kt
		}
	}
	var err error
	k.sets, err = f.sock.list()
	return k, err
}

// used are the sets that rules of ours look into.
func (k *kernel) used() map[string]bool {
	out := map[string]bool{}
	for _, t := range k.tables {
		for _, lines := range t.chains {
			for _, l := range lines {
				for _, s := range setsOf(l) {
					out[s] = true
				}
			}
		}
	}
	return out
}

// readMembers finds each wanted set in the kernel and reads its elements. Of
// several variants that are there, the one that rules use is it.
func (f *Filter) readMembers(k *kernel, believed bool) error {
	used := k.used()
	for _, name := range slices.Sorted(maps.Keys(f.sets)) {
		s := f.sets[name]
		if s.want == nil {
			continue
		}
		before, held := s.kname, s.haves
		s.kname = ""
		for n := range maxVariants {
			v := variant(setName(s.name), n)
			ks := k.sets[v]
			if want := f.spec(s); ks == nil || ks.spec.odd || ks.spec.typ != want.typ || ks.spec.family != want.family {
				continue
			}
			if s.kname == "" || used[v] && !used[s.kname] {
				s.kname = v
			}
		}
		if s.kname == "" {
			s.seenAll()
			continue
		}
		odd, err := f.sock.members(s.kname, s.want.Family, s.see)
		if err != nil {
			s.seenAll()
			return err
		}
		missing, extra := s.seenAll()
		if odd {
			s.kname = "" // made anew beside it
			extra++
		}
		if believed && before == s.kname && missing+extra > 0 || odd && held > 0 {
			f.drifted(fmt.Sprintf("ipset %s: %d elements missing, %d added or altered", before, missing, extra))
		}
	}
	for kname, c := range f.consts {
		ks := k.sets[kname]
		if ks == nil {
			continue
		}
		want := map[netip.Prefix]bool{}
		for _, n := range c.nets {
			want[n] = true
		}
		odd, err := f.sock.members(kname, c.family, func(e ruleset.Element) { delete(want, e.Net) })
		if err != nil {
			return err
		}
		if odd || len(want) > 0 || ks.elements != len(c.nets) || ks.spec != c.spec() {
			f.drifted(fmt.Sprintf("ipset %s: elements altered", kname))
			ks.altered = true
		}
	}
	return nil
}

// compare notes what in chains and jumps is not as it was believed.
func (f *Filter) compare(old, k *kernel) {
	if old == nil {
		return
	}
	order := func(a, b place) int { return strings.Compare(a.String(), b.String()) }
	for _, at := range slices.SortedFunc(maps.Keys(old.tables), order) {
		a, b := old.tables[at], k.tables[at]
		if b == nil {
			if len(a.chains) > 0 {
				f.drifted(fmt.Sprintf("table %s deleted", at))
			}
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(a.chains)) {
			have, there := b.chains[name]
			if !there {
				f.drifted(fmt.Sprintf("table %s: chain %s deleted", at, name))
			} else if d := diffRules(a.chains[name], have); d != "" {
				f.drifted(fmt.Sprintf("table %s: chain %s: %s", at, name, d))
			}
		}
		for _, name := range slices.Sorted(maps.Keys(b.chains)) {
			if _, there := a.chains[name]; !there {
				f.drifted(fmt.Sprintf("table %s: chain %s added", at, name))
			}
		}
		for _, hook := range slices.Sorted(maps.Keys(a.hooks)) {
			if was, is := f.standing(a.hooks[hook]), f.standing(b.hooks[hook]); was != is {
				f.drifted(fmt.Sprintf("table %s: the rule that calls our chain from %s: %s, was %s", at, hook, is, was))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old.sets)) {
		switch a, b := old.sets[name], k.sets[name]; {
		case b == nil:
			f.drifted(fmt.Sprintf("ipset %s deleted", name))
		case a.spec != b.spec:
			f.drifted(fmt.Sprintf("ipset %s made anew", name))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(k.sets)) {
		if old.sets[name] == nil && k.sets[name].made() {
			f.drifted(fmt.Sprintf("ipset %s added", name))
		}
	}
}

// standing says where our jump stands in one of the kernel's chains.
func (f *Filter) standing(rules []string) string {
	mine, at := 0, 0
	text := ""
	for i, l := range rules {
		if ours(targetOf(l)) {
			mine, at, text = mine+1, i, l
		}
	}
	switch {
	case mine == 0:
		return "none"
	case mine > 1:
		return fmt.Sprintf("%d rules", mine)
	case f.cfg.Append && at == len(rules)-1:
		return "last: " + text
	case !f.cfg.Append && at == 0:
		return "first: " + text
	}
	return "behind or before others: " + text
}

// diffRules says how the rules of a chain differ.
func diffRules(a, b []string) string {
	return ruleset.Altered(a, b, func(x, y string) bool { return x == y })
}

const maxDriftLines = 20

func (f *Filter) drifted(what string) {
	if len(f.drift) < maxDriftLines && !slices.Contains(f.drift, what) {
		f.drift = append(f.drift, what)
	}
}

// told reports drift that was found, once.
func (f *Filter) told(repaired bool) {
	if len(f.drift) == 0 {
		return
	}
	d := Drift{What: f.drift, By: f.by, Repaired: repaired}
	f.drift, f.by = nil, ""
	f.brake.Repaired()
	f.log.Warn("Rules were changed by another", "what", strings.Join(d.What, "; "), "by", d.By, "repaired", repaired)
	f.cfg.OnDrift(d)
}
