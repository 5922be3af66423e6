// SPDX-License-Identifier: Apache-2.0

package api

import (
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// Bounds of a PolicyTest.
const (
	maxPolicyTestCases = 1000
	maxPolicyTestName  = 253
	maxPolicyTestWhy   = 1024
)

// Validate reports every fault of the test.
func (t *PolicyTest) Validate() error {
	var f faults
	checkMeta(&f, t)
	if n := len(t.Spec.Cases); n == 0 || n > maxPolicyTestCases {
		f.add("spec.cases", "", strconv.Itoa(n)+" cases; a test has 1 to "+strconv.Itoa(maxPolicyTestCases), "")
	}
	seen := map[string]bool{}
	for i := range t.Spec.Cases {
		c := &t.Spec.Cases[i]
		path := at("spec.cases", i)
		switch {
		case c.Name == "":
			f.add(path+".name", "", "missing", "say in a few words what is so")
		case !isLine(c.Name, maxPolicyTestName):
			f.add(path+".name", quoted(c.Name), "not one line of at most "+strconv.Itoa(maxPolicyTestName)+" bytes", "")
		case seen[c.Name]:
			f.add(path+".name", quoted(c.Name), "another case has this name", "")
		}
		seen[c.Name] = true
		c.check(&f, path)
	}
	return f.err()
}

// isLine reports whether s is text on one line of at most so many bytes.
func isLine(s string, most int) bool {
	return len(s) <= most && strings.IndexFunc(s, unicode.IsControl) < 0
}

// check checks a case but its name.
func (c *PolicyTestCase) check(f *faults, path string) {
	c.From.check(f, path+".from")
	c.To.check(f, path+".to")
	if (c.Protocol == Protocol{}) {
		f.add(path+".protocol", "", "missing", "write TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number")
	} else {
		checkProtocolValue(f, path, "protocol", c.Protocol)
		c.checkPort(f, path)
		c.checkICMP(f, path)
	}
	c.checkVersions(f, path)
	if c.Expect == "" {
		f.add(path+".expect", "", "missing", "write Allow or Deny")
	}
	checkWord(f, path+".expect", string(c.Expect), string(Allow), string(Deny))
	if len(c.Why) > maxPolicyTestWhy {
		f.add(path+".why", quoted(excerpt(c.Why)), "longer than "+strconv.Itoa(maxPolicyTestWhy)+" bytes", "")
	}
}

// protocolUDPLite has ports, though no rule can match them.
const protocolUDPLite = 136

func (c *PolicyTestCase) checkPort(f *faults, path string) {
	path += ".port"
	ports := c.Protocol.HasPorts() || c.Protocol.Number() == protocolUDPLite
	switch p := c.Port; {
	case p == nil && ports:
		f.add(path, "", "missing", "say to which port")
	case p == nil:
	case !ports:
		f.add(path, quoted(p.String()), "protocol "+c.Protocol.String()+" has no ports", "leave it out")
	case p.Name != "" && (p.Min != 0 || p.Max != 0):
		f.add(path, quoted(p.Name), "a port has either a name or a number", "")
	case p.Name != "" && !isPortName(p.Name):
		f.add(path, quoted(p.Name), "not a name that a port can have", "")
	case p.Name != "" && c.To.IP != "":
		f.add(path, quoted(p.Name), "an address has no names for ports", "write the number")
	case p.Name == "" && p.Min != p.Max:
		f.add(path, quoted(p.String()), "more than one port", "write a case for each that matters")
	case p.Name == "" && p.Min == 0:
		f.add(path, p.String(), "ports are 1 to 65535", "")
	}
}

func (c *PolicyTestCase) checkICMP(f *faults, path string) {
	n := c.Protocol.Number()
	for _, x := range []struct {
		field string
		value *int
	}{{"icmpType", c.ICMPType}, {"icmpCode", c.ICMPCode}} {
		switch {
		case x.value == nil:
		case n != 1 && n != 58:
			f.add(path+"."+x.field, strconv.Itoa(*x.value), "only of the protocols ICMP and ICMPv6", "leave it out")
		case *x.value < 0 || *x.value > 255:
			f.add(path+"."+x.field, strconv.Itoa(*x.value), "expected 0 to 255", "")
		}
	}
	if c.ICMPCode != nil && c.ICMPType == nil {
		f.add(path+".icmpCode", strconv.Itoa(*c.ICMPCode), "needs icmpType", "")
	}
}

// checkVersions checks that ends and protocol can be of one IP version.
func (c *PolicyTestCase) checkVersions(f *faults, path string) {
	version, of := 0, ""
	switch c.Protocol.Number() {
	case 1:
		version, of = 4, "protocol ICMP"
	case 58:
		version, of = 6, "protocol ICMPv6"
	}
	for _, e := range []struct{ field, ip string }{{"from.ip", c.From.IP}, {"to.ip", c.To.IP}} {
		p, err := ParseCIDR(e.ip)
		if err != nil {
			continue // nothing is there, or its own fault has been told
		}
		v := 6
		if p.Addr().Is4() {
			v = 4
		}
		if version != 0 && v != version {
			f.add(path+"."+e.field, quoted(e.ip), "IPv"+strconv.Itoa(v)+", but "+of+" makes this a case for IPv"+strconv.Itoa(version), "")
			continue
		}
		version, of = v, e.field
	}
}

// policyTestEndpoint is what an end's Endpoint may be.
var policyTestEndpoint = regexp.MustCompile(`^(hep/[a-zA-Z0-9_.-]{1,253}|workload/[a-zA-Z0-9_.-]{1,253}/[a-zA-Z0-9_.-]{1,253})$`)

func (e *PolicyTestEnd) check(f *faults, path string) {
	given := 0
	for _, s := range []string{e.Selector, e.Host, e.Endpoint, e.IP} {
		if s != "" {
			given++
		}
	}
	if given != 1 {
		f.add(path, "", "needs exactly one of selector, host, endpoint and ip", "")
	}
	checkSelector(f, path+".selector", e.Selector, false)
	checkSelector(f, path+".namespaceSelector", e.NamespaceSelector, true)
	if e.NamespaceSelector != "" && e.Selector == "" {
		f.add(path+".namespaceSelector", quoted(e.NamespaceSelector), "needs selector", "write selector: all() beside it")
	}
	if e.Host != "" && !isNodeName(e.Host) {
		f.add(path+".host", quoted(e.Host), "a host's name is at most 253 letters, digits, '_', '.' and '-'", "")
	}
	if e.Endpoint != "" && !policyTestEndpoint.MatchString(e.Endpoint) {
		f.add(path+".endpoint", quoted(e.Endpoint), "not an endpoint", "write hep/NAME or workload/NAMESPACE/NAME")
	}
	if e.IP != "" {
		if err := laxCIDR(e.IP); err != nil {
			f.add(path+".ip", quoted(e.IP), err.Error(), "")
		}
	}
}
