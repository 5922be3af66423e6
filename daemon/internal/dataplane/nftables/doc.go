// SPDX-License-Identifier: Apache-2.0

// Package nftables is the Part that makes the kernel's table `inet ripstop`
// what the ruleset wants, over netlink alone; no program is run. It is not a
// general nftables library: it knows the matches, actions and sets of package
// ruleset and nothing else, and it owns one table. Assembly makes one Filter;
// planners want things of it; the Loop calls Reconcile.
//
//	Want/Unwant ──► wanted        kernel ──► read.go, canon.go ──► believed
//	                   │                                              │
//	                   └── lower.go ──►  plan.go: the difference ◄────┘
//	                                        │ prepare, change, clean
//	                                     netlink.go ──► kernel ──► read back
//
// What it holds to, and why:
//
//  1. A packet never sees half of a change. Of what one Reconcile does, all
//     that packets can see is one transaction; what is new and not yet used
//     was made before, what is no longer used is removed after it.
//  2. Base chains are made once. A transaction that deletes and re-creates a
//     base chain was measured to let packets through, one that changes its
//     rules was not. A base chain whose hook or priority changes gets a new
//     name, and the old one goes after the new one is there.
//  3. What is there is believed only because it was read, compared in full
//     (every expression of every rule, every element), and after a change
//     what was changed is read again. Names and comments prove nothing.
//  4. A batch that failed means "unknown": read again, then try again. What
//     the kernel refuses twice is set aside and reported, and all else goes
//     on. A chain that packets are sent through already stays as it was; one
//     that is new is made all the same, with stand-ins that deny (standin.go).
//  5. Only what differs is sent: a rule, an element. A restart with unchanged
//     wishes sends nothing but the claim of ownership.
//  6. The table carries the flags owner and persist (kernel 6.9) where they
//     can be had: other tools can neither flush nor change it, and it outlives
//     the process. A table made without them cannot be claimed later; it is
//     kept as it is, and Owner says why.
//
// # Sets
//
// A set of single addresses is a hash set, one with a shorter prefix an
// interval set (rbtree). Per lookup in 100,000 members 36 ns, 166 ns and, for
// the third kind, pipapo, 1,250 ns were measured on kernel 6.18; and a pipapo
// set is copied whole by every change. The kernel takes no overlapping
// intervals, so only prefixes that no other member covers are in the kernel
// (trie.go). Taking a prefix away and putting in one that covers it, or the
// other way round, hides the addresses of both from packets for a moment; so
// does giving an interface another entry in a dispatch map. Therefore such a
// set or map is made anew under another name, and the rules that use it are
// replaced; so is a set that turns from one kind to the other.
//
// # Sets that are too large
//
// A set with more members than Config.MaxSetSize (or than the kernel takes)
// holds only some. A rule that would let more through for that is changed:
//
//	Drop, Reject: "source in set"      the match is left out: denies more
//	Drop, Reject: "source not in set"  kept: denies more
//	Accept:       "source in set"      kept: accepts less
//	Accept:       "source not in set"  the rule is left out: accepts less
//
// Of other verbs (Jump, Goto, Return, Log, SetMark) no way is the safe one;
// they are kept, and OverSize names the set so that the planner can react.
//
// # Limits
//
// FromHost is "no input interface", which holds in postrouting too: the kernel
// hands the interface of forwarded unicast packets on (measured on 6.18), but
// not that of multicast packets which it routes. A packet in which the kernel
// finds no transport protocol (a broken chain of IPv6 extension headers)
// matches neither Protocol nor NotProtocol; the verdict that ends each base
// chain has no match. A change of one element of an interval set costs the
// kernel (6.18) time in proportion to the whole set, 35 ms at 100,000; of a
// hash set it does not.
//
// # Names
//
// In the kernel all names begin with "rs-": chains and sets rs-<name>,
// dispatch maps rs-m-<name>, constant sets rs-c-<hash of the content>, and
// rs-h-<hash> for names that are too long or would clash. A trailing ~n is a
// second object of the same name while it replaces the first.
package nftables
