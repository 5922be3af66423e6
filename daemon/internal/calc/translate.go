// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/selector"
)

// What becomes of a rule that cannot be enforced as written. Neither lets
// more through than was meant.
const (
	effectNever  = "the rule matches nothing"
	effectDenies = "the rule denies as if this restriction were not there"
	effectDeny   = "the rule denies"
)

// IANA's numbers of protocols that a rule treats in a special way.
const (
	protoICMP    = 1
	protoTCP     = 6
	protoUDP     = 17
	protoICMPv6  = 58
	protoSCTP    = 132
	protoUDPLite = 136
)

// setDef is a set that a rule needs. Port is empty for a set of addresses.
type setDef struct {
	id       string
	sel      *selector.Selector
	port     string
	protocol uint8 // of the port; 0: any
}

// netsOf is the set of the addresses that a selector stands for.
func netsOf(sel *selector.Selector) setDef { return setDef{id: sel.ID(), sel: sel} }

// portsOf is the set of the ports with a name on the endpoints that a
// selector stands for.
func portsOf(sel *selector.Selector, name string, protocol uint8) setDef {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d %s", sel.ID(), protocol, name))
	id := "n" + setIDs.EncodeToString(sum[:15])[:20]
	return setDef{id: id, sel: sel, port: name, protocol: protocol}
}

var setIDs = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// value is what is said of the set.
func (d *setDef) value() *intent.Set {
	if d.port == "" {
		return &intent.Set{Type: intent.Nets, Selector: d.sel.String()}
	}
	text := d.sel.String() + " port " + d.port
	if d.protocol != 0 {
		text += fmt.Sprintf(" of protocol %d", d.protocol)
	}
	return &intent.Set{Type: intent.NamedPorts, Selector: text}
}

// translator turns the rules of one policy or profile into those of package
// intent, and collects the sets they need and what cannot be enforced.
type translator struct {
	object    api.Key
	namespace string
	sets      []setDef
	faults    []api.Fault
}

func (t *translator) fault(path, message, effect string) {
	t.faults = append(t.faults, api.Fault{Object: t.object.String(), Message: path + ": " + message, Effect: effect})
}

// need notes that a rule uses a set and returns its id.
func (t *translator) need(d setDef) string {
	if !slices.ContainsFunc(t.sets, func(o setDef) bool { return o.id == d.id }) {
		t.sets = append(t.sets, d)
	}
	return d.id
}

// rules translates a list; field is its JSON name.
func (t *translator) rules(field string, list []api.Rule) []intent.Rule {
	var out []intent.Rule
	for i := range list {
		c := ruleContext{translator: t, path: fmt.Sprintf("spec.%s[%d]", field, i), in: &list[i]}
		r := c.rule()
		r.Index = i
		out = append(out, r)
	}
	return out
}

// ruleContext is one rule in translation.
type ruleContext struct {
	*translator
	path string
	in   *api.Rule
	deny bool
	// never: something was found that keeps the rule from being enforced.
	never bool
}

// bad notes that the restriction at field cannot be enforced. A Deny does
// without it, and so denies more; any other rule matches nothing.
func (c *ruleContext) bad(field, format string, args ...any) {
	effect := effectDenies
	if !c.deny {
		effect, c.never = effectNever, true
	}
	c.fault(c.path+field, fmt.Sprintf(format, args...), effect)
}

func (c *ruleContext) rule() intent.Rule {
	in := c.in
	out := intent.Rule{Action: in.Action}
	c.deny = in.Action == api.Deny
	switch in.Action {
	case api.Allow, api.Deny, api.Log, api.Pass:
	default:
		c.fault(c.path+".action", fmt.Sprintf("%q is not an action", in.Action), effectDeny)
		c.deny, out.Action = true, api.Deny
	}
	if in.HTTP != nil {
		c.bad(".http", "an HTTP match needs a proxy, and there is none")
	}
	out.Protocol = c.protocol(".protocol", in.Protocol)
	out.NotProtocol = c.protocol(".notProtocol", in.NotProtocol)
	out.ICMP = c.icmp(".icmp", in.ICMP, out.Protocol)
	out.NotICMP = c.icmp(".notICMP", in.NotICMP, out.Protocol)
	mark := len(c.sets)
	out.Source = c.entity(".source", &in.Source, out.Protocol)
	out.Destination = c.entity(".destination", &in.Destination, out.Protocol)
	families := c.families(&out)
	if c.never || families == 0 {
		c.sets = c.sets[:mark] // needed by earlier rules only
		return intent.Rule{Action: out.Action, Never: true}
	}
	out.Family = families.one()
	for _, e := range []*intent.Entity{&out.Source, &out.Destination} {
		e.Nets, e.NotNets = families.keep(e.Nets), families.keep(e.NotNets)
		if families.covers(e.Nets) {
			e.Nets = nil // every address of the family: the family says it
		}
	}
	return out
}

func (c *ruleContext) protocol(field string, p *api.Protocol) uint8 {
	if p == nil {
		return 0
	}
	n := p.Number()
	if n == 0 {
		c.bad(field, "%q is not a protocol", p.Name)
	}
	return n
}

func (c *ruleContext) icmp(field string, f *api.ICMPFields, protocol uint8) *intent.ICMP {
	switch {
	case f == nil || f.Type == nil && f.Code == nil:
		return nil
	case protocol != protoICMP && protocol != protoICMPv6:
		c.bad(field, "needs protocol ICMP or ICMPv6")
		return nil
	case f.Type == nil:
		c.bad(field+".code", "needs a type")
		return nil
	case *f.Type < 0 || *f.Type > 255:
		c.bad(field+".type", "%d is not 0 to 255", *f.Type)
		return nil
	}
	out := &intent.ICMP{Type: uint8(*f.Type)}
	if f.Code == nil {
		return out
	}
	if *f.Code < 0 || *f.Code > 255 {
		c.bad(field+".code", "%d is not 0 to 255", *f.Code)
		return nil
	}
	out.Code, out.HasCode = uint8(*f.Code), true
	return out
}

