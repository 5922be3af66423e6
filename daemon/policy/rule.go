// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/selector"
)

// rule is a rule as a list of conditions that must all hold.
//
// A condition that cannot be understood or enforced is broken. Whatever the
// author meant, a broken rule must not let more through than that: an Allow,
// Pass or Log with a broken condition matches nothing, a Deny matches as if
// the condition were absent. Broken are:
//
//	a net that does not parse            breaks its whole list
//	a selector that does not parse
//	a protocol whose name is not known
//	an IP version other than 4 and 6
//	icmp, notICMP                        without protocol ICMP or ICMPv6, or
//	                                     with a code but no type, or with a
//	                                     number that is not 0 to 255
//	ports given by number                without a protocol that has ports, or
//	                                     a range in the wrong order
//	http, services                       always, until something enforces them
type rule struct {
	action      api.Action
	text        string
	sourcePorts bool // it asks for source ports
	conditions  []condition
}

// condition is one restriction of a rule. Exactly one of its fields is set.
type condition struct {
	// broken says what is wrong with the condition.
	broken string
	// fails says why the flow does not meet the condition; empty: it does.
	fails func(w *World, f Flow) string
}

// match tells whether the rule matches, and if not, why.
func (r *rule) match(w *World, f Flow) (matched bool, why string) {
	var ignored []string
	for _, c := range r.conditions {
		switch {
		case c.broken != "" && r.action != api.Deny:
			return false, c.broken + ", so the rule matches nothing"
		case c.broken != "":
			ignored = append(ignored, c.broken+", so it is denied regardless")
		default:
			if why := c.fails(w, f); why != "" {
				return false, why
			}
		}
	}
	return true, strings.Join(ignored, "; ")
}

// newRule reads a rule of what key names: a policy or profile. An unknown
// action is read as Deny.
func newRule(r api.Rule, of api.Key) *rule {
	n := &rule{action: r.Action, text: ruleText(r), sourcePorts: len(r.Source.Ports)+len(r.Source.NotPorts) > 0}
	if !slices.Contains([]api.Action{api.Allow, api.Deny, api.Log, api.Pass}, r.Action) {
		n.action = api.Deny
	}
	n.ipVersion(r)
	n.protocol(r)
	n.icmp(r)
	n.side(source, r.Source, r, of)
	n.side(destination, r.Destination, r, of)
	if r.HTTP != nil {
		n.breaks("HTTP is not looked at")
	}
	return n
}

func bothDirections(ingress, egress []api.Rule, of api.Key) map[api.PolicyType][]*rule {
	rules := map[api.PolicyType][]*rule{}
	for _, r := range ingress {
		rules[api.Ingress] = append(rules[api.Ingress], newRule(r, of))
	}
	for _, r := range egress {
		rules[api.Egress] = append(rules[api.Egress], newRule(r, of))
	}
	return rules
}

func (n *rule) breaks(why string) { n.conditions = append(n.conditions, condition{broken: why}) }

func (n *rule) needs(fails func(w *World, f Flow) string) {
	n.conditions = append(n.conditions, condition{fails: fails})
}

// needsFamily binds the rule to an IP version.
func (n *rule) needsFamily(family int, why string) {
	n.needs(func(_ *World, f Flow) string {
		if f.family() == family {
			return ""
		}
		return why + ", and this is IPv" + strconv.Itoa(f.family())
	})
}

func (n *rule) ipVersion(r api.Rule) {
	switch {
	case r.IPVersion == nil:
	case *r.IPVersion == 4 || *r.IPVersion == 6:
		n.needsFamily(*r.IPVersion, "the rule is for IPv"+strconv.Itoa(*r.IPVersion)+" only")
	default:
		n.breaks("there is no IP version " + strconv.Itoa(*r.IPVersion))
	}
}

func (n *rule) protocol(r api.Rule) {
	want := protocolOf(r)
	if r.Protocol != nil && want == 0 {
		n.breaks("protocol " + strconv.Quote(r.Protocol.Name) + " is not known")
	}
	if want != 0 {
		switch want {
		case protoICMP:
			n.needsFamily(4, "ICMP is of IPv4 only")
		case protoICMPv6:
			n.needsFamily(6, "ICMPv6 is of IPv6 only")
		}
		n.needs(func(_ *World, f Flow) string {
			if f.Protocol == want {
				return ""
			}
			return "the protocol is " + protocolName(f.Protocol) + ", not " + protocolName(want)
		})
	}
	if r.NotProtocol != nil {
		not := r.NotProtocol.Number()
		if not == 0 {
			n.breaks("protocol " + strconv.Quote(r.NotProtocol.Name) + " is not known")
			return
		}
		n.needs(func(_ *World, f Flow) string {
			if f.Protocol != not {
				return ""
			}
			return "the protocol is " + protocolName(not)
		})
	}
}

