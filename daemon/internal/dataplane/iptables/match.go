// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// conj is a match being rendered: a header, further matches that all hold, and
// alternatives of which exactly one holds. The order is that in which
// iptables-save prints, so that what is read back is what was sent.
type conj struct {
	*lowerer
	verb ruleset.Verb
	m    *ruleset.Match

	src, dst, in, out, proto string
	more                     strings.Builder
	alts                     []string
	never                    bool
}

func (c *conj) text(alt string) string {
	return c.src + c.dst + c.in + c.out + c.proto + c.more.String() + alt
}

func (c *conj) add(format string, args ...any) { fmt.Fprintf(&c.more, format, args...) }

// either multiplies the alternatives.
func (c *conj) either(choices ...string) {
	var out []string
	for _, a := range c.alts {
		for _, b := range choices {
			out = append(out, a+b)
		}
	}
	c.alts = out
}

func (c *conj) match() error {
	m := c.m
	if m.Fragment && m.Family != ruleset.IPv6 {
		return fmt.Errorf("fragment header without family IPv6")
	}
	if m.HopLimit255 && m.Family != ruleset.IPv6 {
		return fmt.Errorf("hop limit without family IPv6")
	}
	var err error
	if c.in, err = c.iface("-i", m.InInterface, m.InPrefix); err != nil {
		return err
	}
	if c.out, err = c.iface("-o", m.OutInterface, m.OutPrefix); err != nil {
		return err
	}
	switch {
	case m.Protocol != 0 && m.Protocol == m.NotProtocol:
		c.never = true
	case m.Protocol != 0:
		c.proto = " -p " + protoName(m.Protocol)
	case m.NotProtocol != 0:
		c.proto = " ! -p " + protoName(m.NotProtocol)
	}
	c.mark()
	c.conntrack()
	if m.Cut {
		c.never = c.never || !c.labels
		c.add(" -m connlabel --label \"%d\"", ruleset.CutLabel)
	}
	if err := c.icmp(m.ICMP, ""); err != nil {
		return err
	}
	if err := c.icmp(m.NotICMP, "! "); err != nil {
		return err
	}
	if m.HopLimit255 {
		c.add(" -m hl --hl-eq 255")
	}
	if m.Fragment {
		c.add(" -m frag")
	}
	// Ports before addresses: a comparison costs less than a look-up in a
	// set, and most rules that do not match differ in the port already.
	if err := c.ports(); err != nil {
		return err
	}
	if err := c.addresses(); err != nil {
		return err
	}
	return c.portSets()
}

// iface renders an interface's name, or the beginning of one. A + at the end
// of a name stands for any end.
func (c *conj) iface(option, name, prefix string) (string, error) {
	if max(len(name), len(prefix)) > 15 { // IFNAMSIZ less the end
		c.never = true
	}
	switch {
	case name != "" && !strings.HasPrefix(name, prefix):
		c.never = true
	case strings.HasSuffix(name, "+"):
		return "", fmt.Errorf("interface %s: iptables would take the + for any end of a name", name)
	case name != "":
		return " " + option + " " + ifaceText(name), nil
	case len(prefix) == 15:
		return " " + option + " " + ifaceText(prefix), nil
	case prefix != "":
		return " " + option + " " + ifaceText(prefix+"+"), nil
	}
	return "", nil
}

