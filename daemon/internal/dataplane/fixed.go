// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// Chains that are always there, beside the base chains of dispatch.go.
const (
	chainFailsafeIn        = "failsafe-in"
	chainFailsafeOut       = "failsafe-out"
	chainFailsafeRawIn     = "failsafe-raw-in"
	chainFailsafeRawOut    = "failsafe-raw-out"
	chainEssentialIn       = "essential-in"
	chainEssentialOut      = "essential-out"
	chainEssentialWorkload = "essential-workload"
	chainPass              = "pass"
	chainPassDone          = "pass-done"
	chainAccepted          = "accepted"
	chainAllowUntracked    = "allow-untracked"
	chainAllowPreDNAT      = "allow-pre-dnat"
	chainLoopbackGuard     = "loopback-guard"
	chainToHost            = "workload-to-host"
	chainNoPorts           = "no-ports"
)

// ICMPv6 without which a host falls off its link: multicast listener
// discovery (RFC 2710, RFC 3810), router and neighbour discovery (RFC 4861).
// The kernel itself checks their hop limit and addresses. Of a workload the
// host hears what a router hears: solicitations, but no advertisements.
var (
	essentialIn       = []uint8{130, 131, 132, 143, 134, 135, 136}
	essentialOut      = []uint8{131, 132, 143, 133, 135, 136}
	essentialWorkload = []uint8{130, 131, 132, 143, 133, 135, 136}
)

const (
	protoICMP   = 1
	protoICMPv6 = 58
	protoIPIP   = 4
	protoUDP    = 17
)

func (p *Planner) planFixed() {
	s := p.settings
	in := failsafeRules(s.FailsafeInbound, peerIsSource, portIsDestination)
	out := failsafeRules(s.FailsafeOutbound, peerIsDestination, portIsDestination)
	p.wantChain(chainFailsafeIn, &ruleset.Chain{Rules: in})
	p.wantChain(chainFailsafeOut, &ruleset.Chain{Rules: out})
	// Before connection tracking, answers to failsafe traffic of the other
	// direction are known by their source port only.
	answersIn := failsafeRules(s.FailsafeOutbound, peerIsSource, portIsSource)
	answersOut := failsafeRules(s.FailsafeInbound, peerIsDestination, portIsSource)
	p.wantChain(chainFailsafeRawIn, &ruleset.Chain{Rules: slices.Concat(in, answersIn)})
	p.wantChain(chainFailsafeRawOut, &ruleset.Chain{Rules: slices.Concat(out, answersOut)})
	p.wantChain(chainEssentialIn, &ruleset.Chain{Rules: essentialRules(essentialIn)})
	p.wantChain(chainEssentialOut, &ruleset.Chain{Rules: essentialRules(essentialOut)})
	p.wantChain(chainEssentialWorkload, &ruleset.Chain{Rules: essentialRules(essentialWorkload)})
	// Reached by goto from a policy's chain: the mark is set and the packet
	// is back in the tier's chain, behind the jump to the policy.
	p.wantChain(chainPass, &ruleset.Chain{Rules: []ruleset.Rule{
		{Action: ruleset.Action{Verb: ruleset.SetMark, Mark: MarkPass, MarkMask: MarkPass}},
	}})
	// Reached by goto from a tier's chain: the mark is clear and the packet
	// is back in the endpoint's chain, behind the jump to the tier.
	p.wantChain(chainPassDone, &ruleset.Chain{Rules: one(clearMark(MarkPass))})
	// Reached by goto from policies: what is allowed before connection
	// tracking or destination NAT is not judged again by the endpoint.
	accept := ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Accept}}
	setAccept := ruleset.Rule{Action: ruleset.Action{Verb: ruleset.SetMark, Mark: MarkAccept, MarkMask: MarkAccept}}
	noTrack := ruleset.Rule{Action: ruleset.Action{Verb: ruleset.NoTrack}}
	p.wantChain(chainAllowUntracked, &ruleset.Chain{Rules: []ruleset.Rule{jump(chainNoPorts), noTrack, setAccept, accept}})
	p.wantChain(chainNoPorts, &ruleset.Chain{Rules: noPorts()})
	p.wantChain(chainAllowPreDNAT, &ruleset.Chain{Rules: []ruleset.Rule{setAccept, accept}})
	p.wantChain(chainAccepted, &ruleset.Chain{Rules: []ruleset.Rule{clearMark(MarkAccept), accept}})
	p.wantChain(chainLoopbackGuard, &ruleset.Chain{Rules: loopbackGuard()})
	p.wantChain(chainToHost, &ruleset.Chain{Rules: p.toHost()})
}

