// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	lane "github.com/ripstop/ripstop/daemon/internal/reconcile"
)

// Config says how a Filter works. Begin with Default.
type Config struct {
	// Table is the name of the inet table; default "ripstop".
	Table string
	// Owner claims the table with the flags owner and persist, where the
	// kernel has them; default true.
	Owner bool
	// MaxSetSize is the largest number of elements in the kernel of a set
	// that does not say so itself; default 1,048,576.
	MaxSetSize int
	// Log is told of changes of state; default: nothing is said.
	Log *slog.Logger
	// OnDrift is called by Reconcile, on its goroutine, when it has found
	// that another changed the table, after it tried to repair that.
	OnDrift func(Drift)

	open func() (wire, error) // for tests
}

// Default is the usual Config.
func Default() Config {
	return Config{Table: "ripstop", Owner: true, MaxSetSize: 1 << 20}
}

// Drift is a difference that somebody else made.
type Drift struct {
	// What was altered, one line for each object, at most 20.
	What []string
	// Header is a packet that fared otherwise, as ruleset.Witness says it:
	// what was wanted, and what the kernel did; empty if none was found.
	Header string
	// By is who, as far as Foreign was told: "nft (pid 4711)"; or empty.
	By string
	// Repaired: the table is as wanted again.
	Repaired bool
}

// Filter is the Part that owns the table. All methods are called by one
// goroutine, except those that say otherwise.
type Filter struct {
	cfg Config
	c   *conn // the owner's socket: closing it gives the table up
	log *slog.Logger

	chains map[string]*chainState
	sets   map[string]*setState
	maps   map[string]*mapState
	// verdicts are verdict maps.
	verdicts map[string]*verdictMap
	// What is to be looked at by the next plan.
	dirtyChains   map[*chainState]struct{}
	dirtySets     map[*setState]struct{}
	dirtyMaps     map[*mapState]struct{}
	dirtyVerdicts map[*verdictMap]struct{}
	doomed        map[ref]struct{} // in the kernel, not wanted

	k    *kernel // nil: to be read
	refs map[ref]int
	gen  uint32 // generation at which k was right
	// looksAgain: elements of hash maps can be exchanged in place.
	looksAgain bool
	labels     bool // see Labels
	owns       bool
	why        string // why the table is not owned
	drift      []string
	by         string
	// odd are the kernel's names of the objects in drift; header is the packet
	// that shows it, looked for at most so often.
	odd    []string
	header string
	sought time.Time
	// settled: nothing was wanted since a Reconcile that left nothing to be
	// desired. Then what a reading finds to be done is no news.
	settled bool
	// brake is for fights with others over the table.
	brake lane.Brake
	retry time.Time // when what was refused is tried again
	// refusedConsts are the constant sets that the kernel does not take.
	refusedConsts map[string]error
	again         bool // Resync was called
	soft          map[string]error
	// inForce: nothing was wanted since the last Reconcile, and that one left
	// only soft errors.
	inForce bool

	// mu guards what other goroutines touch.
	mu      sync.Mutex
	notes   []note
	summary Summary
	over    []string
	rx      *conn // for Counters
	closed  bool
}

type note struct {
	gen     uint32
	touched bool
	by      string
}

type chainState struct {
	name  string
	want  *ruleset.Chain
	kname string
	uses  []use // of what was lowered last
	// What the kernel has against the chain as a whole and, by index, against
	// rules of it; so it is until Filter.retry. hopeless: it will not have
	// the chain in any form.
	refused  error
	hopeless bool
	bad      map[int]refusedRule
}

// forget lets what was refused be tried again.
func (c *chainState) forget() { c.refused, c.hopeless, c.bad = nil, false, nil }

// use names what a chain refers to; the ruleset's names.
type use struct {
	kind ruleset.Kind
	name string
}

