// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/conntrack"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/internal/status"
)

// TestNetnsLane_FlowsAreCutAndReported: the lane tells both parts of a plan,
// has the rules in force before it cuts, and puts on the board what was cut.
func TestNetnsLane_FlowsAreCutAndReported(t *testing.T) {
	client, ns := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(client, ns, "c0", "eth0", []string{"10.1.0.2/24"}, []string{"10.1.0.1/24"})
	board := status.NewBoard(status.Config{Host: "h1"})
	var l *lane
	var listener net.Listener
	ns.MustDo(func() (err error) {
		if l, err = newLane(config.Config{Node: "h1"}, slog.New(slog.DiscardHandler), board); err != nil {
			return err
		}
		listener, err = net.Listen("tcp", "10.1.0.1:80")
		return err
	})
	defer l.close()
	defer listener.Close()
	ctx, cancel := context.WithCancel(context.Background())
	ended := ns.Go(func() error { return l.loop.Run(ctx) })
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	await := func(what string, until func(api.HostStatusStatus) bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !until(board.Status().Status); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within 20 s: %s: %+v", what, board.Status().Status)
			}
		}
	}
	l.noteLinks(map[string]intent.Interface{"lo": {Up: true}, "eth0": {Up: true, Addrs: []netip.Addr{netip.MustParseAddr("10.1.0.1")}}})
	// Nothing governs eth0: all is open.
	l.picture([]intent.Change{{Key: intent.Key{Kind: intent.KindSettings}, Value: &intent.Settings{}}}, 1)
	await("the first plan", func(s api.HostStatusStatus) bool { return s.Dataplane.AppliedRevision == 1 })
	dial := func() net.Conn {
		var c net.Conn
		client.MustDo(func() (err error) { c, err = net.DialTimeout("tcp", "10.1.0.1:80", 10*time.Second); return err })
		return c
	}
	defer dial().Close()
	defer dial().Close()
	l.picture([]intent.Change{{Key: intent.Key{Kind: intent.KindHostEndpoint, Name: "h"}, Value: &intent.HostEndpoint{Interface: "eth0"}}}, 2)
	await("two flows cut", func(s api.HostStatusStatus) bool { return s.Flows.CutTotal == 2 })
	s := board.Status().Status
	if s.Dataplane.AppliedRevision != 2 || s.Flows.LastCut != 2 || s.Flows.LastChange.IsZero() || s.Flows.Most == 0 {
		t.Errorf("status = %+v, %+v; want revision 2 applied, two flows cut by the last change", s.Dataplane, s.Flows)
	}
	if strings.Contains(s.Dataplane.Error, "conntrack") || slices.ContainsFunc(s.Faults, func(f api.Fault) bool { return f.Object == "connection tracking" }) {
		t.Errorf("errors without a cause: %q, %v", s.Dataplane.Error, s.Faults)
	}
}

func TestFlowFaults_AlarmBeforeTheTableIsFull(t *testing.T) {
	for _, c := range []struct {
		s    conntrack.Summary
		want string
	}{
		{conntrack.Summary{}, ""},
		{conntrack.Summary{Entries: 799, Most: 1000}, ""},
		{conntrack.Summary{Entries: 800, Most: 1000}, "more than four fifths"},
		{conntrack.Summary{Entries: 990, Most: 1000, Full: true}, "is full"},
	} {
		got := ""
		for _, f := range flowFaults(c.s) {
			got += f.Message
		}
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%+v: faults %q, want %q in one", c.s, got, c.want)
		}
	}
}
