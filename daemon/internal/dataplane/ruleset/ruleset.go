// SPDX-License-Identifier: Apache-2.0

// Package ruleset is wanted packet filtering as plain data with meaning:
// chains of rules, sets, and dispatch maps from interface to chain. It can be
// compared, printed as canonical text (text.go) and evaluated (eval.go), so
// that policy is tested without a kernel and kernels are tested against it.
// How a back end says it to the kernel is the back end's business.
package ruleset

import "net/netip"

// Kind is the kind of an Object.
type Kind uint8

// Kinds of object.
const (
	KindChain Kind = iota + 1
	KindSet
	KindMember
	KindDispatch
	KindEntry
	KindVerdicts
	KindVerdict
)

// ID names one object: a chain, a set, a dispatch map by Name; a set's member
// by the set's Name and Elem; a dispatch map's entry by the map's Name and the
// interface in Iface; what a verdict map holds by the map's Name and Elem.Net or
// Range.
type ID struct {
	Kind  Kind
	Name  string
	Elem  Element
	Iface string
	Range PortRange
}

// Element is a member of a set. Proto and Port are zero unless the set's
// type is TypeAddrPort.
type Element struct {
	Net   netip.Prefix
	Proto uint8
	Port  uint16
}

// Object is *Chain, *Set, Member, *Dispatch, Entry, *Verdicts or Ruling.
type Object interface{ isObject() }

// Family is an IP version.
type Family uint8

// Families. AnyFamily: both.
const (
	AnyFamily Family = 0
	IPv4      Family = 4
	IPv6      Family = 6
)

// Hook is a place in the packet path where the kernel enters a base chain.
type Hook uint8

// Hooks that Ripstop uses. NoHook: a chain reached by jump, goto or dispatch.
// At each hook, chains run in order of Priority.
const (
	NoHook Hook = iota
	HookPrerouting
	HookInput
	HookForward
	HookOutput
	HookPostrouting
)

// Chain is a list of rules, first to last.
type Chain struct {
	Hook Hook
	// Priority orders base chains of one hook, lowest first; kernel numbers
	// (-300 raw, -150 mangle, 0 filter, 100 source NAT).
	Priority int
	// Yield, of a base chain: whatever it accepts it leaves to others, as if
	// each Accept reached from it had Yield.
	Yield bool
	Rules []Rule
}

// SetType is what a set's elements are.
type SetType uint8

// Set types: prefixes of one family; address, protocol and port.
const (
	TypeNet SetType = iota + 1
	TypeAddrPort
)

// Set is a named set of one family. Overlapping prefixes are allowed: an
// address is in the set if any member covers it.
type Set struct {
	Family Family
	Type   SetType
	// MaxSize is the largest number of members that the kernel shall hold;
	// 0: the back end's limit.
	MaxSize int
}

// Member is the value of a set member that is wanted.
type Member struct{}

// Dispatch is a map from interface name to chain.
type Dispatch struct{}

// Entry sends an interface's packets to a chain (Goto), or, if Chain is empty,
// accepts them and leaves them to others (an Accept with Yield).
type Entry struct{ Chain string }

func (*Chain) isObject()    {}
func (*Set) isObject()      {}
func (Member) isObject()    {}
func (*Dispatch) isObject() {}
func (Entry) isObject()     {}

// Rule is a match and an action. A rule whose Match is zero matches all.
type Rule struct {
	Match  Match
	Action Action
	// Counter counts packets and bytes that matched.
	Counter bool
	// Comment names the rule for people and for counters; at most 100 bytes.
	Comment string
	// KeepFlows, of a rule that drops or rejects: established flows that it
	// would deny if they began now are not cut. Back ends do not look at it.
	KeepFlows bool
}

// CtState is a set of connection-tracking states.
type CtState uint8

// Connection-tracking states.
const (
	CtInvalid CtState = 1 << iota
	CtEstablished
	CtRelated
	CtNew
	CtUntracked
)

// CutLabel is the label that connection tracking has on a connection that was
// ended though its entry stays: the last of 128 (XT_CONNLABEL_MAXBIT), which
// is the least likely to be another program's. Where a back end cannot match
// it, a rule with Cut matches nothing.
const CutLabel = 127