type setState struct {
	name    string
	want    *ruleset.Set
	kname   string
	m       members
	loose   map[ruleset.Element]struct{} // members told before the set, or that cannot be in it
	over    bool
	refused error
}

type mapState struct {
	name    string
	want    bool
	kname   string
	entries map[string]ruleset.Entry
	dirty   map[string]struct{}
	// refused: of the map's entries the new ones drop instead. hopeless: the
	// kernel has refused those as well.
	refused  error
	hopeless bool
}

// New opens the sockets of a Filter, in the network namespace of the calling
// thread. It reads and changes nothing.
func New(cfg Config) (*Filter, error) {
	d := Default()
	if cfg.Table == "" {
		cfg.Table = d.Table
	}
	if cfg.MaxSetSize <= 0 {
		cfg.MaxSetSize = d.MaxSetSize
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OnDrift == nil {
		cfg.OnDrift = func(Drift) {}
	}
	if cfg.open == nil {
		cfg.open = openSocket
	}
	tx, err := cfg.open()
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	rx, err := cfg.open()
	if err != nil {
		tx.close()
		return nil, fmt.Errorf("nftables: %w", err)
	}
	f := &Filter{
		cfg: cfg, brake: lane.Brake{Free: maxFights}, c: newConn(tx), rx: newConn(rx), log: cfg.Log, why: "not claimed yet", looksAgain: looksAgain(),
		labels: haveLabels(),
		chains: map[string]*chainState{}, sets: map[string]*setState{}, maps: map[string]*mapState{},
		verdicts: map[string]*verdictMap{}, dirtyVerdicts: map[*verdictMap]struct{}{},
		doomed: map[ref]struct{}{}, refs: map[ref]int{}, soft: map[string]error{}, refusedConsts: map[string]error{},
		dirtyChains: map[*chainState]struct{}{}, dirtySets: map[*setState]struct{}{}, dirtyMaps: map[*mapState]struct{}{},
	}
	return f, nil
}

// Close closes the sockets. The table stays, and stays in force.
func (f *Filter) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil
	}
	f.closed = true
	return errors.Join(f.c.w.close(), f.rx.w.close())
}

// Name is "nftables".
func (f *Filter) Name() string { return "nftables" }

// Port is the netlink port of the socket that changes the table: what
// notices of our own changes bear.
func (f *Filter) Port() uint32 { return f.c.w.port() }

// InForce tells whether the kernel has all that was wanted so far, read back,
// except for what Reconcile's error names object by object.
func (f *Filter) InForce() bool { return f.inForce }

// Want says that an object shall be.
func (f *Filter) Want(id ruleset.ID, o ruleset.Object) {
	f.inForce = false
	switch v := o.(type) {
	case *ruleset.Chain:
		c := f.chains[id.Name]
		if c == nil {
			c = &chainState{name: id.Name}
			f.chains[id.Name] = c
		}
		c.want = v
		c.forget()
		f.dirtyChains[c] = struct{}{}
	case *ruleset.Set:
		f.wantSet(f.set(id.Name), v)
	case ruleset.Member:
		s := f.set(id.Name)
		if s.m == nil || !s.m.want(id.Elem) {
			s.loosen(id.Elem)
		}
		f.dirtySets[s] = struct{}{}
	case *ruleset.Dispatch:
		m := f.dispatchMap(id.Name)
		m.want = true
		m.refused, m.hopeless = nil, false
		f.dirtyMaps[m] = struct{}{}
	case ruleset.Entry:
		m := f.dispatchMap(id.Name)
		m.entries[id.Iface] = v
		m.dirty[id.Iface] = struct{}{}
		m.refused, m.hopeless = nil, false
		f.dirtyMaps[m] = struct{}{}
	case *ruleset.Verdicts, ruleset.Ruling:
		f.wantVerdicts(id, o)
	default:
		panic(fmt.Sprintf("nftables: object of type %T", o))
	}
}

