// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/calc"
	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/dataplane"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/conntrack"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/kernel"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/monitor"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
	"github.com/ripstop/ripstop/daemon/internal/status"
)

// lane is the host lane: intents come in through its inbox, its loop plans
// them and moves the packet filter. The gate opens when both a whole picture
// of the resources and a list of the interfaces have come: until then the
// rules of before stay.
type lane struct {
	board   *status.Board
	inbox   *reconcile.Inbox[intent.Key, intent.Change]
	loop    *reconcile.Loop
	planner *dataplane.Planner // the loop's goroutine only
	stage   *stage             // from the planner to the filter; the loop's goroutine only
	filter  *backend           // the loop's goroutine only
	network *network           // routes, neighbours and sysctls of workloads
	flows   *conntrack.Part    // the loop's goroutine only
	denying *denying
	monitor *monitor.Monitor
	links   *monitor.Links
	// All of the loop's goroutine only: how far what was noted goes, whether
	// some of it waits to be planned, how far what was planned goes.
	mark      api.Revision
	unplanned bool
	applied   api.Revision
	opened    bool              // the gate
	settled   chan struct{}     // closed after the filter's first good pass
	settling  sync.Once         // closes settled
	changed   bool              // something was planned since the last good pass; the loop's goroutine only
	failing   map[string]string // part → its error
	failed    string            // what the board was told of them

	// show is held from the look at what is known of endpoints until the
	// board has it, so that the board's last word is the newest.
	show sync.Mutex

	mu         sync.Mutex // guards all below
	pictured   bool
	linked     bool
	endpoints  []calc.Endpoint
	counted    bool // endpoints have been told
	interfaces map[string]*intent.Interface
	governed   map[string][]string
	enforced   map[string][]api.Enforced
}

func newLane(cfg config.Config, log *slog.Logger, board *status.Board) (*lane, error) {
	l := &lane{board: board, stage: &stage{}, denying: newDenying(), settled: make(chan struct{}), failing: map[string]string{}, interfaces: map[string]*intent.Interface{}}
	var err error
	if l.filter, err = openBackend(cfg.Dataplane, log, board.AddDrift); err != nil {
		return nil, err
	}
	if l.flows, err = conntrack.New(conntrack.Config{InForce: l.filter.InForce, Labels: l.filter.Labels, Log: log.With("part", "conntrack")}); err != nil {
		l.filter.Close()
		return nil, err
	}
	if l.network, err = newNetwork(cfg, log, board); err != nil {
		l.flows.Close()
		l.filter.Close()
		return nil, err
	}
	next := &succession{backend: l.filter}
	l.planner = l.filter.planner(l.stage)
	l.loop = reconcile.NewLoop(reconcile.Config{
		// The rules first, then the flows that they no longer allow, then what
		// leads to workloads.
		Name: "host", Parts: append([]reconcile.Part{filterPart{next}, l.flows, retirePart{next}}, l.network.parts()...), Before: l.plan, Log: log.With("lane", "host"),
		ResyncEvery: cfg.ResyncInterval, Report: l.report,
	})
	l.inbox = reconcile.NewInbox(func(c intent.Change) intent.Key { return c.Key }, l.loop.Wake)
	l.monitor = monitor.New(monitor.Config{Tables: l.filter.tables, Own: l.filter.own, Log: log.With("part", "monitor")})
	l.links = monitor.NewLinks(monitor.LinksConfig{Log: log.With("part", "links")})
	return l, nil
}

// picture takes calc's words; everything up to revision is in them.
func (l *lane) picture(changes []intent.Change, revision api.Revision) {
	l.inbox.Put(changes, int64(revision))
	l.come(&l.pictured)
}

// come notes that the first word of one of the two has been put into the
// inbox. It is called after the Put, so that whoever sees it finds the word.
func (l *lane) come(what *bool) {
	l.mu.Lock()
	first := !*what
	*what = true
	l.mu.Unlock()
	if first {
		l.loop.Wake()
	}
}

// noteLinks takes the interfaces of this host, all of them.
func (l *lane) noteLinks(all map[string]intent.Interface) {
	var changes []intent.Change
	l.mu.Lock()
	for name, i := range all {
		old := l.interfaces[name]
		if old == nil || !reflect.DeepEqual(*old, i) {
			changes = append(changes, intent.Change{Key: intent.Key{Kind: intent.KindInterface, Name: name}, Value: &i})
			l.interfaces[name] = &i
		}
	}
	for name := range l.interfaces {
		if _, ok := all[name]; !ok {
			changes = append(changes, intent.Change{Key: intent.Key{Kind: intent.KindInterface, Name: name}})
			delete(l.interfaces, name)
		}
	}
	l.mu.Unlock()
	l.inbox.Merge(changes)
	l.come(&l.linked)
	l.showEndpoints()
}

// notePause takes the operator's word that policy is out of force (nil: it is
// in force).
func (l *lane) notePause(p *api.Pause) {
	l.board.SetPaused(p)
	c := intent.Change{Key: intent.Key{Kind: intent.KindPause}}
	if p != nil {
		c.Value = &intent.Pause{}
	}
	l.inbox.Merge([]intent.Change{c})
}

// noteForeign takes a notice that somebody has changed the kernel's rules.
func (l *lane) noteForeign(e monitor.Event) {
	l.filter.Foreign(e.Generation, e.Touched, e.By)
	if e.Touched {
		l.loop.Wake()
	}
}

