// SPDX-License-Identifier: Apache-2.0

package ruleset

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// String is the canonical text of the whole ruleset: objects in order of kind
// and name, one line a rule, member or entry. Equal rulesets give equal text.
func (s *State) String() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(s.Dispatches)) {
		fmt.Fprintf(&b, "dispatch %s\n", name)
		for _, iface := range slices.Sorted(maps.Keys(s.Entries[name])) {
			fmt.Fprintf(&b, "  %s %s\n", iface, s.Entries[name][iface])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Sets)) {
		fmt.Fprintf(&b, "set %s %s\n", name, s.Sets[name])
		for _, e := range slices.SortedFunc(maps.Keys(s.Members[name]), CompareElements) {
			fmt.Fprintf(&b, "  %s\n", e)
		}
	}
	s.verdictText(&b)
	for _, name := range slices.Sorted(maps.Keys(s.Chains)) {
		b.WriteString("chain " + name + s.Chains[name].String())
	}
	return b.String()
}

// String is the chain's canonical text, from the hook on.
func (c *Chain) String() string {
	var b strings.Builder
	if c.Hook != NoHook {
		fmt.Fprintf(&b, " %s %d", c.Hook, c.Priority)
		if c.Yield {
			b.WriteString(" yield")
		}
	}
	b.WriteByte('\n')
	for i := range c.Rules {
		b.WriteString("  " + c.Rules[i].String() + "\n")
	}
	return b.String()
}

// String is the hook's name.
func (h Hook) String() string {
	return [...]string{"none", "prerouting", "input", "forward", "output", "postrouting"}[h]
}

// String is the set's family and type.
func (s *Set) String() string {
	text := fmt.Sprintf("ipv%d %s", s.Family, [...]string{"", "net", "addr.proto.port"}[s.Type])
	if s.MaxSize > 0 {
		text += fmt.Sprintf(" max %d", s.MaxSize)
	}
	return text
}

// String is "goto CHAIN" or "accept".
func (e Entry) String() string {
	if e.Chain == "" {
		return "accept"
	}
	return "goto " + e.Chain
}

// String is the element as people write it.
func (e Element) String() string {
	if e.Proto == 0 && e.Port == 0 {
		return e.Net.String()
	}
	return fmt.Sprintf("%s . %d . %d", e.Net.Addr(), e.Proto, e.Port)
}

// CompareElements orders elements by address, length, protocol, port.
func CompareElements(a, b Element) int {
	return cmp.Or(a.Net.Addr().Compare(b.Net.Addr()), cmp.Compare(a.Net.Bits(), b.Net.Bits()),
		cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port))
}

// String is the rule's canonical text.
func (r *Rule) String() string {
	parts := r.Match.words()
	if r.Counter {
		parts = append(parts, "counter")
	}
	parts = append(parts, r.Action.String())
	if r.KeepFlows {
		parts = append(parts, "keep-flows")
	}
	if r.Comment != "" {
		parts = append(parts, "# "+r.Comment)
	}
	return strings.Join(parts, " ")
}

// String is the action's canonical text.
func (a *Action) String() string {
	switch a.Verb {
	case Accept:
		if a.Yield {
			return "accept yield"
		}
		return "accept"
	case Drop:
		return "drop"
	case Reject:
		return "reject"
	case Return:
		return "return"
	case Jump:
		return "jump " + a.Target
	case Goto:
		return "goto " + a.Target
	case DispatchIn:
		return "dispatch in " + a.Target
	case DispatchOut:
		return "dispatch out " + a.Target
	case Classify:
		return "classify " + a.Field.String() + " by " + a.Target
	case Log:
		s := "log " + strconv.Quote(a.LogPrefix)
		if a.LogRate > 0 {
			s += fmt.Sprintf(" limit %d/%s burst %d", a.LogRate, a.LogUnit, a.LogBurst)
		}
		return s
	case SetMark:
		return fmt.Sprintf("mark %#x/%#x", a.Mark, a.MarkMask)
	case NoTrack:
		return "notrack"
	}
	panic(fmt.Sprintf("ruleset: verb %d", a.Verb))
}

func (m *Match) words() []string {
	var w []string
	add := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	if m.Family != AnyFamily {
		add("ipv%d", m.Family)
	}
	if m.InInterface != "" {
		add("in %s", m.InInterface)
	}
	if m.OutInterface != "" {
		add("out %s", m.OutInterface)
	}
	if m.InPrefix != "" {
		add("in %s*", m.InPrefix)
	}
	if m.OutPrefix != "" {
		add("out %s*", m.OutPrefix)
	}
	if m.FromHost {
		add("from-host")
	}
	if m.CtState != 0 {
		add("ct %s", m.CtState)
	}
	if m.DNATed {
		add("dnated")
	}
	if m.NotDNATed {
		add("not dnated")
	}
	if m.Cut {
		add("cut")
	}
	if m.MarkMask != 0 {
		add("mark %#x/%#x", m.Mark, m.MarkMask)
	}
	if m.Protocol != 0 {
		add("proto %d", m.Protocol)
	}
	if m.NotProtocol != 0 {
		add("proto not %d", m.NotProtocol)
	}
	if m.ICMP != nil {
		add("icmp %s", m.ICMP)
	}
	if m.NotICMP != nil {
		add("icmp not %s", m.NotICMP)
	}
	if m.HopLimit255 {
		add("hoplimit 255")
	}
	if m.Fragment {
		add("fragment")
	}
	list := func(name string, n int, text func(int) string) {
		if n == 0 {
			return
		}
		items := make([]string, n)
		for i := range items {
			items[i] = text(i)
		}
		add("%s {%s}", name, strings.Join(items, " "))
	}
	nets := func(name string, l []netip.Prefix) { list(name, len(l), func(i int) string { return l[i].String() }) }
	ports := func(name string, l []PortRange) { list(name, len(l), func(i int) string { return l[i].String() }) }
	sets := func(name string, l []string) { list(name, len(l), func(i int) string { return "@" + l[i] }) }
	nets("src", m.Src)
	nets("src not", m.NotSrc)
	sets("src in all", m.SrcSets)
	sets("src in none", m.NotSrcSets)
	ports("sport", m.SrcPorts)
	ports("sport not", m.NotSrcPorts)
	sets("src-port in", m.SrcPortSets)
	sets("src-port not in", m.NotSrcPortSets)
	nets("dst", m.Dst)
	nets("dst not", m.NotDst)
	sets("dst in all", m.DstSets)
	sets("dst in none", m.NotDstSets)
	ports("dport", m.DstPorts)
	ports("dport not", m.NotDstPorts)
	sets("dst-port in", m.DstPortSets)
	sets("dst-port not in", m.NotDstPortSets)
	return w
}

// String is "80" or "80-90".
func (p PortRange) String() string {
	if p.Min == p.Max {
		return strconv.Itoa(int(p.Min))
	}
	return fmt.Sprintf("%d-%d", p.Min, p.Max)
}

// String is "8" or "3/4".
func (i *ICMP) String() string {
	if i.HasCode {
		return fmt.Sprintf("%d/%d", i.Type, i.Code)
	}
	return strconv.Itoa(int(i.Type))
}

// String lists the states, joined by commas.
func (s CtState) String() string {
	var names []string
	for i, name := range []string{"invalid", "established", "related", "new", "untracked"} {
		if s&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}
