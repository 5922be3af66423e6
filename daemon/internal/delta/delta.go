// SPDX-License-Identifier: Apache-2.0

// Package delta compares what is wanted with what is there, keyed. It holds no
// state and touches nothing; the planner of routes and the parts that own
// routes and neighbours use it.
//
//	d := delta.Of(wanted, present)
//	for k, v := range d.Put { ... }  // missing, or there with another value
//	for k, v := range d.Drop { ... } // there and not wanted
package delta

// Diff is how what is present must change to be as wanted.
type Diff[K, V comparable] struct {
	// Put is what is missing or has another value, with the wanted one.
	Put map[K]V
	// Drop is what is not wanted, with the value that is there.
	Drop map[K]V
}

// Of compares. The maps are not kept.
func Of[K, V comparable](want, have map[K]V) Diff[K, V] {
	d := Diff[K, V]{Put: map[K]V{}, Drop: map[K]V{}}
	for k, v := range want {
		if is, ok := have[k]; !ok || is != v {
			d.Put[k] = v
		}
	}
	for k, v := range have {
		if _, ok := want[k]; !ok {
			d.Drop[k] = v
		}
	}
	return d
}
