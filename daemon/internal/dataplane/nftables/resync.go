// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// claim makes sure that the table is there and, if it can be, ours alone.
func (f *Filter) claim() (ktable, error) {
	t, err := readTable(f.c, f.cfg.Table)
	if err != nil {
		return t, err
	}
	const both = flagOwner | flagPersist
	me := f.c.w.port()
	switch {
	case t.flags&flagOwner != 0 && t.owner == me:
		f.owns, f.why = true, ""
		return t, nil
	case t.flags&flagOwner != 0:
		f.owns, f.why = false, "owned by another process"
		return t, fmt.Errorf("owned by another process (netlink port %d): %w", t.owner, unix.EPERM)
	case !f.cfg.Owner:
		f.owns, f.why = false, "not asked for"
	case t.exists && t.flags&flagPersist == 0:
		f.owns, f.why = false, "a table that was made without the flags cannot be claimed"
	default:
		err := f.makeTable(t.flags&flagDormant | both)
		var r *refusal
		switch {
		case err == nil:
			f.owns, f.why = true, ""
			f.log.Info("Table claimed", "table", f.cfg.Table, "adopted", t.exists)
			return readTable(f.c, f.cfg.Table)
		case !errors.As(err, &r) || r.unknown || r.errno == unix.EPERM || r.errno == unix.ENOMEM:
			return t, err
		}
		f.owns, f.why = false, "the kernel refuses the flags owner and persist: "+r.errno.Error()
		f.log.Warn("Table cannot be claimed", "table", f.cfg.Table, "err", err)
	}
	if t.exists {
		return t, nil
	}
	if err := f.makeTable(0); err != nil {
		return t, err
	}
	return readTable(f.c, f.cfg.Table)
}

func (f *Filter) makeTable(flags uint32) error {
	b := newBatch()
	f.tableMsg(b, flags)
	return f.c.commit(b)
}

func (f *Filter) tableMsg(b *batch, flags uint32) {
	b.msg(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, object{kind: 't', name: f.cfg.Table})
	b.str(unix.NFTA_TABLE_NAME, f.cfg.Table)
	b.u32(unix.NFTA_TABLE_FLAGS, flags)
}

// resync reads the table, notes what differs from what was believed, and
// marks everything to be planned.
func (f *Filter) resync(ctx context.Context) error {
	old := f.k
	f.k = nil
	var before ktable
	if old != nil {
		before = old.table
		now, err := readTable(f.c, f.cfg.Table)
		if err != nil {
			return err
		}
		if before.exists && !now.exists {
			f.drifted("table deleted", "")
		}
	}
	if _, err := f.claim(); err != nil {
		return err
	}
	var k *kernel
	for try := 0; ; try++ {
		gen, err := f.c.generation()
		if err != nil {
			return err
		}
		if k, err = f.read(ctx); err != nil {
			return err
		}
		if err := f.readAllElements(k, old != nil); err != nil {
			return err
		}
		after, err := f.c.generation()
		if err != nil {
			return err
		}
		f.gen = gen // if it moved on, the next pass finds out
		if f.owns || after == gen || try == 4 {
			break
		}
	}
	f.compare(old, k)
	f.k = k
	f.markAll()
	return nil
}

// markAll makes the plan look at everything, and finds what is not wanted.
func (f *Filter) markAll() {
	k := f.k
	f.refs, f.doomed = map[ref]int{}, map[ref]struct{}{}
	for name, ch := range k.chains {
		f.doomed[ref{'c', name}] = struct{}{}
		for _, r := range ch.refs {
			f.refs[r]++
		}
	}
	for name, s := range k.sets {
		if !strings.HasPrefix(name, prefixConst) {
			f.doomed[ref{'s', name}] = struct{}{}
		}
		for _, v := range s.verdicts {
			if v.chain != "" {
				f.refs[ref{'c', v.chain}]++
			}
		}
	}
	for name := range k.sets {
		if r := (ref{'s', name}); f.refs[r] == 0 {
			f.doomed[r] = struct{}{}
		}
	}
	for _, c := range f.chains {
		c.kname = ""
		f.dirtyChains[c] = struct{}{}
	}
	for _, s := range f.sets {
		f.dirtySets[s] = struct{}{}
	}
	for _, m := range f.verdicts {
		m.kname = ""
		m.allDirty()
		f.dirtyVerdicts[m] = struct{}{}
	}
	for _, m := range f.maps {
		m.kname = ""
		f.dirtyMaps[m] = struct{}{}
		for name := range m.entries {
			m.dirty[name] = struct{}{}
		}
	}
}

// readAllElements reads what is in the sets: what members keep goes to them,
// the rest to k.
func (f *Filter) readAllElements(k *kernel, believed bool) error {
	done := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(f.sets)) {
		if err := f.readMembers(k, f.sets[name], believed, done); err != nil {
			return err
		}
	}
	for name, s := range k.sets {
		if done[name] {
			continue
		}
		isMap := s.spec == dispatchSpec || strings.HasPrefix(name, prefixRule)
		if !isMap && !strings.HasPrefix(name, prefixConst) {
			continue // nobody's: it will go
		}
		r, err := f.readElements(name, s.spec)
		if err != nil {
			return err
		}
		s.tainted = s.tainted || r.tainted
		if !isMap {
			r.ranges(s.spec, func(lo, hi []byte) { s.ranges = append(s.ranges, krange{string(lo), string(hi)}) })
			continue
		}
		s.verdicts = r.entries(s.spec)
	}
	return nil
}

