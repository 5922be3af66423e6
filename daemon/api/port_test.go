// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestPort_JSON(t *testing.T) {
	tests := []struct {
		in   string
		want Port
		out  string
	}{
		{`80`, Port{Min: 80, Max: 80}, `80`},
		{`"80"`, Port{Min: 80, Max: 80}, `80`},
		{`"090"`, Port{Min: 90, Max: 90}, `90`},
		{`"90:90"`, Port{Min: 90, Max: 90}, `90`},
		{`"8000:8010"`, Port{Min: 8000, Max: 8010}, `"8000:8010"`},
		{`0`, Port{}, `0`},
		{`"0:5"`, Port{Max: 5}, `"0:5"`},
		{`65535`, Port{Min: 65535, Max: 65535}, `65535`},
		{`"http"`, Port{Name: "http"}, `"http"`},
		{`"8000-8010"`, Port{Name: "8000-8010"}, `"8000-8010"`},
		{`"` + strings.Repeat("a", 128) + `"`, Port{Name: strings.Repeat("a", 128)}, `"` + strings.Repeat("a", 128) + `"`},
	}
	for _, tt := range tests {
		var p Port
		if err := json.Unmarshal([]byte(tt.in), &p); err != nil || p != tt.want {
			t.Errorf("Unmarshal(%s): got %+v, %v, want %+v", tt.in, p, err, tt.want)
			continue
		}
		if out, err := json.Marshal(p); err != nil || string(out) != tt.out {
			t.Errorf("Marshal(%+v): got %s, %v, want %s", p, out, err, tt.out)
		}
	}
	for _, in := range []string{
		`-1`, `65536`, `"65536"`, `1.5`, `1e3`, `"20:10"`, `"10:70000"`, `":10"`, `"10:"`, `"a:b"`, `"1:2:3"`,
		`""`, `" 80"`, `"a b"`, `"é"`, `true`, `{}`, `[]`, `"` + strings.Repeat("a", 129) + `"`,
	} {
		var p Port
		if err := json.Unmarshal([]byte(in), &p); err == nil {
			t.Errorf("Unmarshal(%s): got %+v, want an error", in, p)
		}
	}
}

func TestProtocol_JSON(t *testing.T) {
	tests := []struct {
		in     string
		want   Protocol
		number uint8
		ports  bool
		out    string
	}{
		{`"TCP"`, Protocol{Name: "TCP"}, 6, true, `"TCP"`},
		{`"UDP"`, Protocol{Name: "UDP"}, 17, true, `"UDP"`},
		{`"SCTP"`, Protocol{Name: "SCTP"}, 132, true, `"SCTP"`},
		{`"UDPLite"`, Protocol{Name: "UDPLite"}, 136, false, `"UDPLite"`},
		{`"ICMP"`, Protocol{Name: "ICMP"}, 1, false, `"ICMP"`},
		{`"ICMPv6"`, Protocol{Name: "ICMPv6"}, 58, false, `"ICMPv6"`},
		{`6`, Protocol{Num: 6}, 6, true, `6`},
		{`"47"`, Protocol{Num: 47}, 47, false, `47`},
		{`255`, Protocol{Num: 255}, 255, false, `255`},
		{`0`, Protocol{}, 0, false, `0`},
		{`"tcp"`, Protocol{Name: "tcp"}, 0, false, `"tcp"`},
	}
	for _, tt := range tests {
		var p Protocol
		if err := json.Unmarshal([]byte(tt.in), &p); err != nil || p != tt.want {
			t.Errorf("Unmarshal(%s): got %+v, %v, want %+v", tt.in, p, err, tt.want)
			continue
		}
		if p.Number() != tt.number || p.HasPorts() != tt.ports {
			t.Errorf("%+v: got number %d, ports %t, want %d, %t", p, p.Number(), p.HasPorts(), tt.number, tt.ports)
		}
		if out, err := json.Marshal(p); err != nil || string(out) != tt.out {
			t.Errorf("Marshal(%+v): got %s, %v, want %s", p, out, err, tt.out)
		}
	}
	for _, in := range []string{`256`, `"256"`, `-1`, `1.5`, `true`, `[]`} {
		var p Protocol
		if err := json.Unmarshal([]byte(in), &p); err == nil {
			t.Errorf("Unmarshal(%s): got %+v, want an error", in, p)
		}
	}
}