// Unwant says that an object shall not be.
func (f *Filter) Unwant(id ruleset.ID) {
	f.inForce = false
	switch id.Kind {
	case ruleset.KindChain:
		if c := f.chains[id.Name]; c != nil {
			c.want = nil
			c.forget()
			f.dirtyChains[c] = struct{}{}
		}
	case ruleset.KindSet:
		if s := f.sets[id.Name]; s != nil {
			s.want, s.refused = nil, nil
			f.dirtySets[s] = struct{}{}
		}
	case ruleset.KindMember:
		if s := f.sets[id.Name]; s != nil {
			if s.m != nil {
				s.m.unwant(id.Elem)
			}
			delete(s.loose, id.Elem)
			f.dirtySets[s] = struct{}{}
		}
	case ruleset.KindDispatch:
		if m := f.maps[id.Name]; m != nil {
			m.want = false
			f.dirtyMaps[m] = struct{}{}
		}
	case ruleset.KindEntry:
		if m := f.maps[id.Name]; m != nil {
			delete(m.entries, id.Iface)
			m.dirty[id.Iface] = struct{}{}
			f.dirtyMaps[m] = struct{}{}
		}
	case ruleset.KindVerdicts, ruleset.KindVerdict:
		f.unwantVerdicts(id)
	default:
		panic(fmt.Sprintf("nftables: id of kind %d", id.Kind))
	}
}

func (f *Filter) set(name string) *setState {
	s := f.sets[name]
	if s == nil {
		s = &setState{name: name}
		f.sets[name] = s
	}
	return s
}

func (f *Filter) dispatchMap(name string) *mapState {
	m := f.maps[name]
	if m == nil {
		m = &mapState{name: name, entries: map[string]ruleset.Entry{}, dirty: map[string]struct{}{}}
		f.maps[name] = m
	}
	return m
}

func (s *setState) loosen(e ruleset.Element) {
	if s.loose == nil {
		s.loose = map[ruleset.Element]struct{}{}
	}
	s.loose[e] = struct{}{}
}

// wantSet notes what a set is; if it becomes another, its members move.
func (f *Filter) wantSet(s *setState, v *ruleset.Set) {
	f.dirtySets[s] = struct{}{}
	s.refused = nil
	if s.m == nil || s.want == nil || s.want.Family != v.Family || s.want.Type != v.Type {
		old := s.m
		s.m = newMembers(v)
		loose := s.loose
		s.loose = nil
		move := func(e ruleset.Element) {
			if !s.m.want(e) {
				s.loosen(e)
			}
		}
		for e := range loose {
			move(e)
		}
		if old != nil {
			old.each(move)
			f.k = nil // what the kernel has of the new members is not known
		}
	}
	s.want = v
}

// Resync makes the next Reconcile read the whole table and compare it.
func (f *Filter) Resync() {
	if f.k != nil {
		f.again = true
	}
}

// Foreign tells of a transaction by somebody else: its generation, whether it
// touched our table, and who did it. Generation 0: notices were lost, and
// anything may have happened. It may be called from any goroutine. The next
// Reconcile reads the table again if it was touched; if all transactions that
// did not touch it are told of, it need not. An owned table cannot be touched
// behind our back: then lost notices (our own large transactions overflow a
// listener's buffer) mean nothing.
func (f *Filter) Foreign(generation uint32, touched bool, by string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if n := len(f.notes); n >= 1000 { // nobody reconciles: just read again
		f.notes = append(f.notes[:0], note{touched: true, by: by})
		return
	}
	f.notes = append(f.notes, note{generation, touched, by})
}

// takeNotes reports whether the table must be read again.
func (f *Filter) takeNotes() (stale bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	stale, f.again = f.again, false
	for _, n := range f.notes {
		if n.touched {
			stale = stale || !f.owns || n.gen != 0
			if n.by != "" {
				f.by = n.by
			}
		} else if n.gen == f.gen+1 {
			f.gen = n.gen
		}
	}
	f.notes = f.notes[:0]
	return stale
}

