// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// Up to so many changed chains are read back one by one, beyond it the whole
// table is. A small set is read back whole; of a large one those elements that
// were changed are asked for (to list it the kernel walks it from the start
// for each 32 KiB of answer), if not too many were deleted.
const (
	singleChains   = 16
	smallSet       = 512
	singleElements = 256
	// elementsAtOnce are asked for in one request.
	elementsAtOnce = 400
)

func (p *plan) verifyPrepared() error { return p.f.verify(p, true) }
func (p *plan) verifyChanged() error  { return p.f.verify(p, false) }

// verify reads back what a transaction changed.
func (f *Filter) verify(p *plan, fresh bool) error {
	if err := f.verifyChains(p, fresh); err != nil {
		return err
	}
	for _, s := range p.elements {
		if p.fresh[s.kname] != fresh {
			continue
		}
		var err error
		if s.s.m.had() > smallSet && s.dels() <= singleElements {
			err = f.verifyElements(s)
		} else {
			err = f.verifySet(s)
		}
		if err != nil {
			return fmt.Errorf("set %s: %w", s.kname, err)
		}
	}
	for _, c := range p.consts {
		if p.fresh[c.kname] != fresh {
			continue
		}
		var got []krange
		r, err := f.readElements(c.kname, c.spec)
		if err != nil {
			return err
		}
		r.ranges(c.spec, func(lo, hi []byte) { got = append(got, krange{string(lo), string(hi)}) })
		if !sameRanges(got, c.set.ranges) {
			return fmt.Errorf("set %s: reads back other than written", c.kname)
		}
	}
	for _, m := range p.rulings {
		if p.fresh[m.kname] != fresh {
			continue
		}
		if err := f.verifyVerdicts(m); err != nil {
			return fmt.Errorf("set %s: %w", m.kname, err)
		}
	}
	for _, m := range p.maps {
		if p.fresh[m.kname] != fresh {
			continue
		}
		r, err := f.readElements(m.kname, dispatchSpec)
		if err != nil {
			return err
		}
		want := f.k.sets[m.kname].verdicts
		for i, v := range r.verdicts {
			if want[string(r.key(i))] != v {
				return fmt.Errorf("set %s: reads back other than written", m.kname)
			}
		}
		if len(r.verdicts) != len(want) {
			return fmt.Errorf("set %s: reads back %d elements, want %d", m.kname, len(r.verdicts), len(want))
		}
	}
	return nil
}

func (f *Filter) verifyChains(p *plan, fresh bool) error {
	got := map[string]*kchain{}
	for _, c := range p.chains {
		if c.beside() == fresh {
			got[c.kname] = &kchain{}
		}
	}
	if len(got) > singleChains {
		if err := f.readRules(got, ""); err != nil {
			return err
		}
	} else {
		for kname := range got {
			if err := f.readRules(got, kname); err != nil {
				return err
			}
		}
	}
	for _, c := range p.chains {
		if c.beside() != fresh {
			continue
		}
		ch := f.k.chains[c.kname]
		if d := diffRules(ch.rules, got[c.kname].rules); d != "" {
			return fmt.Errorf("chain %s: reads back other than written: %s", c.kname, d)
		}
		ch.rules = got[c.kname].rules
	}
	return nil
}

// verifySet reads a set whole.
func (f *Filter) verifySet(s setChange) error {
	r, err := f.readElements(s.kname, s.spec)
	if err != nil {
		return err
	}
	odd := 0
	r.ranges(s.spec, func(lo, hi []byte) {
		if !s.s.m.see(lo, hi) {
			odd++
		}
	})
	if missing, extra := s.s.m.seenAll(); missing+extra+odd > 0 || r.tainted {
		return fmt.Errorf("reads back with %d elements missing, %d too many", missing, extra+odd)
	}
	return nil
}

// verifyElements asks for the single elements; of intervals for the start: the
// kernel does not find an end where another interval begins.
func (f *Filter) verifyElements(s setChange) (err error) {
	added := map[string]bool{}
	var ask []element
	flush := func() {
		if err == nil && len(ask) > 0 {
			var n int
			if n, err = f.countElements(s, ask); err == nil && n != len(ask) {
				err = fmt.Errorf("%d of %d elements are there", n, len(ask))
			}
		}
		ask = ask[:0]
	}
	s.eachAdd(func(lo, _ []byte) {
		if s.dels() > 0 {
			added[string(lo)] = true
		}
		if ask = append(ask, element{key: string(lo)}); len(ask) >= elementsAtOnce {
			flush()
		}
	})
	flush()
	s.eachDel(func(lo, _ []byte) {
		if err != nil || added[string(lo)] {
			return
		}
		var n int
		if n, err = f.countElements(s, []element{{key: string(lo)}}); n != 0 {
			err = fmt.Errorf("element %x is still there", lo)
		}
	})
	return err
}

// countElements asks for elements and counts those that are there, with
// exactly that key; the kernel stops at the first that is not.
func (f *Filter) countElements(s setChange, ask []element) (n int, err error) {
	r := records{keyLen: int(s.spec.keyLen)}
	err = f.c.get(unix.NFT_MSG_GETSETELEM, 0, func(e *enc) {
		e.str(unix.NFTA_SET_ELEM_LIST_TABLE, f.cfg.Table)
		e.str(unix.NFTA_SET_ELEM_LIST_SET, s.kname)
		list := e.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		for _, el := range ask {
			putElement(e, []byte(el.key), el.end, verdict{})
		}
		e.end(list)
	}, r.add)
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return 0, err
	}
	for i := range min(r.Len(), len(ask)) { // answers come in order
		if string(r.key(i)) == ask[i].key && r.end(i) == ask[i].end {
			n++
		}
	}
	return n, nil
}

// Verify reads the whole table and compares it with what is believed to be
// there; the error names what differs. It changes nothing in the kernel. The
// next Reconcile repairs what it found.
func (f *Filter) Verify(ctx context.Context) error {
	if f.k == nil {
		return errors.New("nftables: the table was not read yet")
	}
	k, err := f.read(ctx)
	if err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	n := len(f.drift)
	if !k.table.exists {
		f.drifted("table deleted", "")
	} else {
		if err := f.readAllElements(k, true); err != nil {
			return fmt.Errorf("nftables: %w", err)
		}
		f.compare(f.k, k)
	}
	if len(f.drift) == n {
		return nil
	}
	err = fmt.Errorf("nftables: table %s differs: %s", f.cfg.Table, strings.Join(f.drift[n:], "; "))
	f.Resync()
	return err
}
