// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// maxInterfaceName is the longest name of a network interface in Linux.
const maxInterfaceName = 15

func isInterfaceName(s string) bool { return len(s) <= maxInterfaceName && isWord(s, "_.-") }

// isNodeName reports whether s can name a host.
func isNodeName(s string) bool { return len(s) <= maxSubdomain && isWord(s, "_.-") }

// Validate reports every fault of the endpoint.
func (h *HostEndpoint) Validate() error {
	var f faults
	checkMeta(&f, h)
	checkReserved(&f, &h.Meta, nil)
	s := &h.Spec
	checkNode(&f, s.Node)
	if n := s.InterfaceName; n != "" && n != AllInterfaces && !isInterfaceName(n) {
		f.add("spec.interfaceName", quoted(n), "an interface's name is at most 15 letters, digits, '_', '.' and '-'; \"*\" means all", "")
	}
	if s.InterfaceName == "" && len(s.ExpectedIPs) == 0 {
		f.add("spec", "", "needs interfaceName or expectedIPs", "")
	}
	again := repeated(s.ExpectedIPs)
	for i, ip := range s.ExpectedIPs {
		path := at("spec.expectedIPs", i)
		if err := plainIP(ip); err != nil {
			fix := ""
			if p, err := netip.ParsePrefix(ip); err == nil {
				fix = "write " + p.Addr().String()
			}
			f.add(path, quoted(ip), err.Error(), fix)
		} else if again(i) {
			f.add(path, quoted(ip), "there more than once", "remove it").soft = true
		}
	}
	checkProfiles(&f, s.Profiles)
	for i, p := range s.Ports {
		checkEndpointPort(&f, at("spec.ports", i), p.Name, p.Protocol, p.Port, true)
	}
	return f.err()
}

// checkNode checks the name of an endpoint's host.
func checkNode(f *faults, node string) {
	if node == "" {
		f.add("spec.node", "", "missing", "write the name of the host")
	} else if !isNodeName(node) {
		f.add("spec.node", quoted(node), "a host's name is at most 253 letters, digits, '_', '.' and '-'", "")
	}
}

// checkProfiles checks the names of an endpoint's profiles. One that cannot
// be is as harmless as one that is not.
func checkProfiles(f *faults, profiles []string) {
	for i, p := range profiles {
		if !isSubdomain(p) {
			f.add(at("spec.profiles", i), quoted(p), "not a name that a profile can have", lowerCased(p, isSubdomain)).soft = true
		}
	}
}

func checkEndpointPort(f *faults, path, name string, p Protocol, port uint16, needsName bool) {
	switch {
	case name == "" && needsName:
		f.add(path+".name", "", "missing", "")
	case name != "" && !isPortName(name):
		f.add(path+".name", quoted(name), "a port's name is at most 128 letters, digits, '_', '.' and '-'", "")
	}
	if (p == Protocol{}) {
		f.add(path+".protocol", "", "missing", "")
	} else {
		checkProtocolValue(f, path, "protocol", p)
	}
	if port == 0 {
		f.add(path+".port", "", "missing", "expected 1 to 65535")
	}
}

// Validate reports every fault of the endpoint.
func (w *WorkloadEndpoint) Validate() error {
	var f faults
	checkMeta(&f, w)
	checkReserved(&f, &w.Meta, map[string]string{
		LabelNamespace:      w.Namespace,
		LabelOrchestrator:   w.Spec.Orchestrator,
		LabelServiceAccount: w.Spec.ServiceAccountName,
	})
	w.checkIdentity(&f)
	s := &w.Spec
	if s.InterfaceName != "" && !isInterfaceName(s.InterfaceName) {
		f.add("spec.interfaceName", quoted(s.InterfaceName), "an interface's name is at most 15 letters, digits, '_', '.' and '-'", "")
	}
	if s.MAC != "" && !isMAC(s.MAC) {
		f.add("spec.mac", quoted(s.MAC), "not a MAC address", "")
	}
	checkGateway(&f, "spec.ipv4Gateway", s.IPv4Gateway, true)
	checkGateway(&f, "spec.ipv6Gateway", s.IPv6Gateway, false)
	w.checkAddresses(&f)
	checkProfiles(&f, s.Profiles)
	for i, p := range s.Ports {
		path := at("spec.ports", i)
		checkEndpointPort(&f, path, p.Name, p.Protocol, p.Port, false)
		if p.HostIP != "" && plainIP(p.HostIP) != nil {
			f.add(path+".hostIP", quoted(p.HostIP), errNotIP.Error(), "")
		}
	}
	for i, n := range s.AllowSpoofedSourcePrefixes {
		if err := laxCIDR(n); err != nil {
			f.add(at("spec.allowSpoofedSourcePrefixes", i), quoted(n), err.Error(), "")
		}
	}
	if s.QoSControls != nil {
		checkQoS(&f, s.QoSControls)
	}
	return f.err()
}

