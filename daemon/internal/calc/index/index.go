// SPDX-License-Identifier: Apache-2.0

// Package index keeps track of which items match which selectors, and tells
// only what changes.
//
// calc uses it twice: for the selectors of policies against the endpoints of
// this host (which policies govern what), and for the selectors of rules
// against the endpoints and network sets of all hosts (which addresses a set
// has; [Members] then counts the addresses).
//
//	        SetItem, SetParent                  SetSelector
//	               │                                 │
//	items by label=value ────► candidates ◄──── selectors by label=value
//	                               │ Evaluate
//	                               ▼
//	               changed(selector, item, matches)
//
// What an item or a selector costs depends on what it can touch only:
//
//   - A selector that needs labels (role == 'web') is tried on the items that
//     have the rarest of them, not on all.
//   - An item whose labels change is tried on the smaller of two groups: the
//     selectors that ask for a label that changed, and the selectors that are
//     filed under a label that the item has. Each selector is filed under one
//     label=value that it needs; few are filed under nothing (such as !has(x)).
//   - A parent (a profile) whose labels change touches its own items.
//
// It does not know what items are, does not strip or add labels, and does not
// validate.
package index

import (
	"iter"
	"slices"

	"github.com/ripstop/ripstop/daemon/selector"
)

// Index knows selectors by S and items by I. It is not safe for concurrent use.
type Index[S, I comparable] struct {
	core      core
	selectors map[S]uint32
	items     map[I]uint32
	// The ids by their number in core.
	selectorIDs []S
	itemIDs     []I
}

// New makes an empty index. It calls changed whenever a selector begins
// (matches true) or ceases (false) to match an item, during the call that
// brought it about, in no particular order; never twice the same in a row, and
// never a matches false without a true before. changed must not change the
// index.
func New[S, I comparable](changed func(sel S, item I, matches bool)) *Index[S, I] {
	x := &Index[S, I]{selectors: map[S]uint32{}, items: map[I]uint32{}}
	x.core.init(func(s, it uint32, matches bool) {
		changed(x.selectorIDs[s], x.itemIDs[it], matches)
	})
	return x
}

// SetSelector adds or replaces a selector, which must not be nil. The same
// (by its canonical text) again is no change.
func (x *Index[S, I]) SetSelector(id S, sel *selector.Selector) {
	s, ok := x.selectors[id]
	if !ok {
		s = x.core.newSelector()
		x.selectors[id] = s
		x.selectorIDs = put(x.selectorIDs, s, id)
	}
	x.core.setSelector(s, sel)
}

// DeleteSelector removes a selector; everything it matched ceases to match. Of
// an unknown one: no change.
func (x *Index[S, I]) DeleteSelector(id S) {
	s, ok := x.selectors[id]
	if !ok {
		return
	}
	x.core.deleteSelector(s)
	delete(x.selectors, id)
	var none S
	x.selectorIDs[s] = none
}

// SetItem adds or replaces an item with its own labels and the names of its
// parents. Labels that it lacks it has from the first of the parents that has
// them; parents need not be known (yet), and named twice count once. The same
// again is no change. The map and the slice are not kept.
func (x *Index[S, I]) SetItem(id I, labels map[string]string, parents []string) {
	it, known := x.items[id]
	if !known {
		it = x.core.newItem()
		x.items[id] = it
		x.itemIDs = put(x.itemIDs, it, id)
	}
	x.core.setItem(it, labels, parents, !known)
}

// DeleteItem removes an item; everything that matched it ceases to. Of an
// unknown one: no change.
func (x *Index[S, I]) DeleteItem(id I) {
	it, ok := x.items[id]
	if !ok {
		return
	}
	x.core.deleteItem(it)
	delete(x.items, id)
	var none I
	x.itemIDs[it] = none
}

// SetParent adds or replaces the labels that items inherit from a parent. The
// same again is no change. The map is not kept.
func (x *Index[S, I]) SetParent(name string, labels map[string]string) {
	x.core.setParent(name, labels)
}

// DeleteParent takes the labels of a parent away; items may go on naming it. Of
// an unknown one: no change.
func (x *Index[S, I]) DeleteParent(name string) { x.core.deleteParent(name) }

// Matching yields the selectors that match an item now, in no particular order;
// none for an unknown item. The index must not change meanwhile.
func (x *Index[S, I]) Matching(id I) iter.Seq[S] {
	return func(yield func(S) bool) {
		it, ok := x.items[id]
		if !ok {
			return
		}
		for _, s := range x.core.items[it].matches {
			if !yield(x.selectorIDs[s]) {
				return
			}
		}
	}
}

// Matches says whether a selector matches an item now; false if either is
// unknown.
func (x *Index[S, I]) Matches(sel S, item I) bool {
	s, ok := x.selectors[sel]
	if !ok {
		return false
	}
	it, ok := x.items[item]
	if !ok {
		return false
	}
	_, found := slices.BinarySearch(x.core.items[it].matches, s)
	return found
}

// Stats are figures for metrics.
type Stats struct {
	// Items and Selectors are how many there are; Parents also counts those
	// that are named only.
	Items, Selectors, Parents int
	// Unfiled selectors need no label that narrows down what they may match,
	// and are tried on every new item.
	Unfiled int
	// Labels and Values are how many label names, and label=value pairs,
	// items, parents and selectors have between them.
	Labels, Values int
	// Evaluations is how often a selector was tried on an item, ever.
	Evaluations uint64
}

// Stats counts in constant time.
func (x *Index[S, I]) Stats() Stats {
	st := x.core.stats()
	st.Items, st.Selectors = len(x.items), len(x.selectors)
	return st
}

// put sets s[i], which is at most one past the end.
func put[T any](s []T, i uint32, v T) []T {
	for len(s) <= int(i) {
		var none T
		s = append(s, none)
	}
	s[i] = v
	return s
}
