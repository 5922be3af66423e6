// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
)

// Config says how a Filter works. Begin with Default.
type Config struct {
	// Variant is the variant of iptables; default Auto.
	Variant Variant
	// Append calls our chains at the end of the kernel's; else at their
	// beginning (chainInsertMode). SetAppend changes it later.
	Append bool
	// MaxSetSize is the largest number of elements of one set in the
	// kernel; default 1,048,576.
	MaxSetSize int
	// LockWait is how long one attempt waits for the lock of xtables
	// (/run/xtables.lock), in whole seconds; default 5 s.
	LockWait time.Duration
	// Run runs the programs; default: on this machine, in the network
	// namespace of the process.
	Run host.Runner
	// Log is told of changes of state; default: nothing is said.
	Log *slog.Logger
	// OnDrift is called by Reconcile, on its goroutine, when it has found
	// that another changed what is ours, after it tried to repair that.
	OnDrift func(Drift)
}

// Default is the usual Config.
func Default() Config {
	return Config{Variant: Auto, MaxSetSize: 1 << 20, LockWait: 5 * time.Second}
}

// Drift is a difference that somebody else made.
type Drift struct {
	// What was altered, one line for each object, at most 20.
	What []string
	// By is who, as far as Foreign was told; or empty.
	By string
	// Repaired: everything is as wanted again.
	Repaired bool
}

// Filter is the Part that owns our chains and ipsets. All methods are called
// by one goroutine, except those that say otherwise.
type Filter struct {
	inForce bool // see InForce
	cfg     Config
	prog    programs
	why     string // why this variant
	log     *slog.Logger
	sock    *ipsets
	eyes    *eyes

	chains map[string]*chainState
	sets   map[string]*setState
	maps   map[string]*mapState
	byName map[string]*chainState // by kernel name

	// What is to be looked at by the next plan.
	dirtyChains map[*chainState]struct{}
	dirtySets   map[*setState]struct{}
	unclean     bool // there is something to do though nothing is dirty

	k      *kernel                   // nil: to be read
	consts map[string]*constSet      // by kernel name
	barred map[string]error          // constant sets that the kernel refuses
	spelt  map[string]string         // a rule as sent → as this iptables prints it
	banned map[place]map[string]bool // rules that the kernel refuses
	// labels: see Labels; asked: it is known; asks: a rule wants to know it.
	labels, asked, asks bool
	stamp               stamp         // of the state that k is
	looked              time.Duration // how long the last look took
	drift               []string
	by                  string
	// brake is for fights with others over our rules.
	brake reconcile.Brake
	retry time.Time // when what was refused is tried again
	again bool      // Resync was called
	soft  map[string]error

	// mu guards what other goroutines touch.
	mu      sync.Mutex
	noted   bool
	notedBy string
	summary Summary
	over    []string
	names   map[string]string // kernel name of a chain → the ruleset's
	closed  bool
}

// kernel is what is believed to be in the kernel.
type kernel struct {
	tables map[place]*ktable
	sets   map[string]*kset
	stale  bool
}

type chainState struct {
	name  string
	want  *ruleset.Chain
	kname string
	uses  []use
	low   map[place]*lowered
	// reaches is what it can matter to in each family.
	reaches map[ruleset.Family]reach
}

// use names what a chain refers to; the ruleset's names.
type use struct {
	kind ruleset.Kind
	name string
}

type mapState struct {
	name    string
	want    bool
	entries map[string]ruleset.Entry
}

// New finds the programs and opens the sockets of a Filter, in the network
// namespace of the calling thread. It changes nothing.
func New(cfg Config) (*Filter, error) {
	d := Default()
	if cfg.Variant == "" {
		cfg.Variant = d.Variant
	}
	if cfg.MaxSetSize <= 0 {
		cfg.MaxSetSize = d.MaxSetSize
	}
	if cfg.LockWait <= 0 {
		cfg.LockWait = d.LockWait
	}
	if cfg.Run == nil {
		cfg.Run = host.RealRunner{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OnDrift == nil {
		cfg.OnDrift = func(Drift) {}
	}
	prog, why, err := choose(context.Background(), cfg.Run, cfg.Variant)
	if err != nil {
		return nil, fmt.Errorf("iptables: %w", err)
	}
	sock, err := openIPSets()
	if err != nil {
		return nil, fmt.Errorf("iptables: %w", err)
	}
	eyes, err := openEyes(prog)
	if err != nil {
		sock.close()
		return nil, fmt.Errorf("iptables: %w", err)
	}
	return &Filter{
		cfg: cfg, brake: reconcile.Brake{Free: maxFights, Pause: fightPause}, prog: prog, why: why, log: cfg.Log, sock: sock, eyes: eyes,
		chains: map[string]*chainState{}, sets: map[string]*setState{}, maps: map[string]*mapState{}, byName: map[string]*chainState{},
		dirtyChains: map[*chainState]struct{}{}, dirtySets: map[*setState]struct{}{},
		consts: map[string]*constSet{}, barred: map[string]error{}, spelt: map[string]string{}, banned: map[place]map[string]bool{}, soft: map[string]error{},
	}, nil
}

// Close closes the sockets. Chains and sets stay, and stay in force.
func (f *Filter) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		f.sock.close()
		f.eyes.close()
	}
	return nil
}

