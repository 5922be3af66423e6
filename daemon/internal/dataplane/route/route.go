// SPDX-License-Identifier: Apache-2.0

// Package route is the Part that owns routes to workloads and the local route
// of their gateway. Its routes bear a protocol number of their own
// (kernel.Protocol), by which they are known after a restart. It touches no
// other route, except, where a kernel.Guard asks for it, routes of others that
// lead to a workload's interface.
//
// When a route is removed, moved, or made for an address that had none, the
// connection-tracking entries of flows of that address are deleted before the
// address is led anywhere: they are another workload's, or came another way.
//
//	not wanted any more ─► delete ─┐
//	                               ├─► cut flows of these addresses ─► add
//	wanted anew ───────────────────┘
//
// It decides nothing: which interface has an address is the planner's word.
package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/kernel"
	"github.com/ripstop/ripstop/daemon/internal/delta"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
)

// grace is how long routes of others on a workload's interface are left after
// the interface has come, as in Calico: whoever made the interface may still
// be at work on it.
const grace = 10 * time.Second

// downRetry is when a route is tried again whose interface was down or gone.
// A notice usually comes first.
const downRetry = 500 * time.Millisecond

// loopback is the index of lo in every network namespace (LOOPBACK_IFINDEX).
const loopback = 1

// Config is what a Part needs.
type Config struct {
	// Log is told of flows that were deleted.
	Log *slog.Logger
	// Clock is the machine's if nil.
	Clock host.Clock
	// OnDrift is called by Reconcile, on its goroutine, when others had
	// changed our routes, or routes of others were removed: what, and who
	// did it as far as known. Nil: nobody is told.
	OnDrift func(what []string, by string)
}

// kernelDoor is what Part needs of the kernel. *door is the real one.
type kernelDoor interface {
	list(family int, table uint32, protocol uint8, each func(entry)) error
	add(entry) error
	del(entry) error
	cut(map[netip.Addr]bool) (uint, error)
}

// guard is a kernel.Guard with the time at which it was first wanted.
type guard struct {
	iface string
	since time.Time
}

// Part is the Part. Make one with New. All methods but Noticed and Port are
// called by the lane's goroutine only.
type Part struct {
	cfg  Config
	k    kernelDoor
	port uint32
	shut func()

	wanted map[kernel.ID]entry
	names  map[entry]string // of the interfaces of wanted routes, for people
	guards map[int]guard
	// done are routes that this process has seen to be as wanted; one of
	// them that is missing was removed by somebody.
	done map[entry]struct{}
	// have are our routes in the kernel, foreign those of others on guarded
	// interfaces. Nil: not known.
	have, foreign map[entry]struct{}
	// stale are addresses whose flows have to be cut before they are led
	// anywhere.
	stale map[netip.Addr]bool
	// mended are routes that were missing and are back; who removed them is
	// told by the notices, which may come later.
	mended map[entry]struct{}
	brake  reconcile.Brake

	mu sync.Mutex // guards all below
	// watched are the interfaces of wanted routes, guarded those of guards,
	// sources the preferred sources in use.
	watched, guarded map[int]bool
	sources          map[netip.Addr]bool
	// flapped are interfaces that were down meanwhile: the kernel removes
	// their routes, which is nobody's meddling. meddled are those whose routes
	// a program has changed.
	flapped, meddled map[int]bool
	by               string
}

// New opens the Part in the network namespace of the calling thread.
func New(cfg Config) (*Part, error) {
	d, err := open()
	if err != nil {
		return nil, fmt.Errorf("route: %w", err)
	}
	p := with(cfg, d)
	p.shut = d.Close
	if p.port, err = d.Port(); err != nil {
		d.Close()
		return nil, fmt.Errorf("route: netlink socket: %w", err)
	}
	return p, nil
}

