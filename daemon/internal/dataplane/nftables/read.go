// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sort"

	"golang.org/x/sys/unix"
)

// kernel is what the table in the kernel was when it was last read, kept up
// with what was changed since.
type kernel struct {
	table  ktable
	stale  bool // somebody else may have changed it
	chains map[string]*kchain
	sets   map[string]*kset // maps too
}

type ktable struct {
	exists bool
	flags  uint32
	owner  uint32 // netlink port of the owner's socket; 0: none
}

type kchain struct {
	base   bool
	hook   uint32
	prio   int32
	typ    string
	policy uint32
	rules  []krule
	refs   []ref // of all rules, with repetition
}

type krule struct {
	handle  uint64
	sum     sum
	comment uint64 // hash
}

type kset struct {
	spec setSpec
	// ranges of a constant set, verdicts of a dispatch map by key; of other
	// sets the members know.
	ranges   []krange
	verdicts map[string]verdict
	// tainted: it has elements that we would not make (a catch-all, one with
	// an expression, a range that is no prefix). Such a set is replaced.
	tainted bool
}

var commentSeed = maphash.MakeSeed()

func commentHash(s string) uint64 { return maphash.String(commentSeed, s) }

// list is get with NLM_F_DUMP; reset is called before each attempt, of which
// there are several when foreign changes interrupt.
func (f *Filter) list(c *conn, typ uint16, reset func(), fill func(e *enc), visit func(message) error) error {
	var err error
	for range 20 {
		reset()
		err = c.get(typ, unix.NLM_F_DUMP, fill, visit)
		if !errors.Is(err, errInterrupted) && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	if errors.Is(err, errInterrupted) && f.k != nil && f.k.table.flags&flagOwner != 0 && f.owns {
		return nil // others change other tables; nobody can change ours
	}
	return err
}

func readTable(c *conn, name string) (t ktable, err error) {
	err = c.get(unix.NFT_MSG_GETTABLE, 0, func(e *enc) { e.str(unix.NFTA_TABLE_NAME, name) }, func(m message) error {
		if m.typ != subsystem|unix.NFT_MSG_NEWTABLE {
			return nil
		}
		t.exists = true
		return m.attrs(func(typ uint16, v []byte) error {
			switch typ {
			case unix.NFTA_TABLE_FLAGS:
				t.flags = toU32(v)
			case attrTableOwner:
				t.owner = toU32(v)
			}
			return nil
		})
	})
	if errors.Is(err, unix.ENOENT) {
		return ktable{}, nil
	}
	if err != nil {
		return t, fmt.Errorf("reading table %s: %w", name, err)
	}
	return t, nil
}

// read reads the table whole, but for the elements of sets that members keep.
func (f *Filter) read(ctx context.Context) (*kernel, error) {
	k := &kernel{}
	var err error
	if k.table, err = readTable(f.c, f.cfg.Table); err != nil {
		return nil, err
	}
	resetChains := func() { k.chains = map[string]*kchain{} }
	resetSets := func() { k.sets = map[string]*kset{} }
	resetChains()
	resetSets()
	if !k.table.exists {
		return k, nil
	}
	if err := f.list(f.c, unix.NFT_MSG_GETCHAIN, resetChains, func(e *enc) { e.str(unix.NFTA_CHAIN_TABLE, f.cfg.Table) },
		func(m message) error { return f.readChain(k, m) }); err != nil {
		return nil, fmt.Errorf("listing chains: %w", err)
	}
	if err := f.readRules(k.chains, ""); err != nil {
		return nil, err
	}
	if err := f.list(f.c, unix.NFT_MSG_GETSET, resetSets, func(e *enc) { e.str(unix.NFTA_SET_TABLE, f.cfg.Table) },
		func(m message) error { return f.readSet(k, m) }); err != nil {
		return nil, fmt.Errorf("listing sets: %w", err)
	}
	return k, ctx.Err()
}

func (f *Filter) readChain(k *kernel, m message) error {
	ch := &kchain{policy: nfAccept}
	var table, name string
	err := m.attrs(func(t uint16, v []byte) error {
		switch t {
		case unix.NFTA_CHAIN_TABLE:
			table = toStr(v)
		case unix.NFTA_CHAIN_NAME:
			name = toStr(v)
		case unix.NFTA_CHAIN_TYPE:
			ch.typ = toStr(v)
		case unix.NFTA_CHAIN_POLICY:
			ch.policy = toU32(v)
		case unix.NFTA_CHAIN_HOOK:
			ch.base = true
			return attrs(v, func(t uint16, v []byte) error {
				switch t {
				case unix.NFTA_HOOK_HOOKNUM:
					ch.hook = toU32(v)
				case unix.NFTA_HOOK_PRIORITY:
					ch.prio = int32(toU32(v))
				}
				return nil
			})
		}
		return nil
	})
	if err == nil && table == f.cfg.Table {
		k.chains[name] = ch
	}
	return err
}

// readRules reads the rules of one chain, or of all if only is empty, into
// chains.
func (f *Filter) readRules(chains map[string]*kchain, only string) error {
	reset := func() {
		for name, ch := range chains {
			if only == "" || name == only {
				ch.rules, ch.refs = nil, nil
			}
		}
	}
	fill := func(e *enc) {
		e.str(unix.NFTA_RULE_TABLE, f.cfg.Table)
		if only != "" {
			e.str(unix.NFTA_RULE_CHAIN, only)
		}
	}
	var d digester
	err := f.list(f.c, unix.NFT_MSG_GETRULE, reset, fill, func(m message) error {
		table, chain, handle, b, cmt, err := readRule(m, &d)
		if err != nil {
			return fmt.Errorf("chain %s: %w", chain, err)
		}
		ch := chains[chain]
		if table != f.cfg.Table || ch == nil || only != "" && chain != only {
			return nil
		}
		ch.rules = append(ch.rules, krule{handle, b.sum, commentHash(cmt)})
		ch.refs = append(ch.refs, b.refs...)
		return nil
	})
	if err != nil {
		return fmt.Errorf("listing rules: %w", err)
	}
	return nil
}

func readRule(m message, d *digester) (table, chain string, handle uint64, b body, cmt string, err error) {
	err = m.attrs(func(t uint16, v []byte) error {
		switch t {
		case unix.NFTA_RULE_TABLE:
			table = toStr(v)
		case unix.NFTA_RULE_CHAIN:
			chain = toStr(v)
		case unix.NFTA_RULE_HANDLE:
			handle = toU64(v)
		case unix.NFTA_RULE_USERDATA:
			cmt = comment(v)
		case unix.NFTA_RULE_EXPRESSIONS:
			var err error
			b, err = d.digest(v)
			return err
		}
		return nil
	})
	return table, chain, handle, b, cmt, err
}

func (f *Filter) readSet(k *kernel, m message) error {
	s := &kset{}
	var table, name string
	err := m.attrs(func(t uint16, v []byte) error {
		switch t {
		case unix.NFTA_SET_TABLE:
			table = toStr(v)
		case unix.NFTA_SET_NAME:
			name = toStr(v)
		case unix.NFTA_SET_FLAGS:
			s.spec.flags = toU32(v)
		case unix.NFTA_SET_KEY_TYPE:
			s.spec.keyType = toU32(v)
		case unix.NFTA_SET_KEY_LEN:
			s.spec.keyLen = toU32(v)
		case unix.NFTA_SET_DATA_TYPE:
			s.spec.dataType = toU32(v)
		}
		return nil
	})
	if err == nil && table == f.cfg.Table {
		k.sets[name] = s
	}
	return err
}

// verdict is the data of a map's element; zero: none.
type verdict struct {
	code  int32
	chain string
	there bool
}

// records are the elements of one set as read: key and a flag byte each, in
// one slice.
type records struct {
	keyLen   int
	b        []byte
	isMap    bool
	verdicts []verdict // of maps, in step
	tainted  bool
	// names are the chains that verdicts lead to: few, of many elements.
	names map[string]string
}

func (r *records) Len() int           { return len(r.b) / (r.keyLen + 1) }
func (r *records) at(i int) []byte    { return r.b[i*(r.keyLen+1) : (i+1)*(r.keyLen+1)] }
func (r *records) key(i int) []byte   { return r.at(i)[:r.keyLen] }
func (r *records) end(i int) bool     { return r.at(i)[r.keyLen] == 0 }
func (r *records) Less(i, j int) bool { return bytes.Compare(r.at(i), r.at(j)) < 0 }

func (r *records) Swap(i, j int) {
	var tmp [64]byte
	a, b := r.at(i), r.at(j)
	n := copy(tmp[:], a)
	copy(a, b)
	copy(b, tmp[:n])
	if r.isMap {
		r.verdicts[i], r.verdicts[j] = r.verdicts[j], r.verdicts[i]
	}
}

// readElements lists the elements of a set.
func (f *Filter) readElements(name string, spec setSpec) (*records, error) {
	if spec.keyLen == 0 || spec.keyLen > 62 {
		return nil, fmt.Errorf("set %s: key of %d bytes", name, spec.keyLen)
	}
	r := &records{keyLen: int(spec.keyLen), isMap: spec.flags&unix.NFT_SET_MAP != 0}
	reset := func() { r.b, r.verdicts, r.tainted = nil, nil, false }
	fill := func(e *enc) {
		e.str(unix.NFTA_SET_ELEM_LIST_TABLE, f.cfg.Table)
		e.str(unix.NFTA_SET_ELEM_LIST_SET, name)
	}
	err := f.list(f.c, unix.NFT_MSG_GETSETELEM, reset, fill, func(m message) error {
		return r.add(m)
	})
	if errors.Is(err, unix.ENOENT) {
		reset()
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing set %s: %w", name, err)
	}
	return r, nil
}

// name is always the same copy of a name.
func (r *records) name(s string) string {
	if n, ok := r.names[s]; ok {
		return n
	}
	if r.names == nil {
		r.names = map[string]string{}
	}
	r.names[s] = s
	return s
}

// add takes in one message of a listing.
func (r *records) add(m message) error {
	return m.attrs(func(t uint16, v []byte) error {
		if t != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return nil
		}
		return attrs(v, func(_ uint16, v []byte) error { return r.element(v) })
	})
}

