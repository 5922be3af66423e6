// SPDX-License-Identifier: Apache-2.0

package sysctl

import (
	"slices"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/kernel"
)

// Making the host a router moves more than one sysctl (Linux:
// inet_forward_change, addrconf_fixup_forwarding):
//
//	ip_forward              every conf/*/forwarding, conf/default/forwarding,
//	                        and conf/all/accept_redirects to the opposite
//	ipv6 all/forwarding     every conf/*/forwarding, conf/default/forwarding
//
// and the kernel throws away IPv6 default routes that it learned from router
// advertisements, and learns no more, on interfaces whose accept_ra is 1: a
// host that has its IPv6 address and way out from its router would fall off
// the net. So those are set to 2 (accept although a router) first.

// leaders are the sysctls that move others, and where those are.
var leaders = map[string]string{
	"net/ipv4/ip_forward":          "net/ipv4/conf/",
	"net/ipv6/conf/all/forwarding": "net/ipv6/conf/",
}

const acceptRA = "net/ipv6/conf/*/accept_ra"

// moves are the records of what the kernel changes together with c.
func (p *Part) moves(c change) (out []record, err error) {
	conf := leaders[c.Name]
	if conf == "" {
		return nil, nil
	}
	note := func(k key, iface, set string) {
		if found, err := p.read(kernel.Path(k.Name, iface)); err == nil {
			out = append(out, record{key: k, Interface: iface, Found: found, Set: set, With: c.Name, Keep: c.keep})
		}
	}
	if c.Name == "net/ipv4/ip_forward" {
		note(key{Name: conf + "all/accept_redirects"}, "", "0")
	}
	note(key{Name: conf + "default/forwarding"}, "", c.set)
	names, err := interfaceNames()
	for i, name := range names {
		note(key{conf + "*/forwarding", i}, name, c.set)
	}
	return out, err
}

// prepare puts before a change that makes the host an IPv6 router the changes
// that keep it listening to its own: on interfaces that do so now, and are no
// workload's.
func (p *Part) prepare(changes []change) ([]change, error) {
	turns := slices.ContainsFunc(changes, func(c change) bool { return c.Name == "net/ipv6/conf/all/forwarding" && c.set == "1" })
	if !turns {
		return changes, nil
	}
	names, err := interfaceNames()
	if err != nil {
		return nil, err
	}
	var first []change
	for i, name := range names {
		k := key{acceptRA, i}
		forwards, err := p.read(kernel.Path("net/ipv6/conf/*/forwarding", name))
		if _, workload := p.wanted[k]; workload || name == "lo" || err != nil || forwards != "0" {
			continue
		}
		path := kernel.Path(acceptRA, name)
		if accepts, err := p.read(path); err == nil && accepts == "1" {
			first = append(first, change{k, path, name, "1", "2", true})
		}
	}
	return append(first, changes...), nil
}
