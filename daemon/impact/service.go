// SPDX-License-Identifier: Apache-2.0

package impact

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/policy"
)

// IANA's numbers of the protocols with names of their own.
const (
	icmp    = 1
	tcp     = 6
	udp     = 17
	icmpv6  = 58
	sctp    = 132
	udpLite = 136
)

func hasPorts(protocol uint8) bool {
	return protocol == tcp || protocol == udp || protocol == sctp || protocol == udpLite
}

// protocolName is how a protocol is called in a line.
func protocolName(p uint8) string {
	switch p {
	case icmp:
		return "icmp"
	case tcp:
		return "tcp"
	case udp:
		return "udp"
	case icmpv6:
		return "icmpv6"
	case sctp:
		return "sctp"
	case udpLite:
		return "udplite"
	}
	return fmt.Sprint("proto ", p)
}

// allPorts and allICMP are all ports and all ICMP types and codes.
var (
	allPorts = span[number]{0, 65535}
	allICMP  = span[number]{0, 255}
)

// serviceCuts is what rules tell apart beside addresses.
type serviceCuts struct {
	protocols    map[uint8]bool
	source, dest map[uint8][]spans[number]  // ports, by protocol
	types        map[uint8]map[number][]int // ICMP types with the codes that count for them, by protocol
	seen         map[string]bool            // cuts of ports
}

func newServiceCuts() *serviceCuts {
	return &serviceCuts{
		protocols: map[uint8]bool{tcp: true, udp: true}, source: map[uint8][]spans[number]{}, dest: map[uint8][]spans[number]{},
		types: map[uint8]map[number][]int{}, seen: map[string]bool{},
	}
}

// port tells some ports of a protocol from its others.
func (c *serviceCuts) port(protocol uint8, of string, list spans[number]) {
	key := fmt.Sprint(protocol, of, list)
	if c.seen[key] || !hasPorts(protocol) {
		return
	}
	c.seen[key], c.protocols[protocol] = true, true
	if of == sourceSide {
		c.source[protocol] = append(c.source[protocol], list)
		return
	}
	c.dest[protocol] = append(c.dest[protocol], list)
}

// icmp tells a type from others, and a code of it, unless that is nil.
func (c *serviceCuts) icmp(protocol uint8, kind int, code *int) {
	if kind < 0 || kind > 255 || code != nil && (*code < 0 || *code > 255) {
		return // matches nothing
	}
	if c.types[protocol] == nil {
		c.types[protocol] = map[number][]int{}
	}
	codes := c.types[protocol][number(kind)]
	if code != nil && !slices.Contains(codes, *code) {
		codes = append(codes, *code)
	}
	c.types[protocol][number(kind)] = codes
}

// service is an atom of what a flow may be for.
type service struct {
	protocol uint8
	// others are protocols that this one stands for beside itself: all that
	// are not among them; nil: it stands for itself.
	others       map[uint8]bool
	source, dest atom[number] // ports
	kind, code   atom[number] // of ICMP
}

// has reports whether a flow is of the service.
func (s *service) has(f policy.Flow) bool {
	switch {
	case s.others != nil:
		return !s.others[f.Protocol]
	case s.protocol != f.Protocol:
		return false
	case hasPorts(s.protocol):
		return s.source.all.has(number(f.SourcePort)) && s.dest.all.has(number(f.DestinationPort))
	case s.kind.all != nil:
		return s.kind.all.has(number(f.ICMPType)) && s.code.all.has(number(f.ICMPCode))
	}
	return true
}

// set makes a flow be of the service.
func (s *service) set(f *policy.Flow) {
	f.Protocol, f.SourcePort, f.DestinationPort = s.protocol, uint16(s.source.one), uint16(s.dest.one)
	f.ICMPType, f.ICMPCode = uint8(s.kind.one), uint8(s.code.one)
}

// services are all services of flows of a family that the cuts tell apart, by
// protocol; those not named come last.
func (c *serviceCuts) services(family int) []*service {
	var list []*service
	protocols := maps.Clone(c.protocols)
	protocols[[2]uint8{icmp, icmpv6}[family]] = true
	for _, p := range slices.Sorted(maps.Keys(protocols)) {
		switch {
		case hasPorts(p):
			dest := atomsOf(allPorts, c.dest[p])
			for _, s := range atomsOf(allPorts, c.source[p]) {
				for _, d := range dest {
					list = append(list, &service{protocol: p, source: s, dest: d})
				}
			}
		case p == [2]uint8{icmp, icmpv6}[family]:
			list = append(list, c.icmps(p)...)
		default:
			list = append(list, &service{protocol: p})
		}
	}
	for p := uint8(253); p > 0; p-- { // 253 and 254 are for experiments (RFC 3692)
		if !protocols[p] {
			return append(list, &service{protocol: p, others: protocols})
		}
	}
	return list
}

