// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
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
const slice = 4 * time.Millisecond

const (
	// pauseShare and pauseMost bound what passes cost while changes keep coming:
	// behind a pass stands a pause of so many times as long, up to the most. A
	// change that comes alone is not kept waiting.
	pauseShare = 10
	pauseMost  = 100 * time.Millisecond
	// mostSteps is how many changes one pass tells apart. If still more came
	// into force since the last pass, a flow that only one of the last of them
	// let in may go on.
	mostSteps = 64
	// waitForFilter is how soon to look again whether the filter has put in
	// force what was wanted.
	waitForFilter = 100 * time.Millisecond
	// usageEvery is how often to look how full the table is.
	usageEvery = 5 * time.Second
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
	// pass. steps are the changes since that came into force one after the
	// other, noted is what was wanted since then; a nil Object: is not wanted.
	now   *ruleset.State
	steps []map[ruleset.ID]ruleset.Object
	noted map[ruleset.ID]ruleset.Object
	begun bool // now is the first plan or a later one; before, nothing is noted
	told  bool // something was wanted
	seen  bool // the flows that an agent before this one has labelled were looked at
	pass  *pass
	rest  time.Time // no pass begins before

	cannotShut bool // the kernel was built without SOCK_DESTROY
	summary    Summary
	refused    uint64    // packets, at the last look
	looked     time.Time // at the table's usage
}

// family is the address family of all flows that the pass is about; AF_UNSPEC:
// of both.
func (w *pass) family() byte {
	if len(w.past) == 0 {
		return unix.AF_UNSPEC // labelled flows
	}
	family := w.past[0].change.family()
	for i := range w.past {
		if w.past[i].change.family() != family {
			return unix.AF_UNSPEC
		}
	}
	return family
}

// pass is one comparison of the table with what changed.
type pass struct {
	first   bool   // there is no change: only labelled flows are looked at
	past    []past // newest first
	began   time.Time
	table   *listing // nil: to be begun
	judged  int
	cut     int
	freed   int // that are allowed again
	failed  int
	ended   map[tuple]struct{} // those that were cut
	related []related
}

// past is a ruleset that was in force since the last pass, or at its end: a
// flow may have been let in by any of them.
type past struct {
	change change // from it to the ruleset now
	fates  *ruleset.Comparison
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

// Reconcile works on the table for some four milliseconds at the most. If there
// is more to do, or something to wait for, it asks to be called again.
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
	if !p.begun { // the first plan is the baseline, in force or not
		p.begun = p.told
		return min(again, waitForFilter), nil
	}
	if len(p.noted) > 0 && p.cfg.InForce() {
		p.step()
	}
	if p.pass == nil {
		switch pause := time.Until(p.rest); {
		case len(p.steps) == 0 && len(p.noted) == 0 && p.seen:
			return again, nil
		case len(p.steps) == 0 && (len(p.noted) > 0 || !p.cfg.InForce()):
			return min(again, waitForFilter), nil
		case pause > 0:
			return min(again, pause), nil
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
	case !done:
		return time.Millisecond, nil
	case len(p.steps)+len(p.noted) > 0:
		return max(time.Millisecond, time.Until(p.rest)), nil
	}
	return again, nil
}

// step notes that what was wanted has come into force.
func (p *Part) step() {
	if len(p.steps) < mostSteps {
		p.steps = append(p.steps, p.noted)
		p.noted = map[ruleset.ID]ruleset.Object{}
		return
	}
	maps.Copy(p.steps[mostSteps-1], p.noted)
	clear(p.noted)
}

// begin takes the steps for the next pass; false: no pass is needed.
func (p *Part) begin() bool {
	var changes []change
	for _, noted := range p.steps {
		if c := changeOf(p.now, noted); len(c.objects) > 0 {
			c.apply(p.now)
			changes = append(changes, c)
		}
	}
	p.steps = nil
	if len(changes) == 0 {
		return false
	}
	p.pass = &pass{began: time.Now()}
	var c change // to now, from the ruleset before each of the changes
	for _, before := range slices.Backward(changes) {
		c = before.and(c)
		then := p.now.With(c.old)
		c.difference = ruleset.NewDifference(then, p.now, c.chains)
		p.pass.past = append(p.pass.past, past{c, ruleset.NewComparison(then, p.now)})
	}
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
		if w.table, err = list(w.family()); err != nil {
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
		if errors.Is(err, errNotYet) {
			return false, nil
		}
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
	if e.labelled {
		switch ok, err := p.routes.place(&f); {
		case err != nil || !ok:
			return err
		case !p.cfg.Labels(): // no rule drops it any more
			found.remove = append(found.remove, e.doom())
		case allowed(p.now, &f):
			found.free = append(found.free, e.doom())
		default:
			w.ended[e.orig] = struct{}{}
		}
		return nil
	}
	placed, cut := false, false
	for i := 0; i < len(w.past) && !cut; i++ {
		if !w.past[i].change.concerns(&f) {
			continue
		}
		if !placed {
			if ok, err := p.routes.place(&f); err != nil || !ok {
				return err
			}
			placed = true
			w.judged++
		}
		cut = w.past[i].fates.Cuts(&f)
	}
	if !cut {
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
	p.rest = s.LastTime.Add(min(pauseShare*s.LastTook, pauseMost))
	level := slog.LevelDebug
	if w.cut+w.failed > 0 {
		level = slog.LevelInfo
	}
	p.log.Log(context.Background(), level, "Flows that are no longer allowed were cut",
		"flows", w.cut, "judged", w.judged, "failed", w.failed, "took", s.LastTook)
}