// noteNetwork takes a notice that somebody has changed routes, neighbours or
// sysctls, or that an interface has changed.
func (l *lane) noteNetwork(n kernel.Notice) { l.network.noticed(l.loop, n) }

// close ends the use of the kernel; what it holds stays.
func (l *lane) close() {
	l.flows.Close()
	l.filter.Close()
	l.network.close()
}

// plan is the loop's first step in every turn. It opens the gate itself, and
// only behind the first plan of a whole picture: whatever is wanted before
// that is a part of the whole, and the parts would take the rest away.
func (l *lane) plan(context.Context) error {
	l.mu.Lock()
	whole := l.pictured && l.linked // asked for before Take: both are in it then
	l.mu.Unlock()
	batch, mark, ok := l.inbox.Take()
	for _, c := range batch {
		l.planner.Note(c)
		l.network.planner.Note(c)
		if s, ok := c.Value.(*intent.Settings); ok {
			l.filter.settle(s)
		}
	}
	l.changed = l.changed || len(batch) > 0
	if ok {
		l.mark, l.unplanned = api.Revision(mark), true
	}
	if !whole || !l.unplanned {
		return nil // what is noted is planned when the rest has come
	}
	l.planner.Flush()
	l.stage.release(both{both{l.filter, l.flows}, l.denying})
	l.network.planner.Flush()
	l.applied, l.unplanned = l.mark, false
	governed := map[string][]string{}
	for name, ifaces := range l.planner.Governed() {
		governed[name] = ifaces
	}
	enforced := map[string][]api.Enforced{}
	for _, u := range l.planner.Units() {
		enforced[u.Endpoint] = append(enforced[u.Endpoint], api.Enforced{
			Chain: u.Chain, Program: u.Program, Why: u.Why,
			Rules: u.Rules, Classes: u.Classes, Peers: u.Peers, Lists: u.Lists, Entries: u.Entries, Bytes: u.Bytes(),
		})
	}
	l.mu.Lock()
	l.governed, l.enforced = governed, enforced
	l.mu.Unlock()
	l.showEndpoints()
	if !l.opened {
		l.opened = true
		l.loop.Open()
	}
	return nil
}

// report tells the board of a turn. A pass without error has read back from
// the kernel what it changed: what was planned is applied.
func (l *lane) report(r reconcile.Report) {
	l.board.LoopReport(r)
	for _, p := range r.Parts {
		delete(l.failing, p.Part)
		if p.Err != nil {
			l.failing[p.Part] = p.Err.Error()
		}
		if p.Part == l.filter.Name() {
			l.reportFilter(p.Err)
		}
	}
	var errs []string
	for _, part := range slices.Sorted(maps.Keys(l.failing)) {
		errs = append(errs, l.failing[part])
	}
	if text := strings.Join(errs, "; "); text != l.failed {
		l.failed = text
		l.board.UpdateDataplane(func(d *api.DataplaneStatus) { d.Error = text })
	}
	var faults []api.Fault
	for _, set := range l.filter.OverSize() {
		faults = append(faults, api.Fault{
			Object: "set " + set, Message: "has more members than maxIpsetSize allows",
			Effect: "members above the limit are left out; rules that deny by the set deny without it, rules that allow all but the set do not match",
		})
	}
	l.board.SetFaults("dataplane", faults)
	l.reportFlows()
}

// reportFilter tells the board of a pass of the filter.
func (l *lane) reportFilter(err error) {
	if err == nil {
		l.settling.Do(func() { close(l.settled) })
	}
	l.board.UpdateDataplane(func(d *api.DataplaneStatus) {
		l.filter.describe(d)
		if err != nil {
			return
		}
		now := api.Time{Time: time.Now().UTC()}
		d.LastVerified = now
		d.AppliedRevision = l.applied
		if l.changed {
			d.LastApplied, l.changed = now, false
		}
	})
}

func (l *lane) setEndpoints(list []calc.Endpoint) {
	l.mu.Lock()
	l.endpoints, l.counted = list, true
	l.mu.Unlock()
	l.showEndpoints()
}

// showEndpoints puts the endpoints on the board: what calc knows of them with
// the interfaces that they govern. Before calc has counted them there is
// nothing to show.
func (l *lane) showEndpoints() {
	l.show.Lock()
	defer l.show.Unlock()
	l.mu.Lock()
	if !l.counted {
		l.mu.Unlock()
		return
	}
	var out []api.EndpointState
	for _, e := range l.endpoints {
		s := api.EndpointState{Name: e.Name, Policies: e.Policies, Profiles: e.Profiles, Status: "up", Enforced: l.enforced[e.Name]}
		ifaces, governs := l.governed[e.Name]
		s.Interfaces = ifaces
		missing := slices.DeleteFunc(slices.Clone(ifaces), func(i string) bool { return l.interfaces[i] != nil })
		down := slices.DeleteFunc(slices.Clone(ifaces), func(i string) bool { return l.interfaces[i] != nil && l.interfaces[i].Up })
		switch {
		case !governs:
			s.Status, s.Message = "error", "governs no interface: none has an expected address, another endpoint claims it, or it is a workload's"
		case len(missing) > 0:
			s.Status, s.Message = "error", "there is no interface "+strings.Join(missing, ", ")+" yet; it is guarded already"
		case len(down) > 0:
			s.Status, s.Message = "down", "down: "+strings.Join(down, ", ")
		}
		out = append(out, s)
	}
	l.mu.Unlock()
	l.board.SetEndpoints(out)
}
