// SPDX-License-Identifier: Apache-2.0

package api

import (
	"slices"
	"strconv"
	"strings"
)

// ruleChecker checks one rule of a policy or profile.
type ruleChecker struct {
	faults    *faults
	path      string
	direction PolicyType
	// namespaced: the policy is in a namespace.
	namespaced bool
}

func (c *ruleChecker) add(field, value, message, fix string) *FieldError {
	return c.faults.add(c.path+"."+field, value, message, fix)
}

func (c *ruleChecker) check(r *Rule) {
	if r.Action == "" {
		c.add("action", "", "missing", "write Allow, Deny, Log or Pass")
	}
	switch r.Action {
	case "", Allow, Deny, Log, Pass:
	default:
		checkWord(c.faults, c.path+".action", string(r.Action), string(Allow), string(Deny), string(Log), string(Pass))
	}
	c.checkFamily(r)
	c.checkProtocol("protocol", r.Protocol, r.IPVersion)
	c.checkProtocol("notProtocol", r.NotProtocol, r.IPVersion)
	c.checkICMP("icmp", r.ICMP, r.Protocol)
	c.checkICMP("notICMP", r.NotICMP, r.Protocol)
	c.checkEntity("source", &r.Source, r.Protocol, Ingress)
	c.checkEntity("destination", &r.Destination, r.Protocol, Egress)
	c.checkHTTP(r)
}

// checkFamily checks every prefix of the rule, and that all are of one family.
func (c *ruleChecker) checkFamily(r *Rule) {
	family, of := 0, ""
	if v := r.IPVersion; v != nil {
		if *v != 4 && *v != 6 {
			c.add("ipVersion", strconv.Itoa(*v), "expected 4 or 6", "")
		} else {
			family, of = *v, "ipVersion"
		}
	}
	for _, list := range []struct {
		field string
		nets  []string
		not   bool
	}{
		{"source.nets", r.Source.Nets, false}, {"source.notNets", r.Source.NotNets, true},
		{"destination.nets", r.Destination.Nets, false}, {"destination.notNets", r.Destination.NotNets, true},
	} {
		again := repeated(list.nets)
		for i, n := range list.nets {
			p, fix, err := strictNet(n)
			if err != nil {
				c.add(at(list.field, i), quoted(n), err.Error(), fix)
				continue
			}
			if list.not && p.Bits() == 0 {
				c.add(at(list.field, i), quoted(n), "excludes every address, so that the rule would match nothing", "")
			}
			if again(i) {
				c.add(at(list.field, i), quoted(n), "there more than once", "remove it").soft = true
			}
			version := 6
			if p.Addr().Is4() {
				version = 4
			}
			switch {
			case family == 0:
				family, of = version, at(list.field, i)
			case family != version:
				c.add(at(list.field, i), quoted(n), "IPv"+strconv.Itoa(version)+", but "+of+" makes this a rule for IPv"+strconv.Itoa(family), "write one rule for each IP version")
			}
		}
	}
}

// protocolNames are the names that protocols have, in order.
var protocolNames = []string{"TCP", "UDP", "ICMP", "ICMPv6", "SCTP", "UDPLite"}

// checkProtocolValue checks a protocol by itself.
func checkProtocolValue(f *faults, path, field string, p Protocol) {
	if p.Name != "" && !slices.Contains(protocolNames, p.Name) {
		f.add(path+"."+field, quoted(p.Name), "not a protocol: expected TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or 1 to 255", didYouMean(p.Name, protocolNames))
	}
	if p.Name == "" && p.Num == 0 {
		f.add(path+"."+field, "0", "protocol numbers are 1 to 255", "")
	}
}

func (c *ruleChecker) checkProtocol(field string, p *Protocol, version *int) {
	if p == nil {
		return
	}
	checkProtocolValue(c.faults, c.path, field, *p)
	if version == nil {
		return
	}
	if n := p.Number(); n == 1 && *version == 6 || n == 58 && *version == 4 {
		c.add(field, p.String(), "does not go with ipVersion "+strconv.Itoa(*version), "")
	}
}

