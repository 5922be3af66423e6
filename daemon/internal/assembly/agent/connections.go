// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/conntrack"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/status"
)

// tracked tells what the kernel tracks on this host, as who cuts flows sees it.
func tracked(node string) status.Connections {
	return func(ctx context.Context, most int, begin func(api.Connections) error, visit func(api.Connection) error) (more int, err error) {
		interfaces, err := hostInterfaces()
		if err != nil {
			return 0, err
		}
		n := 0
		start := func() error { return begin(api.Connections{Host: node, Interfaces: interfaces}) }
		err = conntrack.Flows(ctx, func(f *ruleset.Flow) error {
			if n == 0 { // not before the table can be read
				if err := start(); err != nil {
					return err
				}
			}
			if n++; n > most {
				more++
				return nil
			}
			return visit(connectionOf(f))
		})
		if err == nil && n == 0 {
			err = start()
		}
		return more, err
	}
}

// connectionOf is a flow as others are told of it.
func connectionOf(f *ruleset.Flow) api.Connection {
	c := api.Connection{
		Protocol: f.Protocol, Source: f.Src, Destination: f.Dst, SourcePort: f.SrcPort, DestinationPort: f.DstPort,
		ICMPType: f.ICMPType, ICMPCode: f.ICMPCode,
	}
	if f.DNATed {
		c.Dialled = netip.AddrPortFrom(f.Dst, f.DstPort)
		c.Destination, c.DestinationPort = f.NewDst, f.NewDstPort
	}
	switch f.Way {
	case ruleset.ToHost:
		c.Way, c.In = "inbound", f.In
	case ruleset.FromHost:
		c.Way, c.Out = "outbound", f.Out
	case ruleset.Forwarded:
		c.Way, c.In, c.Out = "forwarded", f.In, f.Out
	case ruleset.Looped:
		c.Way = "local"
	}
	return c
}

// hostInterfaces are this host's, with their addresses.
func hostInterfaces() (map[string][]netip.Addr, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("listing interfaces: %w", err)
	}
	out := map[string][]netip.Addr{}
	for _, i := range all {
		list, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		addrs := []netip.Addr{}
		for _, a := range list {
			if n, err := netip.ParsePrefix(a.String()); err == nil {
				addrs = append(addrs, n.Addr().Unmap())
			}
		}
		out[i.Name] = addrs
	}
	return out, nil
}
