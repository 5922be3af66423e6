// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// Known is what an asker knows beyond the resources.
type Known struct {
	// ThisHost is the node that "this-host" stands for; empty: nothing.
	ThisHost string
	// Hosts are hosts whose interfaces and addresses are known, by name. Of
	// others only what resources say is known.
	Hosts map[string]Host
}

// end is one way to understand one end of a question: an address and, if it
// is of a host or a workload, the host and the interface there.
type end struct {
	addr  netip.Addr
	host  Host // no name: not a host that is judged
	iface string
	// workload: the end is it, not the host; via is what the question says of
	// the interface between its host and the other end.
	workload *workloadEndpoint
	via      string
	assumed  []string
}

// picture is what is known of a host's interfaces and addresses: the host
// itself if it was given, else its host endpoints and its Node. Addresses
// whose interface is not known are in loose. An address that endpoints expect
// on some interface is put on one of its own, which has no real name.
func (w *World) picture(name string, k Known) (host Host, loose []netip.Addr) {
	if h, ok := k.Hosts[name]; ok && len(h.Interfaces) > 0 {
		return Host{Name: name, Interfaces: h.Interfaces}, nil
	}
	host = Host{Name: name, Interfaces: map[string][]netip.Addr{}}
	placed := map[netip.Addr]bool{}
	place := func(iface string, texts []string) {
		for _, t := range texts {
			if p, ok := addressOf(t); ok && !placed[p] {
				placed[p] = true
				host.Interfaces[iface] = append(host.Interfaces[iface], p)
			}
		}
	}
	node := w.nodes[name]
	if node != nil {
		for _, i := range node.Spec.Interfaces {
			place(i.Name, i.Addresses)
		}
	}
	for _, h := range w.hosts {
		if h.spec.Node == name && h.spec.InterfaceName != "" && h.spec.InterfaceName != api.AllInterfaces {
			place(h.spec.InterfaceName, h.spec.ExpectedIPs)
		}
	}
	for _, h := range w.hosts {
		if h.spec.Node == name && h.spec.InterfaceName == "" {
			for _, t := range h.spec.ExpectedIPs {
				place("(with "+t+")", []string{t})
			}
		}
	}
	for _, t := range w.nodeAddresses(name) {
		if a, ok := addressOf(t); ok && !placed[a] {
			placed[a] = true
			loose = append(loose, a)
		}
	}
	return host, loose
}

// nodeAddresses are the addresses that resources give a host without saying
// on which interface.
func (w *World) nodeAddresses(name string) []string {
	var texts []string
	for _, h := range w.hosts {
		if h.spec.Node == name && h.spec.InterfaceName == api.AllInterfaces {
			texts = append(texts, h.spec.ExpectedIPs...)
		}
	}
	node := w.nodes[name]
	if node == nil {
		return texts
	}
	for _, a := range node.Spec.Addresses {
		texts = append(texts, a.Address)
	}
	if b := node.Spec.BGP; b != nil {
		texts = append(texts, b.IPv4Address, b.IPv6Address)
	}
	return texts
}

// addressOf reads an address, or the address in front of a prefix length.
func addressOf(text string) (netip.Addr, bool) {
	text, _, _ = strings.Cut(text, "/")
	a, err := netip.ParseAddr(text)
	return plain(a), err == nil
}

