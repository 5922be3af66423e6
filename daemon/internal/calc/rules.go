// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"reflect"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// rules keeps the translated rules of active policies and profiles: what has
// been said of them, which sets they need and what is wrong with them.
type rules struct {
	sets  *sets
	lists map[intent.Key]*ruleList
	dirty map[intent.Key]struct{}
}

// ruleList is one policy or profile. now nil: it shall go.
type ruleList struct {
	said, now intent.Value
	sets      []setDef
	faults    []api.Fault
}

func newRules(s *sets) *rules {
	return &rules{sets: s, lists: map[intent.Key]*ruleList{}, dirty: map[intent.Key]struct{}{}}
}

// want takes a translation. The sets of the one before are let go only after
// those of this one are held, so that a set both need stays as it is.
func (r *rules) want(k intent.Key, v intent.Value, t *translator) {
	l := r.lists[k]
	if l == nil {
		l = &ruleList{}
		r.lists[k] = l
	}
	for _, d := range t.sets {
		r.sets.hold(d)
	}
	for _, d := range l.sets {
		r.sets.release(d)
	}
	l.now, l.sets, l.faults = v, t.sets, t.faults
	r.dirty[k] = struct{}{}
}

// unwant lets a policy or profile go; if it is not there, nothing happens.
func (r *rules) unwant(k intent.Key) {
	l := r.lists[k]
	if l == nil {
		return
	}
	for _, d := range l.sets {
		r.sets.release(d)
	}
	l.now, l.sets, l.faults = nil, nil, nil
	r.dirty[k] = struct{}{}
}

// note ignores everything: policies and profiles tell what to translate.
func (r *rules) note(api.Event) {}

func (r *rules) flush(emit func(intent.Change)) {
	for k := range r.dirty {
		l := r.lists[k]
		if l.now == nil {
			continue
		}
		if reflect.DeepEqual(l.said, l.now) {
			l.now = l.said
		} else {
			l.said = l.now
			emit(intent.Change{Key: k, Value: l.now})
		}
		delete(r.dirty, k)
	}
}

func (r *rules) sweep(emit func(intent.Change)) {
	for k := range r.dirty {
		if r.lists[k].said != nil {
			emit(intent.Change{Key: k})
		}
		delete(r.lists, k)
		delete(r.dirty, k)
	}
}

func (r *rules) faults() []api.Fault {
	var all []api.Fault
	for _, l := range r.lists {
		all = append(all, l.faults...)
	}
	return all
}
