// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/base64"
	"net/netip"
	"slices"
	"strconv"
)

// Validate reports every fault of the node.
func (n *Node) Validate() error {
	var f faults
	checkMeta(&f, n)
	s := &n.Spec
	if b := s.BGP; b != nil {
		if *b == (NodeBGPSpec{}) {
			f.add("spec.bgp", "", "may not be empty", "remove it")
		}
		checkNodeCIDR(&f, "spec.bgp.ipv4Address", b.IPv4Address, true)
		checkNodeCIDR(&f, "spec.bgp.ipv6Address", b.IPv6Address, false)
		checkGateway(&f, "spec.bgp.ipv4IPIPTunnelAddr", b.IPv4IPIPTunnelAddr, true)
		checkGateway(&f, "spec.bgp.routeReflectorClusterID", b.RouteReflectorClusterID, true)
	}
	checkGateway(&f, "spec.ipv4VXLANTunnelAddr", s.IPv4VXLANTunnelAddr, true)
	checkGateway(&f, "spec.ipv6VXLANTunnelAddr", s.IPv6VXLANTunnelAddr, false)
	for _, m := range []struct{ field, mac string }{
		{"vxlanTunnelMACAddr", s.VXLANTunnelMACAddr}, {"vxlanTunnelMACAddrV6", s.VXLANTunnelMACAddrV6},
	} {
		if m.mac != "" && !isMAC(m.mac) {
			f.add("spec."+m.field, quoted(m.mac), "not a MAC address", "")
		}
	}
	if w := s.Wireguard; w != nil {
		checkGateway(&f, "spec.wireguard.interfaceIPv4Address", w.InterfaceIPv4Address, true)
		checkGateway(&f, "spec.wireguard.interfaceIPv6Address", w.InterfaceIPv6Address, false)
	}
	for i, r := range s.OrchRefs {
		if r.Orchestrator == "" {
			f.add(at("spec.orchRefs", i)+".orchestrator", "", "missing", "")
		}
	}
	for i, a := range s.Addresses {
		path := at("spec.addresses", i)
		if err := laxCIDR(a.Address); err != nil {
			f.add(path+".address", quoted(a.Address), err.Error(), "")
		}
		checkWord(&f, path+".type", a.Type, "CalicoNodeIP", "InternalIP", "ExternalIP")
	}
	for i, in := range s.Interfaces {
		for j, a := range in.Addresses {
			if err := laxCIDR(a); err != nil {
				f.add(at(at("spec.interfaces", i)+".addresses", j), quoted(a), err.Error(), "")
			}
		}
	}
	checkKey(&f, "status.wireguardPublicKey", n.Status.WireguardPublicKey)
	checkKey(&f, "status.wireguardPublicKeyV6", n.Status.WireguardPublicKeyV6)
	for i, p := range n.Status.PodCIDRs {
		if err := laxCIDR(p); err != nil {
			f.add(at("status.podCIDRs", i), quoted(p), err.Error(), "")
		}
	}
	return f.err()
}

func checkNodeCIDR(f *faults, path, s string, v4 bool) {
	if s == "" {
		return
	}
	p, err := ParseCIDR(s)
	switch {
	case err != nil:
		f.add(path, quoted(s), err.Error(), "")
	case p.Addr().Is4() != v4:
		f.add(path, quoted(s), "of the wrong IP version", "")
	}
}

// checkKey checks a WireGuard key: base64 of 32 bytes.
func checkKey(f *faults, path, s string) {
	if s == "" {
		return
	}
	if b, err := base64.StdEncoding.DecodeString(s); err != nil || len(b) != 32 {
		f.add(path, "", "not a key: base64 of 32 bytes", "")
	}
}

// Prefixes that no pool may overlap: link-local addresses.
var linkLocal = []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10")}