// checkIdentity checks that the name is the one computed from the spec.
func (w *WorkloadEndpoint) checkIdentity(f *faults) {
	s := &w.Spec
	checkNode(f, s.Node)
	part := map[string]string{OrchestratorKubernetes: "pod", OrchestratorCNI: "containerID"}[s.Orchestrator]
	if part == "" {
		part = "workload"
	}
	for _, p := range []struct{ field, value string }{
		{"orchestrator", s.Orchestrator}, {part, w.workloadPart()}, {"endpoint", s.Endpoint},
	} {
		if p.value == "" {
			f.add("spec."+p.field, "", "missing", "")
		} else if strings.HasPrefix(p.value, "-") || strings.HasSuffix(p.value, "-") {
			f.add("spec."+p.field, quoted(p.value), "may not begin or end with '-'", "")
		}
	}
	if name := w.ComputedName(); name != "" && w.Name != "" && w.Name != name {
		f.add("metadata.name", quoted(w.Name), "not the name that the spec gives", "write "+quoted(name)+" or leave it out")
	}
}

// checkAddresses checks the endpoint's addresses and the NATs to them.
func (w *WorkloadEndpoint) checkAddresses(f *faults) {
	s := &w.Spec
	own := map[netip.Addr]bool{}
	for i, n := range s.IPNetworks {
		p, err := ParseCIDR(n)
		switch {
		case err != nil:
			f.add(at("spec.ipNetworks", i), quoted(n), err.Error(), "")
		case !p.IsSingleIP():
			f.add(at("spec.ipNetworks", i), quoted(n), "more than one address", "write a /"+strconv.Itoa(p.Addr().BitLen()))
		default:
			own[p.Addr()] = true
		}
	}
	for i, n := range s.IPNATs {
		path := at("spec.ipNATs", i)
		in, errIn := parseIP(n.InternalIP)
		out, errOut := parseIP(n.ExternalIP)
		if errIn != nil {
			f.add(path+".internalIP", quoted(n.InternalIP), errIn.Error(), "")
		} else if !own[in] {
			f.add(path+".internalIP", quoted(n.InternalIP), "not one of ipNetworks", "")
		}
		if errOut != nil {
			f.add(path+".externalIP", quoted(n.ExternalIP), errOut.Error(), "")
		} else if errIn == nil && in.Is4() != out.Is4() {
			f.add(path+".externalIP", quoted(n.ExternalIP), "of another IP version than internalIP", "")
		}
	}
}

func checkGateway(f *faults, path, s string, v4 bool) {
	if s == "" {
		return
	}
	a, err := parseIP(s)
	switch {
	case err != nil:
		f.add(path, quoted(s), err.Error(), "")
	case a.Is4() != v4:
		f.add(path, quoted(s), "of the wrong IP version", "")
	}
}

var macAddress = regexp.MustCompile(`^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$`)

func isMAC(s string) bool { return macAddress.MatchString(s) }

// checkQoS checks limits of traffic. What is out of range limits nothing of
// what policy allows, so it is not a reason not to read the endpoint.
func checkQoS(f *faults, q *QoSControls) {
	const (
		maxBandwidth = 1_000_000_000_000_000
		maxBurst     = 34_359_738_360
	)
	for _, c := range []struct {
		name       string
		value      int64
		least, top int64
	}{
		{"ingressBandwidth", q.IngressBandwidth, 1000, maxBandwidth}, {"egressBandwidth", q.EgressBandwidth, 1000, maxBandwidth},
		{"ingressBurst", q.IngressBurst, 1000, maxBurst}, {"egressBurst", q.EgressBurst, 1000, maxBurst},
		{"ingressPeakrate", q.IngressPeakrate, 1010, maxBandwidth / 100 * 101}, {"egressPeakrate", q.EgressPeakrate, 1010, maxBandwidth / 100 * 101},
		{"ingressMinburst", q.IngressMinburst, 1000, 100_000_000}, {"egressMinburst", q.EgressMinburst, 1000, 100_000_000},
		{"ingressPacketRate", q.IngressPacketRate, 1, 10_000}, {"egressPacketRate", q.EgressPacketRate, 1, 10_000},
		{"ingressPacketBurst", q.IngressPacketBurst, 1, 10_000}, {"egressPacketBurst", q.EgressPacketBurst, 1, 10_000},
		{"ingressMaxConnections", q.IngressMaxConnections, 1, 4_294_967_295}, {"egressMaxConnections", q.EgressMaxConnections, 1, 4_294_967_295},
	} {
		if c.value != 0 && (c.value < c.least || c.value > c.top) {
			f.add("spec.qosControls."+c.name, strconv.FormatInt(c.value, 10),
				"expected "+strconv.FormatInt(c.least, 10)+" to "+strconv.FormatInt(c.top, 10), "").soft = true
		}
	}
}
