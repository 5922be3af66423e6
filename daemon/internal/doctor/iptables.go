// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// xtHooks are the hooks and priorities of the chains that iptables has by
// itself (linux/netfilter_ipv4.h).
var xtHooks = map[string]struct {
	hook     string
	priority map[string]int // by table
}{
	"PREROUTING":  {"prerouting", map[string]int{"raw": -300, "mangle": -150, "nat": -100}},
	"INPUT":       {"input", map[string]int{"mangle": -150, "filter": 0, "security": 50, "nat": 100}},
	"FORWARD":     {"forward", map[string]int{"mangle": -150, "filter": 0, "security": 50}},
	"OUTPUT":      {"output", map[string]int{"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}},
	"POSTROUTING": {"postrouting", map[string]int{"mangle": -150, "nat": 100}},
}

// ParseSave reads what iptables-save -c prints, as legacy tables of a family
// (ip or ip6).
func ParseSave(family, text string) ([]Table, error) {
	var out []Table
	var t *Table
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "*"):
			out = append(out, Table{Family: family, Name: line[1:], Legacy: true})
			t = &out[len(out)-1]
		case line == "COMMIT":
			t = nil
		case t == nil:
			return nil, fmt.Errorf("line %d: outside of a table: %q", i+1, line)
		case strings.HasPrefix(line, ":"):
			words := strings.Fields(line[1:])
			if len(words) < 2 {
				return nil, fmt.Errorf("line %d: no chain: %q", i+1, line)
			}
			t.Chains = append(t.Chains, xtChain(t.Name, words[0], words[1]))
		default:
			chain, r, err := xtRule(family, line)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w: %q", i+1, err, line)
			}
			c := t.chain(chain)
			if c == nil {
				return nil, fmt.Errorf("line %d: no chain %s: %q", i+1, chain, line)
			}
			c.Rules = append(c.Rules, r)
		}
	}
	return out, nil
}

func xtChain(table, name, policy string) Chain {
	c := Chain{Name: name, Drop: policy == "DROP"}
	h, ok := xtHooks[name]
	if !ok {
		return c
	}
	c.Hook, c.Priority, c.Type = h.hook, h.priority[table], "filter"
	switch {
	case table == "nat":
		c.Type = "nat"
	case table == "mangle" && name == "OUTPUT":
		c.Type = "route"
	}
	return c
}

// args are the words of a rule that are still to be read.
type args struct {
	words []string
	not   bool
}

func (a *args) take() string {
	if len(a.words) == 0 {
		return ""
	}
	w := a.words[0]
	a.words = a.words[1:]
	return w
}

// xtRule reads "[12:3456] -A CHAIN …".
func xtRule(family, line string) (chain string, r Rule, err error) {
	a := &args{words: splitQuoted(line)}
	if len(a.words) > 0 && strings.HasPrefix(a.words[0], "[") {
		packets, _, _ := strings.Cut(strings.Trim(a.take(), "[]"), ":")
		if r.Packets, err = strconv.ParseUint(packets, 10, 64); err != nil {
			return "", r, err
		}
		r.Counted = true
	}
	if a.take() != "-A" {
		return "", r, fmt.Errorf("no rule")
	}
	chain = a.take()
	r.Match.Family = map[string]int{"ip": 4, "ip6": 6}[family]
	for len(a.words) > 0 {
		w := a.take()
		if w == "!" {
			a.not = true
			continue
		}
		if err := r.option(a, w); err != nil {
			return "", r, err
		}
		a.not = false
	}
	return chain, r, nil
}

// option reads one option with what follows it.
func (r *Rule) option(a *args, w string) error {
	m := &r.Match
	switch w {
	case "-s":
		return addrs(&m.Source, a)
	case "-d":
		return addrs(&m.Destination, a)
	case "-i":
		m.In = append(m.In, Cond[string]{a.not, []string{xtInterface(a.take())}})
	case "-o":
		m.Out = append(m.Out, Cond[string]{a.not, []string{xtInterface(a.take())}})
	case "-p":
		return m.protocol(a)
	case "--sport", "--sports":
		return ports(&m.SourcePorts, a)
	case "--dport", "--dports":
		return ports(&m.DestinationPorts, a)
	case "-m":
		if name := a.take(); !slices.Contains([]string{"tcp", "udp", "multiport", "comment", "conntrack", "state", "addrtype", "icmp", "icmp6", "limit", "set", "mark", "physdev"}, name) {
			m.More = append(m.More, name)
		}
	case "--comment":
		r.Comment = a.take()
	case "--ctstate", "--state":
		m.states(a)
	case "--dst-type":
		if local := !a.not; a.take() == "LOCAL" {
			m.Local = &local
		} else {
			m.More = append(m.More, "addrtype")
		}
	case "-j", "-g":
		r.target(a.take(), w == "-g")
	case "--to-destination":
		r.to(a.take())
	case "--to-ports":
		first, _, _ := strings.Cut(a.take(), "-")
		port, _ := strconv.ParseUint(first, 10, 16)
		r.To = netip.AddrPortFrom(r.To.Addr(), uint16(port))
	default:
		// Options of the target change nothing of what is matched.
		for len(a.words) > 0 && a.words[0] != "!" && !strings.HasPrefix(a.words[0], "-") {
			a.take()
		}
		if r.Action == Goes && r.Chain == "" {
			m.More = append(m.More, strings.TrimLeft(w, "-"))
		}
	}
	return nil
}

