// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// target is the number of a chain that packets are sent to; nowhere is none.
type target int32

const nowhere target = 0

// targets number chains: those of rules and of classes, by name, and lists of
// several rules, by what they do. A number is good as long as somebody uses
// it, and until the next sweep.
type targets struct {
	base  string
	all   []chainOf // by number
	named map[string]target
	lists map[string]target
	idle  []target // perhaps of no more use
	free  []target
}

type chainOf struct {
	name  string // empty: the number is free
	key   string // of a list: what it does
	steps []step
	uses  int32
	told  bool // of a list: it was passed on
}

// step is one rule of a list.
type step struct {
	match *ruleset.Match // nil: all
	text  string         // of match
	verb  ruleset.Verb
	to    target
}

func newTargets(base string) targets {
	return targets{base: base, all: make([]chainOf, 1), named: map[string]target{}, lists: map[string]target{}}
}

func (t *targets) name(n target) string { return t.all[n].name }

func (t *targets) add(c chainOf) target {
	n := target(len(t.all))
	if last := len(t.free) - 1; last >= 0 {
		n = t.free[last]
		t.free = t.free[:last]
		t.all[n] = c
	} else {
		t.all = append(t.all, c)
	}
	t.idle = append(t.idle, n)
	return n
}

// chain is the number of a chain that somebody else makes.
func (t *targets) chain(name string) target {
	n, ok := t.named[name]
	if !ok {
		n = t.add(chainOf{name: name})
		t.named[name] = n
	}
	return n
}

// list is the chain that goes through the steps.
func (t *targets) list(steps []step) target {
	var buf [64]byte
	b := buf[:0]
	for i := range steps {
		b = append(b, byte(steps[i].verb))
		b = binary.AppendUvarint(b, uint64(steps[i].to))
		b = binary.AppendUvarint(b, uint64(len(steps[i].text)))
		b = append(b, steps[i].text...)
	}
	if n, ok := t.lists[string(b)]; ok {
		return n
	}
	c := chainOf{key: string(b), steps: append([]step(nil), steps...)}
	sum := sha256.Sum256([]byte(t.rendered(c.steps).String()))
	c.name = fmt.Sprintf("%s//l/%s", t.base, hex.EncodeToString(sum[:8]))
	for i := range c.steps {
		t.retain(c.steps[i].to)
	}
	n := t.add(c)
	t.lists[c.key] = n
	return n
}

// rendered is the chain of a list.
func (t *targets) rendered(steps []step) *ruleset.Chain {
	c := &ruleset.Chain{}
	for i := range steps {
		r := ruleset.Rule{Action: ruleset.Action{Verb: steps[i].verb, Target: t.name(steps[i].to)}}
		if steps[i].match != nil {
			r.Match = *steps[i].match
		}
		c.Rules = append(c.Rules, r)
	}
	return c
}

func (t *targets) retain(n target) {
	if n != nowhere {
		t.all[n].uses++
	}
}

func (t *targets) release(n target) {
	if n == nowhere {
		return
	}
	if t.all[n].uses--; t.all[n].uses == 0 {
		t.idle = append(t.idle, n)
	}
}

// sweep gives up the numbers that nobody uses, and passes on lists that are
// new.
func (t *targets) sweep(out Out) {
	var fresh []target
	for len(t.idle) > 0 {
		n := t.idle[len(t.idle)-1]
		t.idle = t.idle[:len(t.idle)-1]
		c := t.all[n]
		switch {
		case c.name == "":
			continue
		case c.uses > 0:
			fresh = append(fresh, n)
			continue
		}
		t.all[n] = chainOf{}
		t.free = append(t.free, n)
		if c.steps == nil {
			delete(t.named, c.name)
			continue
		}
		delete(t.lists, c.key)
		if c.told {
			out.Unwant(ruleset.ID{Kind: ruleset.KindChain, Name: c.name})
		}
		for i := range c.steps {
			t.release(c.steps[i].to)
		}
	}
	for _, n := range fresh {
		if c := &t.all[n]; c.steps != nil && !c.told {
			c.told = true
			out.Want(ruleset.ID{Kind: ruleset.KindChain, Name: c.name}, t.rendered(c.steps))
		}
	}
}

func (t *targets) untellAll(out Out) {
	for i := range t.all {
		if t.all[i].told {
			out.Unwant(ruleset.ID{Kind: ruleset.KindChain, Name: t.all[i].name})
		}
	}
}
