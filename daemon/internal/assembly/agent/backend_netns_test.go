// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/internal/status"
)

func TestChoose_AutoFallsBackWhereTheKernelHasNoNFTables(t *testing.T) {
	for _, c := range []struct {
		dataplane string
		probe     error
		want      string
		why       string
	}{
		{"auto", nil, "nftables", "the kernel has nf_tables"},
		{"auto", errors.New("invalid argument"), "iptables", "no nf_tables (invalid argument)"},
		{"", nil, "nftables", "the kernel has nf_tables"},
		{"iptables", nil, "iptables", "asked for"},
		{"nftables", errors.New("invalid argument"), "nftables", "asked for"},
	} {
		got := choose(c.dataplane, func() error { return c.probe })
		if got.name != c.want || !strings.Contains(got.why, c.why) {
			t.Errorf("choose(%q), probe says %v: %+v, want %s because %s", c.dataplane, c.probe, got, c.want, c.why)
		}
	}
}

func TestOpenBackend_SaysWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := openBackend("iptables", slog.New(slog.DiscardHandler), nil)
	if !errors.Is(err, iptables.ErrMissing) || !strings.Contains(err.Error(), "set dataplane: nftables") {
		t.Errorf("openBackend without iptables: %v, want an error that says what to do", err)
	}
	cfg := config.Config{Role: config.Standalone, Node: "h1", RunDir: t.TempDir(), StateDir: t.TempDir() + "/none", Dataplane: "iptables"}
	var out bytes.Buffer
	if err := check(t.Context(), cfg, slog.New(slog.DiscardHandler), &out); err != nil || !strings.Contains(out.String(), "# fault: iptables: ") {
		t.Errorf("check without iptables: %v, printed:\n%s\nwant a fault, and the plan", err, out.String())
	}
}

// TestNetnsLane_SwitchingLeavesNoWindowAndNoRemains: an agent with another
// packet filter than the one before removes what that has left, after its own
// rules are in force; what both deny is never let in.
func TestNetnsLane_SwitchingLeavesNoWindowAndNoRemains(t *testing.T) {
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
	ns := inj.NS
	packet := netnstest.Packet{Src: netip.MustParseAddr("10.1.0.2"), Dst: netip.MustParseAddr("10.1.0.1"), Protocol: netnstest.TCP, SrcPort: 9, DstPort: 80}
	remains := func() (out []string) {
		for where, cmd := range map[string]string{
			"nftables": "nft list table inet ripstop", "legacy": "(iptables-legacy-save; ip6tables-legacy-save) | grep rs-",
			"nft": "(iptables-nft-save; ip6tables-nft-save) | grep rs-", "sets": "ipset list -n | grep rs-",
		} {
			if _, err := ns.Try("sh", "-c", cmd); err == nil {
				out = append(out, where)
			}
		}
		return out
	}
	has := func(want ...string) {
		t.Helper()
		got := remains()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("rules of ours are in %v, want them in %v", got, want)
		}
	}
	packets := 0
	// agentWith runs an agent until its rules are in want and nowhere else.
	agentWith := func(dataplane string, want ...string) {
		t.Helper()
		var l *lane
		ns.MustDo(func() (err error) {
			l, err = newLane(config.Config{Node: "h1", Dataplane: dataplane}, slog.New(slog.DiscardHandler), status.NewBoard(status.Config{Host: "h1"}))
			return err
		})
		defer l.close()
		first := packets == 0
		ctx, cancel := context.WithCancel(t.Context())
		ended := ns.Go(func() error { return l.loop.Run(ctx) })
		l.picture(testPicture(), 7)
		l.noteLinks(testLinks())
		l.loop.Wake()
		slices.Sort(want)
		settled := func() bool {
			d := l.board.Status().Status.Dataplane
			got := remains()
			slices.Sort(got)
			return !d.LastVerified.IsZero() && d.Error == "" && slices.Equal(got, want)
		}
		for end := time.Now().Add(60 * time.Second); time.Now().Before(end) && !settled(); {
			if !first {
				for range 2000 {
					packets++
					if inj.In("rstun0", packet) {
						t.Errorf("switching to %s: a packet is let in", dataplane)
						end = time.Now()
						break
					}
				}
			}
		}
		packets++
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		d := l.board.Status().Status.Dataplane
		if d.Error != "" || d.Rules == 0 || inj.In("rstun0", packet) {
			t.Errorf("with %s: %+v; a packet is let in: %v", dataplane, d, inj.In("rstun0", packet))
		}
		t.Log(d.Backend, d.Why)
	}
	agentWith("nftables", "nftables")
	has("nftables")
	ns.Run("iptables-legacy", "-A", "INPUT", "-s", "10.99.0.0/16", "-j", "ACCEPT") // the host uses legacy
	agentWith("iptables", "legacy", "sets")
	has("legacy", "sets")
	agentWith("nftables", "nftables")
	has("nftables")
	ns.Run("iptables-legacy", "-F")
	ns.Run("iptables-nft", "-A", "INPUT", "-s", "10.99.0.0/16", "-j", "ACCEPT")
	agentWith("iptables", "nft", "sets")
	has("nft", "sets")
	agentWith("auto", "nftables")
	has("nftables")
	t.Logf("%d packets, all denied", packets)

	agentWith("iptables", "nft", "sets")
	ns.MustDo(func() error { return cleanup(t.Context(), config.Config{}, slog.New(slog.DiscardHandler), io.Discard) })
	has()
	var out bytes.Buffer
	ns.MustDo(func() error {
		return cleanup(t.Context(), config.Config{}, slog.New(slog.DiscardHandler), &out)
	})
	if !strings.Contains(out.String(), "this host is not filtered by Ripstop") {
		t.Errorf("cleanup of a clean host says %q", out.String())
	}
}