// readMembers finds s in the kernel and reads its elements into s.m.
func (f *Filter) readMembers(k *kernel, s *setState, believed bool, done map[string]bool) error {
	if s.m == nil {
		s.kname = ""
		return nil
	}
	missing, extra, held := 0, 0, s.m.had()
	for {
		kname, err := f.nameSet(k, s)
		if err != nil {
			return err
		}
		s.kname = kname
		done[kname] = true
		ks := k.sets[kname]
		if ks == nil {
			n, _ := s.m.seenAll()
			missing += n
			break
		}
		r, err := f.readElements(kname, ks.spec)
		if err != nil {
			return err
		}
		tainted := r.tainted
		r.ranges(ks.spec, func(lo, hi []byte) { tainted = tainted || !s.m.see(lo, hi) })
		n, m := s.m.seenAll()
		missing, extra = missing+n, extra+m
		if !tainted {
			break
		}
		ks.tainted = true
		if believed && s.want != nil {
			f.drifted(fmt.Sprintf("set %s: foreign elements", kname), kname)
		}
	}
	if !believed || s.want == nil || missing+extra == 0 {
		return nil
	}
	if k.sets[s.kname] == nil && held > 0 {
		return nil // compare says that the set is gone
	}
	f.drifted(fmt.Sprintf("set %s: %d elements missing, %d added", s.kname, missing, extra), s.kname)
	return nil
}

// nameSet finds the kernel's set for s, or a free name.
func (f *Filter) nameSet(k *kernel, s *setState) (string, error) {
	def := s.want
	if def == nil {
		def = &ruleset.Set{Type: ruleset.TypeNet, Family: ruleset.IPv6}
		switch m := s.m.(type) {
		case *netMembers[k4]:
			def.Family = ruleset.IPv4
		case *portMembers:
			def.Type = ruleset.TypeAddrPort
			if m.v4 {
				def.Family = ruleset.IPv4
			}
		}
	}
	return pick(setName(s.name), func(kname string) (there, fits bool) {
		ks := k.sets[kname]
		return ks != nil, ks != nil && !ks.tainted && s.fits(def, ks.spec)
	})
}

// spec is the kernel set that s should be if it is made now.
func (s *setState) spec(def *ruleset.Set) setSpec {
	if def.Type == ruleset.TypeAddrPort {
		return addrPortSpec(def.Family)
	}
	spec := netSpec(def.Family, nil)
	if s.m.wide() {
		spec.flags = unix.NFT_SET_INTERVAL
	}
	return spec
}

// fits: an interval set also holds single addresses.
func (s *setState) fits(def *ruleset.Set, have setSpec) bool {
	want := s.spec(def)
	if def.Type == ruleset.TypeNet && have.interval() {
		want.flags |= unix.NFT_SET_INTERVAL
	}
	return have == want
}

// compare notes what in chains, rules, maps and constant sets is not as it
// was believed.
func (f *Filter) compare(old, k *kernel) {
	if old == nil {
		return
	}
	if k.table.flags&flagDormant != 0 && old.table.flags&flagDormant == 0 {
		f.drifted("table made dormant", "")
	}
	for _, name := range slices.Sorted(maps.Keys(old.chains)) {
		a, b := old.chains[name], k.chains[name]
		switch {
		case b == nil:
			f.drifted(fmt.Sprintf("chain %s deleted", name), name)
		case a.base != b.base || a.hook != b.hook || a.prio != b.prio || a.typ != b.typ:
			f.drifted(fmt.Sprintf("chain %s made anew elsewhere", name), name)
		case a.policy != b.policy:
			f.drifted(fmt.Sprintf("chain %s: policy altered", name), name)
		}
		if b != nil {
			if d := diffRules(a.rules, b.rules); d != "" {
				f.drifted(fmt.Sprintf("chain %s: %s", name, d), name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(k.chains)) {
		if old.chains[name] == nil {
			f.drifted(fmt.Sprintf("chain %s added", name), name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(old.sets)) {
		a, b := old.sets[name], k.sets[name]
		switch {
		case b == nil:
			f.drifted(fmt.Sprintf("set %s deleted", name), name)
		case a.spec != b.spec:
			f.drifted(fmt.Sprintf("set %s made anew", name), name)
		case !maps.Equal(a.verdicts, b.verdicts) || !slices.Equal(a.ranges, b.ranges) || b.tainted && a.verdicts != nil:
			f.drifted(fmt.Sprintf("set %s: elements altered", name), name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(k.sets)) {
		if old.sets[name] == nil {
			f.drifted(fmt.Sprintf("set %s added", name), name)
		}
	}
}

// diffRules says how the rules of a chain differ.
func diffRules(a, b []krule) string {
	return ruleset.Altered(a, b, func(x, y krule) bool { return x.sum == y.sum && x.comment == y.comment })
}

const maxDriftLines = 20

// drifted notes what was altered, and the kernel's name of the object; empty:
// the table as a whole.
func (f *Filter) drifted(what, name string) {
	f.odd = append(f.odd, name)
	if len(f.drift) < maxDriftLines && !slices.Contains(f.drift, what) {
		f.drift = append(f.drift, what)
	}
}

// told reports drift that was found, once.
func (f *Filter) told(repaired bool) {
	if len(f.drift) == 0 {
		return
	}
	d := Drift{What: f.drift, Header: f.header, By: f.by, Repaired: repaired}
	f.drift, f.by, f.header = nil, "", ""
	f.brake.Repaired()
	f.log.Warn("Table was changed by another", "what", strings.Join(d.What, "; "), "header", d.Header, "by", d.By, "repaired", repaired)
	f.cfg.OnDrift(d)
}