// Validate reports every fault of the pool. That it overlaps no other pool,
// and is changed only as it may be, is for the writer to check.
func (p *IPPool) Validate() error {
	var f faults
	checkMeta(&f, p)
	s := &p.Spec
	net := p.checkCIDR(&f)
	checkWord(&f, "spec.ipipMode", s.IPIPMode, EncapNever, EncapAlways, EncapCrossSubnet)
	checkWord(&f, "spec.vxlanMode", s.VXLANMode, EncapNever, EncapAlways, EncapCrossSubnet)
	checkWord(&f, "spec.assignmentMode", s.AssignmentMode, "Automatic", "Manual")
	ipip := s.IPIPMode != "" && s.IPIPMode != EncapNever
	vxlan := s.VXLANMode != "" && s.VXLANMode != EncapNever
	if ipip && net.IsValid() && net.Addr().Is6() {
		f.add("spec.ipipMode", quoted(s.IPIPMode), "there is no IPIP for IPv6 pools", "write Never")
	}
	if ipip && vxlan {
		f.add("spec.vxlanMode", quoted(s.VXLANMode), "a pool has IPIP or VXLAN, not both", "")
	}
	checkSelector(&f, "spec.nodeSelector", s.NodeSelector, false)
	checkSelector(&f, "spec.namespaceSelector", s.NamespaceSelector, false)
	again := repeated(s.AllowedUses)
	for i, u := range s.AllowedUses {
		path := at("spec.allowedUses", i)
		if checkWord(&f, path, u, UseWorkload, UseTunnel, UseLoadBalancer) && again(i) {
			f.add(path, quoted(u), "there more than once", "remove it")
		}
	}
	if s.NamespaceSelector != "" && (len(s.AllowedUses) == 0 || slices.Contains(s.AllowedUses, UseTunnel)) {
		f.add("spec.namespaceSelector", quoted(s.NamespaceSelector), "does not go with the use Tunnel", "set allowedUses to [Workload]")
	}
	if slices.Contains(s.AllowedUses, UseLoadBalancer) {
		p.checkLoadBalancer(&f, ipip || vxlan)
	}
	return f.err()
}

// checkLoadBalancer checks a pool for addresses of services.
func (p *IPPool) checkLoadBalancer(f *faults, encapsulated bool) {
	s := &p.Spec
	if len(s.AllowedUses) > 1 {
		f.add("spec.allowedUses", "", "LoadBalancer excludes the other uses", "")
	}
	if encapsulated {
		f.add("spec.allowedUses", "", "a LoadBalancer pool has no encapsulation", "")
	}
	if s.NodeSelector != "" && s.NodeSelector != "all()" {
		f.add("spec.nodeSelector", quoted(s.NodeSelector), "a LoadBalancer pool is for all nodes", "write all()")
	}
	if s.DisableBGPExport {
		f.add("spec.disableBGPExport", "true", "a LoadBalancer pool must be exported", "remove it")
	}
}

// checkCIDR checks prefix and block size; the prefix is not valid if it is at
// fault.
func (p *IPPool) checkCIDR(f *faults) netip.Prefix {
	s := &p.Spec
	if s.CIDR == "" {
		f.add("spec.cidr", "", "missing", "")
		return netip.Prefix{}
	}
	net, fix, err := strictNet(s.CIDR)
	if err != nil {
		f.add("spec.cidr", quoted(s.CIDR), err.Error(), fix)
		return netip.Prefix{}
	}
	for _, l := range linkLocal {
		if l.Overlaps(net) {
			f.add("spec.cidr", quoted(s.CIDR), "overlaps link-local addresses "+l.String(), "")
		}
	}
	if s.BlockSize == 0 {
		return net
	}
	least, most := 20, 32
	if net.Addr().Is6() {
		least, most = 116, 128
	}
	switch size := strconv.Itoa(s.BlockSize); {
	case s.BlockSize < least || s.BlockSize > most:
		f.add("spec.blockSize", size, "expected "+strconv.Itoa(least)+" to "+strconv.Itoa(most), "")
	case s.BlockSize < net.Bits():
		f.add("spec.blockSize", size, "a block would be larger than the pool "+s.CIDR, "")
	}
	return net
}
