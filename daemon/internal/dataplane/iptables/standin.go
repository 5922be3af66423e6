// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// What cannot be said, or the kernel does not take, must not open the host.
// Stand-ins take the place of such rules, and never let through what the rule
// would not have let through:
//
//	log, notrack   nothing: they do not decide
//	accept         nothing: the packet goes on to the next rule
//	reject         drop, of the same packets, if those can be told
//	all others     drop, of all packets that come so far
//
// The rules around stay, so essential ICMPv6 and failsafes pass where they
// stand before. A chain that is there already keeps its rules instead, unless
// the stand-ins decide as the rules would (exact).

// lower renders a chain of the ruleset; the error says what stand-ins took
// the place of.
func (l *lowerer) lower(kname string, c *ruleset.Chain) (err error, exact bool) {
	l.parts, l.groups = []part{{name: kname}}, map[string]int{}
	exact = true
	var errs []error
	say := func(n *node) { errs = append(errs, l.orStandIn(n.rule, n.at, &exact)) }
	var row []node
	for i := range c.Rules {
		n, ok := l.leaf(&c.Rules[i], i)
		// Of what the kernel refuses it is best to know where it stands.
		if ok && len(l.banned) == 0 {
			row = append(row, n)
			continue
		}
		l.tree(row, say)
		say(&n)
		row = nil
	}
	l.tree(row, say)
	return errors.Join(errs...), exact
}

// orStandIn renders a rule, or what stands in for it.
func (l *lowerer) orStandIn(r *ruleset.Rule, i int, exact *bool) error {
	at, n := len(l.parts), len(l.parts[len(l.parts)-1].lines)
	err := l.rule(r, i)
	if err != nil { // nothing of it stays
		l.parts = l.parts[:at]
		l.parts[at-1].lines = l.parts[at-1].lines[:n]
		switch r.Action.Verb {
		case ruleset.Log, ruleset.NoTrack:
		case ruleset.Accept:
			*exact = false
		default:
			*exact = false
			l.emit("", "-j DROP", r.Comment)
		}
	} else if len(l.banned) > 0 {
		err = l.ban(at-1, n, exact)
	}
	if err != nil {
		return fmt.Errorf("rule %d: %w", i, err)
	}
	return nil
}

// ban puts stand-ins in the place of lines that the kernel has refused, from
// line n of a part on.
func (l *lowerer) ban(first, n int, exact *bool) error {
	var errs []error
	for i := first; i < len(l.parts); i++ {
		p := &l.parts[i]
		kept := p.lines[:n:n]
		for _, x := range p.lines[n:] {
			if !l.banned[x.essence()] {
				kept = append(kept, x)
				continue
			}
			errs = append(errs, fmt.Errorf("refused: %s", x.essence()))
			drop := line{x.match, "-j DROP", x.comment}
			switch {
			case strings.HasPrefix(x.action, "-j LOG") || strings.HasPrefix(x.action, "-j CT"):
			case x.action == "-g "+chainAccept || x.action == "-g "+chainYield:
				*exact = false
			case strings.HasPrefix(x.action, "-j REJECT") && !l.banned[drop.essence()]:
				kept = append(kept, drop)
			default:
				*exact = false
				kept = append(kept, line{"", "-j DROP", x.comment})
			}
		}
		p.lines, n = kept, 0
	}
	return errors.Join(errs...)
}

// essence is a rule without our comment.
func (l line) essence() string { return strings.TrimPrefix(l.match+" "+l.action, " ") }
