// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// bases are the base chains of a place by hook, in the order in which they
// run.
func (p *plan) bases(at place) map[ruleset.Hook][]*chainState {
	out := map[ruleset.Hook][]*chainState{}
	for _, c := range p.f.chains {
		if c.want.Hook == ruleset.NoHook {
			continue
		}
		t, err := tableOf(c.want.Hook, c.want.Priority)
		if err != nil {
			p.softly("chain "+c.name, err)
			continue
		}
		if t == at.table {
			out[c.want.Hook] = append(out[c.want.Hook], c)
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(a, b *chainState) int {
			return cmp.Or(cmp.Compare(a.want.Priority, b.want.Priority), cmp.Compare(a.name, b.name))
		})
	}
	return out
}

// walk adds a chain and all that it goes to. A chain with a fault stays as it
// is in the kernel, with what it goes to there; if it is not there, it is made
// with stand-ins (standin.go), unless it is a base chain: that one is left out.
func (p *plan) walk(w *wanted, at place, c *chainState) (fromHost bool) {
	if _, done := w.chains[c.kname]; done {
		return false
	}
	low := p.low(c, at)
	if low.err != nil {
		p.softly("chain "+c.name, low.err)
		p.keep[c] = struct{}{}
		if k := p.f.k.tables[at]; k != nil && !low.exact {
			if _, there := k.chains[c.kname]; there {
				return p.stay(w, at, k, c.kname)
			}
		}
		if c.want.Hook != ruleset.NoHook && !low.exact {
			return false
		}
	}
	for _, b := range low.blocks {
		w.chains[b.name] = b.lines
	}
	for _, s := range low.sets {
		p.usedSets[s] = true
	}
	fromHost = low.fromHost
	for _, name := range low.targets {
		fromHost = p.walk(w, at, p.f.chains[name]) || fromHost
	}
	return fromHost
}

// stay keeps a chain as it is in the kernel.
func (p *plan) stay(w *wanted, at place, k *ktable, kname string) (fromHost bool) {
	lines := k.chains[kname]
	w.chains[kname] = lines
	for _, l := range lines {
		for _, s := range setsOf(l) {
			p.usedSets[s] = true
		}
		fromHost = fromHost || strings.Contains(l, markIs(0, markIn)[1:])
		target := targetOf(l)
		if _, done := w.chains[target]; done || !ours(target) {
			continue
		}
		if c := p.f.byName[target]; c != nil && c.want.Hook == ruleset.NoHook {
			fromHost = p.walk(w, at, c) || fromHost
		} else if _, there := k.chains[target]; there {
			fromHost = p.stay(w, at, k, target) || fromHost
		}
	}
	return fromHost
}

func setMark(mark, mask uint32) line {
	return line{action: fmt.Sprintf("-j MARK --set-xmark %#x/%#x", mark, mask)}
}

// helpers are the chains that accept and yield lead to.
func (p *plan) helpers(w *wanted) {
	accept := part{name: chainAccept, lines: []line{setMark(markDone|markAllow, markDone|markAllow)}}
	yield := part{name: chainYield, lines: []line{setMark(markDone, markDone)}}
	for _, h := range []part{accept, yield} {
		w.chains[h.name] = h.finish().lines
	}
}

// wrapper is the chain that the kernel's chain calls. It runs our base chains
// one after the other. What none of them dropped is accepted if one of them
// has accepted it, and else left to the rules that follow.
func (p *plan) wrapper(w *wanted, at place, h ruleset.Hook, bases []*chainState) part {
	var out part
	emit := func(match, action string) { out.lines = append(out.lines, line{match: match, action: action}) }
	switch h {
	case ruleset.HookOutput: // FromHost holds
		out.lines = append(out.lines, setMark(0, markOurs))
	case ruleset.HookPostrouting: // markIn comes from mangle FORWARD
		out.lines = append(out.lines, setMark(0, markDone|markAllow))
	default:
		out.lines = append(out.lines, setMark(markIn, markOurs))
	}
	begun := false
	for _, c := range bases {
		if _, there := w.chains[c.kname]; !there {
			continue
		}
		if begun {
			out.lines = append(out.lines, setMark(0, markDone))
		}
		begun = true
		if !c.want.Yield {
			emit("", "-j "+c.kname)
			continue
		}
		// Whatever it accepts it leaves to others: if nobody had allowed the
		// packet before, nobody has afterwards.
		only := part{name: partName(c.name, "yield"), lines: []line{{action: "-j " + c.kname}, setMark(0, markAllow)}}
		w.chains[only.name] = only.finish().lines
		emit(markIs(0, markAllow), "-j "+only.name)
		emit(markIs(markAllow, markAllow), "-j "+c.kname)
	}
	// mangle FORWARD has said that the packet came in by an interface, and
	// mangle POSTROUTING shall still see it.
	leave := uint32(markOurs)
	if m := p.tables[place{at.family, mangle}]; h == ruleset.HookForward && m.jumps["FORWARD"] != "" {
		leave = markDone | markAllow
	}
	let := part{name: prefixOurs + "LET-" + hookNames[h], lines: []line{setMark(0, leave), {action: "-j ACCEPT"}}}
	w.chains[let.name] = let.finish().lines
	emit(markIs(markAllow, markAllow), "-g "+let.name)
	out.lines = append(out.lines, setMark(0, leave))
	return out
}

// wrap makes the wrapper of a hook and the rule that calls it.
func (w *wanted) wrap(h ruleset.Hook, p part) {
	p.name = prefixOurs + hookNames[h]
	w.chains[p.name] = p.finish().lines
	jump := part{name: hookNames[h], lines: []line{{action: "-j " + p.name}}}
	w.jumps[hookNames[h]] = jump.finish().lines[0]
}