func TestScalars_JSON(t *testing.T) {
	check := func(in string, into any, out string) {
		t.Helper()
		if err := json.Unmarshal([]byte(in), into); err != nil {
			t.Errorf("Unmarshal(%s): %v", in, err)
			return
		}
		if got, err := json.Marshal(into); err != nil || string(got) != out {
			t.Errorf("Unmarshal(%s), Marshal: got %s, %v, want %s", in, got, err, out)
		}
	}
	check(`"2m"`, new(Duration), `"2m0s"`)
	check(`"90s"`, new(Duration), `"1m30s"`)
	check(`"50ms"`, new(Duration), `"50ms"`)
	check(`65000`, new(ASNumber), `65000`)
	check(`"65000"`, new(ASNumber), `65000`)
	check(`"1.10"`, new(ASNumber), `65546`)
	check(`4294967295`, new(ASNumber), `4294967295`)
	check(`46`, new(DSCP), `46`)
	check(`"46"`, new(DSCP), `"46"`)
	check(`"af11"`, new(DSCP), `"af11"`)
	check(`"2026-11-20T17:44:35+01:00"`, new(Time), `"2026-11-20T16:44:35Z"`)
	check(`null`, new(Time), `null`)
	for in, into := range map[string]json.Unmarshaler{
		`30`: new(Duration), `"30"`: new(Duration), `"x"`: new(Duration),
		`1.10`: new(ASNumber), `"1.70000"`: new(ASNumber), `4294967296`: new(ASNumber), `"a"`: new(ASNumber), `"-1"`: new(ASNumber),
		`64`: new(DSCP), `"AF10"`: new(DSCP), `"064x"`: new(DSCP),
		`"yesterday"`: new(Time), `5`: new(Time),
	} {
		if err := into.UnmarshalJSON([]byte(in)); err == nil {
			t.Errorf("%T: Unmarshal(%s): got %v, want an error", into, in, into)
		}
	}
	if n := (DSCP{Text: "ef"}).Number(); n != 46 {
		t.Errorf("DSCP EF: got %d, want 46", n)
	}
	if d := (Duration{90 * time.Second}); d.String() != "1m30s" {
		t.Errorf("Duration: got %s", d)
	}
}

func FuzzPort(f *testing.F) {
	for _, s := range []string{`80`, `"80"`, `"1:2"`, `"http"`, `0`, `-1`, `"2:1"`, `""`, `"0x50"`, `null`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var p Port
		if json.Unmarshal([]byte(s), &p) != nil {
			return
		}
		if p.Min > p.Max || p.Name != "" && (p.Min != 0 || p.Max != 0) {
			t.Fatalf("Unmarshal(%q): got %+v", s, p)
		}
		reencodes(t, p)
	})
}

func FuzzProtocol(f *testing.F) {
	for _, s := range []string{`"TCP"`, `6`, `"6"`, `256`, `""`, `"tcp"`, `0`, `null`, `"\u0031"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var p Protocol
		if json.Unmarshal([]byte(s), &p) != nil {
			return
		}
		reencodes(t, p)
	})
}

// reencodes fails the test unless v is the same after encoding and decoding.
func reencodes[T comparable](t *testing.T, v T) {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("Marshal(%+v): %v", v, err)
	}
	var back T
	if err := json.Unmarshal(b, &back); err != nil || back != v {
		t.Fatalf("%+v became %+v (%v) by way of %s", v, back, err, b)
	}
}

func TestParseCIDR(t *testing.T) {
	for in, want := range map[string]string{
		"10.0.0.1/8": "10.0.0.0/8", "10.0.0.1": "10.0.0.1/32", "0.0.0.0/0": "0.0.0.0/0",
		"2001:DB8::1/32": "2001:db8::/32", "::1": "::1/128", "::/0": "::/0",
	} {
		if p, err := ParseCIDR(in); err != nil || p.String() != want {
			t.Errorf("ParseCIDR(%s): got %s, %v, want %s", in, p, err, want)
		}
	}
	for _, in := range []string{"", "/", "10.0.0/8", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "010.0.0.1", "fe80::1%eth0", "fe80::1%eth0/64", "::ffff:1.2.3.4", "::ffff:1.2.3.4/120", "::/129", "10.0.0.0/8/8", " 10.0.0.1"} {
		if p, err := ParseCIDR(in); err == nil {
			t.Errorf("ParseCIDR(%q): got %s, want an error", in, p)
		}
	}
}

func FuzzCIDR(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "10.0.0.1", "::1", "::/0", "fe80::1%eth0", "::ffff:1.2.3.4/96", "1.2.3.4/", "/", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseCIDR(s)
		if err != nil {
			return
		}
		if !p.IsValid() || p != p.Masked() || p.Addr().Zone() != "" || p.Addr().Is4In6() {
			t.Fatalf("ParseCIDR(%q): got %v", s, p)
		}
		if back, err := ParseCIDR(p.String()); err != nil || back != p {
			t.Fatalf("ParseCIDR(%q): got %v, printed and read again %v, %v", s, p, back, err)
		}
		strict, _, err := strictNet(s)
		if err == nil && strict != p {
			t.Fatalf("strictNet(%q): got %v, want %v", s, strict, p)
		}
	})
}