// protocolOf is the protocol a rule asks for; 0: none.
func protocolOf(r api.Rule) uint8 {
	if r.Protocol == nil {
		return 0
	}
	return r.Protocol.Number()
}

func (n *rule) icmp(r api.Rule) {
	for _, fields := range []*api.ICMPFields{r.ICMP, r.NotICMP} {
		if fields == nil || fields.Type == nil && fields.Code == nil {
			continue // no restriction
		}
		p := protocolOf(r)
		if p != protoICMP && p != protoICMPv6 {
			n.breaks("an ICMP type needs protocol ICMP or ICMPv6")
			continue
		}
		if fields.Type == nil {
			n.breaks("an ICMP code needs a type")
			continue
		}
		if !isByte(fields.Type) || !isByte(fields.Code) {
			n.breaks("ICMP types and codes are 0 to 255")
			continue
		}
		negated := fields == r.NotICMP
		n.needs(func(_ *World, f Flow) string {
			same := int(f.ICMPType) == *fields.Type && (fields.Code == nil || int(f.ICMPCode) == *fields.Code)
			if same != negated {
				return ""
			}
			is := "the ICMP type is " + strconv.Itoa(int(f.ICMPType)) + " code " + strconv.Itoa(int(f.ICMPCode))
			if negated {
				return is
			}
			return is + ", not " + icmpText(*fields)
		})
	}
}

func isByte(n *int) bool { return n == nil || *n >= 0 && *n <= 255 }

// side adds the conditions on the source or the destination.
func (n *rule) side(side string, e api.EntityRule, r api.Rule, of api.Key) {
	if e.Services != nil {
		n.breaks("services are not looked at")
	}
	positive, negative, err := entitySelectors(e, of)
	switch {
	case err != nil:
		n.breaks("the selector of the " + side + " cannot be read")
	case positive != nil:
		what := selectorText(e)
		n.needs(func(w *World, f Flow) string {
			if a := f.address(side); !w.selects(positive, a) {
				return side + " " + a.String() + " is of no endpoint or network set with " + what
			}
			return ""
		})
	case negative != nil:
		n.needs(func(w *World, f Flow) string {
			if a := f.address(side); w.selects(negative, a) {
				return side + " " + a.String() + " is of an endpoint or network set with " + e.NotSelector
			}
			return ""
		})
	}
	n.nets(side, e)
	n.ports(side, e, r, positive)
}

func (n *rule) nets(side string, e api.EntityRule) {
	if nets, err := parseNets(e.Nets); err != nil {
		n.breaks(side + " " + err.Error())
	} else if len(nets) > 0 {
		n.needs(func(_ *World, f Flow) string {
			if a := f.address(side); !inAny(nets, a) {
				return side + " " + a.String() + " is not in " + strings.Join(e.Nets, ", ")
			}
			return ""
		})
	}
	not, err := parseNets(e.NotNets)
	if err != nil {
		n.breaks(side + " " + err.Error())
		return
	}
	if len(not) == 0 {
		return
	}
	n.needs(func(_ *World, f Flow) string {
		if a := f.address(side); inAny(not, a) {
			return side + " " + a.String() + " is in " + strings.Join(e.NotNets, ", ")
		}
		return ""
	})
	// Nets of one family say nothing of the other. What they except from a
	// Deny is still denied there; what they leave of an Allow, Pass or Log
	// is not let through there.
	if family, one := oneFamily(not); one && n.action != api.Deny {
		n.needsFamily(family, "the "+side+" nets that are excepted are IPv"+strconv.Itoa(family))
	}
}

