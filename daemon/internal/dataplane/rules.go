// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// origin is where a list of rules was written, for comments and log prefixes.
type origin struct {
	tier      string
	kind      string // short kind: gnp, np, pro
	namespace string
	name      string
	direction api.PolicyType
	// rule is the place of one rule in the list; only log prefixes say it.
	rule int
}

// kindProfile is the short kind of profiles.
const kindProfile = "pro"

// String is "gnp/web ingress" or "np/prod/db egress".
func (o origin) String() string {
	name := o.name
	if o.namespace != "" {
		name = o.namespace + "/" + name
	}
	return o.kind + "/" + name + " " + strings.ToLower(string(o.direction))
}

func policyOrigin(k api.Key, tier string, d api.PolicyType) origin {
	kind := map[api.Kind]string{api.KindGlobalNetworkPolicy: "gnp", api.KindNetworkPolicy: "np"}[k.Kind]
	return origin{tier: tier, kind: kind, namespace: k.Namespace, name: k.Name, direction: d}
}

// natSuffix ends the names of second renderings. Nothing that a tier, policy
// or endpoint can be called makes a name of it.
const natSuffix = "//nat"

// variant is one rendering of the chains of policies and profiles. Where a
// packet can be refused only by dropping it (postrouting), a second rendering
// of what judges egress is needed as soon as denied packets are to be
// answered; and before connection tracking and destination NAT, to allow is
// more than to accept, and to refuse is always to drop.
type variant struct {
	suffix string
	sort   sort
	deny   ruleset.Verb
	allow  string // the chain that Allow leads to; empty: Accept
}

var (
	untrackedVariant = variant{sort: sortUntracked, deny: ruleset.Drop, allow: chainAllowUntracked}
	preDNATVariant   = variant{sort: sortPreDNAT, deny: ruleset.Drop, allow: chainAllowPreDNAT}
	everyVariant     = []variant{{}, {suffix: natSuffix}, untrackedVariant, preDNATVariant}
)

// variants are the renderings of normal policies and of profiles; the first
// is the one for everywhere but postrouting.
func (p *Planner) variants(d api.PolicyType) []variant {
	if !p.settings.DenyReject {
		return []variant{{deny: ruleset.Drop}}
	}
	if d == api.Ingress {
		return []variant{{deny: ruleset.Reject}}
	}
	return []variant{{deny: ruleset.Reject}, {suffix: natSuffix, deny: ruleset.Drop}}
}

// sortVariants are the renderings of policies of a sort.
func (p *Planner) sortVariants(s sort, d api.PolicyType) []variant {
	switch s {
	case sortUntracked:
		return []variant{untrackedVariant}
	case sortPreDNAT:
		return []variant{preDNATVariant}
	case sortNormal:
	}
	return p.variants(d)
}

// policyRules renders a list of rules of a policy or profile.
func (p *Planner) policyRules(list []intent.Rule, o origin, v variant) []ruleset.Rule {
	var rules []ruleset.Rule
	keep := p.keeps(o.key())
	for i := range list {
		r := &list[i]
		if r.Never {
			continue
		}
		o.rule = r.Index
		action := p.action(r.Action, o, v)
		comment := fmt.Sprintf("%s %d", o, r.Index)
		for _, m := range matches(r) {
			rules = append(rules, ruleset.Rule{Match: m, Action: action, Counter: true, Comment: shorten(comment, 100), KeepFlows: keep && r.Action == api.Deny})
		}
	}
	return rules
}

func (p *Planner) action(a api.Action, o origin, v variant) ruleset.Action {
	switch a {
	case api.Allow:
		if v.allow != "" {
			return ruleset.Action{Verb: ruleset.Goto, Target: v.allow}
		}
		return ruleset.Action{Verb: ruleset.Accept}
	case api.Deny:
		return ruleset.Action{Verb: v.deny}
	case api.Pass:
		if o.kind == kindProfile { // on to the next profile; no tier looks at the mark
			return ruleset.Action{Verb: ruleset.Return}
		}
		return ruleset.Action{Verb: ruleset.Goto, Target: chainPass}
	case api.Log:
		s := p.settings
		return ruleset.Action{
			Verb: ruleset.Log, LogPrefix: logPrefix(s.LogPrefix, o),
			LogRate: uint64(s.LogRate), LogUnit: s.LogRateUnit, LogBurst: uint32(s.LogBurst),
		}
	}
	panic("dataplane: rule with action " + string(a))
}

// logPrefix expands %t tier, %k short kind, %p namespace/name, %n name, %r
// direction and place of the rule ("ingress 0"), and ends in ": " as Calico's
// does.
func logPrefix(format string, o origin) string {
	full := o.name
	if o.namespace != "" {
		full = o.namespace + "/" + o.name
	}
	s := strings.NewReplacer("%t", o.tier, "%k", o.kind, "%p", full, "%n", o.name,
		"%r", fmt.Sprintf("%s %d", strings.ToLower(string(o.direction)), o.rule)).Replace(format)
	return shorten(s, 125) + ": "
}

func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n]
}

// matches renders what a rule matches as conjunctions: one for each family
// that addresses bind it to, times the alternatives of numeric and named
// ports on each side, times the protocols if ports came without one.
func matches(r *intent.Rule) (out []ruleset.Match) {
	for _, f := range families(r) {
		out = append(out, matchesIn(r, f)...)
	}
	return out
}

