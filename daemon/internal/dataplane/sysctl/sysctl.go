// SPDX-License-Identifier: Apache-2.0

// Package sysctl is the Part that sets sysctls of workload interfaces and, as
// far as workloads need it, of the host. It writes a fixed list of them
// (settable) and no other; net.ipv4.conf.*.route_localnet is not on it.
//
// What a sysctl was before its first change is recorded on disk before the
// change is made, and put back when it is no longer wanted and its interface
// is still there, or by Cleanup:
//
//	found 0, wanted 1 ─► record {found 0, set 1} on disk ─► write 1
//	not wanted        ─► still 1? write 0 ─► drop the record
//	                     else it is somebody else's by now: leave it
//
// A sysctl that makes the host a router moves others with it (turn.go); they
// are recorded together. A value that somebody changes is put back.
//
// It runs after the filter and the routes: the host forwards nothing before
// the rules stand, and answers for no address before it knows where it is.
package sysctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/kernel"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
)

// settable are the sysctls that may be written, and whether the kernel tells
// of their changes (RTM_NEWNETCONF). The others are looked at every pollEvery.
var settable = map[string]bool{
	"net/ipv4/ip_forward":          true,
	"net/ipv6/conf/all/forwarding": true,
	"net/ipv4/conf/*/forwarding":   true,
	"net/ipv4/conf/*/proxy_arp":    true,
	"net/ipv4/conf/*/rp_filter":    true,
	"net/ipv4/neigh/*/proxy_delay": false,
	"net/ipv6/conf/*/forwarding":   true,
	"net/ipv6/conf/*/proxy_ndp":    true,
	"net/ipv6/conf/*/accept_ra":    false,
}

const pollEvery = time.Second

// Config is what a Part needs.
type Config struct {
	// Dir is where records are kept; it exists.
	Dir string
	// Root is where sysctls are; empty: /proc/sys, of the network namespace
	// of the thread that calls.
	Root string
	// Log is told of records that cannot be read.
	Log *slog.Logger
	// Clock is the machine's if nil.
	Clock host.Clock
	// OnDrift is called by Reconcile, on its goroutine, when others had
	// changed a sysctl that we had set: what was put back. Nil: nobody is
	// told.
	OnDrift func(what []string, by string)
	// wrote, if not nil, is called after every change of the host, records
	// included. For tests.
	wrote func()
}

// Part is the Part. Make one with New. All methods but Noticed are called by
// the lane's goroutine only.
type Part struct {
	cfg     Config
	boot    string
	wanted  map[key]kernel.Sysctl
	records map[key]record // nil: not loaded
	// right are sysctls that are believed to be as wanted; seen are those
	// that this process has found or made so: if one is not, somebody has
	// changed it.
	right, seen map[key]bool
	brake       reconcile.Brake

	mu      sync.Mutex // guards all below
	watched map[int]bool
}

// New gives a Part. Nothing is read before the first Reconcile.
func New(cfg Config) *Part {
	if cfg.Root == "" {
		cfg.Root = "/proc/sys"
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.OnDrift == nil {
		cfg.OnDrift = func([]string, string) {}
	}
	if cfg.wrote == nil {
		cfg.wrote = func() {}
	}
	return &Part{
		cfg: cfg, brake: reconcile.Brake{Clock: cfg.Clock},
		wanted: map[key]kernel.Sysctl{}, right: map[key]bool{}, seen: map[key]bool{}, watched: map[int]bool{},
	}
}

// Name is "sysctl".
func (p *Part) Name() string { return "sysctl" }

// Want notes a Sysctl that shall be.
func (p *Part) Want(id kernel.ID, o kernel.Object) {
	k := key{id.Name, id.Index}
	s := o.(kernel.Sysctl)
	if p.wanted[k] != s {
		delete(p.right, k)
		delete(p.seen, k)
	}
	p.wanted[k] = s
}

// Unwant notes that a Sysctl need not be any more.
func (p *Part) Unwant(id kernel.ID) {
	k := key{id.Name, id.Index}
	delete(p.wanted, k)
	delete(p.right, k)
	delete(p.seen, k)
}

// watch tells Noticed what concerns us from now on. What changed before is seen
// by the pass that calls it.
func (p *Part) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.watched)
	for k := range p.wanted {
		p.watched[k.Index] = true
	}
}

// Resync makes the next Reconcile look at every sysctl.
func (p *Part) Resync() { clear(p.right) }

// Noticed takes a notice of a change and reports whether the Part should be
// told to Resync. It may be called from any goroutine.
func (p *Part) Noticed(n kernel.Notice) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch n.Subject {
	case kernel.Lost:
		return true
	case kernel.SettingChanged:
		return p.watched[max(n.Index, 0)]
	case kernel.LinkChanged: // the kernel made its sysctls anew, or renamed them
		return p.watched[n.Index]
	}
	return false
}

