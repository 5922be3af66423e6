// SPDX-License-Identifier: Apache-2.0

package iptables_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/filtertest"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// inNS runs programs in a namespace.
type inNS struct{ ns *netnstest.NS }

func (r inNS) Run(ctx context.Context, c host.Cmd) (out []byte, err error) {
	derr := r.ns.Do(func() error {
		out, err = host.RealRunner{}.Run(ctx, c)
		return nil
	})
	if derr != nil {
		return nil, derr
	}
	return out, err
}

// sameWords is a log that does not stand a rule that is printed otherwise than
// it was sent: this iptables prints all of them alike.
type sameWords struct{ slog.Handler }

func (sameWords) Enabled(context.Context, slog.Level) bool { return true }

func (sameWords) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "This iptables prints") {
		panic(r.Message)
	}
	return nil
}

var variants = map[string]iptables.Variant{"legacy": iptables.Legacy, "nft": iptables.NFT}

func suite(name string) filtertest.Suite {
	s := filtertest.Suite{
		Open: func(ns *netnstest.NS, o filtertest.Options) (filtertest.Backend, error) {
			cfg := iptables.Default()
			cfg.Variant, cfg.Run = variants[name], inNS{ns}
			if o.MaxSetSize > 0 {
				cfg.MaxSetSize = o.MaxSetSize
			}
			cfg.Log = slog.New(sameWords{})
			cfg.OnDrift = func(d iptables.Drift) { o.OnDrift(d.What, d.Repaired) }
			return iptables.New(cfg)
		},
		OverSize:  func(b filtertest.Backend) []string { return b.(*iptables.Filter).OverSize() },
		Unguarded: "iptables and ipset have no owner: whoever may change rules may change ours; drift is repaired instead",
		Tamper: map[string]string{
			"delete rule":        `IPT -D rs-ep 2`,
			"alter verdict":      `IPT -R rs-ep 2 -m comment --comment "$(IPT -S rs-ep 2 | sed 's/.*"\(.*\)".*/\1/')" -j ACCEPT`,
			"alter match":        `IPT -R rs-ep 1 -p tcp -m comment --comment "$(IPT -S rs-ep 1 | sed 's/.*"\(.*\)".*/\1/')" -g rs-ACCEPT`,
			"alter IPv6":         `IPT6 -R rs-ep 1 -m comment --comment "$(IPT6 -S rs-ep 1 | sed 's/.*"\(.*\)".*/\1/')" -j ACCEPT`,
			"insert rule":        `IPT -I rs-in -j ACCEPT`,
			"add rule":           `IPT -A rs-in -j ACCEPT`,
			"flush chain":        `IPT -F rs-ep`,
			"flush base chain":   `IPT -F rs-in`,
			"flush wrapper":      `IPT -F rs-INPUT`,
			"flush accept":       `IPT -F rs-ACCEPT`,
			"flush table":        `IPT -F`,
			"flush INPUT":        `IPT -F INPUT`,
			"delete jump":        `IPT -D INPUT 1`,
			"jump twice":         `IPT -A INPUT -j rs-INPUT`,
			"rule above ours":    `IPT -I INPUT -p tcp --dport 80 -j DROP`,
			"altered jump":       `IPT -R INPUT 1 -s 10.1.0.2 -m comment --comment "$(IPT -S INPUT 1 | sed 's/.*"\(.*\)".*/\1/')" -j rs-INPUT`,
			"delete element":     `ipset del rs-s 10.1.0.2`,
			"add element":        `ipset add rs-s 10.1.0.3`,
			"element by another": `ipset del rs-s 10.1.0.2; ipset add rs-s 10.1.0.3`,
			"nomatch":            `ipset create x hash:net; ipset add x 10.1.0.2 nomatch; ipset swap x rs-s`,
			"flush set":          `ipset flush rs-s`,
			"set swapped":        `ipset create x hash:net; ipset add x 10.1.0.3; ipset swap x rs-s`,
			"foreign chain":      `IPT -N rs-other; IPT -A rs-other -j ACCEPT`,
			"foreign set":        `ipset create rs-other hash:net`,
			"all away":           `IPT -F; IPT -X; IPT6 -F; IPT6 -X; ipset destroy`,
			"set made anew":      `IPT -F; IPT -X; IPT6 -F; IPT6 -X; ipset destroy; ipset create rs-s hash:ip; ipset add rs-s 10.1.0.3`,
		},
		Foreign: `ipset create rs-theirs hash:ip; ipset add rs-theirs 10.9.0.1; ipset create mine hash:net; ipset add mine 10.9.0.0/16
IPT -N mine; IPT -A mine -m set --match-set mine src -m comment --comment "rs like" -j ACCEPT; IPT -A INPUT -j mine; IPT -P FORWARD ACCEPT
IPT -A FORWARD -s 10.99.0.0/16 -j DROP; IPT6 -N mine; IPT6 -A INPUT -s fd99::/64 -j mine; IPT -t nat -A PREROUTING -p tcp --dport 9999 -j REDIRECT --to-ports 22`,
		Dump:        `IPT-save; IPT6-save; ipset list`,
		ForeignDump: `(IPT-save; IPT6-save) | grep -v '^#\|^:rs-\|^-A rs-\|-j rs-' | sed 's/\[.*\]//'; ipset list mine; ipset list rs-theirs`,
	}
	put := func(cmd string) string {
		return strings.NewReplacer("IPT6", "ip6tables-"+name, "IPT", "iptables-"+name).Replace(cmd)
	}
	for k, v := range s.Tamper {
		s.Tamper[k] = put(v)
	}
	s.Foreign, s.Dump, s.ForeignDump = put(s.Foreign), put(s.Dump), put(s.ForeignDump)
	return s
}

func TestNetnsContractLegacy(t *testing.T) { suite("legacy").Run(t) }

func TestNetnsContractNFT(t *testing.T) { suite("nft").Run(t) }