// Name is "iptables".
func (f *Filter) Name() string { return "iptables" }

// Variant is the variant in use, its version and why it was chosen.
func (f *Filter) Variant() (v Variant, version, why string) {
	return f.prog.variant, f.prog.version, f.why
}

// SetAppend changes where in the kernel's chains ours are called: at the end,
// or at the beginning. The next Reconcile makes it so.
func (f *Filter) SetAppend(last bool) {
	if last != f.cfg.Append {
		f.cfg.Append, f.unclean = last, true
	}
}

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
			c = &chainState{name: id.Name, kname: chainName(id.Name)}
			f.chains[id.Name] = c
			f.byName[c.kname] = c
		}
		reaches := map[ruleset.Family]reach{ruleset.IPv4: reachOfChain(v, ruleset.IPv4), ruleset.IPv6: reachOfChain(v, ruleset.IPv6)}
		if c.want == nil || (c.want.Hook == ruleset.NoHook) != (v.Hook == ruleset.NoHook) || !maps.EqualFunc(c.reaches, reaches, reach.same) {
			f.users(use{ruleset.KindChain, id.Name})
		}
		c.want, c.reaches = v, reaches
		f.asks = f.asks || slices.ContainsFunc(v.Rules, func(r ruleset.Rule) bool { return r.Match.Cut })
		f.dirtyChains[c] = struct{}{}
	case *ruleset.Set:
		s := f.set(id.Name)
		if s.want == nil || s.want.Type != v.Type || s.want.Family != v.Family {
			f.users(use{ruleset.KindSet, id.Name})
		}
		s.define(v)
		s.refused = nil
		f.dirtySets[s] = struct{}{}
	case ruleset.Member:
		s := f.set(id.Name)
		s.wantMember(id.Elem)
		f.dirtySets[s] = struct{}{}
	case *ruleset.Dispatch:
		m := f.dispatchMap(id.Name)
		if !m.want {
			m.want = true
			f.users(use{ruleset.KindDispatch, id.Name})
		}
	case ruleset.Entry:
		m := f.dispatchMap(id.Name)
		if old, ok := m.entries[id.Iface]; !ok || old != v {
			m.entries[id.Iface] = v
			f.users(use{ruleset.KindDispatch, id.Name})
		}
	default:
		panic(fmt.Sprintf("iptables: object of type %T", o))
	}
}

// Unwant says that an object shall not be.
func (f *Filter) Unwant(id ruleset.ID) {
	f.inForce = false
	switch id.Kind {
	case ruleset.KindChain:
		if c := f.chains[id.Name]; c != nil {
			delete(f.chains, id.Name)
			delete(f.byName, c.kname)
			delete(f.dirtyChains, c)
			f.unclean = true // it may have to go
			f.users(use{ruleset.KindChain, id.Name})
		}
	case ruleset.KindSet:
		if s := f.sets[id.Name]; s != nil && s.want != nil {
			s.want = nil
			f.dirtySets[s] = struct{}{}
			f.users(use{ruleset.KindSet, id.Name})
		}
	case ruleset.KindMember:
		if s := f.sets[id.Name]; s != nil {
			s.unwantMember(id.Elem)
			f.dirtySets[s] = struct{}{}
		}
	case ruleset.KindDispatch:
		if m := f.maps[id.Name]; m != nil {
			m.want = false
			f.users(use{ruleset.KindDispatch, id.Name})
		}
	case ruleset.KindEntry:
		if m := f.maps[id.Name]; m != nil {
			if _, ok := m.entries[id.Iface]; ok {
				delete(m.entries, id.Iface)
				f.users(use{ruleset.KindDispatch, id.Name})
			}
		}
	default:
		panic(fmt.Sprintf("iptables: id of kind %d", id.Kind))
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
		m = &mapState{name: name, entries: map[string]ruleset.Entry{}}
		f.maps[name] = m
	}
	return m
}