// ifaceText quotes a name that the reader of iptables-restore would part.
func ifaceText(name string) string {
	if strings.ContainsAny(name, " \t\"'\\") {
		return `"` + strings.NewReplacer(`"`, `\"`, `\`, `\\`, `'`, `\'`).Replace(name) + `"`
	}
	return name
}

// mark renders FromHost and Mark. Our own bits are not the ruleset's.
func (c *conj) mark() {
	m := c.m
	if m.FromHost {
		c.fromHost = true
		c.add("%s", markIs(0, markIn))
	}
	if m.MarkMask == 0 {
		return
	}
	if m.Mark&^m.MarkMask != 0 || m.Mark&markOurs != 0 {
		c.never = true
	}
	if mask := m.MarkMask &^ markOurs; mask != 0 {
		c.add("%s", markIs(m.Mark&mask, mask))
	}
}

// states are ours in the order in which iptables prints them.
var states = []struct {
	bit  ruleset.CtState
	name string
}{
	{ruleset.CtInvalid, "INVALID"}, {ruleset.CtNew, "NEW"}, {ruleset.CtRelated, "RELATED"},
	{ruleset.CtEstablished, "ESTABLISHED"}, {ruleset.CtUntracked, "UNTRACKED"},
}

func (c *conj) conntrack() {
	m := c.m
	if m.CtState != 0 {
		var names []string
		for _, s := range states {
			if m.CtState&s.bit != 0 {
				names = append(names, s.name)
			}
		}
		c.add(" -m conntrack --ctstate %s", strings.Join(names, ","))
	}
	if m.DNATed {
		c.add(" -m conntrack --ctstate DNAT")
	}
	if m.NotDNATed {
		c.add(" -m conntrack ! --ctstate DNAT")
	}
}

func (c *conj) icmp(i *ruleset.ICMP, not string) error {
	if i == nil {
		return nil
	}
	name, option := "icmp", "--icmp-type"
	switch {
	case c.m.Protocol == unix.IPPROTO_ICMP && c.at.family == ruleset.IPv4:
		if i.Type == 255 {
			return fmt.Errorf("icmp type 255: iptables takes it for any type")
		}
	case c.m.Protocol == unix.IPPROTO_ICMPV6 && c.at.family == ruleset.IPv6:
		name, option = "icmp6", "--icmpv6-type"
	case c.m.Protocol == unix.IPPROTO_ICMP || c.m.Protocol == unix.IPPROTO_ICMPV6:
		// The protocol of the other family in this one; xtables has no
		// match for its types. A deny then denies all types.
		c.never = c.never || c.verb != ruleset.Drop && c.verb != ruleset.Reject
		return nil
	default:
		return fmt.Errorf("icmp type with protocol %d", c.m.Protocol)
	}
	c.add(" -m %s %s%s %s", name, not, option, i)
	return nil
}

// side is source or destination.
type side struct {
	name, short string // "source", "src"
	option      string
	header      *string
	nets        [2][]netip.Prefix // positive, negated
	sets        [2][]string
	ports       [2][]ruleset.PortRange
	portSets    [2][]string
}

func (c *conj) sides() [2]side {
	m := c.m
	return [2]side{
		{"source", "src", "-s", &c.src, [2][]netip.Prefix{m.Src, m.NotSrc}, [2][]string{m.SrcSets, m.NotSrcSets},
			[2][]ruleset.PortRange{m.SrcPorts, m.NotSrcPorts}, [2][]string{m.SrcPortSets, m.NotSrcPortSets}},
		{"destination", "dst", "-d", &c.dst, [2][]netip.Prefix{m.Dst, m.NotDst}, [2][]string{m.DstSets, m.NotDstSets},
			[2][]ruleset.PortRange{m.DstPorts, m.NotDstPorts}, [2][]string{m.DstPortSets, m.NotDstPortSets}},
	}
}

var negation = [2]string{"", "! "}

func (c *conj) addresses() error {
	for _, s := range c.sides() {
		for neg, not := range negation {
			if err := c.nets(&s, s.nets[neg], not); err != nil {
				return err
			}
			for _, name := range s.sets[neg] {
				kname, over, err := c.set(name, ruleset.TypeNet, c.m.Family)
				if err != nil {
					return err
				}
				if over && c.skip(neg == 1) {
					continue
				}
				c.use(kname)
				c.add(" -m set %s--match-set %s %s", not, kname, s.short)
			}
		}
	}
	return nil
}

func (c *conj) use(kname string) { c.lowerer.sets = append(c.lowerer.sets, kname) }

// skip decides about a match on a set that is not whole: whether to leave it
// out, or, by c.never, the rule.
func (c *conj) skip(not bool) bool {
	switch c.verb {
	case ruleset.Drop, ruleset.Reject:
		return !not
	case ruleset.Accept:
		c.never = c.never || not
	}
	return false
}

// nets renders a list of prefixes: one in the header, if that has room, more
// as a constant set.
func (c *conj) nets(s *side, list []netip.Prefix, not string) error {
	if len(list) == 0 {
		return nil
	}
	f := c.m.Family
	if f == ruleset.AnyFamily {
		return fmt.Errorf("%s prefixes without a family", s.name)
	}
	var nets []netip.Prefix
	for _, n := range list {
		if !n.IsValid() || n.Addr().Is4() != (f == ruleset.IPv4) || n.Addr().Is4In6() {
			return fmt.Errorf("%s prefix %s: not of the rule's family", s.name, n)
		}
		if n.Bits() == 0 {
			c.never = c.never || not != ""
			return nil
		}
		nets = append(nets, n.Masked())
	}
	slices.SortFunc(nets, comparePrefixes)
	nets = slices.Compact(nets)
	if len(nets) == 1 && *s.header == "" {
		*s.header = " " + not + s.option + " " + nets[0].String()
		if not != "" {
			*s.header = " ! " + s.option + " " + nets[0].String()
		}
		return nil
	}
	kname, err := c.constant(f, nets)
	if err != nil {
		return err
	}
	c.consts = append(c.consts, kname)
	c.add(" -m set %s--match-set %s %s", not, kname, s.short)
	return nil
}

func comparePrefixes(a, b netip.Prefix) int {
	return ruleset.CompareElements(ruleset.Element{Net: a}, ruleset.Element{Net: b})
}

// ports renders lists of ports. A match takes 15 of them, a range counting
// twice; of a longer list each group is an alternative, or, negated, a
// further match.
func (c *conj) ports() error {
	for _, s := range c.sides() {
		for neg, not := range negation {
			if len(s.ports[neg]) == 0 {
				continue
			}
			if !ruleset.HasPorts(c.m.Protocol) {
				return fmt.Errorf("%s ports with protocol %d", s.name, c.m.Protocol)
			}
			ranges, err := mergePorts(s.ports[neg])
			if err != nil {
				return fmt.Errorf("%s %w", s.name, err)
			}
			var choices []string
			for _, g := range portGroups(ranges) {
				choices = append(choices, fmt.Sprintf(" -m multiport %s--%cports %s", not, s.short[0], g))
			}
			switch {
			case neg == 1:
				c.add("%s", strings.Join(choices, ""))
			case len(choices) == 1:
				c.add("%s", choices[0])
			default:
				c.either(choices...)
			}
		}
	}
	return nil
}

// mergePorts sorts ranges and joins those that touch.
func mergePorts(list []ruleset.PortRange) ([]ruleset.PortRange, error) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b ruleset.PortRange) int { return int(a.Min) - int(b.Min) })
	var out []ruleset.PortRange
	for _, r := range list {
		if r.Min > r.Max {
			return nil, fmt.Errorf("ports %d-%d: wrong order", r.Min, r.Max)
		}
		if n := len(out); n > 0 && int(r.Min) <= int(out[n-1].Max)+1 {
			out[n-1].Max = max(out[n-1].Max, r.Max)
			continue
		}
		out = append(out, r)
	}
	return out, nil
}