// hostNames are the hosts that resources or the asker know of, sorted.
func (w *World) hostNames(k Known) []string {
	names := slices.Collect(maps.Keys(w.nodes))
	names = slices.AppendSeq(names, maps.Keys(k.Hosts))
	for _, h := range w.hosts {
		names = append(names, h.spec.Node)
	}
	for _, x := range w.workloads {
		names = append(names, x.spec.Node)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// owner is the place that the address is of: a workload or a host. It is
// false if it is of none that is known.
func (w *World) owner(a netip.Addr, k Known) (Place, bool) {
	if !a.IsValid() {
		return Place{}, false
	}
	for _, x := range w.workloads {
		if x.absent == "" && slices.Contains(x.sources, a) {
			return Place{Workload: x.place(), At: a}, true
		}
	}
	name := w.hostWith(a, k)
	return Place{Host: name, At: a}, name != ""
}

// hostWith is the host that has the address; empty: none.
func (w *World) hostWith(a netip.Addr, k Known) string {
	for _, name := range w.hostNames(k) {
		host, loose := w.picture(name, k)
		if slices.Contains(loose, a) || interfaceWith(host, a) != "" {
			return name
		}
	}
	return ""
}

// interfaceWith is the first interface that has the address; empty: none.
func interfaceWith(h Host, a netip.Addr) string {
	for _, iface := range slices.Sorted(maps.Keys(h.Interfaces)) {
		if slices.ContainsFunc(h.Interfaces[iface], func(b netip.Addr) bool { return plain(b) == a }) {
			return iface
		}
	}
	return ""
}

// ends are all ways to understand a place, of one IP version.
func (w *World) ends(at Place, family int, k Known) ([]end, error) {
	if at.Addr.IsValid() {
		if familyOf(at.Addr) != family {
			return nil, nil
		}
		return []end{{addr: at.Addr}}, nil
	}
	if at.Workload != "" {
		return w.workloadEnds(at, family, k)
	}
	name, only, forced, err := w.who(at, k)
	if err != nil {
		return nil, err
	}
	host, loose := w.picture(name, k)
	if at.Via != "" {
		only, forced = at.Via, true
	}
	var list []end
	add := func(a netip.Addr, iface string, known bool) {
		if familyOf(a) != family || at.At.IsValid() && a != at.At {
			return
		}
		switch {
		case forced && known && iface != only && only != "":
			return
		case forced:
			list = append(list, end{addr: a, host: host, iface: only})
		case known:
			list = append(list, end{addr: a, host: host, iface: iface})
		default:
			list = append(list, w.anyInterface(end{addr: a, host: host}, "the interface of "+a.String())...)
		}
	}
	for _, iface := range slices.Sorted(maps.Keys(host.Interfaces)) {
		for _, a := range host.Interfaces[iface] {
			// What only the host itself or its link reaches is not meant
			// unless it is asked for.
			a = plain(a)
			if iface == loopback && at.Via != loopback || a.IsLinkLocalUnicast() && a != at.At {
				continue
			}
			add(a, iface, true)
		}
	}
	for _, a := range loose {
		add(a, "", false)
	}
	if len(list) == 0 && at.At.IsValid() && familyOf(at.At) == family {
		add(at.At, "", false)
	}
	return list, nil
}

// workloadEnds are all ways to understand a workload as an end: one for each
// of its addresses, or the one that the question says, its own or not.
func (w *World) workloadEnds(at Place, family int, k Known) ([]end, error) {
	x, err := w.workloadNamed(at.Workload)
	if err != nil {
		return nil, err
	}
	host, _ := w.picture(x.spec.Node, k)
	addrs := x.sources
	if at.At.IsValid() {
		addrs = []netip.Addr{at.At}
	}
	var list []end
	for _, a := range addrs {
		if familyOf(a) == family {
			list = append(list, end{addr: a, host: host, iface: x.spec.InterfaceName, workload: x, via: at.Via})
		}
	}
	return list, nil
}

// place is the endpoint as a question names it.
func (x *workloadEndpoint) place() string { return x.key.Namespace + "/" + x.key.Name }

// workloadNamed finds a workload endpoint by namespace/name, where the name is
// that of the endpoint or, if only one endpoint is of it, of the workload.
func (w *World) workloadNamed(place string) (*workloadEndpoint, error) {
	var of []*workloadEndpoint
	var known, several []string
	for _, x := range w.workloads {
		if x.place() == place {
			return x, nil
		}
		known = append(known, x.place())
		namespace, name, _ := strings.Cut(place, "/")
		if x.key.Namespace == namespace && slices.Contains([]string{x.spec.Pod, x.spec.Workload, x.spec.ContainerID}, name) {
			of, several = append(of, x), append(several, x.place())
		}
	}
	switch len(of) {
	case 1:
		return of[0], nil
	case 0:
		return nil, fmt.Errorf("workload/%s: there is no such WorkloadEndpoint, and none of such a workload; known are: %s", place, listed(known))
	}
	return nil, fmt.Errorf("workload/%s: several WorkloadEndpoints are of it; write one of: %s", place, listed(several))
}

// who is the host that a place is of, and the interface if the place says it.
// A wildcard endpoint's is an interface without an endpoint of its own.
func (w *World) who(at Place, k Known) (host, iface string, forced bool, err error) {
	switch {
	case at.ThisHost && k.ThisHost == "":
		return "", "", false, fmt.Errorf("it is not known which host this is; write host/NAME")
	case at.ThisHost:
		return k.ThisHost, "", false, nil
	case at.Host != "":
		if names := w.hostNames(k); !slices.Contains(names, at.Host) {
			return "", "", false, fmt.Errorf("host/%s: no Node and no endpoint is of this host; known are: %s", at.Host, listed(names))
		}
		return at.Host, "", false, nil
	}
	var names []string
	for _, h := range w.hosts {
		names = append(names, h.key.Name)
		if h.key.Name != at.Endpoint {
			continue
		}
		switch h.spec.InterfaceName {
		case "":
			for _, t := range h.spec.ExpectedIPs {
				if a, ok := addressOf(t); ok {
					picture, _ := w.picture(h.spec.Node, k)
					return h.spec.Node, interfaceWith(picture, a), true, nil
				}
			}
			return h.spec.Node, "", true, nil
		case api.AllInterfaces:
			return h.spec.Node, "", true, nil
		}
		return h.spec.Node, h.spec.InterfaceName, true, nil
	}
	return "", "", false, fmt.Errorf("hep/%s: there is no such HostEndpoint; known are: %s", at.Endpoint, listed(names))
}

func listed(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	const most = 8
	if len(names) > most {
		return strings.Join(names[:most], ", ") + " and more"
	}
	return strings.Join(names, ", ")
}

// anyInterface spreads an end over the interfaces it may be on, as far as
// that makes a difference: each that an endpoint names, and any other.
func (w *World) anyInterface(e end, what string) []end {
	var named []string
	for _, h := range w.hosts {
		if h.spec.Node == e.host.Name && h.spec.InterfaceName != "" && h.spec.InterfaceName != api.AllInterfaces &&
			h.spec.InterfaceName != loopback {
			named = append(named, h.spec.InterfaceName)
		}
	}
	slices.Sort(named)
	named = slices.Compact(named)
	if len(named) == 0 {
		return []end{e}
	}
	var list []end
	for _, iface := range named {
		x := e
		x.iface = iface
		x.assumed = append(slices.Clone(e.assumed), what+" is taken to be "+iface)
		list = append(list, x)
	}
	x := e
	x.assumed = append(slices.Clone(e.assumed), what+" is taken to be none of "+strings.Join(named, ", "))
	return append(list, x)
}

// stranger is a host's end when no address of the host is known: one that no
// net, short of all of them, and no set contains.
func (w *World) stranger(at Place, family int, k Known) ([]end, error) {
	if at.Workload != "" {
		return nil, nil // all its addresses are known
	}
	name, iface, forced, err := w.who(at, k)
	if err != nil {
		return nil, err
	}
	a := netip.IPv4Unspecified()
	if family == 6 {
		a = netip.IPv6Unspecified()
	}
	if at.Via != "" {
		iface, forced = at.Via, true
	}
	where := "host/" + name
	if iface != "" {
		where += " on " + iface
	}
	host, _ := w.picture(name, k)
	e := end{addr: a, host: host, iface: iface, assumed: []string{fmt.Sprintf(
		"no IPv%d address of %s is known, so %s stands for one that is in no net and no set; say which with: at ADDRESS",
		family, where, a)}}
	if forced {
		return []end{e}, nil
	}
	return w.anyInterface(e, "the interface"), nil
}
