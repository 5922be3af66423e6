// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// Config says how a Part works.
type Config struct {
	// InForce tells whether the kernel has all that was wanted of the packet
	// filter so far, except for what it refuses. Until then no flow is
	// judged.
	InForce func() bool
	// Labels tells whether rules with Cut are in force as they are meant; nil:
	// they are not. Else flows that could be taken up again are deleted too.
	Labels func() bool
	// Log is told of flows that were cut and of a table that fills up;
	// default: nothing is said.
	Log *slog.Logger
}

// slice is how long one Reconcile works on the table.
const slice = 10 * time.Millisecond

const (
	// waitForFilter is how soon to look again whether the filter has put in
	// force what was wanted.
	waitForFilter = 100 * time.Millisecond
	// usageEvery is how often to look how full the table is.
	usageEvery = 5 * time.Second
	// A pass that follows another waits for restShare times as long as that
	// one took, but so that from the end of the one to the end of the other
	// there is no more than about turnaround. So a stream of changes does not
	// have the table listed again and again, and each is obeyed within a
	// second; a change that comes alone does not wait.
	restShare  = 10
	turnaround = 500 * time.Millisecond
)

// Summary is what a Part has done and seen.
type Summary struct {
	// Cut counts the flows that were cut since the start, in passes that have
	// ended; Failed those that the kernel did not let be cut.
	Cut, Failed uint64
	// LastCut is how many the last change cut, of LastJudged entries that
	// were judged for it; LastTime is when its pass ended, zero if there was
	// none yet, and LastTook how long it took.
	LastCut, LastJudged int
	LastTime            time.Time
	LastTook            time.Duration
	// Entries is how many connections the kernel tracks, Most how many it
	// can. Full: there was no room for some in the last seconds.
	Entries, Most int
	Full          bool
}

// NearlyFull: four fifths of the table are used.
func (s Summary) NearlyFull() bool { return s.Most > 0 && s.Entries >= s.Most/5*4 }

// Part cuts flows. All methods are called by one goroutine.
type Part struct {
	cfg    Config
	log    *slog.Logger
	c      *conn // for deletions and questions about the table
	sock   *conn // for sockets
	routes *routes

	// now is the ruleset that flows were last compared with, or are in a
	// pass. noted is what was wanted since; a nil Object: is not wanted.
	now   *ruleset.State
	noted map[ruleset.ID]ruleset.Object
	begun bool // now is the first plan or a later one; before, nothing is noted
	told  bool // something was wanted
	seen  bool // the flows that an agent before this one has labelled were looked at
	pass  *pass
	// rested is when the next pass may begin.
	rested time.Time

	cannotShut bool // the kernel was built without SOCK_DESTROY
	summary    Summary
	refused    uint64    // packets, at the last look
	looked     time.Time // at the table's usage
}

// pass is one comparison of the table with a change.
type pass struct {
	first   bool // there is no change: only labelled flows are looked at
	change  change
	fates   *ruleset.Comparison // with the ruleset before
	began   time.Time
	table   *listing // nil: to be begun
	judged  int
	cut     int
	freed   int // that are allowed again
	failed  int
	ended   map[tuple]struct{} // those that were cut
	related []related
}

// related is an entry that came of another.
type related struct {
	doomed
	master tuple
}

// New opens the sockets of a Part, in the network namespace of the calling
// thread; Reconcile must run in the same. It changes nothing.
func New(cfg Config) (*Part, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Labels == nil {
		cfg.Labels = func() bool { return false }
	}
	p := &Part{
		cfg: cfg, log: cfg.Log, now: ruleset.NewState(),
		noted: map[ruleset.ID]ruleset.Object{},
	}
	var err error
	if p.c, err = dial(unix.NETLINK_NETFILTER); err == nil {
		p.routes, err = newRoutes()
	}
	if err == nil {
		if p.sock, err = dial(unix.NETLINK_INET_DIAG); err != nil {
			p.noSockets(err)
			err = nil
		}
	}
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("conntrack: %w", err)
	}
	return p, nil
}

// Close closes the sockets. It changes nothing.
func (p *Part) Close() {
	p.giveUp()
	for _, c := range []*conn{p.c, p.sock} {
		if c != nil {
			c.close()
		}
	}
	if p.routes != nil {
		p.routes.close()
	}
}

