// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"sync"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// denying knows the rules that deny, by the comment that their counters have.
type denying struct {
	mu     sync.Mutex // guards all below
	chains map[string][]string
	rules  map[string]int // how many rules of the name deny
}

func newDenying() *denying { return &denying{chains: map[string][]string{}, rules: map[string]int{}} }

// Want and Unwant make it a dataplane.Out.
func (d *denying) Want(id ruleset.ID, o ruleset.Object) {
	c, is := o.(*ruleset.Chain)
	if !is {
		return
	}
	var rules []string
	for _, r := range c.Rules {
		if r.Counter && r.Comment != "" && (r.Action.Verb == ruleset.Drop || r.Action.Verb == ruleset.Reject) {
			rules = append(rules, r.Comment)
		}
	}
	d.set(id.Name, rules)
}

// Unwant hears that an object shall not be.
func (d *denying) Unwant(id ruleset.ID) {
	if id.Kind == ruleset.KindChain {
		d.set(id.Name, nil)
	}
}

func (d *denying) set(chain string, rules []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.chains[chain] {
		if d.rules[r]--; d.rules[r] == 0 {
			delete(d.rules, r)
		}
	}
	if delete(d.chains, chain); len(rules) > 0 {
		d.chains[chain] = rules
	}
	for _, r := range rules {
		d.rules[r]++
	}
}

// denies reports whether a rule of that name denies.
func (d *denying) denies(rule string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rules[rule] > 0
}