// with gives a Part with that door.
func with(cfg Config, k kernelDoor) *Part {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = host.RealClock{}
	}
	if cfg.OnDrift == nil {
		cfg.OnDrift = func([]string, string) {}
	}
	return &Part{
		cfg: cfg, k: k, shut: func() {}, brake: reconcile.Brake{Clock: cfg.Clock},
		wanted: map[kernel.ID]entry{}, names: map[entry]string{}, guards: map[int]guard{}, done: map[entry]struct{}{}, stale: map[netip.Addr]bool{}, mended: map[entry]struct{}{},
		watched: map[int]bool{}, guarded: map[int]bool{}, sources: map[netip.Addr]bool{}, flapped: map[int]bool{}, meddled: map[int]bool{},
	}
}

// Close ends the use of the kernel. Routes stay.
func (p *Part) Close() { p.shut() }

// Name is "route".
func (p *Part) Name() string { return "route" }

// Port is the netlink port of our own changes. It may be called from any
// goroutine.
func (p *Part) Port() uint32 { return p.port }

// entryOf is the kernel's form of what is wanted.
func entryOf(id kernel.ID, o kernel.Object) (entry, string) {
	e := entry{
		dst: netip.PrefixFrom(id.Addr, id.Addr.BitLen()), metric: kernel.Metric, protocol: kernel.Protocol,
		table: unix.RT_TABLE_MAIN, typ: unix.RTN_UNICAST, scope: unix.RT_SCOPE_LINK,
	}
	name := "lo"
	switch o := o.(type) {
	case kernel.Route:
		e.index, e.source, name = o.Index, o.Source, o.Iface
		if id.Addr.Is6() { // IPv6 has no scopes of routes
			e.scope = unix.RT_SCOPE_UNIVERSE
		}
	case kernel.Local:
		e.table, e.typ, e.scope, e.index = unix.RT_TABLE_LOCAL, unix.RTN_LOCAL, unix.RT_SCOPE_HOST, loopback
	}
	return e, name
}

// Want notes a Route, Local or Guard that shall be.
func (p *Part) Want(id kernel.ID, o kernel.Object) {
	if g, ok := o.(kernel.Guard); ok {
		since := p.cfg.Clock.Now()
		if old, ok := p.guards[id.Index]; ok {
			since = old.since
		}
		p.guards[id.Index] = guard{g.Iface, since}
		p.have = nil // what is on it has not been read
		return
	}
	delete(p.names, p.wanted[id])
	e, name := entryOf(id, o)
	p.wanted[id], p.names[e] = e, name
}

// Unwant notes that an object shall not be.
func (p *Part) Unwant(id kernel.ID) {
	if id.Kind == kernel.KindGuard {
		delete(p.guards, id.Index)
	} else {
		delete(p.names, p.wanted[id])
		delete(p.wanted, id)
	}
}

// watch tells Noticed what concerns us from now on. What changed before is seen
// by the pass that calls it.
func (p *Part) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.watched)
	clear(p.guarded)
	clear(p.sources)
	for e := range p.names {
		p.watched[e.index] = true
		if e.source.IsValid() {
			p.sources[e.source] = true
		}
	}
	for i := range p.guards {
		p.guarded[i] = true
	}
}

// Resync makes the next Reconcile read the kernel.
func (p *Part) Resync() { p.have, p.foreign = nil, nil }

// Noticed takes a notice of a change that others made and reports whether the
// Part should be told to Resync. It may be called from any goroutine.
func (p *Part) Noticed(n kernel.Notice) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	ours := false
	switch n.Subject {
	case kernel.Lost:
		ours = true
	case kernel.RouteChanged:
		ours = n.Protocol == kernel.Protocol || p.guarded[n.Index] && n.Protocol != unix.RTPROT_KERNEL
		switch {
		case n.Protocol != kernel.Protocol:
		case n.Itself:
			p.flapped[n.Index] = true
		default:
			p.meddled[n.Index] = true
		}
	case kernel.LinkChanged:
		ours = p.watched[n.Index]
		if ours && n.Down {
			p.flapped[n.Index] = true
		}
	case kernel.AddressChanged:
		ours = p.sources[n.Addr]
	}
	if ours && n.By != "" {
		p.by = n.By
	}
	return ours
}