// Name is "conntrack".
func (p *Part) Name() string { return "conntrack" }

// Want says that an object of the ruleset shall be.
func (p *Part) Want(id ruleset.ID, o ruleset.Object) {
	if p.begun {
		p.noted[id] = o
		return
	}
	p.told = true
	p.now.Want(id, o)
}

// Unwant says that an object of the ruleset shall not be.
func (p *Part) Unwant(id ruleset.ID) {
	if p.begun {
		p.noted[id] = nil
		return
	}
	p.told = true
	p.now.Unwant(id)
}

// Summary is what was done and seen so far.
func (p *Part) Summary() Summary { return p.summary }

// Resync begins a pass that is under way anew. There is nothing else that the
// Part believes of the table.
func (p *Part) Resync() { p.giveUp() }

// giveUp ends a pass half-way; the next Reconcile begins it anew.
func (p *Part) giveUp() {
	if p.pass != nil && p.pass.table != nil {
		p.pass.table.close()
		p.pass.table = nil
	}
}

// Reconcile works on the table for at most some ten milliseconds. If there is
// more to do, or something to wait for, it asks to be called again.
func (p *Part) Reconcile(ctx context.Context) (again time.Duration, err error) {
	var blind error // how full the table is does not matter to what is to be cut
	if time.Since(p.looked) >= usageEvery {
		blind = p.look()
	}
	if again, err = p.flows(ctx); err != nil {
		p.giveUp()
	}
	if err = errors.Join(err, blind); err != nil {
		err = fmt.Errorf("conntrack: %w", err)
	}
	return again, err
}

// flows is Reconcile without a look at how full the table is.
func (p *Part) flows(ctx context.Context) (again time.Duration, err error) {
	again = usageEvery - time.Since(p.looked)
	if p.pass == nil {
		switch {
		case !p.begun: // the first plan is the baseline, in force or not
			p.begun = p.told
			return min(again, waitForFilter), nil
		case len(p.noted) == 0 && p.seen:
			return again, nil
		case !p.cfg.InForce():
			return min(again, waitForFilter), nil
		case time.Now().Before(p.rested):
			return min(again, time.Until(p.rested)), nil
		case !p.seen:
			p.seen, p.pass = true, &pass{first: true, began: time.Now()}
		case !p.begin():
			return again, nil
		}
	}
	done, err := p.work(ctx)
	switch {
	case err != nil:
		return 0, err
	case !done || len(p.noted) > 0:
		return time.Millisecond, nil
	}
	return again, nil
}

// begin takes what was noted for the next pass; false: no pass is needed.
func (p *Part) begin() bool {
	c := changeOf(p.now, p.noted)
	if clear(p.noted); len(c.objects) > 1024 {
		p.noted = map[ruleset.ID]ruleset.Object{} // give the memory of a burst back
	}
	c.apply(p.now)
	if len(c.objects) == 0 {
		return false
	}
	then := p.now.With(c.old)
	c.difference = ruleset.NewDifference(then, p.now, c.chains)
	p.pass = &pass{change: c, fates: ruleset.NewComparison(then, p.now), began: time.Now()}
	return true
}

// work does a slice of the pass; done: it has ended.
func (p *Part) work(ctx context.Context) (done bool, err error) {
	deadline := time.Now().Add(slice)
	w := p.pass
	if w.table == nil {
		if err := p.routes.forget(); err != nil {
			return false, err
		}
		if w.table, err = list(w.change.family()); err != nil {
			return false, err
		}
		w.judged, w.related, w.ended = 0, nil, map[tuple]struct{}{}
	}
	for !done {
		if ctx.Err() != nil || time.Now().After(deadline) {
			return false, nil
		}
		var found findings
		done, err = w.table.next(func(e *entry) error { return p.judge(e, &found) })
		if err = errors.Join(err, p.act(&found)); err != nil { // what was found is done in any case
			return false, err
		}
	}
	var orphans findings
	for _, r := range w.related {
		if _, ok := w.ended[r.master]; ok {
			orphans.remove = append(orphans.remove, r.doomed)
		}
	}
	if err := p.act(&orphans); err != nil {
		return false, err
	}
	p.finish()
	return true, nil
}