func (c *ruleContext) entity(side string, e *api.EntityRule, protocol uint8) intent.Entity {
	if e.Services != nil {
		c.bad(side+".services", "no services are known here")
	}
	out := intent.Entity{
		Nets:    c.nets(side+".nets", e.Nets),
		NotNets: c.nets(side+".notNets", e.NotNets),
	}
	sel, negated := peerSelector(c.namespace, e, func(field string, err error) {
		c.bad(side+"."+field, "%v", err)
	})
	filter := noRestriction // of named ports: what the rule selects anyway
	if sel != nil && !negated {
		filter = sel
	}
	out.Ports, out.NamedPorts = c.ports(side+".ports", e.Ports, filter, protocol)
	out.NotPorts, out.NotNamedPorts = c.ports(side+".notPorts", e.NotPorts, filter, protocol)
	switch {
	case sel == nil:
	case negated:
		out.NotSet = c.need(netsOf(sel))
	case len(out.NamedPorts) > 0 && len(out.Ports) == 0:
		// The sets of named ports hold only what is selected.
	default:
		out.Set = c.need(netsOf(sel))
	}
	return out
}

// nets reads a list of prefixes. One that cannot be read spoils its list.
func (c *ruleContext) nets(field string, list []string) []netip.Prefix {
	var out []netip.Prefix
	spoilt := false
	for i, text := range list {
		n, ok := parseNet(text)
		if !ok {
			c.bad(fmt.Sprintf("%s[%d]", field, i), "%q is not a network", text)
			spoilt = true
			continue
		}
		out = append(out, n)
	}
	if spoilt {
		return nil
	}
	return out
}

// ports reads a list of ports. One that cannot be enforced spoils its list.
func (c *ruleContext) ports(field string, list []api.Port, filter *selector.Selector, protocol uint8) (ranges []intent.PortRange, named []string) {
	for i, p := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch {
		case p.Name != "":
		case p.Min > p.Max:
			c.bad(at, "range %d:%d is in the wrong order", p.Min, p.Max)
			return nil, nil
		case !hasPorts(protocol):
			c.bad(at, "%s: a port by number needs a protocol that has ports", p)
			return nil, nil
		}
	}
	for _, p := range list {
		if p.Name == "" {
			ranges = append(ranges, intent.PortRange{Min: p.Min, Max: p.Max})
			continue
		}
		id := c.need(portsOf(filter, p.Name, protocol))
		if !slices.Contains(named, id) {
			named = append(named, id)
		}
	}
	return ranges, named
}

// hasPorts reports whether packets of the protocol have ports.
func hasPorts(protocol uint8) bool {
	switch protocol {
	case protoTCP, protoUDP, protoSCTP, protoUDPLite:
		return true
	}
	return false
}

// families works out for which families the rule exists.
//
// Networks that are matched bind it to their family. Networks that are
// excluded do so too, but not in a Deny: an address of the other family is not
// in them, so it is denied. (Calico drops the Deny for the other family, which
// lets that family through.)
func (c *ruleContext) families(r *intent.Rule) families {
	f := bothFamilies
	if v := c.in.IPVersion; v != nil {
		switch *v {
		case 4:
			f &= onlyIPv4
		case 6:
			f &= onlyIPv6
		default:
			c.bad(".ipVersion", "%d is neither 4 nor 6", *v)
		}
	}
	switch r.Protocol {
	case protoICMP:
		f &= onlyIPv4
	case protoICMPv6:
		f &= onlyIPv6
	}
	for _, e := range []*intent.Entity{&r.Source, &r.Destination} {
		if len(e.Nets) > 0 {
			f &= familiesOf(e.Nets)
		}
		if len(e.NotNets) > 0 && !c.deny {
			f &= familiesOf(e.NotNets)
		}
		for _, n := range e.NotNets {
			if n.Bits() == 0 { // nothing is outside of it
				f &^= familyOf(n)
			}
		}
	}
	if f == 0 && !c.never {
		c.fault(c.path, "its IP version, protocol and networks exclude each other", effectNever)
	}
	return f
}

// families is a set of IP versions.
type families uint8

const (
	onlyIPv4 families = 1 << iota
	onlyIPv6
	bothFamilies = onlyIPv4 | onlyIPv6
)

func familyOf(n netip.Prefix) families {
	if n.Addr().Is4() {
		return onlyIPv4
	}
	return onlyIPv6
}

func familiesOf(list []netip.Prefix) families {
	var f families
	for _, n := range list {
		f |= familyOf(n)
	}
	return f
}

// one is the family as package intent says it.
func (f families) one() intent.Family {
	switch f {
	case onlyIPv4:
		return intent.IPv4
	case onlyIPv6:
		return intent.IPv6
	}
	return intent.AnyFamily
}

// keep leaves out what is of another family.
func (f families) keep(list []netip.Prefix) []netip.Prefix {
	return slices.DeleteFunc(list, func(n netip.Prefix) bool { return familyOf(n)&f == 0 })
}

// covers reports whether the list holds every address of the families.
func (f families) covers(list []netip.Prefix) bool {
	var all families
	for _, n := range list {
		if n.Bits() == 0 {
			all |= familyOf(n)
		}
	}
	return all == f
}

// parseNet reads a prefix, whose host bits are masked, or an address.
func parseNet(text string) (netip.Prefix, bool) {
	if n, err := netip.ParsePrefix(text); err == nil {
		return n.Masked(), true
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, false
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), true
}
