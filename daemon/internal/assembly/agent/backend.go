// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/monitor"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/nftables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
)

// filter is what the host lane needs of a packet filter. The Part and the
// Wanter are for the loop's goroutine, the others for any.
type filter interface {
	reconcile.Part
	reconcile.Wanter[ruleset.ID, ruleset.Object]
	// Foreign is told of what others change in nf_tables; see monitor.Event.
	Foreign(generation uint32, touched bool, by string)
	// InForce tells whether the kernel has all that was wanted so far, except
	// for what Reconcile's error names. It is for the loop's goroutine.
	InForce() bool
	// Labels tells whether rules with Cut are in force as they are meant. It is
	// for the loop's goroutine.
	Labels() bool
	// OverSize names the sets that the kernel does not hold in full.
	OverSize() []string
	Close() error
}

// backend is the packet filter that was chosen, with what differs between
// them.
type backend struct {
	filter
	tables []monitor.Table // of nf_tables that hold its rules
	own    uint32          // the netlink port by which it changes them; 0: others do it for it
	// describe puts what it is and has on the status.
	describe func(*api.DataplaneStatus)
	// counts are what the kernel has counted, by the comment of rules. It is
	// for any goroutine.
	counts func(context.Context) (map[string]ruleset.Count, error)
	// planner makes the planner whose plan suits it.
	planner func(dataplane.Out) *dataplane.Planner
	// settle applies what concerns it alone.
	settle func(*intent.Settings)
	// retire removes what another packet filter of ours has left.
	retire func(context.Context) error
}

// chosen names a packet filter and says why it is that one.
type chosen struct{ name, why string }

// choose decides between nftables and iptables. probe asks the kernel for
// nf_tables.
func choose(dataplane string, probe func() error) chosen {
	if dataplane == "nftables" || dataplane == "iptables" {
		return chosen{dataplane, "asked for by the setting dataplane"}
	}
	if err := probe(); err != nil {
		return chosen{"iptables", "the kernel has no nf_tables (" + err.Error() + ")"}
	}
	return chosen{"nftables", "the kernel has nf_tables"}
}

func probeNFTables() error {
	_, err := nftables.Tables()
	return err
}

// openBackend opens the packet filter in the network namespace of the calling
// thread.
func openBackend(dataplane string, log *slog.Logger, drifted func(api.Drift)) (*backend, error) {
	c := choose(dataplane, probeNFTables)
	if c.name == "iptables" {
		return openIPTables(c.why, log, drifted)
	}
	return openNFTables(c.why, log, drifted)
}

func openNFTables(why string, log *slog.Logger, drifted func(api.Drift)) (*backend, error) {
	cfg := nftables.Default()
	cfg.Log = log.With("part", "nftables")
	cfg.OnDrift = func(d nftables.Drift) {
		what := strings.Join(d.What, "; ")
		if d.Header != "" {
			what += "; for example " + d.Header
		}
		drifted(api.Drift{What: what, By: d.By, Repaired: d.Repaired})
	}
	f, err := nftables.New(cfg)
	if err != nil {
		return nil, err
	}
	return &backend{
		filter: f, counts: byComment(f.Counters, func(k nftables.CounterKey) string { return k.Comment }),
		planner: dataplane.NewCompilingPlanner, own: f.Port(), tables: []monitor.Table{{Family: unix.NFPROTO_INET, Name: cfg.Table}},
		describe: func(d *api.DataplaneStatus) {
			s := f.Summary()
			d.Backend, d.Why, d.OwnerFlag = f.Name(), why, s.Owner
			if !s.Owner {
				d.Why += "; its owner flag is not in use: " + s.OwnerReason
			}
			d.Chains, d.Rules, d.Sets, d.Members = s.Chains, s.Rules, s.Sets, s.Members
			d.VerdictElements = s.VerdictElements
		},
		settle: func(*intent.Settings) {},
		retire: func(ctx context.Context) error {
			found, err := iptables.Cleanup(ctx, host.RealRunner{})
			if found && err == nil {
				log.Info("Rules of Ripstop in iptables removed, nftables has them now")
			}
			return err
		},
	}, nil
}