func xtInterface(name string) string {
	if begin, ok := strings.CutSuffix(name, "+"); ok {
		return begin + "*"
	}
	return name
}

func addrs(list *[]Cond[Addrs], a *args) error {
	text := a.take()
	if p, err := netip.ParsePrefix(text); err == nil {
		*list = append(*list, Cond[Addrs]{a.not, []Addrs{AddrsOf(p)}})
		return nil
	}
	x, err := netip.ParseAddr(text)
	if err != nil {
		return err
	}
	*list = append(*list, Cond[Addrs]{a.not, []Addrs{{x, x}}})
	return nil
}

func (m *Match) protocol(a *args) error {
	name := a.take()
	for n, known := range protocolNames {
		if known == name || name == "ipv6-icmp" && n == 58 {
			m.Protocols = append(m.Protocols, Cond[uint8]{a.not, []uint8{n}})
			return nil
		}
	}
	n, err := strconv.ParseUint(name, 10, 8)
	if err != nil {
		m.More = append(m.More, "protocol "+name)
		return nil
	}
	m.Protocols = append(m.Protocols, Cond[uint8]{a.not, []uint8{uint8(n)}})
	return nil
}

func ports(list *[]Cond[Ports], a *args) error {
	c := Cond[Ports]{Not: a.not}
	for part := range strings.SplitSeq(a.take(), ",") {
		first, last, ranged := strings.Cut(part, ":")
		if !ranged {
			last = first
		}
		f, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return err
		}
		l, err := strconv.ParseUint(last, 10, 16)
		if err != nil {
			return err
		}
		c.Any = append(c.Any, Ports{uint16(f), uint16(l)})
	}
	*list = append(*list, c)
	return nil
}

// states reads a list of connection states.
func (m *Match) states(a *args) {
	known := map[string]uint32{"INVALID": Invalid, "ESTABLISHED": Established, "RELATED": Related, "NEW": New, "UNTRACKED": Untracked}
	list := a.take()
	yes := !a.not
	if list == "DNAT" {
		m.DNATed = &yes
		return
	}
	mask := uint32(0)
	for s := range strings.SplitSeq(list, ",") {
		if known[s] == 0 {
			m.More = append(m.More, "conntrack")
			return
		}
		mask |= known[s]
	}
	if a.not {
		mask = ^mask & (Invalid | Established | Related | New | Untracked)
	}
	if m.States != 0 {
		mask &= m.States
	}
	m.States = mask
}

func (r *Rule) target(name string, goes bool) {
	switch name {
	case "ACCEPT":
		r.Action = Accepts
	case "DROP":
		r.Action = Drops
	case "REJECT":
		r.Action = Rejects
	case "RETURN":
		r.Action = Returns
	case "DNAT":
		r.Action = DNATs
	case "REDIRECT":
		r.Action = Redirects
	case "SNAT", "MASQUERADE", "NETMAP":
		r.Action = SNATs
	case "NFQUEUE", "QUEUE", "TPROXY", "SYNPROXY":
		r.Action = Other
	case "LOG", "NFLOG", "MARK", "CONNMARK", "CT", "NOTRACK", "SET", "CHECKSUM", "TCPMSS", "TRACE", "CLASSIFY", "DSCP", "TOS", "TTL", "HL", "AUDIT":
		r.Chain = "" // the packet goes on
	default:
		r.Action, r.Chain = Jumps, name
		if goes {
			r.Action = GoesTo
		}
	}
}

// to reads "10.0.0.2:80", "[fd00::2]:80", "10.0.0.2" and ranges, of which the
// first counts.
func (r *Rule) to(text string) {
	text, _, _ = strings.Cut(text, "-")
	if ap, err := netip.ParseAddrPort(text); err == nil {
		r.To = ap
	} else if a, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		r.To = netip.AddrPortFrom(a, 0)
	} else if port, err := strconv.ParseUint(strings.TrimPrefix(text, ":"), 10, 16); err == nil {
		r.To = netip.AddrPortFrom(netip.Addr{}, uint16(port))
	}
}

// splitQuoted splits at blanks, but not inside of double quotes.
func splitQuoted(line string) []string {
	var out []string
	var word strings.Builder
	quoted, begun := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quoted && i+1 < len(line):
			i++
			word.WriteByte(line[i])
		case c == '"':
			quoted, begun = !quoted, true
		case c == ' ' && !quoted:
			if begun {
				out = append(out, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteByte(c)
			begun = true
		}
	}
	if begun {
		out = append(out, word.String())
	}
	return out
}
