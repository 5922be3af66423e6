// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// Bits of the packet mark that lowering uses, of Calico's default
// iptablesMarkMask 0xffff0000. They are clear when a packet enters our chains
// and clear again when it leaves, bar markIn, which goes from mangle FORWARD
// to mangle POSTROUTING if a rule there asks FromHost. The planner does not
// see them: marks of the ruleset are matched and set without them.
const (
	markDone  = 0x40000  // the base chain has accepted the packet
	markAllow = 0x80000  // a base chain has accepted it, and not only yielded
	markIn    = 0x100000 // the packet came in by an interface
	markOurs  = markDone | markAllow | markIn
)

// Chains that lowered rules go to; chainName gives no chain such a name.
const (
	chainAccept = prefixOurs + "ACCEPT" // sets markDone and markAllow
	chainYield  = prefixOurs + "YIELD"  // sets markDone
)

// place is one table of one family: what one iptables-restore changes at once.
type place struct {
	family ruleset.Family
	table  table
}

// table is an xtables table; packets pass them in this order.
type table uint8

const (
	raw table = iota
	mangle
	filter
)

// String is the table's name in iptables.
func (t table) String() string { return [...]string{"raw", "mangle", "filter"}[t] }

// String is "filter (IPv6)".
func (p place) String() string { return fmt.Sprintf("%s (IPv%d)", p.table, p.family) }

// placeOf is the table for a base chain. Every table has the kernel's hooks at
// one priority; the nearest that can do what a chain there needs is taken.
func tableOf(h ruleset.Hook, priority int) (table, error) {
	const rawPriority = -300
	switch h {
	case ruleset.HookPrerouting:
		if priority <= rawPriority {
			return raw, nil
		}
		return mangle, nil
	case ruleset.HookOutput:
		if priority <= rawPriority {
			return raw, nil
		}
		return filter, nil
	case ruleset.HookInput, ruleset.HookForward:
		return filter, nil
	case ruleset.HookPostrouting:
		return mangle, nil
	}
	return 0, fmt.Errorf("hook %d: unknown", h)
}

// resolver says what names of the ruleset are in the kernel.
type resolver interface {
	// set: over reports that the kernel will not hold all members.
	set(name string, typ ruleset.SetType, f ruleset.Family) (kname string, over bool, err error)
	// chain checks that a chain can be gone to.
	chain(name string) error
	// entries are those of a dispatch map, and fail if it is not wanted.
	entries(name string) (map[string]ruleset.Entry, error)
	// reach is what a chain can matter to in a family.
	reach(name string, f ruleset.Family) reach
	// constant is the name of a set of exactly these prefixes.
	constant(f ruleset.Family, nets []netip.Prefix) (string, error)
}

// part is one chain of the kernel as it shall be; lines have neither "-A
// CHAIN" nor our comment yet.
type part struct {
	name  string
	lines []line
}

// line is one rule: what it matches, what it does, whose comment it bears.
type line struct {
	match   string
	action  string
	comment string
}

// lowerer renders one chain of the ruleset for one place.
type lowerer struct {
	resolver
	labels   bool // Cut can be matched
	at       place
	name     string // of the ruleset's chain
	parts    []part
	groups   map[string]int // how many groups of one name there are (tree.go)
	targets  []string       // chains of the ruleset gone to
	consts   []string       // constant sets used
	sets     []string       // knames used
	fromHost bool           // a rule asks FromHost
	banned   map[string]bool
}

// emit appends a rule to the part being written.
func (l *lowerer) emit(match, action, comment string) {
	p := &l.parts[len(l.parts)-1]
	p.lines = append(p.lines, line{match, action, comment})
}

func (l *lowerer) rule(r *ruleset.Rule, index int) error {
	if r.Match.Family != ruleset.AnyFamily && r.Match.Family != ruleset.IPv4 && r.Match.Family != ruleset.IPv6 {
		return fmt.Errorf("family %d: unknown", r.Match.Family)
	}
	c := conj{lowerer: l, verb: r.Action.Verb, m: &r.Match, alts: []string{""}}
	if r.Match.Family != ruleset.AnyFamily && r.Match.Family != l.at.family {
		return nil
	}
	if err := c.match(); err != nil {
		return err
	}
	var matches []string
	if !c.never {
		for _, alt := range c.alts {
			matches = append(matches, c.text(alt))
		}
	}
	return l.action(r, index, matches)
}

// action renders what a rule does for each of the alternatives that it
// matches, of which a packet matches at most one.
func (l *lowerer) action(r *ruleset.Rule, index int, matches []string) error {
	a := &r.Action
	each := func(action string) error {
		for _, m := range matches {
			l.emit(m, action, r.Comment)
		}
		return nil
	}
	switch a.Verb {
	case ruleset.Accept:
		if a.Yield {
			return each("-g " + chainYield)
		}
		return each("-g " + chainAccept)
	case ruleset.Drop:
		return each("-j DROP")
	case ruleset.Return:
		return each("-j RETURN")
	case ruleset.Reject:
		l.reject(r, matches)
		return nil
	case ruleset.Jump, ruleset.Goto:
		if err := l.chain(a.Target); err != nil {
			return err
		}
		if a.Verb == ruleset.Jump && len(matches) == 1 && matches[0] == "" && len(l.banned) == 0 {
			matches = l.resolver.reach(a.Target, l.at.family).matches()
		}
		if len(matches) == 0 {
			return nil
		}
		l.targets = append(l.targets, a.Target)
		if a.Verb == ruleset.Goto {
			return each("-g " + chainName(a.Target))
		}
		for _, m := range matches {
			l.emit(m, "-j "+chainName(a.Target), r.Comment)
		}
		l.emit(markIs(markDone, markDone), "-j RETURN", "")
		return nil
	case ruleset.DispatchIn, ruleset.DispatchOut:
		entries, err := l.entries(a.Target)
		if err != nil {
			return err
		}
		return l.dispatch(r, index, matches, entries)
	case ruleset.Log:
		text, err := logText(a)
		if err != nil {
			return err
		}
		limit, err := limitText(a)
		if err != nil {
			return err
		}
		for _, m := range matches {
			l.emit(m+limit, text, r.Comment)
		}
		return nil
	case ruleset.SetMark:
		mask := (a.MarkMask | a.Mark) &^ markOurs
		return each(fmt.Sprintf("-j MARK --set-xmark %#x/%#x", a.Mark&^markOurs, mask))
	case ruleset.NoTrack:
		if l.at.table != raw {
			return fmt.Errorf("notrack in table %s: only raw can", l.at.table)
		}
		return each("-j CT --notrack")
	}
	return fmt.Errorf("verb %d: unknown", a.Verb)
}

