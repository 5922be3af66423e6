// SPDX-License-Identifier: Apache-2.0

// Package iptables is the Part that makes chains of iptables and sets of
// ipset what the ruleset wants, in both variants of iptables: legacy and
// nf_tables. It runs iptables-save and iptables-restore through host.Runner
// and speaks netlink to ipset. It is not a general library: it knows the
// matches, actions and sets of package ruleset, and owns what begins with
// "rs-". Assembly makes one Filter, where the kernel has no nf_tables or the
// operator asks for it; planners want things of it; the Loop calls Reconcile.
//
//	Want/Unwant ──► wanted     kernel ──► save.go, ipset.go ──► believed
//	                   │                                           │
//	  lower.go, match.go, dispatch.go, wrapper.go ──► plan.go ◄────┘
//	                                                     │ apply.go
//	  sets made and filled ─► raw ─► mangle ─► filter ─► sets emptied, destroyed
//	                          one iptables-restore each, for each family
//
// What it holds to, and why:
//
//  1. What packets can see of a change in one table of one family is one step:
//     iptables-restore --noflush replaces a legacy table as a whole, and is
//     one transaction of nf_tables. Of a change in several tables, those that
//     packets pass first are first. Chains of the kernel are never flushed.
//  2. Members of sets change one at a time, or all at once by a swap. Where
//     rules that use a set change as well, or several sets do, they are made
//     under other names and come into force with the rules; not those of more
//     than 10,000 elements, which get theirs before the rules change and lose
//     theirs after.
//  3. What is there is believed only because it was read, and compared in
//     full: every rule, every element. What was written is read back. A rule's
//     comment bears a hash of its chain up to it, for people; it proves
//     nothing, since whoever alters a rule can leave its comment.
//  4. A program that failed means "unknown": read again, then try again. What
//     is refused twice is found by trying, denied (standin.go) and reported.
//  5. The lock of xtables is waited for by the programs, a few seconds at a
//     time, so that the loop can tell why nothing happens.
//
// # How a ruleset is said in xtables
//
// Each table has the kernel's hooks at one priority, and others use the same
// chains, whose end is the end of the packet's way through the table. Base
// chains of ours become chains that a wrapper calls:
//
//	INPUT ── first rule (or last: chainInsertMode) ──► rs-INPUT
//	rs-INPUT:  clear our marks ─► rs-base1 ─► rs-base2 ─► allowed? ACCEPT : RETURN
//
//	prerouting, output    <= -300  raw
//	prerouting > -300, postrouting mangle
//	input, forward, output > -300  filter
//
// An Accept sets two bits of the mark (lower.go) and returns; behind each jump
// stands a rule that returns if the bit is set. One that yields sets one bit
// only: what nobody of ours has accepted without Yield, the rules of others
// judge. A dispatch is a list of interfaces, or a tree; see dispatch.go.
// FromHost is a bit that mangle FORWARD sets on what came in by an interface,
// for mangle POSTROUTING, because xtables does not match the absence of one.
// Reject is said where the kernel lets it be said, in filter; elsewhere it is
// Drop.
//
// # Sets that are too large
//
// A set with more members than it may hold has only some. A rule that would
// let more through for that is changed as in package nftables: a Drop or
// Reject for members of it loses the match, an Accept for all but members of
// it is left out; OverSize names the set.
//
// # What others do
//
// Neither variant guards our chains. Reconcile looks at the kernel without
// running a program (eyes.go) and asks to be called again after 50 ms, or where
// a look takes more than a third of a millisecond, after 150 times as long, up
// to 0.9 s; what was altered is repaired then. Of
// sets that have, with those of others, more than 4,000 elements the look sees
// only their number; a Resync sees the rest.
//
// # Limits
//
// An interface whose name ends in + cannot be named. ICMP type 255 cannot be
// matched. A log prefix has 29 characters. Protocol 1 in IPv6 and 58 in IPv4
// have no types: a deny denies all of them, another rule matches none. Priorities
// order base chains among ours only.
//
// # Names
//
// Chains and sets are called rs-<name>, and sets of that beginning are ours if
// they are of the two types that we make, hash:net and hash:ip,port; a name that is too long or odd keeps
// its beginning and gets a hash. rs-c-<hash> are sets with the content that the
// hash says; a trailing ~n is a second set of the same name while it replaces
// the first. In capitals: the wrappers, rs-LET-<HOOK> that accepts, rs-ACCEPT
// and rs-YIELD, rs-MADE… that notes what nf_tables made for us (made.go).
package iptables