// Reconcile is one pass: delete, cut, add.
func (p *Part) Reconcile(context.Context) (again time.Duration, err error) {
	p.watch()
	flapped, meddled, by := p.takeNotices()
	if p.have == nil {
		if err := p.list(); err != nil {
			return 0, fmt.Errorf("route: %w", err)
		}
	}
	want := make(map[entry]struct{}, len(p.wanted))
	for _, e := range p.wanted {
		want[e] = struct{}{}
	}
	p.noteEnds(want)
	d := delta.Of(want, p.have)

	var taken []entry // by somebody, or by the kernel
	fought := false
	for e := range d.Put {
		if _, was := p.done[e]; was {
			taken = append(taken, e)
			fought = fought || !flapped[e.index]
		} else if e.typ != unix.RTN_LOCAL {
			p.stale[e.dst.Addr()] = true
		}
	}
	wait := time.Duration(0)
	if fought {
		wait = p.brake.Repair()
	}
	if wait > 0 {
		for _, e := range taken {
			delete(d.Put, e)
		}
	}

	errs := p.drop(d.Drop)
	drift, left, more := p.dropForeign()
	errs = append(errs, more...)
	if err := p.cutStale(); err != nil {
		errs = append(errs, err)
	}
	down, more := p.add(d.Put, left > 0)
	errs = append(errs, more...)

	for _, e := range taken {
		if _, back := p.have[e]; back {
			p.mended[e] = struct{}{}
		}
	}
	drift = append(drift, p.blame(flapped, meddled)...)
	if len(drift) > 0 {
		slices.Sort(drift)
		p.cfg.OnDrift(drift, by)
	}
	if len(errs) > 0 {
		p.Resync() // what it holds now is not certain
		return 0, fmt.Errorf("route: %w", errors.Join(errs...))
	}
	if down {
		p.Resync()
		wait = soonest(wait, downRetry)
	}
	return soonest(wait, left), nil
}

// noteEnds marks the addresses of routes that were there and are not wanted
// any more, also if the kernel removed them together with their interface.
func (p *Part) noteEnds(want map[entry]struct{}) {
	for e := range p.done {
		if _, ok := want[e]; ok {
			continue
		}
		if e.typ != unix.RTN_LOCAL {
			p.stale[e.dst.Addr()] = true
		}
		delete(p.done, e)
		delete(p.mended, e)
	}
	for e := range p.have {
		if _, ok := want[e]; ok {
			p.done[e] = struct{}{}
		}
	}
}

// blame tells of mended routes that a program had removed. Of one that went
// with its interface there is nothing to tell.
func (p *Part) blame(flapped, meddled map[int]bool) (drift []string) {
	for e := range p.mended {
		switch {
		case meddled[e.index]:
			drift = append(drift, fmt.Sprintf("route to %s dev %s: removed", e.dst.Addr(), p.names[e]))
			delete(p.mended, e)
		case flapped[e.index]:
			delete(p.mended, e)
		}
	}
	return drift
}

// soonest is the shorter of two times; zero is never.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// takeNotices gives what was noticed since the last pass that read the kernel.
func (p *Part) takeNotices() (flapped, meddled map[int]bool, by string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.have != nil {
		return nil, nil, "" // they are of use to the pass that reads
	}
	flapped, meddled, by = p.flapped, p.meddled, p.by
	p.flapped, p.meddled, p.by = map[int]bool{}, map[int]bool{}, ""
	return flapped, meddled, by
}

// list reads our routes, and those of others on guarded interfaces.
func (p *Part) list() error {
	have, foreign := map[entry]struct{}{}, map[entry]struct{}{}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		if err := p.k.list(family, 0, kernel.Protocol, func(e entry) { have[e] = struct{}{} }); err != nil {
			return err
		}
		if len(p.guards) == 0 {
			continue
		}
		err := p.k.list(family, unix.RT_TABLE_MAIN, 0, func(e entry) {
			if _, guarded := p.guards[e.index]; guarded && e.protocol != kernel.Protocol && e.protocol != unix.RTPROT_KERNEL {
				foreign[e] = struct{}{}
			}
		})
		if err != nil {
			return err
		}
	}
	p.have, p.foreign = have, foreign
	return nil
}

