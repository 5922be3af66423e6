// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/doctor"
)

// TestXtMatch_OfOlderIptables: iptables-nft before 1.8.8 writes matches on ports
// as xtables' own; newer ones do not, so that their layout is tested here.
func TestXtMatch_OfOlderIptables(t *testing.T) {
	u16 := func(v ...uint16) (b []byte) {
		for _, x := range v {
			b = native.AppendUint16(b, x)
		}
		return b
	}
	for _, c := range []struct {
		name string
		rev  uint32
		info []byte
		want string
	}{
		{"tcp", 0, append(u16(0, 0xffff, 22, 22), 0, 0, 0, 0), "to port 22"},
		{"tcp", 0, append(u16(1, 9, 0, 0xffff), 0, 0, 0, 0), "from port 1-9"},
		{"tcp", 0, append(u16(0, 0xffff, 22, 80), 0, 0, 0, 2), "to port not 22-80"},
		{"tcp", 0, append(u16(5, 5, 0, 0xffff), 0, 0, 0, 1), "from port not 5"},
		{"tcp", 0, append(u16(0, 0xffff, 22, 22), 0, 23, 2, 0), "and more: tcp"}, // asks for flags
		{"udp", 0, append(u16(0, 0xffff, 53, 53), 0, 0, 0, 0), "to port 53"},
		{"udp", 0, append(u16(0, 0xffff, 53, 53), 2, 0, 0, 0), "to port not 53"},
		{"tcp", 0, []byte{1}, "and more: tcp"},
		{"state", 0, []byte{2 | 4, 0, 0, 0}, "state established,related"},
		{"recent", 0, nil, "and more: recent"},
	} {
		r := &reader{rule: doctor.Rule{}}
		r.xtMatch(c.name, c.rev, c.info)
		if got := r.rule.Match.String(); got != c.want {
			t.Errorf("match %s % x: %q, want %q", c.name, c.info, got, c.want)
		}
	}
}
