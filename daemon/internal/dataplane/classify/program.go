// SPDX-License-Identifier: Apache-2.0

package classify

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// Program is compiled rules. It is kept up with rules that change and with
// members of sets that come and go. Not safe for concurrent use.
type Program struct {
	in      Input
	limits  Limits
	out     Out
	list    []Rule
	spaces  []*space // IPv4, IPv6
	targets targets
	work    int   // since the last Flush
	entries int   // leads of all classes
	peers   int   // elements of the maps of peers
	err     error // why it cannot be
}

// New makes a program without rules. What it consists of is told out, by
// Flush and Remove only.
func New(in Input, limits Limits, out Out) *Program {
	p := &Program{in: in, limits: limits, out: out, targets: newTargets(in.Base)}
	for _, f := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
		p.spaces = append(p.spaces, p.newSpace(f))
	}
	return p
}

// Update makes the rules those of the list; the last one matches all and ends.
// What does not change costs next to nothing. The list is kept, and is not to
// be changed.
func (p *Program) Update(list []Rule) {
	aligned := align(p.list, list)
	for _, s := range p.spaces {
		s.revise(s.take(p.list, list, aligned))
	}
	p.list = list
}

// Member says that a member of a set has come or gone.
func (p *Program) Member(set string, n netip.Prefix, in bool) {
	for _, s := range p.spaces {
		if a, ok := s.atomOf[setPrefix+set]; ok && s.fits(n) {
			s.member(a, n, in)
		}
	}
}

// Flush tells out what has changed. An error (ErrTooLarge) means that the
// program is of no more use but for Remove.
func (p *Program) Flush() error {
	for _, s := range p.spaces {
		s.placeAll()
		s.sweep()
	}
	p.targets.sweep(p.out)
	if err := p.check(); err != nil {
		return err
	}
	for _, s := range p.spaces {
		s.tell()
	}
	p.work = 0
	return nil
}

// check holds a program to its limits.
func (p *Program) check() error {
	if p.err != nil {
		return p.err
	}
	for _, s := range p.spaces {
		if len(s.classes) > p.limits.Classes {
			return fmt.Errorf("more than %d classes of peers: %w", p.limits.Classes, ErrTooLarge)
		}
	}
	switch {
	case len(p.targets.lists) > p.limits.Lists:
		return fmt.Errorf("more than %d lists of rules: %w", p.limits.Lists, ErrTooLarge)
	case p.entries > p.limits.Entries:
		return fmt.Errorf("more than %d entries: %w", p.limits.Entries, ErrTooLarge)
	}
	return nil
}

// listOf is the chain that goes through the steps.
func (p *Program) listOf(steps []step) target {
	if len(p.targets.lists) > 2*p.limits.Lists && p.err == nil { // gone ones are counted, too
		p.err = fmt.Errorf("more than %d lists of rules: %w", p.limits.Lists, ErrTooLarge)
	}
	return p.targets.list(steps)
}

// Remove tells out that nothing of the program is wanted.
func (p *Program) Remove() {
	for _, s := range p.spaces {
		s.untellAll()
	}
	p.targets.untellAll(p.out)
}

// Entry is the chain that judges packets of a family.
func (p *Program) Entry(f ruleset.Family) string {
	for _, s := range p.spaces {
		if s.family == f {
			return s.entry()
		}
	}
	panic("classify: no such family")
}

// Stats says what the program consists of.
func (p *Program) Stats() Stats {
	s := Stats{Rules: len(p.list), Lists: len(p.targets.lists), Entries: p.entries, Peers: p.peers}
	for _, sp := range p.spaces {
		s.Classes += len(sp.classes)
	}
	return s
}

// Sets calls visit with each set whose members make classes.
func (p *Program) Sets(visit func(set string)) {
	for _, s := range p.spaces {
		for name := range s.atomOf {
			if set, is := strings.CutPrefix(name, setPrefix); is {
				visit(set)
			}
		}
	}
}
