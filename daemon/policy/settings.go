// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/selector"
)

// Failsafe is traffic that policy cannot take away. Port is the destination
// port. Net is the peer; the zero Prefix means anybody, of both families.
// Protocol is 6 (TCP) or 17 (UDP).
type Failsafe struct {
	Protocol uint8
	Port     uint16
	Net      netip.Prefix
}

// String is "tcp:22", "tcp:10.0.0.0/8:22" or "tcp:[fd00::/8]:22".
func (f Failsafe) String() string {
	s := strings.ToLower(protocolName(f.Protocol)) + ":"
	switch {
	case !f.Net.IsValid():
	case f.Net.Addr().Is4():
		s += f.Net.String() + ":"
	default:
		s += "[" + f.Net.String() + "]:"
	}
	return s + strconv.Itoa(int(f.Port))
}

// ParseFailsafe reads what Failsafe.String writes.
func ParseFailsafe(text string) (Failsafe, error) {
	bad := func(why string) (Failsafe, error) {
		return Failsafe{}, fmt.Errorf("failsafe %q: %s; want tcp:22, tcp:10.0.0.0/8:22 or tcp:[fd00::/8]:22", text, why)
	}
	name, rest, _ := strings.Cut(text, ":")
	f := Failsafe{Protocol: map[string]uint8{"tcp": protoTCP, "udp": protoUDP}[name]}
	if f.Protocol == 0 {
		return bad("the protocol is neither tcp nor udp")
	}
	if i := strings.LastIndexByte(rest, ':'); i >= 0 {
		n, err := netip.ParsePrefix(strings.Trim(rest[:i], "[]"))
		if err != nil {
			return bad("the net is no prefix")
		}
		f.Net, rest = n.Masked(), rest[i+1:]
	}
	port, err := strconv.ParseUint(rest, 10, 16)
	if err != nil || port == 0 {
		return bad("the port is not between 1 and 65535")
	}
	f.Port = uint16(port)
	return f, nil
}

// Options are the settings where no FelixConfiguration says anything. A nil
// list stands for Calico's default; an empty one for none.
type Options struct {
	FailsafeInbound  []Failsafe
	FailsafeOutbound []Failsafe
	// Reported are the failsafes that hosts say are in force there, by the
	// host's name. They go before the two lists above, and after what a
	// FelixConfiguration says: a host may not have applied that yet.
	Reported map[string]Failsafes
	// AllowInvalid leaves packets of state Invalid to policy; default: denied.
	AllowInvalid bool
	// InterfaceExclude are interfaces that a wildcard endpoint does not
	// govern: names, or regular expressions between slashes. Default:
	// kube-ipvs0.
	InterfaceExclude []string
	// WorkloadPrefixes begin the names of workloads' interfaces. Default:
	// cali.
	WorkloadPrefixes []string
	// EndpointToHost is what becomes of a workload's traffic to its host that
	// its egress policy allows. Default: ToHostDrop.
	EndpointToHost ToHost
	// SourceSpoofing honours allowSpoofedSourcePrefixes of workload
	// endpoints. Default: endpoints that have them count as absent.
	SourceSpoofing bool
	// VXLANFromWorkloads and IPIPFromWorkloads let workloads send these
	// encapsulations, if policy does. Default: dropped.
	VXLANFromWorkloads, IPIPFromWorkloads bool
	// VXLANPort is the UDP port of VXLAN. Default: 4789.
	VXLANPort uint16
}

// Failsafes are those of both directions.
type Failsafes struct{ Inbound, Outbound []Failsafe }

// Settings are the options in force at one host.
type Settings Options

// Settings gives what is in force at a host: what the FelixConfigurations of
// the host, of the nodes it is among and of all say, in this order, then the
// world's options, then Calico's defaults.
func (w *World) Settings(host string) Settings {
	s := Settings(w.options)
	if s.FailsafeInbound == nil {
		s.FailsafeInbound = slices.Concat(failsafes(protoTCP, 22), failsafes(protoUDP, 68), failsafes(protoTCP, controlPorts()...))
	}
	if s.FailsafeOutbound == nil {
		s.FailsafeOutbound = slices.Concat(failsafes(protoUDP, 53, 67), failsafes(protoTCP, controlPorts()...))
	}
	if s.InterfaceExclude == nil {
		s.InterfaceExclude = []string{"kube-ipvs0"}
	}
	if s.WorkloadPrefixes == nil {
		s.WorkloadPrefixes = []string{"cali"}
	}
	if s.EndpointToHost == "" {
		s.EndpointToHost = ToHostDrop
	}
	if s.VXLANPort == 0 {
		s.VXLANPort = 4789 // RFC 7348, 8.1
	}
	if r, ok := w.options.Reported[host]; ok {
		s.FailsafeInbound, s.FailsafeOutbound = r.Inbound, r.Outbound
	}
	def := s
	for _, c := range w.felixOf(host) {
		s.apply(c, def)
	}
	return s
}

// felixOf are the configurations that hold for a host, the most general
// first: "default", the oldest of those whose nodeSelector matches the host's
// Node, and "node.<host>". One of another name without a nodeSelector holds
// for nobody.
func (w *World) felixOf(host string) []*api.FelixConfigurationSpec {
	var general, selected, own *api.FelixConfigurationSpec
	for _, c := range w.felix { // the oldest first
		switch {
		case c.Name == "default":
			general = &c.Spec
		case c.Name == "node."+host:
			own = &c.Spec
		case strings.HasPrefix(c.Name, "node."):
		case selected == nil && w.nodeMatches(c.Spec.NodeSelector, host):
			selected = &c.Spec
		}
	}
	return slices.DeleteFunc([]*api.FelixConfigurationSpec{general, selected, own},
		func(s *api.FelixConfigurationSpec) bool { return s == nil })
}