// icmps are the services of ICMP or ICMPv6.
func (c *serviceCuts) icmps(p uint8) []*service {
	var list []*service
	var cuts []spans[number]
	for _, t := range slices.Sorted(maps.Keys(c.types[p])) {
		cuts = append(cuts, spans[number]{{t, t}})
	}
	for _, kind := range atomsOf(allICMP, cuts) {
		var codes []spans[number]
		for _, code := range c.types[p][kind.one] {
			codes = append(codes, spans[number]{{number(code), number(code)}})
		}
		if len(kind.all) > 1 || kind.all[0].first != kind.all[0].last {
			codes = nil // types that no rule names
		}
		for _, code := range atomsOf(allICMP, codes) {
			list = append(list, &service{protocol: p, kind: kind, code: code})
		}
	}
	return list
}

// mostPorts is how many ranges of ports or types a line names.
const mostPorts = 8

// serviceText names those of all services that are chosen; or, if protocols
// that no rule names are among them, those that are not.
func serviceText(all []*service, chosen []bool, most int) string {
	if !chosen[len(chosen)-1] {
		return enumerate(serviceWords(all, chosen, most))
	}
	not := make([]bool, len(chosen))
	for i := range chosen {
		not[i] = !chosen[i]
	}
	if rest := serviceWords(all, not, most); len(rest) > 0 {
		return "everything but " + enumerate(rest)
	}
	return "everything"
}

// enumerate is "a, b and c".
func enumerate(words []string) string {
	if n := len(words); n > 1 {
		return strings.Join(words[:n-1], ", ") + " and " + words[n-1]
	}
	return strings.Join(words, "")
}

// serviceWords are the chosen services, protocol by protocol, each with so many
// ranges at the most.
func serviceWords(all []*service, chosen []bool, most int) []string {
	var words []string
	for i := 0; i < len(all); {
		end := i
		for end < len(all) && all[end].protocol == all[i].protocol {
			end++
		}
		words = append(words, protocolWords(all[i:end], chosen[i:end], most)...)
		i = end
	}
	return words
}

// protocolWords are the chosen of the services of one protocol.
func protocolWords(all []*service, chosen []bool, most int) []string {
	name := protocolName(all[0].protocol)
	switch {
	case !slices.Contains(chosen, true):
		return nil
	case !slices.Contains(chosen, false):
		return []string{name}
	}
	// By source port, or by code: usually there is only one.
	type group struct{ of, in, out spans[number] }
	var groups []*group
	for i, s := range all {
		of, what := s.source.all, s.dest.all
		if s.kind.all != nil {
			of, what = s.code.all, s.kind.all
		}
		at := slices.IndexFunc(groups, func(g *group) bool { return slices.Equal(g.of, of) })
		if at < 0 {
			at = len(groups)
			groups = append(groups, &group{of: of})
		}
		if g := groups[at]; chosen[i] {
			g.in = append(g.in, what...)
		} else {
			g.out = append(g.out, what...)
		}
	}
	for _, g := range groups {
		g.in, g.out = joined(g.in), joined(g.out)
	}
	every := len(groups) == 1
	for i := 0; i < len(groups); i++ { // those of which the same is said
		for j := i + 1; j < len(groups); {
			if a, b := groups[i], groups[j]; !slices.Equal(a.in, b.in) || !slices.Equal(a.out, b.out) {
				j++
				continue
			}
			groups[i].of = joined(slices.Concat(groups[i].of, groups[j].of))
			groups = slices.Delete(groups, j, j+1)
		}
	}
	every = every || len(groups) == 1
	var words []string
	for _, g := range groups {
		if len(g.in) == 0 {
			continue
		}
		isICMP := all[0].kind.all != nil
		w := name
		switch in, out := numbersText(g.in, most), numbersText(g.out, most); {
		case len(g.out) == 0 && (every || !isICMP):
		case isICMP && (!every || len(in) <= len(out)): // a type is of some of the groups only
			w += " type " + in
		case isICMP:
			w += " but type " + out
		case len(in) <= len(out):
			w += " " + in
		default:
			w += " but " + out
		}
		switch {
		case every:
		case !isICMP:
			w += " from source port " + numbersText(g.of, most)
		case !slices.Equal(g.of, spans[number]{allICMP}):
			w += " code " + numbersText(g.of, most)
		}
		words = append(words, w)
	}
	return words
}

// numbersText is "80,443,8000-8010", or so many and "and 3 more".
func numbersText(list spans[number], most int) string {
	var words []string
	for i, s := range list {
		switch {
		case i == most:
			return strings.Join(words, ",") + fmt.Sprintf(" and %d more", len(list)-i)
		case s.first == s.last:
			words = append(words, fmt.Sprint(s.first))
		default:
			words = append(words, fmt.Sprintf("%d-%d", s.first, s.last))
		}
	}
	return strings.Join(words, ",")
}
