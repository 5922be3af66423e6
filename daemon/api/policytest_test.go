// SPDX-License-Identifier: Apache-2.0

package api

import (
	"strings"
	"testing"
)

// goodPolicyTest is a test without a fault.
func goodPolicyTest() *PolicyTest {
	port := SinglePort(443)
	t := &PolicyTest{TypeMeta: TypeMeta{KindPolicyTest, VersionOurs}, Meta: Meta{Name: "x"}}
	t.Spec.Cases = []PolicyTestCase{{
		Name: "a", From: PolicyTestEnd{IP: "192.0.2.1"}, To: PolicyTestEnd{Host: "h1"},
		Protocol: Protocol{Name: "TCP"}, Port: &port, Expect: Deny,
	}}
	return t
}

func TestPolicyTest_ValidateSaysWhatIsWrong(t *testing.T) {
	if err := goodPolicyTest().Validate(); err != nil {
		t.Fatal(err)
	}
	n := 256
	zero, one := 0, 1
	port := func(p Port) *Port { return &p }
	for want, change := range map[string]func(*PolicyTest, *PolicyTestCase){
		"spec.cases: 0 cases":                                     func(t *PolicyTest, _ *PolicyTestCase) { t.Spec.Cases = nil },
		"spec.cases: 1001 cases":                                  func(t *PolicyTest, _ *PolicyTestCase) { t.Spec.Cases = make([]PolicyTestCase, 1001) },
		"spec.cases[0].name: missing":                             func(_ *PolicyTest, c *PolicyTestCase) { c.Name = "" },
		"spec.cases[0].name: \"a\\nb\"":                           func(_ *PolicyTest, c *PolicyTestCase) { c.Name = "a\nb" },
		"spec.cases[1].name: \"a\": another case":                 func(t *PolicyTest, c *PolicyTestCase) { t.Spec.Cases = append(t.Spec.Cases, *c) },
		"spec.cases[0].from: needs exactly one":                   func(_ *PolicyTest, c *PolicyTestCase) { c.From = PolicyTestEnd{} },
		"spec.cases[0].to: needs exactly one":                     func(_ *PolicyTest, c *PolicyTestCase) { c.To.IP = "192.0.2.2" },
		"spec.cases[0].from.selector: \"role = 'a'\": character":  func(_ *PolicyTest, c *PolicyTestCase) { c.From = PolicyTestEnd{Selector: "role = 'a'"} },
		"spec.cases[0].from.namespaceSelector: \"all()\": needs":  func(_ *PolicyTest, c *PolicyTestCase) { c.From.NamespaceSelector = "all()" },
		"spec.cases[0].to.host: \"h 1\"":                          func(_ *PolicyTest, c *PolicyTestCase) { c.To.Host = "h 1" },
		"spec.cases[0].to.endpoint: \"h1\": not an endpoint":      func(_ *PolicyTest, c *PolicyTestCase) { c.To = PolicyTestEnd{Endpoint: "h1"} },
		"spec.cases[0].from.ip: \"192.0.2.0/33\": not an IP":      func(_ *PolicyTest, c *PolicyTestCase) { c.From.IP = "192.0.2.0/33" },
		"spec.cases[0].to.ip: \"2001:db8::1\": IPv6, but from.ip": func(_ *PolicyTest, c *PolicyTestCase) { c.To = PolicyTestEnd{IP: "2001:db8::1"} },
		"spec.cases[0].from.ip: \"192.0.2.1\": IPv4, but protocol ICMPv6": func(_ *PolicyTest, c *PolicyTestCase) {
			c.Protocol, c.Port = Protocol{Name: "ICMPv6"}, nil
		},
		"spec.cases[0].protocol: missing":                       func(_ *PolicyTest, c *PolicyTestCase) { c.Protocol = Protocol{} },
		"spec.cases[0].protocol: \"tcp\": not a protocol":       func(_ *PolicyTest, c *PolicyTestCase) { c.Protocol = Protocol{Name: "tcp"} },
		"spec.cases[0].port: missing":                           func(_ *PolicyTest, c *PolicyTestCase) { c.Port = nil },
		"spec.cases[0].port: 0: ports":                          func(_ *PolicyTest, c *PolicyTestCase) { c.Port = port(Port{}) },
		"spec.cases[0].port: \"80:90\": more than one":          func(_ *PolicyTest, c *PolicyTestCase) { c.Port = port(Port{Min: 80, Max: 90}) },
		"spec.cases[0].port: \"443\": protocol 50 has no ports": func(_ *PolicyTest, c *PolicyTestCase) { c.Protocol = Protocol{Num: 50} },
		"spec.cases[0].port: \"web\": an address has no names": func(_ *PolicyTest, c *PolicyTestCase) {
			c.Port, c.To = port(Port{Name: "web"}), PolicyTestEnd{IP: "192.0.2.2"}
		},
		"spec.cases[0].icmpType: 1: only of": func(_ *PolicyTest, c *PolicyTestCase) { c.ICMPType = &one },
		"spec.cases[0].icmpType: 256: expected": func(_ *PolicyTest, c *PolicyTestCase) {
			c.Protocol, c.Port, c.ICMPType = Protocol{Name: "ICMP"}, nil, &n
		},
		"spec.cases[0].icmpCode: 0: needs icmpType": func(_ *PolicyTest, c *PolicyTestCase) {
			c.Protocol, c.Port, c.ICMPCode = Protocol{Num: 1}, nil, &zero
		},
		"spec.cases[0].expect: missing":               func(_ *PolicyTest, c *PolicyTestCase) { c.Expect = "" },
		"spec.cases[0].expect: \"Pass\": expected":    func(_ *PolicyTest, c *PolicyTestCase) { c.Expect = Pass },
		"spec.cases[0].why: \"aaaaaaaaaaaaaaaaaaaaaa": func(_ *PolicyTest, c *PolicyTestCase) { c.Why = strings.Repeat("a", 1025) },
	} {
		x := goodPolicyTest()
		change(x, &x.Spec.Cases[0])
		if err := x.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestPolicyTest_WhatCanBeIsValid(t *testing.T) {
	eight := 8
	for name, change := range map[string]func(*PolicyTestCase){
		"a named port of endpoints":      func(c *PolicyTestCase) { c.Port, c.To = &Port{Name: "web"}, PolicyTestEnd{Selector: "all()"} },
		"UDPLite has ports":              func(c *PolicyTestCase) { c.Protocol = Protocol{Num: 136} },
		"endpoints in no namespace":      func(c *PolicyTestCase) { c.To = PolicyTestEnd{Selector: "all()", NamespaceSelector: "global()"} },
		"a prefix with host bits":        func(c *PolicyTestCase) { c.From.IP = "2001:db8::1/64" },
		"an echo request":                func(c *PolicyTestCase) { c.Protocol, c.Port, c.ICMPType = Protocol{Name: "ICMP"}, nil, &eight },
		"a protocol that has no name":    func(c *PolicyTestCase) { c.Protocol, c.Port = Protocol{Num: 50}, nil },
		"a workload, from another place": func(c *PolicyTestCase) { c.From = PolicyTestEnd{Endpoint: "workload/prod/web"} },
	} {
		x := goodPolicyTest()
		change(&x.Spec.Cases[0])
		if err := x.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
