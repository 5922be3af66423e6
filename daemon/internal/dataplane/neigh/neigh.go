// SPDX-License-Identifier: Apache-2.0

// Package neigh is the Part that owns permanent neighbour entries of
// workloads, so that a workload cannot be spoken for by another one and needs
// no answer of its own. They bear Ripstop's protocol number
// (kernel.Protocol, NDA_PROTOCOL since Linux 5.0), by which they are known
// after a restart; no other entry is touched, bar one in the same place.
//
// It runs after the route part: what it does matters to nobody before a route
// leads there.
package neigh

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/kernel"
	"github.com/ripstop/ripstop/daemon/internal/delta"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
)

// downRetry is when an entry is tried again whose interface was down or gone.
// A notice usually comes first.
const downRetry = 500 * time.Millisecond

// Config is what a Part needs.
type Config struct {
	// Clock is the machine's if nil.
	Clock host.Clock
	// OnDrift is called by Reconcile, on its goroutine, when others had
	// changed our entries: what was repaired, and who did it as far as
	// known. Nil: nobody is told.
	OnDrift func(what []string, by string)
}

// kernelDoor is what Part needs of the kernel. *door is the real one.
type kernelDoor interface {
	list(each func(p place, mac [6]byte, protocol uint8)) error
	put(p place, mac [6]byte, protocol uint8) error
	del(place) error
}

// Part is the Part. Make one with New. All methods but Noticed and Port are
// called by the lane's goroutine only.
type Part struct {
	cfg  Config
	k    kernelDoor
	port uint32
	shut func()

	wanted map[place][6]byte
	names  map[place]string  // of interfaces, for people
	done   map[place]bool    // seen to be as wanted
	have   map[place][6]byte // nil: not known
	// mended are entries that were missing or altered and are right again;
	// whose doing it was is told by the notices, which may come later.
	mended map[place]bool
	brake  reconcile.Brake

	mu      sync.Mutex   // guards all below
	watched map[int]bool // interfaces of wanted entries
	flapped map[int]bool // were down meanwhile, which empties their table
	meddled map[int]bool // a program has changed their table
	by      string
}

// New opens the Part in the network namespace of the calling thread.
func New(cfg Config) (*Part, error) {
	d, err := open()
	if err != nil {
		return nil, fmt.Errorf("neigh: %w", err)
	}
	p := with(cfg, d)
	p.shut = d.Close
	if p.port, err = d.Port(); err != nil {
		d.Close()
		return nil, fmt.Errorf("neigh: netlink socket: %w", err)
	}
	return p, nil
}

// with gives a Part with that door.
func with(cfg Config, k kernelDoor) *Part {
	if cfg.OnDrift == nil {
		cfg.OnDrift = func([]string, string) {}
	}
	return &Part{
		cfg: cfg, k: k, shut: func() {}, brake: reconcile.Brake{Clock: cfg.Clock},
		wanted: map[place][6]byte{}, names: map[place]string{}, done: map[place]bool{}, mended: map[place]bool{},
		watched: map[int]bool{}, flapped: map[int]bool{}, meddled: map[int]bool{},
	}
}

// Close ends the use of the kernel. Entries stay.
func (p *Part) Close() { p.shut() }

// Name is "neigh".
func (p *Part) Name() string { return "neigh" }

// Port is the netlink port of our own changes. It may be called from any
// goroutine.
func (p *Part) Port() uint32 { return p.port }

// Want notes a Neighbour that shall be.
func (p *Part) Want(id kernel.ID, o kernel.Object) {
	n, at := o.(kernel.Neighbour), place{id.Index, id.Addr}
	if p.wanted[at] != n.MAC {
		delete(p.done, at) // the old address there is nobody's meddling
	}
	p.wanted[at], p.names[at] = n.MAC, n.Iface
}

// Unwant notes that a Neighbour shall not be.
func (p *Part) Unwant(id kernel.ID) {
	at := place{id.Index, id.Addr}
	delete(p.wanted, at)
	delete(p.names, at)
	delete(p.done, at)
}

// watch tells Noticed what concerns us from now on. What changed before is seen
// by the pass that calls it.
func (p *Part) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.watched)
	for at := range p.wanted {
		p.watched[at.index] = true
	}
}

// Resync makes the next Reconcile read the kernel.
func (p *Part) Resync() { p.have = nil }

