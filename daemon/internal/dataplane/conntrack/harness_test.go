// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/nftables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
)

// lane is a filter and a Part in a namespace, driven by hand.
type lane struct {
	t       testing.TB
	ns      *netnstest.NS
	filter  packetFilter
	part    *Part
	planner *dataplane.Planner
	// filtering is how long the filter has taken, all in all.
	filtering time.Duration
}

// packetFilter is the filter of a lane.
type packetFilter interface {
	reconcile.Part
	reconcile.Wanter[ruleset.ID, ruleset.Object]
	InForce() bool
	Labels() bool
	Close() error
}

// filters are all that a lane can have.
var filters = map[string]func() (packetFilter, error){
	"nftables":           func() (packetFilter, error) { return nftables.New(nftables.Config{}) },
	"iptables legacy":    func() (packetFilter, error) { return openIPTables(iptables.Legacy) },
	"iptables nf_tables": func() (packetFilter, error) { return openIPTables(iptables.NFT) },
}

func openIPTables(v iptables.Variant) (packetFilter, error) {
	c := iptables.Default()
	c.Variant = v
	return iptables.New(c)
}

// tee is what assembly has between the planner and the parts.
type tee struct{ l *lane }

func (t tee) Want(id ruleset.ID, o ruleset.Object) { t.l.filter.Want(id, o); t.l.part.Want(id, o) }
func (t tee) Unwant(id ruleset.ID)                 { t.l.filter.Unwant(id); t.l.part.Unwant(id) }

func newLaneOn(t testing.TB, ns *netnstest.NS, open func() (packetFilter, error)) *lane {
	t.Helper()
	l := &lane{t: t, ns: ns}
	ns.MustDo(func() (err error) {
		if l.filter, err = open(); err != nil {
			return err
		}
		l.part, err = New(Config{InForce: l.filter.InForce, Labels: l.filter.Labels, Log: slog.New(slog.DiscardHandler)})
		return err
	})
	t.Cleanup(func() { l.part.Close(); l.filter.Close() })
	l.planner = dataplane.NewPlanner(tee{l})
	return l
}

// say plans changes, puts them in force and cuts what they no longer allow.
func (l *lane) say(changes ...intent.Change) Summary {
	l.t.Helper()
	l.plan(changes...)
	return l.settle()
}

// plan plans changes.
func (l *lane) plan(changes ...intent.Change) {
	for _, c := range changes {
		l.planner.Note(c)
	}
	l.planner.Flush()
}

// settle takes turns until nothing is left to do.
func (l *lane) settle() Summary {
	l.t.Helper()
	deadline := time.Now().Add(5 * time.Minute)
	for time.Now().Before(deadline) {
		again := l.turn()
		if l.part.pass == nil && len(l.part.steps)+len(l.part.noted) == 0 && l.part.seen {
			return l.part.Summary()
		}
		time.Sleep(min(again, time.Millisecond))
	}
	l.t.Fatal("the table was not gone through within five minutes")
	return Summary{}
}

// turn is one turn of the lane.
func (l *lane) turn() (again time.Duration) {
	l.t.Helper()
	l.ns.MustDo(func() (err error) {
		began := time.Now()
		if _, err = l.filter.Reconcile(context.Background()); err != nil {
			return err
		}
		l.filtering += time.Since(began)
		again, err = l.part.Reconcile(context.Background())
		return err
	})
	return again
}

// entries are the connections that the namespace tracks, but for those that
// were cut and still have an entry.
func (l *lane) entries() map[tuple]entry {
	l.t.Helper()
	out := map[tuple]entry{}
	l.ns.MustDo(func() error {
		table, err := list(unix.AF_UNSPEC)
		if err != nil {
			return err
		}
		defer table.close()
		for done := false; !done; {
			if done, err = table.next(func(e *entry) error {
				if e.labelled {
					return nil
				}
				copied := *e
				copied.id, copied.rawOrig = append([]byte(nil), e.id...), append([]byte(nil), e.rawOrig...)
				out[e.orig] = copied
				return nil
			}); err != nil && !errors.Is(err, errNotYet) {
				return err
			}
		}
		return nil
	})
	return out
}

func settings(s intent.Settings) intent.Change {
	return intent.Change{Key: intent.Key{Kind: intent.KindSettings}, Value: &s}
}

func gnp(name string) api.Key { return api.Key{Kind: api.KindGlobalNetworkPolicy, Name: name} }

func policy(name string, p *intent.Policy) intent.Change {
	c := intent.Change{Key: intent.Key{Kind: intent.KindPolicy, Policy: gnp(name)}}
	if p != nil {
		p.Tier = "default"
		c.Value = p
	}
	return c
}

// guard is a host endpoint on all interfaces with one tier, in which policies
// of those names judge what comes in and what goes out.
func guard(in, out []string) intent.Change { return guardOn(api.AllInterfaces, in, out) }

func guardOn(iface string, in, out []string) intent.Change {
	tier := intent.Tier{Name: "default"}
	for _, n := range in {
		tier.Ingress = append(tier.Ingress, gnp(n))
	}
	for _, n := range out {
		tier.Egress = append(tier.Egress, gnp(n))
	}
	ep := &intent.HostEndpoint{Interface: iface, Tiers: []intent.Tier{tier}, Profiles: []string{"open"}}
	if len(in)+len(out) == 0 {
		ep.Tiers = nil
	}
	return intent.Change{Key: intent.Key{Kind: intent.KindHostEndpoint, Name: iface}, Value: ep}
}

// open is the profile that allows all.
var open = intent.Change{
	Key:   intent.Key{Kind: intent.KindProfile, Name: "open"},
	Value: &intent.Profile{Ingress: []intent.Rule{{Action: api.Allow}}, Egress: []intent.Rule{{Action: api.Allow}}},
}

func ports(action api.Action, protocol uint8, list ...uint16) intent.Rule {
	r := intent.Rule{Action: action, Protocol: protocol}
	for _, p := range list {
		r.Destination.Ports = append(r.Destination.Ports, intent.PortRange{Min: p, Max: p})
	}
	return r
}

func from(action api.Action, nets ...string) intent.Rule {
	r := intent.Rule{Action: action}
	for _, n := range nets {
		r.Source.Nets = append(r.Source.Nets, netip.MustParsePrefix(n))
	}
	return r
}

var all = intent.Rule{Action: api.Allow}

func set(name string) intent.Change {
	return intent.Change{Key: intent.Key{Kind: intent.KindSet, Name: name}, Value: &intent.Set{Type: intent.Nets}}
}

func member(set, prefix string, in bool) intent.Change {
	c := intent.Change{Key: intent.Key{Kind: intent.KindMember, Name: set, Member: intent.Member{Net: netip.MustParsePrefix(prefix)}}}
	if in {
		c.Value = intent.IsMember{}
	}
	return c
}
