// SPDX-License-Identifier: Apache-2.0

package status

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// How often the counters of rules that deny are read, how long what they have
// counted is remembered, and of how many rules at most.
const (
	DenialsEvery = 15 * time.Second
	DenialsKept  = time.Hour
	denialsRules = 1024
)

// Denials remembers which rules have denied packets lately. Its methods may be
// called from many goroutines.
type Denials struct {
	read   func(context.Context) (map[string]ruleset.Count, error)
	denies func(rule string) bool

	mu    sync.Mutex // guards all below
	last  map[string]ruleset.Count
	begun time.Time // of the first reading
	rules map[string][]denied
}

// denied is what a rule has counted between two readings.
type denied struct {
	at time.Time // of the later one
	n  ruleset.Count
}

// NewDenials gives Denials of a packet filter. read gives counts by rule,
// denies reports whether a rule is one that denies.
func NewDenials(read func(context.Context) (map[string]ruleset.Count, error), denies func(rule string) bool) *Denials {
	return &Denials{read: read, denies: denies, rules: map[string][]denied{}}
}

// Run reads the counters now and then until ctx ends.
func (d *Denials) Run(ctx context.Context) error {
	t := time.NewTicker(DenialsEvery)
	defer t.Stop()
	for {
		_ = d.look(ctx, time.Now()) // the next will do
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// look reads the counters. The first look only tells from where to count.
func (d *Denials) look(ctx context.Context, now time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, countsWithin)
	defer cancel()
	counts, err := d.read(ctx)
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.last == nil {
		d.begun = now
	}
	latest := map[string]ruleset.Count{}
	for rule, n := range counts {
		if !d.denies(rule) {
			continue
		}
		latest[rule] = n
		old, known := d.last[rule]
		switch {
		case d.last == nil:
			continue
		case !known || n.Packets < old.Packets: // the rule was made anew
			old = ruleset.Count{}
		}
		if n.Packets > old.Packets {
			d.addLocked(rule, denied{now, ruleset.Count{Packets: n.Packets - old.Packets, Bytes: n.Bytes - old.Bytes}})
		}
	}
	d.last = latest
	for rule, list := range d.rules {
		list = slices.DeleteFunc(list, func(x denied) bool { return now.Sub(x.at) > DenialsKept })
		if d.rules[rule] = list; len(list) == 0 {
			delete(d.rules, rule)
		}
	}
	return nil
}

func (d *Denials) addLocked(rule string, x denied) {
	if _, known := d.rules[rule]; !known && len(d.rules) >= denialsRules {
		return
	}
	d.rules[rule] = append(d.rules[rule], x)
}

// Since is what was denied in the time before now, read anew; the rule that
// denied last comes first.
func (d *Denials) Since(ctx context.Context, host string, before time.Duration) (*api.Denials, error) {
	now := time.Now()
	if err := d.look(ctx, now); err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	begin := now.Add(-min(before, DenialsKept))
	out := &api.Denials{Host: host, Since: stamp(begin), Rules: []api.Denial{}}
	if begin.Before(d.begun) {
		out.Since = stamp(d.begun)
	}
	for rule, list := range d.rules {
		r := api.Denial{Rule: rule}
		for _, x := range list {
			if x.at.Before(begin) {
				continue
			}
			if r.Packets == 0 {
				r.First = stamp(x.at)
			}
			r.Last = stamp(x.at)
			r.Packets += x.n.Packets
			r.Bytes += x.n.Bytes
		}
		if r.Packets > 0 {
			out.Rules = append(out.Rules, r)
		}
	}
	slices.SortFunc(out.Rules, func(a, b api.Denial) int {
		return cmp.Or(b.Last.Compare(a.Last.Time), cmp.Compare(b.Packets, a.Packets), cmp.Compare(a.Rule, b.Rule))
	})
	return out, nil
}
