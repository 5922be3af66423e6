// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// State is all that is wanted. It can be told like a part.
type State map[ID]Object

// Want notes that an object shall be.
func (s State) Want(id ID, o Object) { s[id] = o }

// Unwant notes that an object shall not be.
func (s State) Unwant(id ID) { delete(s, id) }

// String is the canonical text: one line an object, in order of kind, address,
// interface, name. Equal states give equal text.
func (s State) String() string {
	var b strings.Builder
	for _, id := range slices.SortedFunc(maps.Keys(s), Compare) {
		b.WriteString(Text(id, s[id]) + "\n")
	}
	return b.String()
}

// Compare orders IDs: what concerns the whole host comes before what concerns
// one interface.
func Compare(a, b ID) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), a.Addr.Compare(b.Addr), cmp.Compare(a.Index, b.Index), strings.Compare(a.Name, b.Name))
}

// Text is one object's line, as ip(8) and sysctl(8) would have it.
func Text(id ID, o Object) string {
	switch o := o.(type) {
	case Route:
		s := fmt.Sprintf("route %s dev %s (%d)", id.Addr, o.Iface, o.Index)
		if o.Source.IsValid() {
			s += " src " + o.Source.String()
		}
		return s
	case Local:
		return fmt.Sprintf("local %s", id.Addr)
	case Guard:
		return fmt.Sprintf("guard routes dev %s (%d)", o.Iface, id.Index)
	case Neighbour:
		return fmt.Sprintf("neighbour %s lladdr %s dev %s (%d)", id.Addr, o.mac(), o.Iface, id.Index)
	case Sysctl:
		s := "sysctl " + Path(id.Name, o.Iface) + " = " + o.Value
		if o.SameAs != "" {
			s = "sysctl " + Path(id.Name, o.Iface) + " as " + o.SameAs
		}
		if o.Keep {
			s += " (kept)"
		}
		return s
	}
	panic(fmt.Sprintf("kernel: object %T", o))
}

// Path is a sysctl's path below /proc/sys for an interface.
func Path(name, iface string) string { return strings.Replace(name, "*", iface, 1) }

// mac is the link address as people write it.
func (n Neighbour) mac() string {
	m := n.MAC
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}
