// SPDX-License-Identifier: Apache-2.0

package ruleset

import "net/netip"

// Way is the way of a flow through this host, as its first packet went.
type Way uint8

// Ways. Looped: from this host to itself, over the loopback interface.
const (
	ToHost Way = iota + 1
	FromHost
	Forwarded
	Looped
)

// String is the way in words.
func (w Way) String() string {
	return [...]string{"", "to host", "from host", "forwarded", "looped"}[w]
}

// Flow is a connection as its first packet shows it.
type Flow struct {
	Way      Way
	Protocol uint8
	// Src and Dst are what the first packet had when it came or was made,
	// before any rewriting.
	Src, Dst           netip.Addr
	SrcPort, DstPort   uint16
	ICMPType, ICMPCode uint8
	// DNATed: the destination was rewritten, to NewDst and NewDstPort. They
	// mean nothing otherwise.
	DNATed     bool
	NewDst     netip.Addr
	NewDstPort uint16
	// In are the interfaces by which the first packet may have come, Out
	// those by which it may have left: one each where that is known. In is
	// not looked at for FromHost, Out not for ToHost, and neither for Looped.
	In, Out []string
}

// loopback is the interface of flows that do not leave the host.
const loopback = "lo"

// Priorities of the kernel between which a packet changes
// (<linux/netfilter_ipv4.h>): destinations are rewritten in prerouting and
// output.
const priorityDNAT = -100

// Judge is what becomes of a flow that begins now: its first packet goes
// through all hooks of its way, in and out by the interfaces given. A rewritten
// destination is seen where the kernel shows it: in prerouting and output from
// priority -100 on, and at all later hooks. Trace.Mark is the packet's mark at
// the end.
func (s *State) Judge(f *Flow, in, out string) (Verdict, Trace) {
	p := Packet{
		Src: f.Src, Dst: f.Dst, Protocol: f.Protocol, SrcPort: f.SrcPort, DstPort: f.DstPort,
		ICMPType: f.ICMPType, ICMPCode: f.ICMPCode, State: CtNew, HopLimit: 64,
	}
	w := walk{state: s, flow: f, packet: p}
	ok := false
	switch f.Way {
	case ToHost:
		ok = w.at(HookPrerouting, in, "") && w.at(HookInput, in, "")
	case FromHost:
		ok = w.at(HookOutput, "", out) && w.at(HookPostrouting, "", out)
	case Forwarded:
		ok = w.at(HookPrerouting, in, "") && w.at(HookForward, in, out) && w.at(HookPostrouting, in, out)
	case Looped:
		ok = w.at(HookOutput, "", loopback) && w.at(HookPostrouting, "", loopback) &&
			w.at(HookPrerouting, loopback, "") && w.at(HookInput, loopback, "")
	default:
		panic("ruleset: flow without a way")
	}
	w.trace.Mark = w.packet.Mark
	if ok {
		return Accepted, w.trace
	}
	return w.verdict, w.trace
}

// walk is a flow's first packet on its way.
type walk struct {
	state   *State
	flow    *Flow
	packet  Packet
	trace   Trace
	verdict Verdict
}

// at lets the packet through the base chains of a hook; false: it ended there.
func (w *walk) at(h Hook, in, out string) bool {
	if w.state.base == nil {
		w.state.indexBase()
	}
	w.packet.In, w.packet.Out = in, out
	for _, name := range w.state.base[h] {
		early := h == HookPrerouting || h == HookOutput
		if !early || w.state.Chains[name].Priority >= priorityDNAT {
			w.rewrite()
		}
		e := evaluation{
			state: w.state, packet: &w.packet, trace: &w.trace,
			early: w.state.Chains[name].Priority < trackingBegins,
		}
		if w.verdict = e.chain(name, 0); w.verdict == Dropped || w.verdict == Rejected {
			return false
		}
		if w.trace.NoTrack { // then it is not rewritten either
			w.packet.State = CtUntracked
		}
	}
	w.rewrite()
	w.verdict = Accepted
	return true
}

// rewrite gives the packet its new destination, if it gets one.
func (w *walk) rewrite() {
	if w.flow.DNATed && w.packet.State != CtUntracked {
		w.packet.DNATed, w.packet.Dst, w.packet.DstPort = true, w.flow.NewDst, w.flow.NewDstPort
	}
}

// Cuts tells whether a change from the ruleset before to the ruleset now ends
// a flow that is established: before let its like begin, and now does not,
// whatever interfaces of those that are possible it used. A flow that before
// would not have let begin is not ended (it is older than before, or was kept),
// nor is one that is denied by a rule with KeepFlows.
func Cuts(before, now *State, f *Flow) bool {
	was := false
	for _, in := range f.ins() {
		for _, out := range f.outs() {
			switch fateOf(before, now, f, in, out) {
			case goesOn:
				return false
			case ended:
				was = true
			}
		}
	}
	return was
}

// fateOf is what becomes of a flow that goes by given interfaces.
func fateOf(before, now *State, f *Flow, in, out string) fate {
	v, t := now.Judge(f, in, out)
	if v == Accepted || now.Chains[t.Chain].Rules[t.Rule].KeepFlows {
		return goesOn
	}
	if v, _ = before.Judge(f, in, out); v == Accepted {
		return ended
	}
	return neverWent
}

func (f *Flow) ins() []string {
	if f.Way == FromHost || f.Way == Looped {
		return anyInterface
	}
	return f.In
}

func (f *Flow) outs() []string {
	if f.Way == ToHost || f.Way == Looped {
		return anyInterface
	}
	return f.Out
}

// anyInterface stands for an interface that Judge does not look at.
var anyInterface = []string{""}

// Answer is the flow that the other end would begin if its next packet were
// taken for the first of a flow. A tracked TCP connection that is forgotten is
// taken up again by the kernel with any of its packets, from either end.
func (f *Flow) Answer() Flow {
	src, srcPort := f.Dst, f.DstPort
	if f.DNATed {
		src, srcPort = f.NewDst, f.NewDstPort
	}
	a := Flow{
		Protocol: f.Protocol, Src: src, SrcPort: srcPort, Dst: f.Src, DstPort: f.SrcPort,
		ICMPType: f.ICMPType, ICMPCode: f.ICMPCode, In: f.Out, Out: f.In,
	}
	a.Way = map[Way]Way{ToHost: FromHost, FromHost: ToHost, Forwarded: Forwarded, Looped: Looped}[f.Way]
	return a
}