func (c *ruleChecker) checkICMP(field string, m *ICMPFields, p *Protocol) {
	if m == nil {
		return
	}
	if p == nil || p.Name != "ICMP" && p.Name != "ICMPv6" {
		c.add(field, "", "needs protocol ICMP or ICMPv6, by name", "")
	}
	if m.Type != nil && (*m.Type < 0 || *m.Type > 254) {
		c.add(field+".type", strconv.Itoa(*m.Type), "expected 0 to 254", "")
	}
	if m.Code != nil && (*m.Code < 0 || *m.Code > 255) {
		c.add(field+".code", strconv.Itoa(*m.Code), "expected 0 to 255", "")
	}
	if m.Code != nil && m.Type == nil {
		c.add(field+".code", strconv.Itoa(*m.Code), "needs a type", "")
	}
}

// checkEntity checks one side of the rule but its nets. serviceIn is the
// direction in which this side may be a service.
func (c *ruleChecker) checkEntity(side string, e *EntityRule, p *Protocol, serviceIn PolicyType) {
	c.checkSelector(side, "selector", e.Selector)
	c.checkSelector(side, "notSelector", e.NotSelector)
	c.checkSelector(side, "namespaceSelector", e.NamespaceSelector)
	c.checkPorts(side, "ports", e.Ports, p)
	c.checkPorts(side, "notPorts", e.NotPorts, p)
	for _, list := range []struct {
		name  string
		empty bool
	}{{"nets", e.Nets != nil && len(e.Nets) == 0}, {"ports", e.Ports != nil && len(e.Ports) == 0}} {
		if list.empty {
			// An empty list restricts nothing, which is hardly what a list
			// that ran empty is meant to say.
			c.add(side+"."+list.name, "", "an empty list would match everything", "leave it out if that is meant").soft = true
		}
	}
	if a := e.ServiceAccounts; a != nil {
		if len(a.Names) == 0 && a.Selector == "" {
			c.add(side+".serviceAccounts", "", "names no service account, which would match everything", "leave it out if that is meant").soft = true
		}
		checkSelector(c.faults, c.path+"."+side+".serviceAccounts.selector", a.Selector, false)
		again := repeated(a.Names)
		for i, n := range a.Names {
			field := at(side+".serviceAccounts.names", i)
			if !isSubdomain(n) {
				c.add(field, quoted(n), "not a name that a service account can have", lowerCased(n, isSubdomain))
			} else if again(i) {
				c.add(field, quoted(n), "there more than once", "remove it").soft = true
			}
		}
	}
	if e.Services != nil {
		c.checkServices(side, e, serviceIn)
	}
}

// checkSelector checks one selector of a side; most are empty.
func (c *ruleChecker) checkSelector(side, field, text string) {
	if text != "" {
		checkSelector(c.faults, c.path+"."+side+"."+field, text, field == "namespaceSelector")
	}
}

func (c *ruleChecker) checkPorts(side, list string, ports []Port, p *Protocol) {
	for i, port := range ports {
		if port.Name == "" && port.Min > 0 && port.Min <= port.Max && p != nil && p.HasPorts() {
			continue
		}
		field := at(side+"."+list, i)
		switch {
		case port.Name != "" && (port.Min != 0 || port.Max != 0):
			c.add(field, quoted(port.Name), "a port has either a name or numbers", "")
		case port.Name != "" && !isPortName(port.Name):
			c.add(field, quoted(port.Name), "not a name that a port can have", "")
		case port.Name != "" && looksLikeRange(port.Name):
			c.add(field, quoted(port.Name), "a port's name that looks like a range",
				"write "+quoted(strings.ReplaceAll(port.Name, "-", ":"))).soft = true
		case port.Name == "" && (port.Min == 0 || port.Min > port.Max):
			c.add(field, quoted(port.String()), "ports are 1 to 65535", "")
		}
		switch {
		case p != nil && !p.HasPorts():
			c.add(field, quoted(port.String()), "protocol "+p.String()+" has no ports that a rule can match", "set protocol to TCP, UDP or SCTP")
		case p == nil && port.Name == "":
			c.add(field, quoted(port.String()), "a port number needs a protocol", "set protocol to TCP, UDP or SCTP")
		}
	}
}