const (
	maxTries     = 12
	refusedAgain = 30 * time.Second
	// More repairs than this in ten seconds are a fight; then there is one
	// repair a second.
	maxFights = 20
)

// Reconcile makes the table as wanted and reads back what it changed. What
// packets can see of the change is one transaction. It returns nil only if the table is known to be as wanted.
// What cannot be (a rule that names an absent set, an object that the kernel
// refuses, an overfull set) is left out or left as it was, and reported by
// the error, when all the rest is in force.
func (f *Filter) Reconcile(ctx context.Context) (again time.Duration, err error) {
	f.settled = f.inForce && len(f.soft) == 0 && f.retry.IsZero()
	f.inForce = false
	if f.takeNotes() && f.k != nil {
		if wait := f.brake.Wait(); wait > 0 {
			f.again = true
			return wait, fmt.Errorf("nftables: table %s is being changed by %s again and again", f.cfg.Table, or(f.by, "another program"))
		}
		f.k.stale = true
	}
	if !f.retry.IsZero() && time.Now().After(f.retry) {
		f.forgive()
	}
	fresh := false // the table was read in this call
	for try := range maxTries {
		if err = ctx.Err(); err != nil {
			break
		}
		var read bool
		read, err = f.pass(ctx)
		fresh = fresh || read
		if err == nil {
			break
		}
		var r *refusal
		if !errors.As(err, &r) {
			break
		}
		f.log.Debug("Transaction refused", "err", err, "try", try)
		if r.unknown {
			f.k = nil
			if try >= 3 {
				break
			}
			continue
		}
		f.k.stale = true
		if fresh && !f.setAside(r) {
			break
		}
	}
	f.told(err == nil)
	f.inForce = err == nil
	if err == nil {
		err = f.softErrors()
	}
	f.summarise()
	if err != nil {
		err = fmt.Errorf("nftables: table %s: %w", f.cfg.Table, err)
	}
	if !f.retry.IsZero() {
		again = max(time.Until(f.retry), time.Millisecond)
	}
	return again, err
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// pass is one attempt: read if need be, plan, commit, read back.
func (f *Filter) pass(ctx context.Context) (read bool, err error) {
	if f.k != nil && !f.k.stale && !f.owns {
		gen, err := f.c.generation()
		if err != nil {
			return false, err
		}
		if gen != f.gen {
			f.k.stale = f.takeNotes() || gen != f.gen
		}
	}
	f.odd = f.odd[:0]
	if f.k == nil || f.k.stale {
		if err := f.resync(ctx); err != nil {
			return false, err
		}
		read = true
	}
	p := f.plan()
	if read && f.settled && len(f.odd) == 0 {
		p.own()
	}
	f.settled = false
	if len(f.odd) > 0 && f.header == "" && time.Since(f.sought) > witnessEvery {
		f.sought, f.header = time.Now(), p.witness()
	}
	for _, step := range []struct {
		b      *batch
		settle func()
		verify func() error
	}{
		{p.prepare, p.settlePrepared, p.verifyPrepared},
		{p.change, p.settleChanged, p.verifyChanged},
		{p.clean, p.settleCleaned, func() error { return nil }},
	} {
		if !step.b.empty() {
			if !f.owns {
				step.b.onlyAt(f.gen)
			}
			if err := f.c.commit(step.b); err != nil {
				return read, err
			}
			f.gen = nextGen(f.gen)
			f.log.Debug("Transaction committed", "messages", len(step.b.objects)-1, "size_bytes", len(step.b.b))
		}
		step.settle()
		if err := step.verify(); err != nil {
			return read, &refusal{errno: unix.EBADMSG, text: err.Error(), unknown: true}
		}
	}
	return read, nil
}

// nextGen is the kernel's successor of a generation; zero is left out.
func nextGen(g uint32) uint32 {
	if g++; g == 0 {
		g++
	}
	return g
}