// users marks the chains that refer to an object.
func (f *Filter) users(u use) {
	if len(f.dirtyChains) == len(f.chains) {
		return
	}
	for _, c := range f.chains {
		for i := range c.uses {
			if c.uses[i] == u {
				f.dirtyChains[c] = struct{}{}
				break
			}
		}
	}
}

// Resync makes the next Reconcile read everything of ours and compare it.
func (f *Filter) Resync() {
	if f.k != nil {
		f.again = true
	}
}

// Foreign tells of a change of nf_tables by somebody else, and who did it. It
// may be called from any goroutine. Whether the change concerns us is found
// out by the next Reconcile; other calls than this are not needed, since
// Reconcile asks to be called often enough to see for itself.
func (f *Filter) Foreign(_ uint32, touched bool, by string) {
	if !touched {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noted = true
	if by != "" {
		f.notedBy = by
	}
}

const (
	maxTries     = 8
	refusedAgain = 30 * time.Second
	// lookAgain is how often the kernel is looked at, since it does not
	// tell of changes; where a look takes long, it is less often, down to
	// lookSeldom, so that a repair begins within a second.
	lookAgain  = 50 * time.Millisecond
	lookSeldom = 900 * time.Millisecond
	lookShare  = 150 // of so much time one part for looking
	// More repairs than this in ten seconds are a fight; then there is one
	// repair per fightPause.
	maxFights  = 8
	fightPause = 3 * time.Second
)

// Reconcile makes chains and sets as wanted and reads back what it changed.
// What packets can see of the change in one table of one family is one step.
// It returns nil only if all is known to be as wanted. What cannot be (a rule
// that names an absent set, a rule that the kernel refuses, an overfull set)
// is left out on the denying side or left as it was, and reported by the
// error, when all the rest is in force.
func (f *Filter) Reconcile(ctx context.Context) (again time.Duration, err error) {
	f.takeNotes()
	if f.k != nil && !f.k.stale {
		start := time.Now()
		s, err := f.eyes.look(f.sock)
		f.looked = time.Since(start)
		if err != nil {
			return 0, fmt.Errorf("iptables: %w", err)
		}
		f.k.stale = f.again || !s.same(f.stamp)
	}
	f.again = false
	if f.k != nil && f.k.stale {
		if wait := f.brake.Wait(); wait > 0 {
			return wait, fmt.Errorf("iptables: our rules are being changed by %s again and again", or(f.by, "another program"))
		}
	}
	if !f.retry.IsZero() && time.Now().After(f.retry) {
		f.forgive()
	}
	if f.asks && !f.asked {
		if err := f.askLabels(ctx); err != nil {
			return 0, fmt.Errorf("iptables: %w", err)
		}
	}
	for try := range maxTries {
		if err = ctx.Err(); err != nil {
			break
		}
		if err = f.pass(ctx); err == nil {
			break
		}
		var r *refusal
		if !errors.As(err, &r) || r.locked {
			f.k = nil // what was done before the error is not known
			break
		}
		f.log.Debug("Change refused", "err", err, "try", try)
		f.k = nil
		if try > 0 && !r.set && !f.setAside(ctx, r) {
			break
		}
	}
	f.inForce = err == nil
	f.told(err == nil)
	if err == nil {
		err = f.softErrors()
	}
	f.summarise()
	if err != nil {
		return 0, fmt.Errorf("iptables: %w", err)
	}
	return min(max(lookAgain, lookShare*f.looked), lookSeldom), nil
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func (f *Filter) takeNotes() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.noted && f.notedBy != "" {
		f.by = f.notedBy
	}
	f.noted, f.notedBy = false, ""
}

// pass is one attempt: read if need be, plan, change, read back.
func (f *Filter) pass(ctx context.Context) error {
	if f.k == nil || f.k.stale {
		if err := f.resync(ctx); err != nil {
			return err
		}
	}
	if len(f.dirtyChains) == 0 && len(f.dirtySets) == 0 && !f.unclean {
		return nil
	}
	p := f.plan()
	if p.crowded != nil {
		// Agents that were killed between making sets and using them have left
		// theirs behind.
		if err := f.makeRoom(); err != nil {
			return err
		}
		if err := f.resync(ctx); err != nil {
			return err
		}
		if p = f.plan(); p.crowded != nil {
			return p.crowded
		}
	}
	if err := p.apply(ctx); err != nil {
		return err
	}
	p.done()
	return nil
}