// families are those that a rule is rendered for; AnyFamily is both at once.
func families(r *intent.Rule) []ruleset.Family {
	switch {
	case r.Protocol != 0 && r.Protocol == r.NotProtocol: // no packet is both
		return nil
	case r.Family == intent.AnyFamily && (bindsFamily(&r.Source) || bindsFamily(&r.Destination)):
		return bothFamilies
	}
	return []ruleset.Family{ruleset.Family(r.Family)}
}

var bothFamilies = []ruleset.Family{ruleset.IPv4, ruleset.IPv6}

// matchesIn are the matches of a rule for one of its families.
func matchesIn(r *intent.Rule, f ruleset.Family) (out []ruleset.Match) {
	notProtocol := r.NotProtocol
	if r.Protocol != 0 { // said already
		notProtocol = 0
	}
	m := ruleset.Match{
		Family: f, Protocol: r.Protocol, NotProtocol: notProtocol,
		ICMP: icmp(r.ICMP), NotICMP: icmp(r.NotICMP),
	}
	if !addresses(&m, f, r) {
		return nil
	}
	for _, src := range portAlternatives(&r.Source, f) {
		for _, dst := range portAlternatives(&r.Destination, f) {
			m := m
			m.SrcPorts, m.SrcPortSets = src.ports, src.sets
			m.DstPorts, m.DstPortSets = dst.ports, dst.sets
			m.NotSrcPorts, m.NotSrcPortSets = portRanges(r.Source.NotPorts), portSets(r.Source.NotNamedPorts, f)
			m.NotDstPorts, m.NotDstPortSets = portRanges(r.Destination.NotPorts), portSets(r.Destination.NotNamedPorts, f)
			out = append(out, withPortProtocol(m)...)
		}
	}
	return out
}

func bindsFamily(e *intent.Entity) bool {
	return len(e.Nets) > 0 || len(e.NotNets) > 0 || e.Set != "" || e.NotSet != "" ||
		len(e.NamedPorts) > 0 || len(e.NotNamedPorts) > 0
}

// addresses fills in the address matches for one family; false: the rule has
// nets, but none of this family, and so does not exist for it.
func addresses(m *ruleset.Match, f ruleset.Family, r *intent.Rule) bool {
	side := func(e *intent.Entity, nets, notNets *[]netip.Prefix, sets, notSets *[]string) bool {
		*nets, *notNets = ofFamily(e.Nets, f), ofFamily(e.NotNets, f)
		if e.Set != "" {
			*sets = []string{setName(e.Set, f)}
		}
		if e.NotSet != "" {
			*notSets = []string{setName(e.NotSet, f)}
		}
		return len(e.Nets) == 0 || len(*nets) > 0
	}
	return side(&r.Source, &m.Src, &m.NotSrc, &m.SrcSets, &m.NotSrcSets) &&
		side(&r.Destination, &m.Dst, &m.NotDst, &m.DstSets, &m.NotDstSets)
}

func ofFamily(nets []netip.Prefix, f ruleset.Family) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range nets {
		if familyOf(n) == f {
			out = append(out, n)
		}
	}
	return out
}

func familyOf(n netip.Prefix) ruleset.Family {
	if n.Addr().Is4() {
		return ruleset.IPv4
	}
	return ruleset.IPv6
}

// ports is one alternative of a side's ports: numeric or named, not both.
type ports struct {
	ports []ruleset.PortRange
	sets  []string
}

func portAlternatives(e *intent.Entity, f ruleset.Family) []ports {
	var out []ports
	if len(e.Ports) > 0 {
		out = append(out, ports{ports: portRanges(e.Ports)})
	}
	if len(e.NamedPorts) > 0 {
		out = append(out, ports{sets: portSets(e.NamedPorts, f)})
	}
	if out == nil {
		return []ports{{}}
	}
	return out
}

func portRanges(list []intent.PortRange) []ruleset.PortRange {
	var out []ruleset.PortRange
	for _, r := range list {
		out = append(out, ruleset.PortRange(r))
	}
	return out
}

func portSets(ids []string, f ruleset.Family) []string {
	var out []string
	for _, id := range ids {
		out = append(out, setName(id, f))
	}
	return out
}

// portProtocols are the protocols whose header begins with two ports.
var portProtocols = []uint8{6, 17, 132, 136}

// withPortProtocol makes sure that ports are only looked for in protocols
// that have them: a rule with ports and no protocol (validation refuses it)
// is said once for each such protocol; one with another protocol never
// matches.
func withPortProtocol(m ruleset.Match) []ruleset.Match {
	if len(m.SrcPorts)+len(m.DstPorts)+len(m.NotSrcPorts)+len(m.NotDstPorts) == 0 {
		return []ruleset.Match{m}
	}
	if m.Protocol != 0 {
		if !ruleset.HasPorts(m.Protocol) {
			return nil
		}
		return []ruleset.Match{m}
	}
	var out []ruleset.Match
	for _, proto := range portProtocols {
		if proto == m.NotProtocol {
			continue
		}
		n := m
		n.Protocol, n.NotProtocol = proto, 0
		out = append(out, n)
	}
	return out
}

func icmp(i *intent.ICMP) *ruleset.ICMP {
	if i == nil {
		return nil
	}
	v := ruleset.ICMP(*i)
	return &v
}