// Match is a conjunction: everything that is not zero must hold.
type Match struct {
	Family       Family
	InInterface  string
	OutInterface string
	// InPrefix and OutPrefix are beginnings of interface names; a packet
	// without that interface does not match.
	InPrefix, OutPrefix string
	// FromHost: the packet was made on this host (it has no input interface).
	FromHost bool
	// CtState: the packet's state is one of these. Neither it nor DNATed says
	// anything where tracking has not begun (see NoTrack).
	CtState CtState
	// DNATed, NotDNATed: the connection's destination was, was not rewritten.
	DNATed, NotDNATed bool
	// Cut: the packet is of a connection that is known but was ended (see
	// CutLabel). A new connection is never that.
	Cut bool
	// MarkMask not zero: packet mark & MarkMask == Mark.
	Mark, MarkMask uint32
	// Protocol 0: any; NotProtocol 0: no restriction.
	Protocol, NotProtocol uint8
	// ICMP and NotICMP need Protocol 1 or 58. NotICMP with a code is "not
	// (type and code)".
	ICMP, NotICMP *ICMP
	// HopLimit255: IPv6 hop limit is 255 (needs Family IPv6).
	HopLimit255 bool
	// Fragment: an IPv6 fragment header is still there (needs Family IPv6),
	// though the kernel has put together what belongs together. It takes away
	// one; what has a second, or a length that no fragment can have, stays.
	Fragment bool
	// Prefix lists are ORed inside, need Family to be their family.
	Src, NotSrc, Dst, NotDst []netip.Prefix
	// Sets are ANDed; need Family; TypeNet.
	SrcSets, NotSrcSets, DstSets, NotDstSets []string
	// Port ranges are ORed inside; they match TCP, UDP, SCTP, UDPLite only
	// and need Protocol to be one of these.
	SrcPorts, NotSrcPorts, DstPorts, NotDstPorts []PortRange
	// Port sets (TypeAddrPort) hold (address, protocol, port) of that side;
	// ORed inside, for Not: none of. Need Family.
	SrcPortSets, NotSrcPortSets, DstPortSets, NotDstPortSets []string
}

// ICMP is a type with an optional code.
type ICMP struct {
	Type    uint8
	Code    uint8
	HasCode bool
}

// PortRange is Min to Max, both included.
type PortRange struct{ Min, Max uint16 }

// Verb is what an Action does.
type Verb uint8

// Verbs. Accept ends this base chain (later base chains of the hook still
// run); Drop and Reject end the packet. Return goes back to the caller's next
// rule; Jump calls Target, Goto continues in it without coming back. Dispatch
// looks the interface up in the map Target and continues in the chain found,
// without coming back; not found: next rule. Classify does so with a verdict
// map and a field of the packet (verdicts.go). Log, SetMark and NoTrack go on
// with the next rule. NoTrack keeps connection tracking away from the packet,
// whose state is then untracked; it works where tracking has not begun, in
// prerouting and output at priority -300.
const (
	Accept Verb = iota + 1
	Drop
	Reject
	Return
	Jump
	Goto
	DispatchIn
	DispatchOut
	Classify
	Log
	SetMark
	NoTrack
)

// Action is what a rule does.
type Action struct {
	Verb Verb
	// Target is the chain of Jump and Goto, the map of Dispatch and Classify.
	Target string
	// Field is what Classify looks up.
	Field Field
	// LogPrefix is the text of Log, at most 127 bytes.
	LogPrefix string
	// LogRate packets per LogUnit ("second", "minute", "hour", "day") with
	// LogBurst; 0: unlimited.
	LogRate  uint64
	LogUnit  string
	LogBurst uint32
	// SetMark: mark = mark &^ MarkMask | Mark.
	Mark, MarkMask uint32
	// Yield, of an Accept in a base chain: we have nothing against the
	// packet, and leave it to others. Where other programs' rules share the
	// kernel's chain with ours (iptables) they still judge it; where they
	// have chains of their own (nftables) they do so always, and Yield says
	// nothing.
	Yield bool
}

// Count is what a counter has counted.
type Count struct{ Packets, Bytes uint64 }
