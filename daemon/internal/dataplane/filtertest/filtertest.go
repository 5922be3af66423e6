// SPDX-License-Identifier: Apache-2.0

// Package filtertest is a test room: the contract of every packet-filter back
// end, checked with real packets against ruleset.State.Eval. A back end's test
// calls Run and hands in how to open one in a namespace; what is particular to
// its kernel interface (how to tamper, what a foreign table is) comes with it.
//
// Random tests print their seed and take it back by -seed.
package filtertest

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
)

var seed = flag.Uint64("seed", 0, "seed of the random tests; 0: by the clock")

// Rand is a generator whose seed is logged and comes from -seed if given.
func Rand(t testing.TB) *rand.Rand {
	s := *seed
	if s == 0 {
		s = uint64(time.Now().UnixNano())
	}
	t.Logf("-seed %d", s)
	return rand.New(rand.NewPCG(s, 1))
}

// Backend is a packet filter under test.
type Backend interface {
	reconcile.Part
	reconcile.Wanter[ruleset.ID, ruleset.Object]
	Close() error
}

// Options are what a test asks of a back end.
type Options struct {
	// Owner: guard the objects against others, if that is possible.
	Owner bool
	// MaxSetSize is the limit of members of one set; 0: the default.
	MaxSetSize int
	// OnDrift is told of changes by others that were found.
	OnDrift func(what []string, repaired bool)
}

// Suite is a back end and its particulars.
type Suite struct {
	// Open makes a back end for a namespace. It is called on the namespace's
	// thread.
	Open func(ns *netnstest.NS, o Options) (Backend, error)
	// OverSize names the overfull sets of a back end.
	OverSize func(Backend) []string
	// Tamper are ways in which another tool may change what the Drift test
	// has made (DriftState); each is a shell command.
	Tamper map[string]string
	// Refused are the same for a back end with Owner: they must not succeed.
	Refused map[string]string
	// Unguarded is why a back end has no Owner, and nothing to refuse.
	Unguarded string
	// Dump is a shell command that prints what the kernel has, for people.
	Dump string
	// Foreign makes objects of another tool, ForeignDump prints them, and
	// both are shell commands.
	Foreign, ForeignDump string
	// Verdicts: the back end has verdict maps. TamperVerdicts are ways to
	// change those that the VerdictDrift test has made (verdictState).
	Verdicts       bool
	TamperVerdicts map[string]string
}

// Run runs the whole contract.
func (s Suite) Run(t *testing.T) {
	t.Run("RandomStates", s.randomStates)
	if s.Verdicts {
		t.Run("RandomVerdicts", s.randomVerdicts)
		t.Run("VerdictDrift", s.verdictDrift)
		t.Run("VerdictUpdatesNeverLeak", s.verdictUpdates)
	}
	t.Run("LongLists", s.longLists)
	t.Run("OrderOfWishes", s.order)
	t.Run("Hooks", s.hooks)
	t.Run("Conntrack", s.conntrack)
	t.Run("NoTrack", s.noTrack)
	t.Run("Prefixes", s.prefixes)
	t.Run("OverlappingMembers", s.overlaps)
	t.Run("Adoption", s.adoption)
	t.Run("Broken", s.broken)
	t.Run("Overfull", s.overfull)
	t.Run("Foreign", s.foreign)
	t.Run("Large", s.large)
	t.Run("Drift", s.driftRepair)
	t.Run("Owner", s.owner)
	t.Run("UpdatesNeverLeak", s.updates)
}

// bench is a back end in an Injector's namespace, with the State that it
// shall enforce.
type bench struct {
	t     testing.TB
	suite Suite
	inj   *netnstest.Injector
	be    Backend
	state *ruleset.State
	seen  map[string]bool // flows used since conntrack was flushed
	judge int             // verdicts compared
}

func (s Suite) bench(t testing.TB, o Options) *bench {
	b := &bench{t: t, suite: s, inj: netnstest.NewInjector(t, netnstest.InjectorConfig{}), state: ruleset.NewState(), seen: map[string]bool{}}
	b.open(o)
	return b
}

func (b *bench) open(o Options) {
	b.t.Helper()
	if b.be != nil {
		b.be.Close()
	}
	if o.OnDrift == nil {
		o.OnDrift = func([]string, bool) {}
	}
	b.inj.NS.MustDo(func() (err error) {
		b.be, err = b.suite.Open(b.inj.NS, o)
		return err
	})
	be := b.be
	b.t.Cleanup(func() { be.Close() })
}

func (b *bench) Want(id ruleset.ID, o ruleset.Object) {
	b.state.Want(id, o)
	b.be.Want(id, o)
}

func (b *bench) Unwant(id ruleset.ID) {
	b.state.Unwant(id)
	b.be.Unwant(id)
}

func (b *bench) reconcile() {
	b.t.Helper()
	if _, err := b.be.Reconcile(b.t.Context()); err != nil {
		b.t.Fatalf("Reconcile: %v", err)
	}
}

// WantAll tells a back end a whole state.
func WantAll(be reconcile.Wanter[ruleset.ID, ruleset.Object], s *ruleset.State) {
	wantAll(be, s, func(int, func(i, j int)) {})
}

// wantAll is WantAll in an order that shuffle makes.
func wantAll(be reconcile.Wanter[ruleset.ID, ruleset.Object], s *ruleset.State, shuffle func(n int, swap func(i, j int))) {
	ids, objects := all(s)
	shuffle(len(ids), func(i, j int) {
		ids[i], ids[j] = ids[j], ids[i]
		objects[i], objects[j] = objects[j], objects[i]
	})
	for i, id := range ids {
		be.Want(id, objects[i])
	}
}