func (r *records) element(b []byte) error {
	var key []byte
	var flags uint32
	var vd verdict
	err := attrs(b, func(t uint16, v []byte) error {
		switch t {
		case unix.NFTA_SET_ELEM_FLAGS:
			flags = toU32(v)
		case unix.NFTA_SET_ELEM_KEY:
			return attrs(v, func(_ uint16, v []byte) error { key = v; return nil })
		case unix.NFTA_SET_ELEM_EXPR, attrElemExpressions, unix.NFTA_SET_ELEM_TIMEOUT:
			r.tainted = true
		case unix.NFTA_SET_ELEM_DATA:
			return attrs(v, func(t uint16, v []byte) (err error) {
				if t == unix.NFTA_DATA_VERDICT {
					vd.code, vd.chain, err = readVerdict(v)
					vd.there = true
				}
				return err
			})
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(key) != r.keyLen || flags&^unix.NFT_SET_ELEM_INTERVAL_END != 0 {
		r.tainted = true
		return nil
	}
	if vd.chain != "" {
		vd.chain = r.name(vd.chain)
	}
	start := byte(1) // so that, sorted, an end comes before a start
	if flags&unix.NFT_SET_ELEM_INTERVAL_END != 0 {
		start = 0
	}
	r.b = append(append(r.b, key...), start)
	if r.isMap {
		r.verdicts = append(r.verdicts, vd)
	}
	return nil
}

// ranges visits what the elements mean: of an interval set the intervals, of
// others single keys.
func (r *records) ranges(spec setSpec, visit func(lo, hi []byte)) {
	r.each(spec, func(_ int, lo, hi []byte) { visit(lo, hi) })
}

// each is ranges with the element's number.
func (r *records) each(spec setSpec, visit func(i int, lo, hi []byte)) {
	n := r.Len()
	if !spec.interval() {
		for i := range n {
			visit(i, r.key(i), r.key(i))
		}
		return
	}
	descending := true
	for i := 1; i < n && descending; i++ {
		descending = r.Less(i, i-1)
	}
	if descending {
		for i, j := 0, n-1; i < j; i, j = i+1, j-1 {
			r.Swap(i, j)
		}
	} else {
		sort.Sort(r)
	}
	hi := make([]byte, r.keyLen)
	for i := 0; i < n; i++ {
		if r.end(i) {
			continue // of no interval: says nothing
		}
		if i+1 < n && bytes.Equal(r.key(i), r.key(i+1)) {
			continue // the same twice
		}
		if i+1 < n {
			copy(hi, r.key(i+1))
			for j := len(hi) - 1; j >= 0; j-- { // the key before
				hi[j]--
				if hi[j] != 0xff {
					break
				}
			}
		} else {
			for j := range hi {
				hi[j] = 0xff
			}
		}
		visit(i, r.key(i), hi)
	}
}