// looksLikeRange reports whether a port's name is "8000-8010".
func looksLikeRange(s string) bool {
	lo, hi, ok := strings.Cut(s, "-")
	return ok && allDigits(lo) && allDigits(hi)
}

func (c *ruleChecker) checkServices(side string, e *EntityRule, serviceIn PolicyType) {
	field := side + ".services"
	if c.direction != serviceIn {
		c.add(field, "", "only for the source of ingress rules and the destination of egress rules", "")
	}
	s := e.Services
	if s.Name == "" {
		c.add(field+".name", "", "missing", "")
	} else if !isSubdomain(s.Name) {
		c.add(field+".name", quoted(s.Name), "not a name that a service can have", lowerCased(s.Name, isSubdomain))
	}
	if s.Namespace == "" && !c.namespaced {
		c.add(field+".namespace", "", "missing", "a policy without namespace must say the service's")
	} else if s.Namespace != "" && !isDNSLabel(s.Namespace) {
		c.add(field+".namespace", quoted(s.Namespace), "not a name that a namespace can have", lowerCased(s.Namespace, isDNSLabel))
	}
	for _, other := range []struct {
		name string
		set  bool
	}{
		{"selector", e.Selector != ""}, {"notSelector", e.NotSelector != ""},
		{"namespaceSelector", e.NamespaceSelector != ""}, {"serviceAccounts", e.ServiceAccounts != nil},
		{"nets", len(e.Nets) > 0}, {"notNets", len(e.NotNets) > 0},
		{"ports", len(e.Ports) > 0 && side == "destination"}, {"notPorts", len(e.NotPorts) > 0 && side == "destination"},
	} {
		if other.set {
			c.add(side+"."+other.name, "", "cannot be together with services", "")
		}
	}
}

// Limits of an HTTP match.
const (
	maxHTTPMatches = 20
	maxHTTPPath    = 1024
)

func (c *ruleChecker) checkHTTP(r *Rule) {
	h := r.HTTP
	if h == nil {
		return
	}
	if c.direction == Egress {
		c.add("http", "", "only for ingress rules", "")
	}
	if r.Action != Allow && r.Action != "" {
		c.add("http", "", "only for rules with action Allow", "")
	}
	if p := r.Protocol; p != nil && p.Number() != 6 {
		c.add("http", "", "only for protocol TCP", "")
	}
	for _, list := range []struct {
		field string
		n     int
	}{{"http.methods", len(h.Methods)}, {"http.paths", len(h.Paths)}} {
		if list.n > maxHTTPMatches {
			c.add(list.field, "", strconv.Itoa(list.n)+" elements, more than "+strconv.Itoa(maxHTTPMatches), "")
		}
	}
	again := repeated(h.Methods)
	for i, m := range h.Methods {
		if again(i) {
			c.add(at("http.methods", i), quoted(m), "there more than once", "remove it")
		}
	}
	for i, p := range h.Paths {
		field, text := at("http.paths", i), p.Exact+p.Prefix
		switch {
		case (p.Exact == "") == (p.Prefix == ""):
			c.add(field, "", "needs exactly one of exact and prefix", "")
		case text[0] != '/':
			c.add(field, quoted(text), "a path begins with '/'", "")
		case strings.ContainsAny(text, "?# "):
			c.add(field, quoted(text), "a path has no '?', '#' or space", "")
		case len(text) > maxHTTPPath:
			c.add(field, quoted(text), "longer than "+strconv.Itoa(maxHTTPPath), "")
		}
	}
}
