// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"errors"
	"fmt"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// What the kernel does not take must not open the host. A chain that was left
// out would take what leads to it along, up to the entry of its interface,
// whose packets then pass as those of an interface that nobody governs. So a
// new chain is made in any case, and stand-ins take the place of those of its
// rules that cannot be: of a kernel without nf_tables' log, limit, reject or
// range, of a rule that names what is not there. A stand-in never lets through
// what the rule would not have let through:
//
//	log, notrack   nothing: they do not decide
//	accept         nothing: the packet goes on to the next rule
//	reject         drop, of the same packets
//	all others     drop, of all packets that come so far
//
// The rules around it stay, so essential ICMPv6 and failsafes pass where they
// stand before it. A chain that is there already keeps its rules instead,
// unless the stand-ins decide as the rules would: what was in force is better
// known than what is not whole.

// standIns are the rules in the place of r. exact: every packet meets the
// same verdict. tries counts what the kernel has refused in r's place so far,
// r included.
func standIns(r *ruleset.Rule, tries int) (rules []ruleset.Rule, exact bool) {
	switch r.Action.Verb {
	case ruleset.Log, ruleset.NoTrack:
		return nil, true
	case ruleset.Accept:
		return nil, false
	case ruleset.Reject:
		if tries < 2 {
			drop := *r
			drop.Action = ruleset.Action{Verb: ruleset.Drop}
			return []ruleset.Rule{drop}, true
		}
	}
	return []ruleset.Rule{{Action: ruleset.Action{Verb: ruleset.Drop}, Counter: r.Counter, Comment: r.Comment}}, false
}

// refusedRule is what the kernel, or a reference that leads nowhere, has
// against a rule.
type refusedRule struct {
	err   error
	tries int
}

// note counts one more refusal; the first reason is kept.
func (r refusedRule) note(err error) refusedRule {
	if r.err == nil {
		r.err = err
	}
	r.tries++
	return r
}

// render renders the rules of a chain, with stand-ins where it must; the
// error says which, even if the chain can be. ok: it can be.
func (p *plan) render(c *chainState, create bool) (rules []lowered, ok bool, err error) {
	inexact := create && c.want.Hook == ruleset.NoHook // may be used
	var errs []error
	for i := range c.want.Rules {
		r := &c.want.Rules[i]
		bad := c.bad[i]
		if dead := p.dead[c][i]; dead != nil {
			bad = bad.note(dead)
		}
		var low []lowered
		if bad.err == nil {
			var err error
			if low, err = p.lowerRule(r); err != nil {
				bad = bad.note(err)
			}
		}
		for again := bad.err != nil; again; {
			again = false
			stand, exact := standIns(r, bad.tries)
			if !exact && !inexact {
				return nil, false, fmt.Errorf("rule %d: %w", i, bad.err)
			}
			for j := range stand {
				l, err := p.lowerRule(&stand[j])
				if err != nil { // what is wrong with the match was not the reject
					bad, again, low = bad.note(err), true, nil
					break
				}
				low = append(low, l...)
			}
			if !again {
				errs = append(errs, fmt.Errorf("rule %d (%s), replaced by %s: %w", i, &r.Action, describe(stand), bad.err))
			}
		}
		for j := range low {
			low[j].from = i + 1
		}
		rules = append(rules, low...)
	}
	return rules, true, errors.Join(errs...)
}

// lowerRule is lower.rule, with what the kernel is known not to take.
func (p *plan) lowerRule(r *ruleset.Rule) ([]lowered, error) {
	low, err := p.lower.rule(r)
	for i := range low {
		for _, u := range low[i].body.refs {
			if err := p.f.refusedConsts[u.name]; err != nil && u.kind == 's' {
				return nil, err
			}
		}
	}
	return low, err
}

func describe(rules []ruleset.Rule) string {
	if len(rules) == 0 {
		return "nothing"
	}
	return rules[0].String()
}

// closed is a chain that the kernel takes in no better form.
func (p *plan) closed() []lowered {
	rules, err := p.lower.rule(&ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Drop}})
	if err != nil {
		panic("nftables: a rule that drops cannot be rendered: " + err.Error())
	}
	return rules
}
