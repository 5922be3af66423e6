// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"net/netip"
)

func TestParseFlow_PrintsWhatItReads(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"tcp from 10.0.0.2 to host/h1:8080", ""},
		{"udp from host/h1 to 10.0.0.9:53", ""},
		{"TCP from 10.0.0.2:4000 to host/h1:8080", "tcp from 10.0.0.2 to host/h1:8080 sport 4000"},
		{"tcp from host/h1 to host/h2:443", ""},
		{"tcp from hep/h1-eth0 to 1.2.3.4:443", ""},
		{"tcp from host/h1 to [fd00::1]:443 sport 7", ""},
		{"tcp from host/h1 at 10.0.0.5 via eth0 to host/h2:1 at 10.0.0.6 via eth1 state established", ""},
		{"tcp from 10.0.0.2 via eth0 to host/h1:80", "tcp from 10.0.0.2 to host/h1:80 via eth0"},
		{"udp from host/h1 to 10.0.0.9:53 via eth0 at 10.0.0.1", "udp from host/h1 at 10.0.0.1 via eth0 to 10.0.0.9:53"},
		{"icmp type 8 from 10.0.0.2 to host/h1", ""},
		{"icmp type 3 code 1 from 10.0.0.2 to host/h1", ""},
		{"icmp6 from fd00::2 to host/h1", "icmpv6 from [fd00::2] to host/h1"},
		{"proto 47 from 10.0.0.2 to this-host", ""},
		{"proto 6 from 10.0.0.2 to :5432", "tcp from 10.0.0.2 to this-host:5432"},
		{"tcp from [::ffff:10.0.0.2] to host/h1:1", "tcp from 10.0.0.2 to host/h1:1"},
		{"tcp from 10.0.0.2 to 10.1.0.9:443 through host/gw in eth0 out eth1", ""},
		{"tcp from workload/prod/web to workload/prod/h-k8s-db-eth0:5432 via eth0", ""},
		{"icmp from wep/prod/web at 10.65.0.9 to host/h1", "icmp from workload/prod/web at 10.65.0.9 to host/h1"},
		{"tcp from 10.0.0.2 to workload/prod/web:8080 dialled 10.0.0.1:80 state established", "tcp from 10.0.0.2 to workload/prod/web:8080 state established dialled 10.0.0.1:80"},
		{"tcp from [fd00::2] to workload/prod/web:8080 dialled [fd00::1]:80 through host/gw", ""},
		{"icmp from 10.0.0.2 to workload/prod/web dialled 10.0.0.1", ""},
	} {
		if c.want == "" {
			c.want = c.text
		}
		q, err := ParseFlow(c.text)
		if err != nil {
			t.Errorf("ParseFlow(%q): %v", c.text, err)
			continue
		}
		if got := q.String(); got != c.want {
			t.Errorf("ParseFlow(%q) prints %q, want %q", c.text, got, c.want)
		}
	}
}

