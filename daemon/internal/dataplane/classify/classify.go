// SPDX-License-Identifier: Apache-2.0

// Package classify compiles the ordered rules of an endpoint's direction into
// look-ups, so that what a packet costs does not grow with their number. It is
// pure: rules and members of sets in, chains and verdict maps (package
// ruleset) out. It knows nothing of policies and tiers; the planner, its only
// user, has put those in order.
//
//	ENTRY   address ─► map of single addresses ─► map of prefixes ─► the rest
//	                          │                        │                │
//	                     chain of the class       chain of the class   REST
//	                      port ─► rule             port ─► rule       port ─► rule
//	                      else ─► class around it  else ─► REST       else ─► default
//
// Peers that the rules cannot tell apart, because the same sets and nets hold
// them, are one class. A class has a chain that says only what is different
// for it from the class around it: the class of the longest prefix that holds
// its addresses, or the rest of the world. Ports are cut where a rule begins
// or ends; for each piece, the rules that can match are known, and the first
// that surely does ends the list. A list of one rule is a verdict; a longer
// one (a rule that logs, that passes, or that looks at more than the peer, the
// protocol and the destination port) is a short chain of its own, for exactly
// the packets that it concerns.
package classify

import (
	"errors"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// Matcher knows what rules match, so that this need not be in memory for all
// of them at all times. It is a pointer, says always the same, and is not
// asked again once a rule is known.
type Matcher interface {
	Match(f ruleset.Family, nth int) ruleset.Match
}

// Rule is one rule, in order.
type Rule struct {
	// Of knows what the rule matches, as its Nth of the Family. Two rules are
	// the same if Of, Family, Nth, Chain and Ends are.
	Of     Matcher
	Family ruleset.Family
	Nth    int
	// Chain is where the rule is counted and done. If it Ends, packets go
	// there for good; if not (Log, Pass), they come back and go on with the
	// rule Next.
	Chain string
	Ends  bool
	// Next is the index of the rule that follows one that does not end;
	// always larger than the rule's own.
	Next int
}

// Input is what a program is made for.
type Input struct {
	// Base begins the names of all chains and maps that are made.
	Base string
	// Egress: peers are destinations, not sources.
	Egress bool
	// Members are the members of a set; nil: none.
	Members func(set string) map[ruleset.Element]struct{}
}

// Limits of what is compiled. A program beyond is refused by ErrTooLarge; the
// rules are then to be enforced one after the other.
type Limits struct {
	// Entries in all verdict maps but those of peers.
	Entries int
	// Classes of peers of one family, and chains for lists of several rules.
	Classes, Lists int
	// Work is the number of times that a rule may be looked at in one change.
	Work int
}

// DefaultLimits keep a program below some 100 MB in the kernel and a second
// of work.
var DefaultLimits = Limits{Entries: 200_000, Classes: 8_192, Lists: 8_192, Work: 20_000_000}

// ErrTooLarge says that rules go beyond the Limits.
var ErrTooLarge = errors.New("too large to be compiled")

// Out takes what a program consists of.
type Out interface {
	Want(ruleset.ID, ruleset.Object)
	Unwant(ruleset.ID)
}

// Stats say what a program consists of.
type Stats struct {
	Rules int
	// Classes of peers that have a chain, and Peers: addresses and prefixes
	// in the maps that lead there.
	Classes, Peers int
	// Lists are chains of several rules, Entries the elements of the maps of
	// ports.
	Lists, Entries int
}

// Bytes is about what a program takes up in the kernel: 80 bytes an element
// of a map (rhashtable, kernel 6.18), 700 a chain with its rules.
func (s Stats) Bytes() int { return 80*(s.Peers+s.Entries) + 700*(s.Classes+s.Lists) }