// change is a sysctl that is not as wanted.
type change struct {
	key
	path, iface string
	found, set  string
	keep        bool
}

// Reconcile is one pass: look, record, write; then restore what is no longer
// wanted.
func (p *Part) Reconcile(context.Context) (again time.Duration, err error) {
	p.watch()
	if err := p.load(); err != nil {
		return 0, fmt.Errorf("sysctl: %w", err)
	}
	changes, errs := p.look()
	again = p.pause()
	if changes, err = stillNamed(changes); err != nil {
		return 0, fmt.Errorf("sysctl: %w", err)
	}
	changes, drifted, wait := p.sift(changes)
	if wait > 0 {
		again = wait
	}
	changes, err = p.prepare(changes)
	if err == nil {
		err = p.record(changes)
	}
	if err != nil {
		return 0, fmt.Errorf("sysctl: recording what is found before it is changed: %w", err)
	}
	for _, c := range changes {
		if err := p.write(c.path, c.set); err != nil && !absent(err) {
			errs = append(errs, fmt.Errorf("setting %s to %s: %w", c.path, c.set, err))
			drifted = slices.DeleteFunc(drifted, func(d change) bool { return d.key == c.key })
			continue
		}
		p.right[c.key], p.seen[c.key] = true, true
	}
	if len(drifted) > 0 {
		var what []string
		for _, d := range drifted {
			what = append(what, fmt.Sprintf("sysctl %s: was %s, is %s again", d.path, d.found, d.set))
		}
		p.cfg.OnDrift(what, "")
	}
	_, more := p.restore(func(r record) bool {
		_, wanted := p.wanted[r.key]
		return !wanted && !r.Keep
	})
	if errs = append(errs, more...); len(errs) > 0 {
		return 0, fmt.Errorf("sysctl: %w", errors.Join(errs...))
	}
	return again, nil
}

func (p *Part) load() error {
	if p.records != nil {
		return nil
	}
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	p.boot = strings.TrimSpace(string(b))
	records, err := loadRecords(p.cfg.Dir, p.boot)
	if records == nil {
		return err
	}
	if err != nil {
		p.cfg.Log.Error("What sysctls were before is not known", "err", err)
	}
	p.records = records
	return nil
}

// look finds what is not as wanted, those of the whole host first. Sysctls of
// which the kernel would have told are believed.
func (p *Part) look() (changes []change, errs []error) {
	for _, k := range slices.SortedFunc(maps.Keys(p.wanted), compareLeaders) {
		told, ok := settable[k.Name]
		if !ok {
			errs = append(errs, fmt.Errorf("%s: not one that Ripstop sets", k.Name))
			continue
		}
		if told && p.right[k] {
			continue
		}
		want := p.wanted[k]
		value := want.Value
		if value == "" {
			v, err := p.read(want.SameAs)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			value = v
		}
		path := kernel.Path(k.Name, want.Iface)
		found, err := p.read(path)
		switch {
		case absent(err): // no IPv6 here, or the interface has just gone
		case err != nil:
			errs = append(errs, err)
		case found == value:
			p.right[k], p.seen[k] = true, true
		default:
			changes = append(changes, change{k, path, want.Iface, found, value, want.Keep})
		}
	}
	return changes, errs
}

// stillNamed leaves out what is about an interface that has another name by
// now, since another interface may have taken the name.
func stillNamed(changes []change) ([]change, error) {
	if len(changes) == 0 {
		return nil, nil
	}
	names, err := interfaceNames()
	return slices.DeleteFunc(changes, func(c change) bool { return c.Index != 0 && names[c.Index] != c.iface }), err
}

// sift tells what others have changed from what is new, and holds it back
// (wait) if they do so all the time.
func (p *Part) sift(changes []change) (do, drifted []change, wait time.Duration) {
	for _, c := range changes {
		if p.seen[c.key] {
			drifted = append(drifted, c)
			continue
		}
		do = append(do, c)
	}
	if len(drifted) == 0 {
		return do, nil, 0
	}
	if wait = p.brake.Repair(); wait > 0 {
		return do, nil, wait
	}
	do = append(do, drifted...)
	slices.SortFunc(do, func(a, b change) int { return compareLeaders(a.key, b.key) })
	return do, drifted, 0
}

// pause is when sysctls must be looked at again of which the kernel does not
// tell.
func (p *Part) pause() time.Duration {
	for k := range p.wanted {
		if !settable[k.Name] {
			return pollEvery
		}
	}
	return 0
}