func (n *rule) ports(side string, e api.EntityRule, r api.Rule, positive *selector.Selector) {
	protocol := protocolOf(r)
	check := func(ports []api.Port, negated bool) {
		if len(ports) == 0 {
			return
		}
		if !hasPorts(protocol) && slices.ContainsFunc(ports, func(p api.Port) bool { return p.Name == "" }) {
			n.breaks("ports given by number need a protocol that has ports")
			return
		}
		if slices.ContainsFunc(ports, func(p api.Port) bool { return p.Min > p.Max }) {
			n.breaks("a range of " + side + " ports is in the wrong order")
			return
		}
		n.needs(func(w *World, f Flow) string {
			in := hasPorts(f.Protocol) && slices.ContainsFunc(ports, func(p api.Port) bool {
				if p.Name != "" {
					return w.isNamedPort(p.Name, positive, f, side)
				}
				return p.Min <= f.port(side) && f.port(side) <= p.Max
			})
			switch {
			case in != negated:
				return ""
			case !hasPorts(f.Protocol):
				return protocolName(f.Protocol) + " has no ports"
			case negated:
				return side + " port " + strconv.Itoa(int(f.port(side))) + " is in " + portsText(ports)
			}
			return side + " port " + strconv.Itoa(int(f.port(side))) + " is not in " + portsText(ports)
		})
	}
	check(e.Ports, false)
	check(e.NotPorts, true)
}

// entitySelectors are the selector that the address must have and, only if
// there is none, the selector that it must not have. In a namespace a rule
// that selects at all selects inside the namespace, unless it has a
// namespaceSelector.
func entitySelectors(e api.EntityRule, of api.Key) (positive, negative *selector.Selector, err error) {
	var parts []*selector.Selector
	add := func(s *selector.Selector, e error) {
		if e != nil && err == nil {
			err = e
		}
		parts = append(parts, s)
	}
	if e.Selector != "" {
		add(selector.Parse(e.Selector))
	}
	if e.ServiceAccounts != nil {
		if len(e.ServiceAccounts.Names) > 0 {
			add(selector.In(api.LabelServiceAccount, e.ServiceAccounts.Names...), nil)
		}
		if e.ServiceAccounts.Selector != "" {
			add(serviceAccountSelector(e.ServiceAccounts.Selector))
		}
	}
	if e.NamespaceSelector != "" {
		add(namespaceSelector(e.NamespaceSelector))
	} else if namespaced(of) && (len(parts) > 0 || e.NotSelector != "") {
		add(selector.Equal(api.LabelNamespace, of.Namespace), nil)
	}
	if e.NotSelector != "" {
		not, bad := selector.Parse(e.NotSelector)
		switch {
		case bad != nil:
			err = bad
		case len(parts) == 0:
			return nil, not, err
		default:
			// Both are asked of one and the same endpoint or network set.
			parts = append(parts, selector.Not(not))
		}
	}
	if err != nil || len(parts) == 0 {
		return nil, nil, err
	}
	return selector.And(parts...), nil, nil
}

// selects tells whether the address is of an endpoint or network set that the
// selector matches.
func (w *World) selects(s *selector.Selector, a netip.Addr) bool {
	return slices.ContainsFunc(w.members, func(m *member) bool {
		return inAny(m.nets, a) && s.Evaluate(m.labels)
	})
}

// isNamedPort tells whether the flow's side is such a port of an endpoint that
// the selector (nil: any) matches. It is of the flow's protocol, which is the
// rule's if the rule has one.
func (w *World) isNamedPort(name string, s *selector.Selector, f Flow, side string) bool {
	return slices.ContainsFunc(w.members, func(m *member) bool {
		return inAny(m.nets, f.address(side)) && (s == nil || s.Evaluate(m.labels)) &&
			slices.ContainsFunc(m.ports, func(p api.EndpointPort) bool {
				return p.Name == name && p.Port == f.port(side) && p.Protocol.Number() == f.Protocol
			})
	})
}

// parseNets reads all nets, or names the first that cannot be read.
func parseNets(texts []string) (nets []netip.Prefix, err error) {
	for _, t := range texts {
		p, ok := parseNet(t)
		if !ok {
			return nil, fmt.Errorf("net %q cannot be read", t)
		}
		nets = append(nets, p)
	}
	return nets, nil
}

// oneFamily tells whether all nets are of one family, and of which.
func oneFamily(nets []netip.Prefix) (family int, one bool) {
	family = familyOf(nets[0].Addr())
	return family, !slices.ContainsFunc(nets, func(p netip.Prefix) bool { return familyOf(p.Addr()) != family })
}
