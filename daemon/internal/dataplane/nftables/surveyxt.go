// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/doctor"
)

// What iptables-nft writes: matches and targets of xtables inside nf_tables.
// The layouts are those of linux/netfilter/xt_*.h and are the kernel's
// interface to programs.

var native = binary.NativeEndian

// xtMatch reads a match extension.
func (r *reader) xtMatch(name string, rev uint32, b []byte) {
	m := &r.rule.Match
	ports := func(at int, inverted bool) doctor.Cond[doctor.Ports] {
		return doctor.Cond[doctor.Ports]{Not: inverted, Any: []doctor.Ports{{First: native.Uint16(b[at:]), Last: native.Uint16(b[at+2:])}}}
	}
	any := doctor.Ports{Last: 0xffff}
	switch {
	case name == "tcp" && len(b) >= 12 && b[9] == 0 && b[8] == 0: // struct xt_tcp, no flags and no option asked for
		if c := ports(0, b[11]&1 != 0); c.Not || c.Any[0] != any {
			m.SourcePorts = append(m.SourcePorts, c)
		}
		if c := ports(4, b[11]&2 != 0); c.Not || c.Any[0] != any {
			m.DestinationPorts = append(m.DestinationPorts, c)
		}
	case name == "udp" && len(b) >= 9: // struct xt_udp
		if c := ports(0, b[8]&1 != 0); c.Not || c.Any[0] != any {
			m.SourcePorts = append(m.SourcePorts, c)
		}
		if c := ports(4, b[8]&2 != 0); c.Not || c.Any[0] != any {
			m.DestinationPorts = append(m.DestinationPorts, c)
		}
	case name == "multiport" && rev == 1 && len(b) >= 48 && b[0] < 2 && b[1] <= 15: // struct xt_multiport_v1
		c := doctor.Cond[doctor.Ports]{Not: b[47] != 0}
		for i := 0; i < int(b[1]); i++ {
			p := doctor.Ports{First: native.Uint16(b[2+2*i:])}
			p.Last = p.First
			if b[32+i] != 0 && i+1 < int(b[1]) {
				i++
				p.Last = native.Uint16(b[2+2*i:])
			}
			c.Any = append(c.Any, p)
		}
		if b[0] == 0 {
			m.SourcePorts = append(m.SourcePorts, c)
		} else {
			m.DestinationPorts = append(m.DestinationPorts, c)
		}
	case (name == "conntrack" && rev >= 2 || name == "state") && r.xtStates(name, rev, b):
	case name == "addrtype" && rev == 1 && len(b) >= 8: // struct xt_addrtype_info_v1
		source, destination, flags := native.Uint16(b), native.Uint16(b[2:]), native.Uint32(b[4:])
		if source != 0 || destination != 1<<unix.RTN_LOCAL || flags&^2 != 0 {
			m.More = append(m.More, name)
			return
		}
		local := flags&2 == 0
		m.Local = &local
	case name == "comment":
		r.rule.Comment = toStr(b)
	default:
		m.More = append(m.More, name)
	}
}

// xtStates reads a match on the connection's state alone.
func (r *reader) xtStates(name string, rev uint32, b []byte) bool {
	states, not := uint32(0), false
	switch {
	case name == "state" && len(b) >= 4: // struct xt_state_info
		states = native.Uint32(b)
	case rev == 3 && len(b) >= 156 && native.Uint16(b[146:]) == 1: // struct xt_conntrack_mtinfo3, the state alone
		states, not = uint32(native.Uint16(b[150:])), native.Uint16(b[148:])&1 != 0
	default:
		return false
	}
	const snat, dnat, untracked = 64, 128, 256 // XT_CONNTRACK_STATE_*
	var mask uint32
	for _, bit := range []struct{ xt, nft uint32 }{{1, doctor.Invalid}, {2, doctor.Established}, {4, doctor.Related}, {8, doctor.New}, {untracked, doctor.Untracked}} {
		if states&bit.xt != 0 {
			mask |= bit.nft
		}
	}
	if not {
		mask = ^mask & (doctor.Invalid | doctor.Established | doctor.Related | doctor.New | doctor.Untracked)
	}
	switch yes := !not; {
	case states&(snat|dnat) == 0 && mask != 0:
		r.bits("state", mask)
	case states == dnat:
		r.rule.Match.DNATed = &yes
	default:
		return false
	}
	return true
}

// xtTarget reads a target extension.
func (r *reader) xtTarget(name string, rev uint32, b []byte) {
	const withAddress, withPort = 1, 2 // NF_NAT_RANGE_MAP_IPS, NF_NAT_RANGE_PROTO_SPECIFIED
	switch name {
	case "REJECT":
		r.rule.Action = doctor.Rejects
	case "MASQUERADE", "SNAT", "NETMAP":
		r.rule.Action = doctor.SNATs
	case "DNAT", "REDIRECT":
		r.rule.Action = doctor.DNATs
		if name == "REDIRECT" {
			r.rule.Action = doctor.Redirects
		}
		var to netip.Addr
		var port uint16
		switch {
		case rev == 0 && len(b) >= 20: // struct nf_nat_ipv4_multi_range_compat
			if native.Uint32(b[4:])&withAddress != 0 {
				to = netip.AddrFrom4([4]byte(b[8:12]))
			}
			if native.Uint32(b[4:])&withPort != 0 {
				port = binary.BigEndian.Uint16(b[16:])
			}
		case rev > 0 && len(b) >= 40: // struct nf_nat_range, nf_nat_range2
			if native.Uint32(b)&withAddress != 0 {
				if to = netip.AddrFrom16([16]byte(b[4:20])); r.rule.Match.Family == 4 {
					to = netip.AddrFrom4([4]byte(b[4:8]))
				}
			}
			if native.Uint32(b)&withPort != 0 {
				port = binary.BigEndian.Uint16(b[36:])
			}
		}
		r.rule.To = netip.AddrPortFrom(to, port)
	case "NFQUEUE", "TPROXY", "SYNPROXY":
		r.rule.Action = doctor.Other
		r.rule.Match.More = append(r.rule.Match.More, name)
	default: // LOG, MARK, CT, SET, …: the packet goes on
	}
}
