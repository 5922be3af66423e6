// SPDX-License-Identifier: Apache-2.0

package config

import (
	"net/netip"

	"github.com/ripstop/ripstop/daemon/internal/intent"
)

const (
	tcp = 6
	udp = 17
)

func ports(protocol uint8, list ...uint16) []intent.Failsafe {
	var out []intent.Failsafe
	for _, p := range list {
		out = append(out, intent.Failsafe{Protocol: protocol, Port: p})
	}
	return out
}

// Failsafes gives the failsafe ports that hold where FelixConfiguration names
// none.
//
// Ripstop: inbound SSH and answers of DHCP servers (v4 and v6); outbound DNS,
// DHCP and each configured endpoint of the datastore. An endpoint that is
// given by name may have any address, so its port is opened to all; one on
// loopback or a unix socket needs nothing.
//
// Calico: the lists that Calico documents.
func (c Config) Failsafes() (inbound, outbound []intent.Failsafe) {
	if c.FailsafeDefaults == FailsafeCalico {
		shared := []uint16{179, 2379, 2380, 5473, 6443, 6666, 6667}
		inbound = append(append(ports(tcp, 22), ports(udp, 68)...), ports(tcp, shared...)...)
		outbound = append(ports(udp, 53, 67), ports(tcp, shared...)...)
		return inbound, outbound
	}
	inbound = append(ports(tcp, 22), ports(udp, 68, 546)...)
	outbound = append(append(ports(udp, 53), ports(tcp, 53)...), ports(udp, 67, 547)...)
	seen := map[intent.Failsafe]bool{}
	for _, e := range c.Etcd.Endpoints {
		host, port, err := endpointHostPort(e)
		if err != nil || host == "" || loopbackEndpoint(e) {
			continue
		}
		f := intent.Failsafe{Protocol: tcp, Port: port}
		if a, err := netip.ParseAddr(host); err == nil {
			a = a.Unmap().WithZone("")
			f.Net = netip.PrefixFrom(a, a.BitLen())
		}
		if !seen[f] {
			seen[f] = true
			outbound = append(outbound, f)
		}
	}
	return inbound, outbound
}

// loopbackEndpoint tells whether an endpoint is on this host.
func loopbackEndpoint(e string) bool {
	host, _, err := endpointHostPort(e)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(host)
	return host == "" || host == "localhost" || err == nil && a.IsLoopback()
}