// reject answers a packet, which only the table filter can; elsewhere it is
// dropped.
func (l *lowerer) reject(r *ruleset.Rule, matches []string) {
	unreachable := "-j REJECT --reject-with icmp-admin-prohibited"
	if l.at.family == ruleset.IPv6 {
		unreachable = "-j REJECT --reject-with icmp6-adm-prohibited"
	}
	const reset = "-j REJECT --reject-with tcp-reset"
	for _, m := range matches {
		switch p := r.Match.Protocol; {
		case l.at.table != filter:
			l.emit(m, "-j DROP", r.Comment)
		case p == unix.IPPROTO_TCP:
			l.emit(m, reset, r.Comment)
		case p != 0 || r.Match.NotProtocol == unix.IPPROTO_TCP:
			l.emit(m, unreachable, r.Comment)
		case r.Match.NotProtocol != 0:
			// The protocol that is excluded is not TCP, and a rule says one
			// thing of the protocol only.
			l.emit(strings.Replace(m, " ! -p "+protoName(r.Match.NotProtocol), " -p tcp", 1), reset, r.Comment)
			l.emit(m, unreachable, r.Comment)
		default:
			l.emit(withProtocol(m, "tcp"), reset, r.Comment)
			l.emit(m, unreachable, r.Comment)
		}
	}
}

// withProtocol puts a protocol into a match that has none, where iptables
// prints it: behind addresses and interfaces.
func withProtocol(m, proto string) string {
	if i := strings.Index(m, " -m "); i >= 0 {
		return m[:i] + " -p " + proto + m[i:]
	}
	return m + " -p " + proto
}

// logText is the target that logs. The kernel has room for 29 characters of a
// prefix; a longer one loses its middle part, not the colon at its end.
func logText(a *ruleset.Action) (string, error) {
	const room = 29
	prefix := printable(a.LogPrefix)
	if len(prefix) > room {
		if strings.HasSuffix(prefix, ": ") {
			prefix = prefix[:room-2] + ": "
		} else {
			prefix = prefix[:room]
		}
	}
	s := "-j LOG"
	if prefix != "" {
		s += ` --log-prefix ` + quote(prefix)
	}
	return s + " --log-level 6", nil // LOG_INFO
}

// limitText is the match that limits a log. xt_limit counts in ten-thousandths
// of a second; iptables prints a rate in the largest unit in which it is
// exact.
func limitText(a *ruleset.Action) (string, error) {
	if a.LogRate == 0 {
		return "", nil
	}
	const scale = 10000
	units := []struct {
		name, short string
		span        uint64
	}{{"day", "day", 86400 * scale}, {"hour", "hour", 3600 * scale}, {"minute", "min", 60 * scale}, {"second", "sec", scale}}
	i := slices.IndexFunc(units, func(u struct {
		name, short string
		span        uint64
	}) bool {
		return u.name == a.LogUnit
	})
	if i < 0 {
		return "", fmt.Errorf("log rate per %q: unknown unit", a.LogUnit)
	}
	period := units[i].span / a.LogRate
	if period == 0 {
		return "", nil // faster than can be limited
	}
	n := 1
	for n < len(units) && period <= units[n].span && units[n].span/period >= units[n].span%period {
		n++
	}
	s := fmt.Sprintf(" -m limit --limit %d/%s", units[n-1].span/period, units[n-1].short)
	if a.LogBurst != 0 && a.LogBurst != 5 { // 5 is the default, and not printed
		s += fmt.Sprintf(" --limit-burst %d", min(a.LogBurst, 10000))
	}
	return s, nil
}

func markIs(mark, mask uint32) string { return fmt.Sprintf(" -m mark --mark %#x/%#x", mark, mask) }

// printable leaves out what would need quoting inside quotes.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' || r == '\'' {
			return '?'
		}
		return r
	}, s)
}

// quote writes a printable text as iptables-save does: in quotes if it is not
// only letters, digits, - and _.
func quote(s string) string {
	for _, c := range []byte(s) {
		if !(c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
			return `"` + s + `"`
		}
	}
	return s
}

// protoName is a protocol as iptables-save prints it: it has names for these,
// and takes those of others from /etc/protocols (see canon.go).
func protoName(n uint8) string {
	switch n {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	case unix.IPPROTO_UDPLITE:
		return "udplite"
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_ICMPV6:
		return "ipv6-icmp"
	}
	return strconv.Itoa(int(n))
}