// portGroups writes ranges as multiport takes them, as many as fit a match.
func portGroups(ranges []ruleset.PortRange) []string {
	const room = 15 // XT_MULTI_PORTS
	var groups []string
	var g []string
	slots := 0
	for _, r := range ranges {
		text, need := fmt.Sprint(r.Min), 1
		if r.Min != r.Max { // equal ends are refused
			text, need = fmt.Sprintf("%d:%d", r.Min, r.Max), 2
		}
		if slots+need > room {
			groups, g, slots = append(groups, strings.Join(g, ",")), nil, 0
		}
		g, slots = append(g, text), slots+need
	}
	return append(groups, strings.Join(g, ","))
}

// portSets renders sets of (address, protocol, port). Of several positive
// ones one alternative each, with "and not in those before", so that exactly
// one holds. A protocol without ports is in no such set, and the kernel's look-
// up says so too.
func (c *conj) portSets() error {
	m := c.m
	for _, s := range c.sides() {
		for neg := range negation {
			var knames []string
			leaveOut := false
			for _, name := range s.portSets[neg] {
				kname, over, err := c.set(name, ruleset.TypeAddrPort, m.Family)
				if err != nil {
					return err
				}
				leaveOut = leaveOut || over && c.skip(neg == 1)
				knames = append(knames, kname)
			}
			if len(knames) == 0 || leaveOut {
				continue
			}
			lookup := func(not, kname string) string {
				c.use(kname)
				return fmt.Sprintf(" -m set %s--match-set %s %s,%s", not, kname, s.short, s.short)
			}
			if neg == 1 {
				for _, kname := range knames {
					c.add("%s", lookup("! ", kname))
				}
				continue
			}
			slices.Sort(knames)
			knames = slices.Compact(knames)
			var choices []string
			for i, kname := range knames {
				choice := lookup("", kname)
				for _, before := range knames[:i] {
					choice += lookup("! ", before)
				}
				choices = append(choices, choice)
			}
			c.either(choices...)
			c.never = c.never || m.Protocol != 0 && !ruleset.HasPorts(m.Protocol)
		}
	}
	return nil
}
