// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/calc"
	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/internal/status"
)

// picture is a set with a member and a wildcard endpoint.
func testPicture() []intent.Change {
	return []intent.Change{
		{Key: intent.Key{Kind: intent.KindSettings}, Value: &intent.Settings{}},
		{Key: intent.Key{Kind: intent.KindSet, Name: "s"}, Value: &intent.Set{Type: intent.Nets}},
		{Key: intent.Key{Kind: intent.KindMember, Name: "s", Member: intent.Member{Net: netip.MustParsePrefix("172.16.0.0/12")}}, Value: intent.IsMember{}},
		{Key: intent.Key{Kind: intent.KindHostEndpoint, Name: "h"}, Value: &intent.HostEndpoint{Interface: api.AllInterfaces, Profiles: []string{"p"}}},
		{Key: intent.Key{Kind: intent.KindProfile, Name: "p"}, Value: &intent.Profile{Ingress: []intent.Rule{{Action: api.Allow, Source: intent.Entity{Set: "s"}}}}},
	}
}

func testLinks() map[string]intent.Interface { return map[string]intent.Interface{"lo": {Up: true}} }

// TestNetnsLane_RulesOfBeforeStayUntilThePictureIsWhole: whatever comes first,
// and however late the rest, a new agent never takes away what the one before
// enforced. The steps are what the agent's goroutines do, in every order, with
// a turn of the loop after each.
func TestNetnsLane_RulesOfBeforeStayUntilThePictureIsWhole(t *testing.T) {
	ns := netnstest.New(t)
	newTestLane := func() *lane {
		var l *lane
		ns.MustDo(func() (err error) {
			board := status.NewBoard(status.Config{Host: "h1"})
			l, err = newLane(config.Config{Node: "h1"}, slog.New(slog.DiscardHandler), board)
			return err
		})
		return l
	}
	turns := func(l *lane, steps ...func(*lane)) {
		ctx, cancel := context.WithCancel(context.Background())
		ended := ns.Go(func() error { return l.loop.Run(ctx) })
		for _, step := range steps {
			step(l)
			l.loop.Wake()
			time.Sleep(2 * time.Millisecond) // let it have its turn
		}
		deadline := time.Now().Add(10 * time.Second)
		for l.board.Status().Status.Dataplane.LastVerified.IsZero() && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if l.board.Status().Status.Dataplane.LastVerified.IsZero() {
			t.Errorf("the rules were not applied within 10 s")
		}
		l.close()
	}
	rules := func() string {
		return ns.Run("nft", "list", "table", "inet", "ripstop")
	}
	put := func(l *lane) { l.inbox.Put(testPicture(), 7) }
	pictured := func(l *lane) { l.come(&l.pictured) }
	links := func(l *lane) { l.noteLinks(testLinks()) }
	turns(newTestLane(), func(l *lane) { l.picture(testPicture(), 7) }, links)
	want := rules()
	if !strings.Contains(want, "hook input") || !strings.Contains(want, "172.16.0.0/12") {
		t.Fatalf("the first agent's table lacks what it should have:\n%s", want)
	}
	for i, order := range [][]func(*lane){
		{links, put, pictured},
		{put, links, pictured},
		{put, pictured, links},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			l := newTestLane()
			l.filter.Resync()
			check := func(*lane) {
				if got := rules(); sorted(got) != sorted(want) {
					t.Errorf("table half-way:\n%s\nwant:\n%s", got, want)
				}
			}
			turns(l, order[0], check, order[1], check, order[2], check)
			check(l)
		})
	}
}

