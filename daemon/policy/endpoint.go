// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// loopback is the interface over which a host talks to itself.
const loopback = "lo"

// seat is an interface of a host with the endpoints that claim it.
//
//	the first that there is        governs
//	a WorkloadEndpoint             what the workload sends and gets
//	a HostEndpoint of its own      all at this interface
//	a workload's prefix            nothing passes: an unknown workload
//	a wildcard HostEndpoint        all at this interface
//	none                           nothing is judged
//
// At a workload's interface a wildcard endpoint still has a say, beside the
// workload's endpoint, about what comes in before destination NAT and about
// what is forwarded.
type seat struct {
	iface    string
	workload *workloadEndpoint
	own      *hostEndpoint // claims the interface by its name or an address
	wildcard *hostEndpoint // for all interfaces but lo and the excluded
	prefixed bool          // the name begins as a workload's
	// What made the endpoint's claim good, or why there is none.
	whyOwn, whyWildcard string
	// whyAbsent says why a WorkloadEndpoint that claims the interface counts
	// as absent.
	whyAbsent string
}

// seatOf finds who claims an interface of a host: of several of a kind the
// one whose key comes first. The loopback interface is claimed by a host
// endpoint that names it and by no other.
func (w *World) seatOf(host Host, set Settings, iface string) seat {
	s := seat{iface: iface, prefixed: iface != loopback && matchesPrefix(set.WorkloadPrefixes, iface)}
	for _, x := range w.workloads { // in order of their keys
		if x.spec.Node != host.Name || x.spec.InterfaceName != iface || iface == "" || iface == loopback {
			continue
		}
		if x.absent == "" {
			s.workload = x
			break
		}
		if s.whyAbsent == "" {
			s.whyAbsent = x.key.String() + " " + x.absent
		}
	}
	var forAll *hostEndpoint
	for _, h := range w.hosts { // in order of their names
		if h.spec.Node != host.Name {
			continue
		}
		if h.spec.InterfaceName == api.AllInterfaces {
			if forAll == nil {
				forAll = h
			}
			continue
		}
		if why := h.claims(host, iface); why != "" && s.own == nil {
			s.own, s.whyOwn = h, why
		}
	}
	switch {
	case forAll == nil:
		s.whyWildcard = "no HostEndpoint is for it"
	case iface == loopback:
		s.whyWildcard = "a wildcard endpoint does not govern the loopback interface"
	case excluded(set.InterfaceExclude, iface):
		s.whyWildcard = "interfaceExclude excepts it from the wildcard endpoint"
	default:
		s.wildcard, s.whyWildcard = forAll, "no other endpoint is for the interface, and this is for all interfaces"
	}
	return s
}

// claims says why the endpoint, no wildcard, is one of the interface; empty:
// it is not.
func (h *hostEndpoint) claims(host Host, iface string) string {
	if h.spec.InterfaceName != "" {
		if h.spec.InterfaceName == iface {
			return "it names the interface"
		}
		return ""
	}
	if iface == loopback {
		return ""
	}
	if a, ok := holds(host.Interfaces[iface], h.spec.ExpectedIPs); ok {
		return "the interface has " + a.String() + ", one of its expectedIPs"
	}
	return ""
}

// unknown tells whether the interface is a workload's that nobody vouches for.
func (s seat) unknown() bool { return s.workload == nil && s.own == nil && s.prefixed }

// governed tells whether anything governs the interface.
func (s seat) governed() bool {
	return s.workload != nil || s.own != nil || s.prefixed || s.wildcard != nil
}

// normal is the endpoint for traffic of the host's own sockets, and why it is
// that one or why there is none. No wildcard is, at a workload's interface.
func (s seat) normal() (*hostEndpoint, string) {
	switch {
	case s.workload != nil:
		return nil, s.workload.key.String() + " governs it"
	case s.own != nil:
		return s.own, s.whyOwn
	case s.prefixed && s.wildcard != nil:
		return nil, "a wildcard endpoint does not govern workload interfaces"
	}
	return s.wildcard, s.whyWildcard
}

// passing is the endpoint for preDNAT policy and for what is forwarded: at a
// workload's interface the wildcard.
func (s seat) passing() (*hostEndpoint, string) {
	switch {
	case s.workload == nil && s.own != nil:
		return s.own, s.whyOwn
	case s.workload != nil && s.wildcard != nil:
		return s.wildcard, "a wildcard endpoint has a say at workload interfaces in preDNAT and applyOnForward policy"
	}
	return s.wildcard, s.whyWildcard
}

// untracked is the endpoint for what comes in before connection tracking.
func (s seat) untracked() (*hostEndpoint, string) {
	if s.workload != nil {
		return nil, ""
	}
	if s.own != nil {
		return s.own, s.whyOwn
	}
	return s.wildcard, s.whyWildcard
}

// holds finds the first of the expected addresses that an interface has.
func holds(addrs []netip.Addr, expected []string) (netip.Addr, bool) {
	for _, text := range expected {
		a, err := netip.ParseAddr(text)
		if err != nil {
			continue
		}
		if slices.ContainsFunc(addrs, func(b netip.Addr) bool { return plain(b) == plain(a) }) {
			return plain(a), true
		}
	}
	return netip.Addr{}, false
}

func matchesPrefix(prefixes []string, iface string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return p != "" && strings.HasPrefix(iface, p) })
}

// excluded tells whether a name, or a regular expression between slashes,
// matches the interface. An expression that cannot be read matches nothing.
func excluded(patterns []string, iface string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if len(p) < 3 || !strings.HasPrefix(p, "/") || !strings.HasSuffix(p, "/") {
			return p == iface
		}
		re, err := regexp.Compile(p[1 : len(p)-1])
		return err == nil && re.MatchString(iface)
	})
}
