// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// treeAbove is the number of entries beyond which a dispatch is a tree.
const treeAbove = 16

// dispatch renders a look-up by interface. xtables has no such thing, so it is
// a list of interfaces, and beyond treeAbove a tree of two levels, by the
// first characters in which they differ. All ways are gotos, since a dispatch
// does not come back; whoever finds no entry must go on behind it, so that the
// rest of the chain becomes a part of its own if there is a tree or a match:
//
//	chain:  MATCH -g leaves…          leaf c: -i cali1 -g rs-…
//	        -g rest                           -i cali2 -g rs-…
//	                                          -g rest
func (l *lowerer) dispatch(r *ruleset.Rule, index int, matches []string, entries map[string]ruleset.Entry) error {
	option := "-i"
	if r.Action.Verb == ruleset.DispatchOut {
		option = "-o"
	}
	type entry struct{ match, action string }
	var list []entry
	names := slices.Sorted(maps.Keys(entries))
	var known []string
	for _, name := range names {
		if name == "" || len(name) > 15 || len(matches) == 0 {
			continue // no such interface can be
		}
		if strings.HasSuffix(name, "+") {
			return fmt.Errorf("interface %s: iptables would take the + for any end of a name", name)
		}
		action := "-g " + chainYield
		if target := entries[name].Chain; target != "" {
			if l.chain(target) == nil {
				l.targets = append(l.targets, target)
				action = "-g " + chainName(target)
			} else {
				// What is to be judged by a chain that is not there is
				// denied; the entry's own fault is reported by entries.
				action = "-j DROP"
			}
		}
		known = append(known, name)
		list = append(list, entry{" " + option + " " + ifaceText(name), action})
	}
	if len(list) == 0 {
		return nil
	}
	if len(list) <= treeAbove && len(matches) == 1 && matches[0] == "" {
		for _, e := range list {
			l.emit(e.match, e.action, r.Comment)
		}
		return nil
	}
	key := fmt.Sprintf("%d", index)
	rest := partName(l.name, key+" rest")
	top := partName(l.name, key+" top")
	for _, m := range matches {
		l.emit(m, "-g "+top, r.Comment)
	}
	l.emit("", "-g "+rest, "")
	l.parts = append(l.parts, part{name: top})
	if len(list) <= treeAbove {
		for _, e := range list {
			l.emit(e.match, e.action, r.Comment)
		}
	} else {
		n := commonLen(known)
		groups := map[string][]entry{}
		for i, e := range list {
			p := known[i]
			if len(p) > n {
				p = p[:n+1] + "+"
			}
			groups[p] = append(groups[p], e)
		}
		leaves := slices.SortedFunc(maps.Keys(groups), func(a, b string) int { return cmp.Compare(a, b) })
		for _, p := range leaves {
			if g := groups[p]; len(g) == 1 {
				l.emit(g[0].match, g[0].action, r.Comment)
				continue
			}
			l.emit(" "+option+" "+ifaceText(p), "-g "+partName(l.name, key+" leaf "+p), "")
		}
		l.emit("", "-g "+rest, "")
		for _, p := range leaves {
			if len(groups[p]) == 1 {
				continue
			}
			l.parts = append(l.parts, part{name: partName(l.name, key+" leaf "+p)})
			for _, e := range groups[p] {
				l.emit(e.match, e.action, r.Comment)
			}
			l.emit("", "-g "+rest, "")
		}
		l.parts = append(l.parts, part{name: rest})
		return nil
	}
	l.emit("", "-g "+rest, "")
	l.parts = append(l.parts, part{name: rest})
	return nil
}

// commonLen is the length of the beginning that all names share.
func commonLen(names []string) int {
	n := len(names[0])
	for _, s := range names[1:] {
		n = min(n, len(s))
		for s[:n] != names[0][:n] {
			n--
		}
	}
	return n
}