func TestParseFlow_SaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "nothing is asked; write: tcp from 10.0.0.2 to host/NAME:80"},
		{"tpc from 10.0.0.2 to host/h1:80", `protocol "tpc" is not known; it is tcp, udp, sctp, udplite, icmp, icmpv6 or proto NUMBER`},
		{"proto 256 from 10.0.0.2 to host/h1", "proto needs a number from 1 to 255"},
		{"tcp 10.0.0.2 to host/h1:80", `"10.0.0.2" stands where "from" should`},
		{"tcp from 10.0.0.2", `"to" is missing`},
		{"tcp from 10.0.0.2 to", `an address, host/NAME, hep/NAME or workload/NAMESPACE/NAME is missing after "to"`},
		{"tcp from 10.0.0.2 to host/h1", "TCP needs a destination port; write: to host/h1:80"},
		{"icmp from 10.0.0.2 to host/h1:80", "ICMP has no ports"},
		{"tcp type 8 from 10.0.0.2 to host/h1:80", "only icmp and icmpv6 have a type"},
		{"icmp type 256 from 10.0.0.2 to host/h1", "type needs a number from 0 to 255"},
		{"icmp from fd00::1 to host/h1", "icmp is of IPv4; write icmpv6 for fd00::1"},
		{"icmpv6 from host/h1 to 10.0.0.2", "icmpv6 is of IPv6; write icmp for 10.0.0.2"},
		{"tcp from 10.0.0.0/8 to host/h1:80", `"10.0.0.0/8" is a net; write one address of it`},
		{"tcp from h2 to host/h1:80", `"h2" is neither an address nor host/NAME, hep/NAME or workload/NAMESPACE/NAME`},
		{"tcp from fe80::1%eth0 to host/h1:80", `"fe80::1%eth0" is neither an address nor host/NAME, hep/NAME or workload/NAMESPACE/NAME`},
		{"tcp from host/ to host/h1:80", `"host/": a name is missing or has a character that no name has`},
		{"tcp from 10.0.0.2 to host/h1:http", `"host/h1:http": "http" is not a port from 1 to 65535`},
		{"tcp from 10.0.0.2 to host/h1:0", `"0" is not a port from 1 to 65535`},
		{"tcp from 10.0.0.2 to [fd00::1:80", "the closing ] is missing"},
		{"tcp from fd00::2 to [fd00::1]80", "only a port, as in ]:443, may follow the ]"},
		{"tcp from fd00::2 to 10.0.0.1:80", "fd00::2 and 10.0.0.1 are not of the same IP version"},
		{"tcp from 10.0.0.2:1 to host/h1:80 sport 2", "two source ports are given, 1 and 2"},
		{"tcp from 10.0.0.2 to 10.0.0.1:80 via eth0", "at and via are of a host or a workload, and neither end is one"},
		{"tcp from 10.0.0.2 via eth1 to host/h1:80 via eth0", "at or via is given twice for the same host"},
		{"tcp from 10.0.0.2 to host/h1:80 via", `via needs the name of an interface, not ""`},
		{"tcp from 10.0.0.2 to host/h1:80 at h1", `"h1" is neither an address`},
		{"tcp from 10.0.0.2 to host/h1:80 in eth0", "in and out are of the host that forwards; say which: through host/NAME"},
		{"tcp from 10.0.0.2 to host/h1:80 through h2", "through needs host/NAME"},
		{"tcp from 10.0.0.2 to host/h1:80 state old", `state "old" is not known; it is new, established, related, invalid or untracked`},
		{"tcp from workload/web to host/h1:80", `"workload/web": write workload/NAMESPACE/NAME`},
		{"tcp from wep/prod/ to host/h1:80", `"wep/prod/": write workload/NAMESPACE/NAME`},
		{"tcp from 10.0.0.2 to workload/prod/web", "TCP needs a destination port; write: to workload/prod/web:80"},
		{"tcp from 10.0.0.2 to workload/prod/web:80 dialled", `dialled needs an address and a port, as in 10.0.0.1:80, not ""`},
		{"tcp from 10.0.0.2 to workload/prod/web:80 dialled host/h1:80", `dialled needs an address and a port, as in 10.0.0.1:80, not "host/h1:80"`},
		{"tcp from 10.0.0.2 to workload/prod/web:80 dialled 10.0.0.1", "dialled needs a port; write: dialled 10.0.0.1:80"},
		{"icmp from 10.0.0.2 to workload/prod/web dialled 10.0.0.1:80", "ICMP has no ports"},
		{"tcp from 10.0.0.2 to workload/prod/web:80 dialled [fd00::1]:80", "fd00::1 and 10.0.0.2 are not of the same IP version"},
		{"tcp from 10.0.0.2 to host/h1:80 please", `"please" is not understood here; options are at, via, sport, state, dialled, through, in, out`},
	} {
		_, err := ParseFlow(c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("ParseFlow(%q)\n got  %v\n want %s", c.text, err, c.want)
		}
	}
}

func FuzzParseFlow(f *testing.F) {
	for _, s := range []string{
		"tcp from 10.0.0.2 to host/h1:8080", "icmp type 8 code 0 from 10.0.0.2 to hep/x at 10.0.0.1 via eth0",
		"udp from :7 to [fd00::1]:53 sport 7", "proto 47 from host/a to 10.0.0.1 through host/g in a out b state related",
		"tcp from 10.0.0.2 to host/h1:8080 from", "tcp from wep/a/b to workload/c/d:1 dialled [fd00::1]:2 via eth0",
		"icmp from 10.0.0.2 to workload/a/b dialled 10.0.0.1", "icmpv6 from ::1 to this-host",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := ParseFlow(s)
		if err != nil {
			return
		}
		again, err := ParseFlow(q.String())
		if err != nil {
			t.Fatalf("ParseFlow(%q) prints %q, which is refused: %v", s, q, err)
		}
		if diff := cmp.Diff(q, again, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
			t.Fatalf("ParseFlow(%q) prints %q, which is read differently:\n%s", s, q, diff)
		}
	})
}
