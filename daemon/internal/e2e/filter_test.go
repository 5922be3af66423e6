// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"flag"
	"fmt"
	"log/slog"

	"github.com/ripstop/ripstop/daemon/internal/dataplane"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/nftables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/reconcile"
)

var filterFlag = flag.String("filter", "nftables", "packet filter of stages and courts: nftables, or a variant of iptables: legacy, nf_tables")

// packetFilter is the back end of a stage or a court.
type packetFilter interface {
	reconcile.Part
	reconcile.Wanter[ruleset.ID, ruleset.Object]
	Verify(context.Context) error
	OverSize() []string
	Close() error
}

// openFilter opens the packet filter that -filter names, in the network
// namespace of the calling thread; c is for nftables only.
func openFilter(c nftables.Config) (packetFilter, error) {
	c.Log = slog.New(slog.DiscardHandler)
	switch *filterFlag {
	case "nftables":
		return nftables.New(c)
	case string(iptables.Legacy), string(iptables.NFT):
		ic := iptables.Default()
		ic.Variant, ic.MaxSetSize = iptables.Variant(*filterFlag), c.MaxSetSize
		return iptables.New(ic)
	}
	return nil, fmt.Errorf("-filter %s: unknown", *filterFlag)
}

// newPlanner makes the planner whose plan suits the packet filter.
func newPlanner(out dataplane.Out) *dataplane.Planner {
	if *oneByOne || *filterFlag != "nftables" {
		return dataplane.NewPlanner(out)
	}
	return dataplane.NewCompilingPlanner(out)
}

// rulesText is a shell command that prints what the packet filter has.
func rulesText() string { return rulesTextOf(*filterFlag) }

func rulesTextOf(filter string) string {
	switch filter {
	case string(iptables.Legacy):
		return "iptables-legacy-save; ip6tables-legacy-save; ipset list"
	case string(iptables.NFT):
		return "iptables-nft-save; ip6tables-nft-save; ipset list"
	}
	return "nft list table inet ripstop"
}

// ownMarks are the bits that packets have not when they leave our rules.
func ownMarks() uint32 {
	if *filterFlag == "nftables" {
		return 0x20000
	}
	return 0x1e0000
}