// Noticed takes a notice of a change that others made and reports whether the
// Part should be told to Resync. It may be called from any goroutine.
func (p *Part) Noticed(n kernel.Notice) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	ours := false
	switch n.Subject {
	case kernel.Lost:
		ours = true
	case kernel.NeighbourChanged:
		ours = n.Protocol == kernel.Protocol || p.watched[n.Index]
	case kernel.LinkChanged:
		ours = p.watched[n.Index]
	}
	switch {
	case !ours || n.Subject == kernel.Lost:
	case n.Down || n.Itself:
		p.flapped[n.Index] = true
	case n.Subject == kernel.NeighbourChanged:
		p.meddled[n.Index] = true
	}
	if ours && n.By != "" {
		p.by = n.By
	}
	return ours
}

// Reconcile is one pass.
func (p *Part) Reconcile(context.Context) (again time.Duration, err error) {
	p.watch()
	flapped, meddled, by := p.takeNotices()
	if p.have == nil {
		if err := p.list(); err != nil {
			return 0, fmt.Errorf("neigh: %w", err)
		}
	}
	d := delta.Of(p.wanted, p.have)
	var taken []place // changed by somebody, or by the kernel
	fought := false
	for at := range d.Put {
		if p.done[at] {
			taken = append(taken, at)
			fought = fought || !flapped[at.index]
		}
	}
	for at := range p.have {
		if _, differs := d.Put[at]; !differs {
			p.done[at] = true
		}
	}
	if fought {
		again = p.brake.Repair()
	}
	if again > 0 {
		for _, at := range taken {
			delete(d.Put, at)
		}
	}
	var errs []error
	for at := range d.Drop {
		if err := p.k.del(at); err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("%s on interface %d: removing: %w", at.addr, at.index, err))
			continue
		}
		delete(p.have, at)
		delete(p.done, at)
	}
	down := false
	for at, mac := range d.Put {
		err := p.k.put(at, mac, kernel.Protocol)
		switch {
		case err == nil:
			p.have[at], p.done[at] = mac, true
		case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENETDOWN):
			down = true
		default:
			errs = append(errs, fmt.Errorf("%s dev %s: %w", at.addr, p.names[at], err))
		}
	}
	for _, at := range taken {
		if p.have[at] == p.wanted[at] {
			p.mended[at] = true
		}
	}
	p.blame(flapped, meddled, by)
	if len(errs) > 0 {
		p.Resync()
		return 0, fmt.Errorf("neigh: %w", errors.Join(errs...))
	}
	if down {
		p.Resync()
		return downRetry, nil
	}
	return again, nil
}

// blame tells of mended entries that a program had changed. Of one that went
// with its interface there is nothing to tell.
func (p *Part) blame(flapped, meddled map[int]bool, by string) {
	var drift []string
	for at := range p.mended {
		mac, wanted := p.wanted[at]
		switch {
		case wanted && meddled[at.index]:
			drift = append(drift, fmt.Sprintf("neighbour %s lladdr %s dev %s: removed or altered", at.addr, net.HardwareAddr(mac[:]), p.names[at]))
			delete(p.mended, at)
		case !wanted || flapped[at.index]:
			delete(p.mended, at)
		}
	}
	if len(drift) > 0 {
		slices.Sort(drift)
		p.cfg.OnDrift(drift, by)
	}
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

// list reads what is in our places, and what else bears our number.
func (p *Part) list() error {
	have := map[place][6]byte{}
	err := p.k.list(func(at place, mac [6]byte, protocol uint8) {
		if _, wanted := p.wanted[at]; wanted || protocol == kernel.Protocol {
			have[at] = mac
		}
	})
	if err != nil {
		return err
	}
	p.have = have
	return nil
}

// gone are the errors that say that an entry is not there any more.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENXIO)
}

// Cleanup deletes all entries of ours and reports how many there were.
func (p *Part) Cleanup() (int, error) {
	p.Resync()
	p.wanted = map[place][6]byte{}
	if err := p.list(); err != nil {
		return 0, fmt.Errorf("neigh: %w", err)
	}
	n := 0
	var errs []error
	for _, at := range slices.SortedFunc(maps.Keys(p.have), func(a, b place) int { return a.addr.Compare(b.addr) }) {
		if err := p.k.del(at); err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("%s on interface %d: removing: %w", at.addr, at.index, err))
			continue
		}
		n++
	}
	if err := errors.Join(errs...); err != nil {
		return n, fmt.Errorf("neigh: %w", err)
	}
	return n, nil
}
