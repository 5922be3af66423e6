// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// census knows the labels of everything that a selector can match, and nothing
// else of it: to ask the store anew for each policy that is written cost
// 14 ms. It follows the store while the server serves. Its methods may be
// called from many goroutines.
type census struct {
	store store.Store

	mu sync.Mutex // guards what follows
	// seen is the revision up to which a kind is known; none: it is not.
	seen map[api.Kind]api.Revision
	// written is the newest revision that this server has written.
	written map[api.Kind]api.Revision
	// moved is closed and replaced when seen has changed.
	moved chan struct{}

	profiles map[string]map[string]string // name to the labels it gives
	members  map[api.Key]*member
	// endpoints and sets are the members, of all namespaces and by namespace.
	endpoints, sets counted
}

// member is an endpoint or a network set.
type member struct {
	labelled
	own      map[string]string // without what profiles give
	profiles []string
	among    *counted
}

// censusKinds are the kinds that are counted. Profiles give labels.
var censusKinds = []api.Kind{
	api.KindProfile, api.KindHostEndpoint, api.KindWorkloadEndpoint, api.KindGlobalNetworkSet, api.KindNetworkSet,
}

func newCensus(st store.Store) *census {
	return &census{
		store: st, seen: map[api.Kind]api.Revision{}, written: map[api.Kind]api.Revision{}, moved: make(chan struct{}),
		profiles: map[string]map[string]string{}, members: map[api.Key]*member{},
	}
}

// run follows the store until ctx ends. What cannot be followed is not known;
// it is tried again, and whoever writes to the store hears why it fails.
func (c *census) run(ctx context.Context) {
	var wg sync.WaitGroup
	for _, kind := range censusKinds {
		wg.Go(func() {
			for delay := 100 * time.Millisecond; ctx.Err() == nil; delay = min(2*delay, 5*time.Second) {
				if c.follow(ctx, kind) {
					delay = 100 * time.Millisecond
				}
				c.forget(kind)
				wait(ctx, delay)
			}
		})
	}
	wg.Wait()
}

// follow lists a kind and takes in what happens to it until the store's watch
// ends; listed tells whether it came as far as that.
func (c *census) follow(ctx context.Context, kind api.Kind) (listed bool) {
	rev, err := c.list(ctx, kind)
	if err != nil {
		return false
	}
	w, err := c.store.Watch(ctx, kind, rev)
	if err != nil {
		return false
	}
	defer w.Close()
	c.take(kind, []api.Event{{Revision: rev}})
	for {
		evs, err := w.Next(ctx)
		if err != nil {
			return true
		}
		c.take(kind, evs)
	}
}

// censusPage is how many objects are read at a time: of each only its labels
// are kept.
const censusPage = 500

// list replaces what is held of a kind by what the store has at a revision.
func (c *census) list(ctx context.Context, kind api.Kind) (api.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	c.clear(kind)
	page := store.ListOptions{Limit: censusPage}
	for {
		objs, rev, err := c.store.List(ctx, kind, page)
		if err != nil {
			return 0, err
		}
		c.mu.Lock()
		for _, o := range objs {
			c.noteLocked(o.Key(), o)
		}
		c.mu.Unlock()
		if len(objs) < censusPage {
			return rev, nil
		}
		page.After, page.Revision = objs[len(objs)-1].Key(), rev
	}
}

// clear drops what is held of a kind.
func (c *census) clear(kind api.Kind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.members {
		if k.Kind == kind {
			c.putLocked(k, nil)
		}
	}
	if kind == api.KindProfile {
		for name := range c.profiles {
			c.giveLocked(name, nil)
		}
	}
}

// take takes events in. From the first on the kind is known.
func (c *census) take(kind api.Kind, evs []api.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ev := range evs {
		if ev.Key.Name != "" {
			c.noteLocked(ev.Key, ev.Object)
		}
		c.seen[kind] = max(c.seen[kind], ev.Revision)
	}
	close(c.moved)
	c.moved = make(chan struct{})
}

// forget notes that a kind is no longer known.
func (c *census) forget(kind api.Kind) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.seen, kind)
}

// wrote notes what this server has written.
func (c *census) wrote(kind api.Kind, rev api.Revision) {
	if !slices.Contains(censusKinds, kind) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written[kind] = max(c.written[kind], rev)
}

// knowsLocked reports whether all kinds are known.
func (c *census) knowsLocked() bool { return len(c.seen) == len(censusKinds) }

// catchUp waits until all that this server has written is known.
func (c *census) catchUp(ctx context.Context) bool {
	for {
		c.mu.Lock()
		behind := !c.knowsLocked()
		for kind, rev := range c.written {
			behind = behind || c.seen[kind] < rev
		}
		moved := c.moved
		c.mu.Unlock()
		if !behind {
			return true
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		}
	}
}

// noteLocked takes an object in; nil: it is gone.
func (c *census) noteLocked(k api.Key, o api.Object) {
	var m *member
	switch o := o.(type) {
	case *api.Profile:
		c.giveLocked(k.Name, o.Spec.LabelsToApply)
		return
	case *api.HostEndpoint:
		m = &member{own: o.Labels, profiles: o.Spec.Profiles, among: &c.endpoints}
	case *api.WorkloadEndpoint:
		m = &member{own: o.Labels, profiles: o.Spec.Profiles, among: &c.endpoints}
	case *api.GlobalNetworkSet:
		m = &member{own: o.Labels, among: &c.sets}
	case *api.NetworkSet:
		m = &member{own: maps.Clone(o.Labels), among: &c.sets}
		if m.own == nil {
			m.own = map[string]string{}
		}
		m.own[api.LabelNamespace] = k.Namespace
	default: // gone, or not to be read
		if k.Kind == api.KindProfile {
			c.giveLocked(k.Name, nil)
			return
		}
	}
	if m != nil {
		m.namespace = k.Namespace
	}
	c.putLocked(k, m)
}

// putLocked replaces a member; nil: it is gone.
func (c *census) putLocked(k api.Key, m *member) {
	if old := c.members[k]; old != nil {
		old.among.remove(&old.labelled)
		delete(c.members, k)
	}
	if m == nil {
		return
	}
	m.labels = m.own
	if slices.ContainsFunc(m.profiles, func(name string) bool { return c.profiles[name] != nil }) {
		m.labels = map[string]string{}
		for _, name := range slices.Backward(m.profiles) { // the first that has a label wins
			maps.Copy(m.labels, c.profiles[name])
		}
		maps.Copy(m.labels, m.own)
	}
	c.members[k] = m
	m.among.add(&m.labelled)
}

// giveLocked changes the labels that a profile gives.
func (c *census) giveLocked(name string, labels map[string]string) {
	if maps.Equal(c.profiles[name], labels) {
		return
	}
	if c.profiles[name] = labels; len(labels) == 0 {
		delete(c.profiles, name)
	}
	var has []api.Key
	for k, m := range c.members {
		if slices.Contains(m.profiles, name) {
			has = append(has, k)
		}
	}
	for _, k := range has {
		c.putLocked(k, c.members[k])
	}
}