// findings are what is to be done about entries.
type findings struct {
	remove  []doomed
	label   []doomed
	free    []doomed // of their label
	sockets []end    // to be closed
}

// judge adds to what was found what is to be done about an entry.
func (p *Part) judge(e *entry, found *findings) error {
	w := p.pass
	if e.zoned {
		return nil
	}
	if e.hasMaster {
		w.related = append(w.related, related{e.doom(), e.master})
		return nil
	}
	if !e.labelled && w.first {
		return nil
	}
	f := e.flow()
	if !e.labelled && !w.change.concerns(&f) {
		return nil
	}
	ok, err := p.routes.place(&f)
	switch {
	case err != nil || !ok:
		return err
	case e.labelled && !p.cfg.Labels(): // no rule drops it any more
		found.remove = append(found.remove, e.doom())
		return nil
	case e.labelled:
		if allowed(p.now, &f) {
			found.free = append(found.free, e.doom())
		} else {
			w.ended[e.orig] = struct{}{}
		}
		return nil
	}
	w.judged++
	if !w.fates.Cuts(&f) {
		return nil
	}
	if a := f.Answer(); allowed(p.now, &a) {
		sockets := ends(&f, e)
		if p.resumes(&f, e) && (len(sockets) == 0 || p.cannotShut) && p.cfg.Labels() {
			found.label = append(found.label, e.doom())
			return nil
		}
		found.sockets = append(found.sockets, sockets...)
	}
	found.remove = append(found.remove, e.doom())
	return nil
}

// resumes tells whether a flow that is forgotten may go on by what its other
// end sends, which may begin flows: it has sent something. (It does not send
// echo requests for answers.) Forgetting is for all others, for it makes room
// in the table: of a flood that policy denies nothing stays. Where others may
// come of a connection, forgetting it ends that as well.
func (p *Part) resumes(f *ruleset.Flow, e *entry) bool {
	return e.status&statusReplied != 0 && f.Protocol != protoICMP && f.Protocol != protoICMPv6 && !e.helped && !p.summary.NearlyFull()
}

// act does what is to be done.
func (p *Part) act(found *findings) error {
	w := p.pass
	for _, list := range [][]doomed{found.remove, found.label} {
		for _, d := range list {
			w.ended[d.flow] = struct{}{}
		}
	}
	labelled, left, err := p.c.label(found.label, true)
	w.cut += labelled
	removed, kept, e := p.c.remove(append(found.remove, left...))
	w.cut += removed
	w.failed += kept
	freed, _, e2 := p.c.label(found.free, false)
	w.freed += freed
	err = errors.Join(err, e, e2)
	for _, s := range found.sockets {
		if p.cannotShut {
			break
		}
		switch e := p.sock.shut(s); {
		case errors.Is(e, unix.EOPNOTSUPP):
			p.noSockets(e)
		default:
			err = errors.Join(err, e)
		}
	}
	return err
}

// noSockets notes that the kernel cannot close sockets for us.
func (p *Part) noSockets(err error) {
	p.cannotShut = true
	p.log.Warn("Sockets cannot be closed: a connection that was cut may be taken up again by its other end", "err", err)
}

// finish ends a pass.
func (p *Part) finish() {
	w := p.pass
	w.table.close()
	p.pass = nil
	took := time.Since(w.began)
	p.rested = time.Now().Add(max(0, min(restShare*took, turnaround-took)))
	s := &p.summary
	if w.freed > 0 {
		p.log.Info("Flows that were cut are allowed again", "flows", w.freed)
	}
	if w.first {
		return
	}
	s.Cut += uint64(w.cut)
	s.Failed += uint64(w.failed)
	s.LastCut, s.LastJudged, s.LastTime, s.LastTook = w.cut, w.judged, time.Now(), took
	level := slog.LevelDebug
	if w.cut+w.failed > 0 {
		level = slog.LevelInfo
	}
	p.log.Log(context.Background(), level, "Flows that are no longer allowed were cut",
		"flows", w.cut, "judged", w.judged, "failed", w.failed, "took", s.LastTook)
}
