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

// govern finds the endpoint that governs an interface of a host, and says why
// it is that one, or why there is none. Of the endpoints that claim the
// interface by name or by address, the one whose name comes first governs it;
// if there is none, the first wildcard endpoint does, but never the loopback
// interface, workloads' interfaces and excluded ones. The loopback interface
// is governed by an endpoint that names it and by no other.
func (w *World) govern(host Host, set Settings, iface string) (*hostEndpoint, string) {
	var wildcard *hostEndpoint
	for _, h := range w.hosts { // in order of their names
		switch {
		case h.spec.Node != host.Name:
		case h.spec.InterfaceName == api.AllInterfaces:
			if wildcard == nil {
				wildcard = h
			}
		case h.spec.InterfaceName != "":
			if h.spec.InterfaceName == iface {
				return h, "it names the interface"
			}
		case iface == loopback:
		default:
			if a, ok := holds(host.Interfaces[iface], h.spec.ExpectedIPs); ok {
				return h, "the interface has " + a.String() + ", one of its expectedIPs"
			}
		}
	}
	if wildcard == nil {
		return nil, "no HostEndpoint is for it"
	}
	switch {
	case iface == loopback:
		return nil, "a wildcard endpoint does not govern the loopback interface"
	case matchesPrefix(set.WorkloadPrefixes, iface):
		return nil, "a wildcard endpoint does not govern workload interfaces"
	case excluded(set.InterfaceExclude, iface):
		return nil, "interfaceExclude excepts it from the wildcard endpoint"
	}
	return wildcard, "no other endpoint is for the interface, and this is for all interfaces"
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