func (w *World) nodeMatches(nodeSelector, host string) bool {
	node := w.nodes[host]
	if node == nil || nodeSelector == "" {
		return false
	}
	sel, err := selector.Parse(nodeSelector)
	return err == nil && sel.Evaluate(selector.Map(node.Labels))
}

// apply overrides what the configuration sets. A pointer that is nil and a
// text that is empty set nothing. Where what is set cannot be read, def holds.
func (s *Settings) apply(c *api.FelixConfigurationSpec, def Settings) {
	if c.FailsafeInboundHostPorts != nil {
		s.FailsafeInbound = failsafesOf(*c.FailsafeInboundHostPorts, def.FailsafeInbound)
	}
	if c.FailsafeOutboundHostPorts != nil {
		s.FailsafeOutbound = failsafesOf(*c.FailsafeOutboundHostPorts, def.FailsafeOutbound)
	}
	if c.DisableConntrackInvalidCheck != nil {
		s.AllowInvalid = *c.DisableConntrackInvalidCheck
	}
	if c.InterfaceExclude != "" {
		s.InterfaceExclude = def.InterfaceExclude
		if strings.EqualFold(c.InterfaceExclude, "none") {
			s.InterfaceExclude = []string{}
		} else if list, ok := listOf(c.InterfaceExclude, isInterfacePattern); ok {
			s.InterfaceExclude = list
		}
	}
	if c.InterfacePrefix != "" {
		s.WorkloadPrefixes = def.WorkloadPrefixes
		if list, ok := listOf(c.InterfacePrefix, isInterfacePrefix); ok {
			s.WorkloadPrefixes = list
		}
	}
	s.applyWorkloads(c, def)
}

// applyWorkloads is apply for what is about workloads.
func (s *Settings) applyWorkloads(c *api.FelixConfigurationSpec, def Settings) {
	if word := c.DefaultEndpointToHostAction; word != "" {
		s.EndpointToHost = def.EndpointToHost
		for _, a := range []ToHost{ToHostDrop, ToHostReturn, ToHostAccept} {
			if strings.EqualFold(word, string(a)) {
				s.EndpointToHost = a
			}
		}
	}
	if word := c.WorkloadSourceSpoofing; word != "" {
		s.SourceSpoofing = strings.EqualFold(word, "Any") || def.SourceSpoofing && !strings.EqualFold(word, "Disabled")
	}
	if c.AllowVXLANPacketsFromWorkloads != nil {
		s.VXLANFromWorkloads = *c.AllowVXLANPacketsFromWorkloads
	}
	if c.AllowIPIPPacketsFromWorkloads != nil {
		s.IPIPFromWorkloads = *c.AllowIPIPPacketsFromWorkloads
	}
	if p := c.VXLANPort; p != nil {
		s.VXLANPort = def.VXLANPort
		if *p > 0 && *p <= math.MaxUint16 {
			s.VXLANPort = uint16(*p)
		}
	}
}

// failsafesOf reads failsafe ports. One whose protocol or net cannot be read
// is left out: it must not be wider than it was meant. But then those of def
// hold too, so that a misprint locks nobody out.
func failsafesOf(ports []api.ProtoPort, def []Failsafe) []Failsafe {
	list, bad := []Failsafe{}, false
	for _, p := range ports {
		f := Failsafe{Port: p.Port}
		switch strings.ToLower(p.Protocol) {
		case "tcp", "":
			f.Protocol = protoTCP
		case "udp":
			f.Protocol = protoUDP
		default:
			bad = true
			continue
		}
		if p.Net != "" {
			n, ok := parseNet(p.Net)
			if !ok {
				bad = true
				continue
			}
			f.Net = n
		}
		list = append(list, f)
	}
	if bad {
		list = append(list, def...)
	}
	return list
}

// listOf reads a list separated by commas; false: not all of it is good.
func listOf(text string, good func(string) bool) ([]string, bool) {
	var list []string
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		if !good(part) {
			return nil, false
		}
		list = append(list, part)
	}
	return list, true
}

var interfaceWord = regexp.MustCompile(`^[a-zA-Z0-9:._+-]{1,15}$`)

func isInterfacePrefix(s string) bool {
	return interfaceWord.MatchString(s) && !strings.EqualFold(s, "none")
}

// isInterfacePattern tells whether s is a name or, between slashes, a regular
// expression that is not empty.
func isInterfacePattern(s string) bool {
	if len(s) > 2 && s[0] == '/' && s[len(s)-1] == '/' {
		_, err := regexp.Compile(s[1 : len(s)-1])
		return err == nil
	}
	return interfaceWord.MatchString(s)
}

// controlPorts are TCP failsafes of both directions: BGP, etcd, Typha, the
// Kubernetes API, and etcd's old ports.
func controlPorts() []uint16 { return []uint16{179, 2379, 2380, 5473, 6443, 6666, 6667} }

func failsafes(protocol uint8, ports ...uint16) []Failsafe {
	var list []Failsafe
	for _, p := range ports {
		list = append(list, Failsafe{Protocol: protocol, Port: p})
	}
	return list
}