// byComment adds up what was counted for rules of one comment in several
// chains.
func byComment[K comparable](read func(context.Context) (map[K]ruleset.Count, error), comment func(K) string) func(context.Context) (map[string]ruleset.Count, error) {
	return func(ctx context.Context) (map[string]ruleset.Count, error) {
		all, err := read(ctx)
		if err != nil {
			return nil, err
		}
		out := map[string]ruleset.Count{}
		for k, n := range all {
			sum := out[comment(k)]
			sum.Packets += n.Packets
			sum.Bytes += n.Bytes
			out[comment(k)] = sum
		}
		return out, nil
	}
}

// ruleCounts reads the counters as the agent's socket shows them.
func (b *backend) ruleCounts(ctx context.Context, host string) (*api.RuleCounts, error) {
	counts, err := b.counts(ctx)
	if err != nil {
		return nil, err
	}
	out := &api.RuleCounts{Host: host, Rules: []api.RuleCount{}}
	for _, rule := range slices.Sorted(maps.Keys(counts)) {
		out.Rules = append(out.Rules, api.RuleCount{Rule: rule, Packets: counts[rule].Packets, Bytes: counts[rule].Bytes})
	}
	return out, nil
}

func openIPTables(why string, log *slog.Logger, drifted func(api.Drift)) (*backend, error) {
	cfg := iptables.Default()
	cfg.Log = log.With("part", "iptables")
	cfg.OnDrift = func(d iptables.Drift) {
		drifted(api.Drift{What: strings.Join(d.What, "; "), By: d.By, Repaired: d.Repaired})
	}
	f, err := iptables.New(cfg)
	if errors.Is(err, iptables.ErrMissing) {
		return nil, fmt.Errorf("dataplane iptables (%s): %w: install them, or set dataplane: nftables", why, err)
	}
	if err != nil {
		return nil, err
	}
	variant, version, reason := f.Variant()
	b := &backend{
		filter: f, counts: byComment(f.Counters, func(k iptables.CounterKey) string { return k.Comment }),
		planner: dataplane.NewPlanner, // it has no verdict maps
		describe: func(d *api.DataplaneStatus) {
			s := f.Summary()
			d.Backend, d.OwnerFlag = f.Name(), false
			d.Why = fmt.Sprintf("%s; iptables %s, variant %s: %s", why, version, variant, reason)
			d.Chains, d.Rules, d.Sets, d.Members = s.Chains, s.Rules, s.Sets, s.Members
		},
		settle: func(s *intent.Settings) { f.SetAppend(s.AppendChains) },
	}
	other := iptables.Legacy
	if variant == iptables.Legacy {
		other = iptables.NFT
	} else {
		for _, family := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
			for _, table := range []string{"raw", "mangle", "filter"} {
				b.tables = append(b.tables, monitor.Table{Family: family, Name: table})
			}
		}
	}
	b.retire = func(ctx context.Context) error {
		table := nftables.Default().Table
		if tables, err := nftables.Tables(); err == nil && len(tables) > 0 {
			if err := nftables.Cleanup(ctx, table); err != nil {
				return err
			}
		}
		_, err := iptables.RemoveVariant(ctx, host.RealRunner{}, other)
		return err
	}
	return b, nil
}

// succession is the Part that removes what another packet filter of ours has
// left, once: after this one's rules are in force, so that at no time there are
// none.
type succession struct {
	*backend
	inForce bool // the last pass of the filter was good
	done    bool
}

// filterPart is the filter's side of a succession.
type filterPart struct{ *succession }

// Reconcile is the filter's.
func (p filterPart) Reconcile(ctx context.Context) (time.Duration, error) {
	again, err := p.filter.Reconcile(ctx)
	p.inForce = err == nil
	return again, err
}

// retirePart is the other side.
type retirePart struct{ *succession }

// Name is "succession".
func (p retirePart) Name() string { return "succession" }

// Resync has nothing to forget.
func (p retirePart) Resync() {}

// Reconcile removes the remains if the filter is in force.
func (p retirePart) Reconcile(ctx context.Context) (time.Duration, error) {
	if p.done || !p.inForce {
		return 0, nil
	}
	if err := p.retire(ctx); err != nil {
		return 0, fmt.Errorf("removing the rules of another packet filter of ours: %w", err)
	}
	p.done = true
	return 0, nil
}
