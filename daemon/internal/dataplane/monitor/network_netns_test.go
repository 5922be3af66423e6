// SPDX-License-Identifier: Apache-2.0

package monitor_test

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/kernel"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/monitor"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// TestNetnsNetwork_TellsOfWhatOthersChange: each change gives its notice, with
// the program that made it as far as that is known.
func TestNetnsNetwork_TellsOfWhatOthersChange(t *testing.T) {
	ns := netnstest.New(t)
	ns.Sysctl("net/ipv6/conf/default/accept_dad", "0")
	ns.Run("ip", "link", "add", "v0", "type", "veth", "peer", "name", "v1")
	ns.Up("v1")
	ns.Up("v0")
	index := 0
	ns.MustDo(func() error {
		i, err := net.InterfaceByName("v0")
		if err == nil {
			index = i.Index
		}
		return err
	})
	notices := make(chan kernel.Notice, 10000)
	ctx, cancel := context.WithCancel(context.Background())
	done := ns.Go(func() error {
		return monitor.NewNetwork(monitor.NetworkConfig{}).Run(ctx, func(n kernel.Notice) { notices <- n })
	})
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	next := func(what string, is func(kernel.Notice) bool) {
		t.Helper()
		end := time.After(patience)
		for {
			select {
			case n := <-notices:
				if is(n) {
					return
				}
			case <-end:
				t.Fatalf("%s: not told", what)
			}
		}
	}
	next("the beginning", func(n kernel.Notice) bool { return n.Subject == kernel.Lost })
	for _, s := range []struct {
		command string
		want    kernel.Notice
	}{
		{"ip route add 10.1.0.1/32 dev v0 proto 82", kernel.Notice{Subject: kernel.RouteChanged, Index: index, Protocol: 82}},
		{"ip -6 route add fd01::1/128 dev v0 proto 82", kernel.Notice{Subject: kernel.RouteChanged, Index: index, Protocol: 82}},
		{"ip route del 10.1.0.1/32", kernel.Notice{Subject: kernel.RouteChanged, Index: index, Protocol: 82}},
		{"ip route add 10.2.0.0/16 dev v0", kernel.Notice{Subject: kernel.RouteChanged, Index: index, Protocol: 3}},
		{"ip neigh add 10.1.0.1 lladdr 02:00:00:00:00:01 nud permanent dev v0 protocol 82", kernel.Notice{Subject: kernel.NeighbourChanged, Index: index, Protocol: 82}},
		{"ip neigh del 10.1.0.1 dev v0", kernel.Notice{Subject: kernel.NeighbourChanged, Index: index, Protocol: 82}},
		{"sysctl -q -w net.ipv4.conf.v0.proxy_arp=1", kernel.Notice{Subject: kernel.SettingChanged, Index: index}},
		{"sysctl -q -w net.ipv6.conf.v0.forwarding=1", kernel.Notice{Subject: kernel.SettingChanged, Index: index}},
		{"sysctl -q -w net.ipv4.ip_forward=1", kernel.Notice{Subject: kernel.SettingChanged, Index: -1}},
		{"ip addr add 10.3.0.1/24 dev v0", kernel.Notice{Subject: kernel.AddressChanged, Index: index, Addr: netip.MustParseAddr("10.3.0.1")}},
		{"ip addr del 10.3.0.1/24 dev v0", kernel.Notice{Subject: kernel.AddressChanged, Index: index, Addr: netip.MustParseAddr("10.3.0.1")}},
		{"ip link set v0 down", kernel.Notice{Subject: kernel.LinkChanged, Index: index, Down: true}},
		{"ip link set v0 up", kernel.Notice{Subject: kernel.LinkChanged, Index: index}},
		{"ip link del v0", kernel.Notice{Subject: kernel.LinkChanged, Index: index, Down: true}},
	} {
		words := strings.Fields(s.command)
		ns.Run(words[0], words[1:]...)
		next(s.command, func(n kernel.Notice) bool { n.By = ""; return n == s.want })
	}
}

// TestNetnsNetwork_NamesAProgramThatLives: one that has ended cannot be named.
func TestNetnsNetwork_NamesAProgramThatLives(t *testing.T) {
	ns := netnstest.New(t)
	notices := make(chan kernel.Notice, 10000)
	ctx, cancel := context.WithCancel(context.Background())
	done := ns.Go(func() error {
		return monitor.NewNetwork(monitor.NetworkConfig{}).Run(ctx, func(n kernel.Notice) { notices <- n })
	})
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	cmd := exec.Command("ip", "-batch", "-")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if _, err := in.Write([]byte("route add 10.1.0.1/32 dev lo proto 82\n")); err != nil {
		t.Fatal(err)
	}
	end := time.After(patience)
	for {
		select {
		case n := <-notices:
			if n.Subject != kernel.RouteChanged || n.Protocol != 82 {
				continue
			}
			if !strings.HasPrefix(n.By, "ip[") {
				t.Errorf("made by %q, want ip[pid]", n.By)
			}
		case <-end:
			t.Fatal("not told")
		}
		break
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