// gone are the errors that say that a route is not there any more.
func gone(err error) bool {
	return errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT)
}

// drop deletes routes of ours.
func (p *Part) drop(extra map[entry]struct{}) (errs []error) {
	for e := range extra {
		if e.table == unix.RT_TABLE_MAIN && e.dst.IsSingleIP() {
			p.stale[e.dst.Addr()] = true
		}
		if err := p.k.del(e); err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("%s: removing: %w", e, err))
			continue
		}
		delete(p.have, e)
	}
	return errs
}

// dropForeign deletes routes of others on guarded interfaces once the grace is
// over. left is until then.
func (p *Part) dropForeign() (removed []string, left time.Duration, errs []error) {
	now := p.cfg.Clock.Now()
	for e := range p.foreign {
		g, ok := p.guards[e.index]
		if !ok {
			delete(p.foreign, e)
			continue
		}
		if rest := grace - now.Sub(g.since); rest > 0 {
			left = soonest(left, rest)
			continue
		}
		if err := p.k.del(e); err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("%s of another program, on %s: removing: %w", e, g.iface, err))
			continue
		}
		delete(p.foreign, e)
		removed = append(removed, fmt.Sprintf("foreign route to %s dev %s: removed", e.dst, g.iface))
	}
	return removed, left, errs
}

// cutStale deletes the flows of addresses that are led elsewhere or nowhere.
func (p *Part) cutStale() error {
	if len(p.stale) == 0 {
		return nil
	}
	n, err := p.k.cut(p.stale)
	if n > 0 {
		p.cfg.Log.Info("Flows of addresses whose route has changed are deleted", "flows", n, "addresses", len(p.stale))
	}
	if err != nil {
		return err
	}
	clear(p.stale)
	return nil
}

// add makes routes. One whose address may still have flows of before waits;
// so does one whose interface is down, or whose place is held by a foreign
// one that is about to go (yielding).
func (p *Part) add(missing map[entry]struct{}, yielding bool) (down bool, errs []error) {
	for _, e := range slices.SortedFunc(maps.Keys(missing), func(a, b entry) int { return strings.Compare(a.String(), b.String()) }) {
		if p.stale[e.dst.Addr()] {
			continue
		}
		err := p.k.add(e)
		switch {
		case err == nil:
			p.have[e], p.done[e] = struct{}{}, struct{}{}
		case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENETDOWN):
			down = true
		case errors.Is(err, unix.EACCES) && e.dst.Addr().Is6():
			errs = append(errs, fmt.Errorf("route to %s dev %s: IPv6 is turned off on the interface: %w", e.dst.Addr(), p.names[e], err))
		case errors.Is(err, unix.EINVAL) && e.source.IsValid():
			errs = append(errs, fmt.Errorf("route to %s dev %s: this host has no address %s for its source: %w", e.dst.Addr(), p.names[e], e.source, err))
		case errors.Is(err, unix.EEXIST) && yielding:
		case errors.Is(err, unix.EEXIST):
			errs = append(errs, fmt.Errorf("route to %s dev %s: another program has a route of the same metric, %d: %w", e.dst.Addr(), p.names[e], e.metric, err))
		default:
			errs = append(errs, fmt.Errorf("route to %s dev %s: %w", e.dst.Addr(), p.names[e], err))
		}
	}
	return down, errs
}

// Cleanup deletes all routes of ours, and cuts no flow: the host is as if we
// had never been there. It reports how many there were.
func (p *Part) Cleanup() (int, error) {
	n := 0
	var errs []error
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		var all []entry
		errs = append(errs, p.k.list(family, 0, kernel.Protocol, func(e entry) { all = append(all, e) }))
		for _, e := range all {
			if err := p.k.del(e); err != nil && !gone(err) {
				errs = append(errs, fmt.Errorf("%s: removing: %w", e, err))
				continue
			}
			n++
		}
	}
	if err := errors.Join(errs...); err != nil {
		return n, fmt.Errorf("route: %w", err)
	}
	return n, nil
}