// record notes what is about to be changed, on disk. What was noted before
// stays: it is older.
func (p *Part) record(changes []change) error {
	if len(changes) == 0 {
		return nil
	}
	next := maps.Clone(p.records)
	note := func(r record) {
		if old, ok := next[r.key]; ok {
			r.Found = old.Found
			r.Keep = r.Keep || old.Keep
			r.With = cmp.Or(r.With, old.With)
		}
		next[r.key] = r
	}
	for _, c := range changes {
		moved, err := p.moves(c)
		if err != nil {
			return err
		}
		for _, r := range moved {
			note(r)
		}
		note(record{key: c.key, Interface: c.iface, Found: c.found, Set: c.set, Keep: c.keep})
	}
	if maps.Equal(next, p.records) {
		return nil
	}
	if err := saveRecords(p.cfg.Dir, p.boot, next); err != nil {
		return err
	}
	p.records = next
	p.cfg.wrote()
	return nil
}

// restore puts back what was found, of the records that are due, and drops
// them. A sysctl that is no longer what it was set to is left to whoever
// changed it, and one whose interface is gone is gone with it. It reports what
// it has put back.
func (p *Part) restore(due func(record) bool) (back []string, errs []error) {
	if !slices.ContainsFunc(slices.Collect(maps.Values(p.records)), due) {
		return nil, nil
	}
	next := maps.Clone(p.records)
	names, err := interfaceNames()
	if err != nil {
		return nil, []error{err}
	}
	turned := map[string]bool{} // sysctls that are as they were found
	for _, k := range slices.SortedFunc(maps.Keys(p.records), compareLeaders) {
		r := p.records[k]
		if !due(r) {
			continue
		}
		done, err := p.restoreOne(r, names, turned)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		back = append(back, done...)
		delete(next, k)
	}
	if len(next) < len(p.records) {
		if err := saveRecords(p.cfg.Dir, p.boot, next); err != nil {
			return back, append(errs, fmt.Errorf("records: %w", err))
		}
		p.records = next
		p.cfg.wrote()
	}
	return back, errs
}

// restoreOne puts one sysctl back, by the name that its interface has now. An
// interface that is renamed meanwhile is looked for again; names is then new.
// turned is told if the sysctl is as it was found, and asked whether the one
// that moves it is.
func (p *Part) restoreOne(r record, names map[int]string, turned map[string]bool) (back []string, err error) {
	for {
		name, ok := names[r.Index]
		if !ok && r.Index != 0 {
			return nil, nil
		}
		path := kernel.Path(r.Name, name)
		now, err := p.read(path)
		if err == nil && now != r.Found && (now == r.Set || turned[r.With]) {
			if err = p.write(path, r.Found); err == nil {
				back, now = append(back, fmt.Sprintf("%s = %s", path, r.Found)), r.Found
			}
		}
		switch {
		case err == nil:
			if now == r.Found {
				turned[r.Name] = true // just now, or by a cleanup that was cut short
			}
			return back, nil
		case !absent(err):
			return nil, fmt.Errorf("restoring %s: %w", path, err)
		}
		again, err := interfaceNames()
		if err != nil {
			return nil, err
		}
		maps.DeleteFunc(names, func(i int, _ string) bool { return again[i] == "" })
		maps.Copy(names, again)
		if names[r.Index] == name {
			return nil, nil // it is not the name: the kernel has no such sysctl
		}
	}
}

// interfaceNames are the interfaces of the network namespace of this thread.
func interfaceNames() (map[int]string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing interfaces: %w", err)
	}
	out := make(map[int]string, len(all))
	for _, i := range all {
		out[i.Index] = i.Name
	}
	return out, nil
}

func (p *Part) read(path string) (string, error) {
	b, err := os.ReadFile(filepath.Join(p.cfg.Root, path))
	return strings.TrimSpace(string(b)), err
}

func (p *Part) write(path, value string) error {
	// Not created if it is missing: it is the kernel that makes them.
	f, err := os.OpenFile(filepath.Join(p.cfg.Root, path), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if err = errors.Join(err, f.Close()); err == nil {
		p.cfg.wrote()
	}
	return err
}

func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// Cleanup puts back everything that is recorded and reports what. Of no
// records: nothing.
func (p *Part) Cleanup() ([]string, error) {
	if err := p.load(); err != nil {
		return nil, fmt.Errorf("sysctl: %w", err)
	}
	back, errs := p.restore(func(record) bool { return true })
	if err := errors.Join(errs...); err != nil {
		return back, fmt.Errorf("sysctl: %w", err)
	}
	return back, nil
}
