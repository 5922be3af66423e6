// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/kernel"
	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// NetworkConfig says what to leave out.
type NetworkConfig struct {
	// Own are the netlink ports of the sockets by which we change routes and
	// neighbours ourselves; what they do is not told.
	Own []uint32
	// Log is told when the listening socket had to be opened anew.
	Log *slog.Logger
}

// Network tells of changes that others make to routes, permanent neighbours
// and sysctls of interfaces, and of interfaces that change themselves, since
// the kernel removes routes and neighbours of one that goes down and does not
// say so.
type Network struct{ cfg NetworkConfig }

// NewNetwork gives a Network that does nothing before Run.
func NewNetwork(cfg NetworkConfig) *Network {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Network{cfg}
}

// networkGroups are what is listened to.
var networkGroups = []int{
	unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_IFADDR,
	unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF,
}

// Run tells tell of each change in the network namespace of the calling
// thread, from Run's goroutine, until ctx ends; then it returns nil. The first
// Notice is of subject Lost: what happened before Run is not known. If the
// socket breaks, a new one is opened.
func (m *Network) Run(ctx context.Context, tell func(kernel.Notice)) error {
	for {
		err := m.listen(ctx, tell)
		if ctx.Err() != nil {
			return nil
		}
		m.cfg.Log.Warn("Listening to routes broke, beginning anew", "err", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (m *Network) listen(ctx context.Context, tell func(kernel.Notice)) error {
	f, err := openRouteListener()
	if err != nil {
		return err
	}
	defer f.Close()
	stop := context.AfterFunc(ctx, func() { f.SetReadDeadline(time.Now()) })
	defer stop()
	tell(kernel.Notice{Subject: kernel.Lost})
	buf := make([]byte, 1<<16)
	for {
		n, err := f.Read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			tell(kernel.Notice{Subject: kernel.Lost})
			continue
		case err != nil:
			return fmt.Errorf("route notices: %w", err)
		}
		for _, e := range notices(buf[:n], m.cfg.Own) {
			tell(e)
		}
	}
}

func openRouteListener() (*os.File, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	for _, g := range networkGroups {
		if err == nil {
			err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g)
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: listening to routes: %w", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, listenBuffer) != nil {
		// Without the right to it the limit is the sysctl's; losses are told.
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, listenBuffer)
	}
	return os.NewFile(uintptr(fd), "route-notices"), nil
}

// Numbers of linux/netconf.h and linux/neighbour.h, and sizes of headers.
const (
	netconfIfindex = 1 // NETCONFA_IFINDEX
	ndaProtocol    = 12
	netconfLen     = 4 // struct netconfmsg, padded
	ndmsgLen       = 12
)

// notices reads the messages in b. What cannot be read counts as lost.
func notices(b []byte, own []uint32) (out []kernel.Notice) {
	for len(b) >= headerLen {
		length := int(binary.NativeEndian.Uint32(b))
		if length < headerLen || length > len(b) {
			return append(out, kernel.Notice{Subject: kernel.Lost})
		}
		typ := binary.NativeEndian.Uint16(b[4:])
		port := binary.NativeEndian.Uint32(b[12:])
		msg := b[headerLen:length]
		b = b[min((length+3)&^3, len(b)):]
		if port != 0 && slices.Contains(own, port) {
			continue
		}
		if n, ok := notice(typ, msg, port); ok {
			out = append(out, n)
		}
	}
	return out
}

// notice reads one message. The kernel's own doings have port 0.
func notice(typ uint16, msg []byte, port uint32) (n kernel.Notice, ok bool) {
	switch typ {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(msg) < unix.SizeofRtMsg {
			return n, false
		}
		n = kernel.Notice{Subject: kernel.RouteChanged, Protocol: msg[5]}
		n.Index = int(attrNumber(msg[unix.SizeofRtMsg:], unix.RTA_OIF))
		n.Itself = port == 0
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		if len(msg) < ndmsgLen {
			return n, false
		}
		n = kernel.Notice{Subject: kernel.NeighbourChanged, Index: int(binary.NativeEndian.Uint32(msg[4:]))}
		if p := nlattr.Find(msg[ndmsgLen:], ndaProtocol); len(p) > 0 {
			n.Protocol = p[0]
		}
		// What was learned comes and goes, and is nobody's doing.
		permanent := binary.NativeEndian.Uint16(msg[8:])&unix.NUD_PERMANENT != 0
		if n.Protocol != kernel.Protocol && !permanent {
			return n, false
		}
		n.Itself = port == 0
	case unix.RTM_NEWNETCONF:
		if len(msg) < netconfLen {
			return n, false
		}
		n = kernel.Notice{Subject: kernel.SettingChanged, Index: int(int32(attrNumber(msg[netconfLen:], netconfIfindex)))}
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(msg) < unix.SizeofIfInfomsg {
			return n, false
		}
		n = kernel.Notice{Subject: kernel.LinkChanged, Index: int(binary.NativeEndian.Uint32(msg[4:]))}
		n.Down = typ == unix.RTM_DELLINK || binary.NativeEndian.Uint32(msg[8:])&unix.IFF_UP == 0
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if len(msg) < unix.SizeofIfAddrmsg {
			return n, false
		}
		n = kernel.Notice{Subject: kernel.AddressChanged, Index: int(binary.NativeEndian.Uint32(msg[4:]))}
		local := nlattr.Find(msg[unix.SizeofIfAddrmsg:], unix.IFA_LOCAL)
		if local == nil {
			local = nlattr.Find(msg[unix.SizeofIfAddrmsg:], unix.IFA_ADDRESS)
		}
		n.Addr, _ = netip.AddrFromSlice(local)
	default:
		return n, false
	}
	n.By = process(port)
	return n, true
}

func attrNumber(b []byte, typ uint16) uint32 {
	v := nlattr.Find(b, typ)
	if len(v) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(v)
}

// process names the process of a netlink port, as "ip[4711]". The kernel gives
// the first socket of a process the process's number as its port; of other
// sockets, and of a process that has ended, nothing is known.
func process(port uint32) string {
	if port == 0 || port > 1<<22 { // PID_MAX_LIMIT
		return ""
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", port))
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s[%d]", strings.TrimSpace(string(comm)), port)
}
