// SPDX-License-Identifier: Apache-2.0

package nftables_test

import (
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/filtertest"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/nftables"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

func suite() filtertest.Suite {
	return filtertest.Suite{
		Open: func(_ *netnstest.NS, o filtertest.Options) (filtertest.Backend, error) {
			cfg := nftables.Default()
			cfg.Owner = o.Owner
			if o.MaxSetSize > 0 {
				cfg.MaxSetSize = o.MaxSetSize
			}
			cfg.OnDrift = func(d nftables.Drift) { o.OnDrift(d.What, d.Repaired) }
			return nftables.New(cfg)
		},
		OverSize: func(b filtertest.Backend) []string { return b.(*nftables.Filter).OverSize() },
		Tamper: map[string]string{
			"delete rule":       `nft delete rule inet ripstop rs-ep handle $(nft -a list chain inet ripstop rs-ep | sed -n 's/.*deny.*handle //p')`,
			"alter verdict":     `nft replace rule inet ripstop rs-ep handle $(nft -a list chain inet ripstop rs-ep | sed -n 's/.*deny.*handle //p') counter accept comment '"deny"'`,
			"insert rule":       `nft insert rule inet ripstop rs-in accept`,
			"add rule":          `nft add rule inet ripstop rs-in accept`,
			"flush chain":       `nft flush chain inet ripstop rs-ep`,
			"flush base chain":  `nft flush chain inet ripstop rs-in`,
			"flush table":       `nft flush table inet ripstop`,
			"delete element":    `nft delete element inet ripstop rs-s '{ 10.1.0.2 }'`,
			"add element":       `nft add element inet ripstop rs-s '{ 10.1.0.3 }'`,
			"flush set":         `nft flush set inet ripstop rs-s`,
			"delete interval":   `nft delete element inet ripstop rs-n '{ 10.1.0.0/25 }'`,
			"add odd range":     `nft add element inet ripstop rs-n '{ 10.1.1.3-10.1.1.9 }'`,
			"catch-all":         `nft add element inet ripstop rs-s '{ * }'`,
			"map entry altered": `nft delete element inet ripstop rs-m-in '{ rstun0 }'; nft add element inet ripstop rs-m-in '{ rstun0 : accept }'`,
			"map entry deleted": `nft delete element inet ripstop rs-m-in '{ rstun0 }'`,
			"map entry added":   `nft add element inet ripstop rs-m-in '{ other : accept }'`,
			"constant altered":  `nft add element inet ripstop $(nft list sets | sed -n 's/.*set \(rs-c-[^ ]*\).*/\1/p') '{ 81 }'`,
			"policy":            `nft chain inet ripstop rs-in '{ policy drop; }'`,
			"foreign chain":     `nft add chain inet ripstop other '{ type filter hook input priority -100; }'; nft add rule inet ripstop other drop`,
			"foreign set":       `nft add set inet ripstop other '{ type ipv4_addr; }'`,
			"dormant":           `nft add table inet ripstop '{ flags dormant; }'`,
			"delete table":      `nft delete table inet ripstop`,
			"flush ruleset":     `nft flush ruleset`,
			"table made anew":   `nft delete table inet ripstop; nft add table inet ripstop; nft add chain inet ripstop rs-in '{ type filter hook output priority 5; }'; nft add set inet ripstop rs-s '{ type inet_service; }'`,
		},
		Refused: map[string]string{
			"flush ruleset":  `nft flush ruleset`,
			"delete table":   `nft delete table inet ripstop`,
			"flush chain":    `nft flush chain inet ripstop rs-ep`,
			"insert rule":    `nft insert rule inet ripstop rs-in accept`,
			"delete element": `nft delete element inet ripstop rs-s '{ 10.1.0.2 }'`,
			"dormant":        `nft add table inet ripstop '{ flags dormant; }'`,
			"new table":      `nft add table inet ripstop`,
		},
		Foreign: `nft 'add table inet other
 add set inet other s { type ipv4_addr; flags interval; }
 add element inet other s { 10.9.0.0/16 }
 add chain inet other in { type filter hook input priority 0; policy accept; }
 add rule inet other in ip saddr @s counter accept comment "mine"
 add table ip ripstop
 add chain ip ripstop rs-in { type filter hook input priority 0; }
 add rule ip ripstop rs-in tcp dport 9 accept'`,
		Verdicts: true,
		TamperVerdicts: map[string]string{
			"element altered": `nft delete element inet ripstop rs-v-peers '{ 10.1.0.2 }'; nft add element inet ripstop rs-v-peers '{ 10.1.0.2 : goto rs-ok }'`,
			"element deleted": `nft delete element inet ripstop rs-v-peers '{ 10.1.0.2 }'`,
			"element added":   `nft add element inet ripstop rs-v-peers '{ 10.1.0.3 : goto rs-ok }'`,
			"port added":      `nft add element inet ripstop rs-v-ports-a '{ 81 : accept }'`,
			"range deleted":   `nft delete element inet ripstop rs-v-ports-b '{ 90-99 }'`,
			"net deleted":     `nft delete element inet ripstop rs-v-nets '{ 10.1.0.192/26 }'`,
			"catch-all":       `nft add element inet ripstop rs-v-peers '{ * : goto rs-ok }'`,
			"map flushed":     `nft flush map inet ripstop rs-v-peers`,
			"rule deleted":    `nft delete rule inet ripstop rs-in handle $(nft -a list chain inet ripstop rs-in | sed -n 's/.*@rs-v-peers.*handle //p')`,
		},
		Dump:        `nft -a list ruleset`,
		ForeignDump: `nft -a list table inet other; nft -a list table ip ripstop`,
	}
}

func TestNetnsContract(t *testing.T) { suite().Run(t) }