func all(s *ruleset.State) (ids []ruleset.ID, objects []ruleset.Object) {
	add := func(id ruleset.ID, o ruleset.Object) {
		ids = append(ids, id)
		objects = append(objects, o)
	}
	for name, o := range s.Chains {
		add(ChainID(name), o)
	}
	for name, o := range s.Sets {
		add(SetID(name), o)
	}
	for name, m := range s.Members {
		for e := range m {
			add(ruleset.ID{Kind: ruleset.KindMember, Name: name, Elem: e}, ruleset.Member{})
		}
	}
	for name, o := range s.Dispatches {
		add(DispatchID(name), o)
	}
	for name, m := range s.Entries {
		for iface, e := range m {
			add(ruleset.ID{Kind: ruleset.KindEntry, Name: name, Iface: iface}, e)
		}
	}
	for name, m := range s.Verdicts {
		add(ruleset.ID{Kind: ruleset.KindVerdicts, Name: name}, m.Def)
		for k, r := range m.Of {
			add(ruleset.ID{Kind: ruleset.KindVerdict, Name: name, Elem: ruleset.Element{Net: k.Net}, Range: k.Range}, r)
		}
	}
	return ids, objects
}

// ChainID, SetID and DispatchID name objects; EntryID and MemberID their
// parts.
func ChainID(name string) ruleset.ID { return ruleset.ID{Kind: ruleset.KindChain, Name: name} }

// SetID names a set.
func SetID(name string) ruleset.ID { return ruleset.ID{Kind: ruleset.KindSet, Name: name} }

// DispatchID names a dispatch map.
func DispatchID(name string) ruleset.ID { return ruleset.ID{Kind: ruleset.KindDispatch, Name: name} }

// EntryID names an entry of a dispatch map.
func EntryID(name, iface string) ruleset.ID {
	return ruleset.ID{Kind: ruleset.KindEntry, Name: name, Iface: iface}
}

// MemberID names a member of a set of prefixes.
func MemberID(set, prefix string) ruleset.ID {
	return ruleset.ID{Kind: ruleset.KindMember, Name: set, Elem: ruleset.Element{Net: pfx(prefix)}}
}

// path is a way of a packet through the host.
type path int

const (
	toHost path = iota
	fromHost
	through
)

func (p path) String() string { return [...]string{"to host", "from host", "through"}[p] }

// check sends a packet and compares the kernel's verdict with Eval's.
func (b *bench) check(way path, p netnstest.Packet) {
	b.t.Helper()
	got := b.send(way, p)
	want := b.eval(way, p)
	b.judge++
	if got != want {
		b.t.Errorf("%s %+v: kernel accepts %v, want %v", way, p, got, want)
		if b.judge < 1<<30 {
			dump, _ := b.inj.NS.Try("sh", "-c", b.suite.Dump)
			b.t.Logf("wanted:\n%s\nin the kernel:\n%s", b.state, dump)
			b.judge = 1 << 30 // once is enough
		}
	}
}

func (b *bench) send(way path, p netnstest.Packet) bool {
	switch way {
	case toHost:
		return b.inj.In("rstun0", p)
	case fromHost:
		return b.inj.Out("rstun0", p)
	}
	return b.inj.Forward(p, "rstun0", "rstun1")
}

func (b *bench) eval(way path, p netnstest.Packet) bool {
	q := ruleset.Packet{
		Src: p.Src, Dst: p.Dst, Protocol: p.Protocol, SrcPort: p.SrcPort, DstPort: p.DstPort,
		ICMPType: p.ICMPType, ICMPCode: p.ICMPCode, State: stateOf(&p), HopLimit: p.HopLimit,
	}
	if q.HopLimit == 0 {
		q.HopLimit = 64
	}
	at := func(in, out string, hooks ...ruleset.Hook) bool {
		q.In, q.Out = in, out
		for _, h := range hooks {
			v, t := b.state.Eval(h, q)
			if v != ruleset.Accepted {
				return false
			}
			q.Mark = t.Mark
			if t.NoTrack {
				q.State = ruleset.CtUntracked
			}
		}
		return true
	}
	switch way {
	case toHost:
		return at("rstun0", "", ruleset.HookPrerouting, ruleset.HookInput)
	case fromHost:
		return at("", "rstun0", ruleset.HookOutput, ruleset.HookPostrouting)
	}
	if !at("rstun0", "", ruleset.HookPrerouting) {
		return false
	}
	q.HopLimit-- // routed: the kernel counts down before FORWARD
	return at("rstun0", "rstun1", ruleset.HookForward, ruleset.HookPostrouting)
}

// stateOf is the conntrack state of the first packet of a flow.
func stateOf(p *netnstest.Packet) ruleset.CtState {
	switch p.Protocol {
	case netnstest.ICMP:
		if p.ICMPType != 8 && p.ICMPType != 13 {
			return ruleset.CtInvalid
		}
	case netnstest.ICMPv6:
		switch {
		case p.ICMPType >= 130 && p.ICMPType <= 137 || p.ICMPType == 143:
			return ruleset.CtUntracked
		case p.ICMPType != 128:
			return ruleset.CtInvalid
		}
	}
	return ruleset.CtNew
}

// fresh reports whether no packet of the flow was sent since the last flush.
func (b *bench) fresh(p *netnstest.Packet) bool {
	k := fmt.Sprint(p.Src, p.Dst, p.Protocol, p.SrcPort, p.DstPort, p.ICMPID)
	r := fmt.Sprint(p.Dst, p.Src, p.Protocol, p.DstPort, p.SrcPort, p.ICMPID)
	if b.seen[k] || b.seen[r] {
		return false
	}
	b.seen[k] = true
	return true
}

func (b *bench) flush() {
	b.inj.FlushConntrack()
	clear(b.seen)
}