// sorted is the table's text with its lines in order, because what the kernel
// lists first depends on what was made first, and without its owner.
func sorted(table string) string {
	lines := slices.DeleteFunc(strings.Split(table, "\n"), func(l string) bool {
		return strings.HasPrefix(l, "table ") || strings.HasPrefix(l, "\tflags ")
	})
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// TestNetnsLane_HalfAPlanReachesNobody: a planner that panics in the middle
// leaves the rules as they were; when it can, the whole plan comes.
func TestNetnsLane_HalfAPlanReachesNobody(t *testing.T) {
	ns := netnstest.New(t)
	var l *lane
	ns.MustDo(func() (err error) {
		l, err = newLane(config.Config{Node: "h1"}, slog.New(slog.DiscardHandler), status.NewBoard(status.Config{Host: "h1"}))
		return err
	})
	defer l.close()
	turn := func() {
		t.Helper()
		ns.MustDo(func() error {
			func() {
				defer func() { _ = recover() }() // as the loop does
				_ = l.plan(t.Context())
			}()
			if l.opened {
				if _, err := l.filter.Reconcile(t.Context()); err != nil {
					t.Error(err)
				}
			}
			return nil
		})
	}
	l.picture(testPicture(), 7)
	l.noteLinks(testLinks())
	turn()
	before := ns.Run("nft", "list", "table", "inet", "ripstop")
	bad := api.Key{Kind: api.KindGlobalNetworkPolicy, Name: "bad"}
	policy := func(a api.Action) intent.Change {
		return intent.Change{Key: intent.Key{Kind: intent.KindPolicy, Policy: bad}, Value: &intent.Policy{Tier: "default", Ingress: []intent.Rule{{Action: a}}}}
	}
	l.picture([]intent.Change{
		{Key: intent.Key{Kind: intent.KindMember, Name: "s", Member: intent.Member{Net: netip.MustParsePrefix("192.168.0.0/16")}}, Value: intent.IsMember{}},
		{Key: intent.Key{Kind: intent.KindHostEndpoint, Name: "h"}, Value: &intent.HostEndpoint{
			Interface: api.AllInterfaces, Profiles: []string{"p"}, Tiers: []intent.Tier{{Name: "default", DefaultPass: true, Ingress: []api.Key{bad}}}}},
		policy("NoSuchAction"), // the planner takes that for a broken promise
	}, 8)
	turn()
	if got := ns.Run("nft", "list", "table", "inet", "ripstop"); got != before || l.applied != 7 {
		t.Errorf("after half a plan (revision %d):\n%s\nwant as before (revision 7):\n%s", l.applied, got, before)
	}
	l.picture([]intent.Change{policy(api.Allow)}, 9)
	turn()
	got := ns.Run("nft", "list", "table", "inet", "ripstop")
	for _, want := range []string{"192.168.0.0/16", "gnp/bad ingress 0"} {
		if !strings.Contains(got, want) || l.applied != 9 {
			t.Errorf("after the plan was whole (revision %d):\n%s\nwant %q in it", l.applied, got, want)
		}
	}
}

// TestNetnsLane_StatusShowsWorkloads: with the interface, up or not yet there,
// and with who judges them; a host endpoint on a workload's interface governs
// nothing.
func TestNetnsLane_StatusShowsWorkloads(t *testing.T) {
	ns := netnstest.New(t)
	var l *lane
	ns.MustDo(func() (err error) {
		board := status.NewBoard(status.Config{Host: "h1"})
		l, err = newLane(config.Config{Node: "h1"}, slog.New(slog.DiscardHandler), board)
		return err
	})
	defer l.close()
	workload := func(iface string) *intent.WorkloadEndpoint {
		return &intent.WorkloadEndpoint{Interface: iface, Addrs: []netip.Addr{netip.MustParseAddr("10.9.0.1")}}
	}
	l.picture([]intent.Change{
		{Key: intent.Key{Kind: intent.KindSettings}, Value: &intent.Settings{WorkloadPrefixes: []string{"cali"}}},
		{Key: intent.Key{Kind: intent.KindWorkloadEndpoint, Name: "prod/a"}, Value: workload("cali1")},
		{Key: intent.Key{Kind: intent.KindWorkloadEndpoint, Name: "prod/b"}, Value: workload("cali2")},
		{Key: intent.Key{Kind: intent.KindHostEndpoint, Name: "h"}, Value: &intent.HostEndpoint{Interface: "cali1"}},
	}, 1)
	l.noteLinks(map[string]intent.Interface{"lo": {Up: true}, "cali1": {Up: true}})
	l.setEndpoints([]calc.Endpoint{
		{Name: "h"},
		{Name: "prod/a", Policies: []string{"default/NetworkPolicy(prod/p)"}, Profiles: []string{"kns.prod"}},
		{Name: "prod/b"},
	})
	if err := l.plan(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := l.board.Status().Status.Endpoints
	for i := range got {
		got[i].Message = ""
	}
	want := []api.EndpointState{
		{Name: "h", Status: "error"},
		{Name: "prod/a", Interfaces: []string{"cali1"}, Status: "up", Policies: []string{"default/NetworkPolicy(prod/p)"}, Profiles: []string{"kns.prod"},
			Enforced: []api.Enforced{{Chain: "wi-prod/a", Program: "wi-prod/a", Rules: 1}, {Chain: "wo-prod/a", Program: "wo-prod/a", Rules: 1}}},
		{Name: "prod/b", Interfaces: []string{"cali2"}, Status: "error",
			Enforced: []api.Enforced{{Chain: "wi-prod/b", Program: "wi-prod/a", Rules: 1}, {Chain: "wo-prod/b", Program: "wo-prod/a", Rules: 1}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("endpoints on the board (-want +got):\n%s", diff)
	}
}
