// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
)

// LostWay is a way into a host that would be shut.
type LostWay struct {
	Host string
	// Session: it is the manager's session.
	Session bool
	Loss
}

// Manager says from where somebody works on hosts.
type Manager struct {
	// Addresses are those that he comes from.
	Addresses []netip.Addr
	// Session is the connection that he works by, to one of the hosts; nil:
	// none.
	Session *Session
}

// Session is a TCP connection to a host: to the one with a name, or else to the
// one that resources say has the server's address.
type Session struct {
	Client, Server netip.AddrPort
	Host           string
}

// sshPort is where hosts are worked on unless their failsafes say other ports.
const sshPort = 22

// LostWays are the ways into hosts that are open by the resources before and
// shut by those after: new TCP connections of a manager to port 22 and to the
// ports that failsafes held open before, of every host that has a host endpoint
// after; and, to the host of his session, one like that. What is not known of a
// host is taken to be as Explain takes it. Hosts come in the order of their
// names; goOn is asked before each, and left counts those that were not looked
// at when it had said no.
func LostWays(before, after *World, m Manager, goOn func() bool) (lost []LostWay, left int) {
	was, is := before.byHost(), after.byHost()
	names := slices.Sorted(maps.Keys(is))
	for i, name := range names {
		if !goOn() {
			return lost, len(names) - i
		}
		if was[name] == nil {
			was[name] = before.part(name)
		}
		lost = append(lost, lostInto(was[name], is[name], name, m)...)
	}
	return lost, 0
}

// lostInto are the ways into one host that would be shut, one for each address
// and port that the manager comes to.
func lostInto(before, after *World, name string, m Manager) (lost []LostWay) {
	ports := []uint16{sshPort}
	for _, f := range before.Settings(name).FailsafeInbound {
		if f.Protocol == protoTCP && f.Port != 0 && !slices.Contains(ports, f.Port) {
			ports = append(ports, f.Port)
		}
	}
	ask := func(q Query, session bool) {
		answer, err := after.Explain(q, Known{})
		if err != nil {
			return // the host has no address of this version
		}
		for _, c := range answer.Cases {
			if c.Verdict.Passes() {
				continue
			}
			flows := make([]Flow, 0, len(c.Hops))
			for _, h := range c.Hops {
				flows = append(flows, h.Flow)
			}
			if l := Losses(before, after, flows); len(l) > 0 {
				lost = append(lost, LostWay{name, session, l[0]})
			}
		}
	}
	if s := m.Session; s != nil && (s.Host == name || s.Host == "" && after.hostWith(plain(s.Server.Addr()), Known{}) == name) {
		ask(Query{Protocol: protoTCP, From: Place{Addr: plain(s.Client.Addr())}, SourcePort: s.Client.Port(),
			To: Place{Host: name, At: plain(s.Server.Addr()), Port: s.Server.Port()}}, true)
	}
	for _, a := range m.Addresses {
		for _, port := range ports {
			ask(Query{Protocol: protoTCP, From: Place{Addr: plain(a)}, To: Place{Host: name, Port: port}}, false)
		}
	}
	return lost
}

// byHost are pictures of one host each, of those that have a host endpoint:
// all policy, and of endpoints and nodes only its own.
func (w *World) byHost() map[string]*World {
	parts := map[string]*World{}
	for _, h := range w.hosts {
		p := parts[h.spec.Node]
		if p == nil {
			p = w.part(h.spec.Node)
			parts[h.spec.Node] = p
		}
		p.hosts = append(p.hosts, h)
	}
	return parts
}

// part is a picture of a host without its endpoints.
func (w *World) part(name string) *World {
	p := *w
	p.hosts, p.workloads, p.nodes = nil, nil, nil
	if n := w.nodes[name]; n != nil {
		p.nodes = map[string]*api.Node{name: n}
	}
	return &p
}
