// SPDX-License-Identifier: Apache-2.0

package calctest

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// Graph is what is walked: calc.Graph.
type Graph interface {
	Note(api.Event)
	Flush(func(intent.Change))
	Pack()
}

// Route is an order in which to visit the states of a list, by their number;
// -1 is the state without any resource.
type Route struct {
	Name   string
	States []int
}

// Routes are the ways through n states. An ordered list is only walked
// forward.
func Routes(l *List, r *rand.Rand) []Route {
	n := len(l.States)
	var forward, twice, interrupted []int
	for i := range n {
		forward = append(forward, i)
		twice = append(twice, i, i)
		interrupted = append(interrupted, i, -1)
	}
	if l.Ordered {
		return []Route{{"forward", forward}, {"each twice", twice}}
	}
	reversed := slices.Clone(forward)
	slices.Reverse(reversed)
	var pairs []int // every state after every other
	for i := range n {
		for j := range n {
			pairs = append(pairs, i, j)
		}
	}
	shuffled := slices.Concat(forward, forward, forward)
	r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	return []Route{
		{"forward", forward},
		{"reversed", reversed},
		{"each twice", twice},
		{"empty between", interrupted},
		{"there and back", slices.Concat(forward, reversed)},
		{"all pairs", pairs},
		{"shuffled", shuffled},
	}
}

// Manner is how the way from one state to the next is made.
type Manner struct {
	Name string
	// Order sorts the changes (they come sorted by key).
	Order func(r *rand.Rand, evs []api.Event)
	// FlushEach flushes after each event, FlushNone only at the end of the
	// route; else after each state.
	FlushEach, FlushNone bool
	// Noise adds what must make no difference: events twice, bookmarks,
	// deletions of what is not there.
	Noise bool
	// Detour sends the old version again, or deletes, before the new one.
	Detour bool
}

// Manners are the ways to get from state to state.
func Manners() []Manner {
	shuffle := func(r *rand.Rand, evs []api.Event) {
		r.Shuffle(len(evs), func(i, j int) { evs[i], evs[j] = evs[j], evs[i] })
	}
	backwards := func(_ *rand.Rand, evs []api.Event) { slices.Reverse(evs) }
	return []Manner{
		{Name: "state by state"},
		{Name: "state by state, backwards", Order: backwards},
		{Name: "event by event", FlushEach: true},
		{Name: "event by event, backwards", Order: backwards, FlushEach: true},
		{Name: "event by event, shuffled", Order: shuffle, FlushEach: true},
		{Name: "squashed", FlushNone: true},
		{Name: "squashed, shuffled", Order: shuffle, FlushNone: true},
		{Name: "with noise", Noise: true},
		{Name: "with noise, event by event", Noise: true, FlushEach: true, Order: shuffle},
		{Name: "with detours", Detour: true},
		{Name: "with detours, event by event", Detour: true, FlushEach: true},
	}
}

// Walk leads a graph along a route. want is the text of each state, by
// number, -1 too. It returns what was said, and the first thing that was not
// as it should be.
func Walk(g Graph, l *List, route Route, m Manner, r *rand.Rand, want map[int]string) (*Facts, error) {
	f := NewFacts()
	flush := func() error {
		g.Flush(f.Take)
		if r.IntN(2) == 0 {
			g.Pack()
		}
		return f.End()
	}
	now := map[api.Key]api.Object{}
	for step, i := range route.States {
		name, next := "nothing", map[api.Key]api.Object{}
		if i >= 0 {
			name, next = l.States[i].Name, l.States[i].Objects
		}
		evs := Difference(now, next)
		if m.Order != nil {
			m.Order(r, evs)
		}
		for _, ev := range m.events(r, evs, now) {
			g.Note(ev)
			if m.FlushEach {
				if err := flush(); err != nil {
					return f, fmt.Errorf("step %d, to %s, after %s: %w", step, name, ev.Key, err)
				}
			}
		}
		now = next
		if m.FlushNone && step < len(route.States)-1 {
			continue
		}
		if err := flush(); err != nil {
			return f, fmt.Errorf("step %d, to %s: %w", step, name, err)
		}
		if got := f.Text(); got != want[i] {
			return f, fmt.Errorf("step %d, to %s: got\n%s\nwant\n%s", step, name, got, want[i])
		}
		said := f.Said
		if err := flush(); err != nil || f.Said != said {
			return f, fmt.Errorf("step %d, to %s: the second flush says %d changes (%v)", step, name, f.Said-said, err)
		}
	}
	return f, nil
}

// events are the changes as the manner makes them.
func (m Manner) events(r *rand.Rand, evs []api.Event, now map[api.Key]api.Object) []api.Event {
	var out []api.Event
	for _, ev := range evs {
		_, unreadable := ev.Object.(*api.Unreadable)
		if m.Detour && !unreadable {
			if old, ok := now[ev.Key]; ok {
				out = append(out, api.Event{Key: ev.Key, Object: old})
			} else {
				out = append(out, api.Event{Key: ev.Key, Object: ev.Object}, api.Event{Key: ev.Key})
			}
		}
		out = append(out, ev)
		if m.Noise {
			out = append(out, ev, api.Event{Key: api.Key{Kind: ev.Key.Kind}},
				api.Event{Key: api.Key{Kind: ev.Key.Kind, Name: fmt.Sprintf("no-such-%d", r.IntN(3))}})
		}
	}
	return out
}

// Difference is what leads from one state to another, sorted by key.
func Difference(from, to map[api.Key]api.Object) []api.Event {
	var evs []api.Event
	for k := range from {
		if _, ok := to[k]; !ok {
			evs = append(evs, api.Event{Key: k})
		}
	}
	for k, o := range to {
		if from[k] != o {
			evs = append(evs, api.Event{Key: k, Object: o})
		}
	}
	slices.SortFunc(evs, func(a, b api.Event) int { return a.Key.Compare(b.Key) })
	return evs
}