// noPorts drops packets of protocols with ports in which there are none to be
// read: a Deny for a port would not match them, an Allow for all ports would.
// The kernel puts fragments together before it asks us, but not what hides
// behind the fragment header of a whole packet (RFC 6946); of a later fragment
// there nftables takes part of the IPv6 header for the ports (seen with Linux
// 6.18). Connection tracking takes all of these for invalid, so this is for
// where invalid packets are not dropped.
func noPorts() []ruleset.Rule {
	read := one(refuse(ruleset.Match{Family: ruleset.IPv6, Fragment: true}, "fragment of what cannot be put together"))
	var rest []ruleset.Rule
	for _, proto := range portProtocols {
		read = append(read, ruleset.Rule{
			Match:  ruleset.Match{Protocol: proto, DstPorts: []ruleset.PortRange{{Min: 0, Max: 1<<16 - 1}}},
			Action: ruleset.Action{Verb: ruleset.Return},
		})
		rest = append(rest, refuse(ruleset.Match{Protocol: proto}, "ports cannot be read"))
	}
	return append(read, rest...)
}

func marked(bit uint32) ruleset.Match { return ruleset.Match{Mark: bit, MarkMask: bit} }

func clearMark(bit uint32) ruleset.Rule {
	return ruleset.Rule{Action: ruleset.Action{Verb: ruleset.SetMark, MarkMask: bit}}
}

// toEssential jumps to one of the chains of essential ICMPv6.
func toEssential(chain string) ruleset.Rule {
	r := jump(chain)
	r.Match = ruleset.Match{Family: ruleset.IPv6, Protocol: protoICMPv6}
	return r
}

// untrackedMTU accepts what routers say of the path's MTU (ICMP type 3 code 4,
// ICMPv6 type 2), at an endpoint with doNotTrack policy. About a tracked
// connection it is known as related; about a flow that is not tracked it seems
// to belong to no connection, and stands before the rule that drops such.
func (s *subject) untrackedMTU() []ruleset.Rule {
	if s.host == nil || !s.judges(stageUntracked, api.Ingress) && !s.judges(stageUntracked, api.Egress) {
		return nil
	}
	accept := func(m ruleset.Match) ruleset.Rule {
		return ruleset.Rule{Match: m, Action: ruleset.Action{Verb: ruleset.Accept}, Comment: "path MTU"}
	}
	return []ruleset.Rule{
		accept(ruleset.Match{Family: ruleset.IPv4, Protocol: protoICMP, ICMP: &ruleset.ICMP{Type: 3, Code: 4, HasCode: true}}),
		accept(ruleset.Match{Family: ruleset.IPv6, Protocol: protoICMPv6, ICMP: &ruleset.ICMP{Type: 2}}),
	}
}

func essentialRules(types []uint8) []ruleset.Rule {
	var rules []ruleset.Rule
	for _, t := range types {
		rules = append(rules, ruleset.Rule{
			Match: ruleset.Match{
				Family: ruleset.IPv6, Protocol: protoICMPv6, ICMP: &ruleset.ICMP{Type: t},
			},
			Action: ruleset.Action{Verb: ruleset.Accept},
		})
	}
	return rules
}

// Which side of a failsafe's packet is the peer, and which has the port.
type (
	failsafePeer bool
	failsafePort bool
)

const (
	peerIsSource      failsafePeer = true
	peerIsDestination failsafePeer = false
	portIsSource      failsafePort = true
	portIsDestination failsafePort = false
)

func failsafeRules(list []intent.Failsafe, peer failsafePeer, port failsafePort) []ruleset.Rule {
	var rules []ruleset.Rule
	for _, f := range list {
		m := ruleset.Match{Protocol: f.Protocol}
		ports := []ruleset.PortRange{{Min: f.Port, Max: f.Port}}
		comment := "failsafe"
		if port == portIsSource {
			m.SrcPorts, comment = ports, "answer of a failsafe"
		} else {
			m.DstPorts = ports
		}
		if f.Net.IsValid() {
			m.Family = familyOf(f.Net)
			if peer == peerIsSource {
				m.Src = append(m.Src, f.Net)
			} else {
				m.Dst = append(m.Dst, f.Net)
			}
		}
		rules = append(rules, ruleset.Rule{
			Match: m, Action: ruleset.Action{Verb: ruleset.Accept}, Counter: true, Comment: comment,
		})
	}
	return rules
}
