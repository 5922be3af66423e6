// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// Chains that are always there, beside the base chains of dispatch.go.
const (
	chainFailsafeIn   = "failsafe-in"
	chainFailsafeOut  = "failsafe-out"
	chainEssentialIn  = "essential-in"
	chainEssentialOut = "essential-out"
	chainPass         = "pass"
	chainPassDone     = "pass-done"
)

// ICMPv6 without which a host falls off its link: multicast listener
// discovery (RFC 2710, RFC 3810), router and neighbour discovery (RFC 4861).
// The kernel itself checks their hop limit and addresses.
var (
	essentialIn  = []uint8{130, 131, 132, 143, 134, 135, 136}
	essentialOut = []uint8{131, 132, 143, 133, 135, 136}
)

const protoICMPv6 = 58

func (p *Planner) planFixed() {
	p.wantChain(chainFailsafeIn, &ruleset.Chain{Rules: failsafeRules(p.settings.FailsafeInbound, true)})
	p.wantChain(chainFailsafeOut, &ruleset.Chain{Rules: failsafeRules(p.settings.FailsafeOutbound, false)})
	p.wantChain(chainEssentialIn, &ruleset.Chain{Rules: essentialRules(essentialIn)})
	p.wantChain(chainEssentialOut, &ruleset.Chain{Rules: essentialRules(essentialOut)})
	// Reached by goto from a policy's chain: the mark is set and the packet
	// is back in the tier's chain, behind the jump to the policy.
	p.wantChain(chainPass, &ruleset.Chain{Rules: []ruleset.Rule{
		{Action: ruleset.Action{Verb: ruleset.SetMark, Mark: MarkPass, MarkMask: MarkPass}},
	}})
	// Reached by goto from a tier's chain: the mark is clear and the packet
	// is back in the endpoint's chain, behind the jump to the tier.
	p.wantChain(chainPassDone, &ruleset.Chain{Rules: []ruleset.Rule{clearPass()}})
}

func clearPass() ruleset.Rule {
	return ruleset.Rule{Action: ruleset.Action{Verb: ruleset.SetMark, MarkMask: MarkPass}}
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

func failsafeRules(list []intent.Failsafe, inbound bool) []ruleset.Rule {
	var rules []ruleset.Rule
	for _, f := range list {
		m := ruleset.Match{
			Protocol: f.Protocol,
			DstPorts: []ruleset.PortRange{{Min: f.Port, Max: f.Port}},
		}
		if f.Net.IsValid() {
			m.Family = familyOf(f.Net)
			if inbound {
				m.Src = append(m.Src, f.Net)
			} else {
				m.Dst = append(m.Dst, f.Net)
			}
		}
		rules = append(rules, ruleset.Rule{
			Match: m, Action: ruleset.Action{Verb: ruleset.Accept}, Counter: true, Comment: "failsafe",
		})
	}
	return rules
}
