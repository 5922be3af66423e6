// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	xt "github.com/coreos/go-iptables/iptables"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/host"
)

// Variant is how iptables speaks to the kernel.
type Variant string

// Variants. Auto takes the one that holds rules of ours, else the one that
// this host uses.
const (
	Auto   Variant = "auto"
	Legacy Variant = "legacy"    // setsockopt, tables of x_tables
	NFT    Variant = "nf_tables" // netlink, tables of nf_tables
)

// ErrMissing: the programs of iptables are not installed.
var ErrMissing = errors.New("the programs of iptables are not installed (package iptables)")

// programs are the names of one variant's programs.
type programs struct {
	variant Variant
	version string
	save    map[ruleset.Family]string
	restore map[ruleset.Family]string
	// families are those that the kernel has.
	families []ruleset.Family
}

// find looks for the programs of a variant. Debian and others have names with
// the variant in them; before 1.8 there is only legacy, without.
func find(v Variant) (programs, error) {
	p := programs{variant: v, save: map[ruleset.Family]string{}, restore: map[ruleset.Family]string{}, families: families()}
	suffix := map[Variant]string{Legacy: "-legacy", NFT: "-nft"}[v]
	for _, f := range p.families {
		base, proto := "iptables", xt.ProtocolIPv4
		if f == ruleset.IPv6 {
			base, proto = "ip6tables", xt.ProtocolIPv6
		}
		ipt, err := xt.New(xt.IPFamily(proto), xt.Path(base+suffix))
		name := base + suffix
		if err != nil && v == Legacy {
			name = base
			ipt, err = xt.New(xt.IPFamily(proto), xt.Path(base))
			if err == nil {
				if major, minor, _ := ipt.GetIptablesVersion(); major > 1 || minor >= 8 {
					err = fmt.Errorf("%s is of the other variant", base)
				}
			}
		}
		if err != nil {
			return p, fmt.Errorf("%s%s: %w: %w", base, suffix, ErrMissing, err)
		}
		major, minor, patch := ipt.GetIptablesVersion()
		p.version = fmt.Sprintf("%d.%d.%d", major, minor, patch)
		p.save[f], p.restore[f] = name+"-save", name+"-restore"
	}
	return p, nil
}

// families are IPv4 and, where the kernel has it, IPv6.
func families() []ruleset.Family {
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return []ruleset.Family{ruleset.IPv4}
	}
	return []ruleset.Family{ruleset.IPv4, ruleset.IPv6}
}

// choose finds the programs to use and says why.
func choose(ctx context.Context, run host.Runner, v Variant) (p programs, why string, err error) {
	if v == Legacy || v == NFT {
		p, err = find(v)
		return p, "asked for", err
	}
	legacy, errL := find(Legacy)
	nft, errN := find(NFT)
	switch {
	case errL != nil && errN != nil:
		return p, "", errors.Join(errL, errN)
	case errL != nil:
		return nft, "only this variant is installed", nil
	case errN != nil:
		return legacy, "only this variant is installed", nil
	}
	inLegacy, inNFT := census(ctx, run, legacy), census(ctx, run, nft)
	switch {
	case inLegacy.ours != inNFT.ours:
		if inLegacy.ours {
			return legacy, "it holds rules of Ripstop", nil
		}
		return nft, "it holds rules of Ripstop", nil
	case (inLegacy.rules > 0) != (inNFT.rules > 0):
		if inLegacy.rules > 0 {
			return legacy, "the rules of this host are in it", nil
		}
		return nft, "the rules of this host are in it", nil
	}
	out, err := run.Run(ctx, host.Cmd{Path: "iptables", Args: []string{"--version"}})
	if err == nil && strings.Contains(string(out), "legacy") {
		return legacy, "it is this host's default", nil
	}
	return nft, "it is this host's default", nil
}

// Programs tells which variant Auto would take on this host, and why, as
// "iptables 1.8.9, variant legacy: …"; the error is ErrMissing if there is
// none. It changes nothing.
func Programs(ctx context.Context, run host.Runner) (string, error) {
	p, why, err := choose(ctx, run, Auto)
	if err != nil {
		return "", fmt.Errorf("iptables: %w", err)
	}
	return fmt.Sprintf("iptables %s, variant %s: %s", p.version, p.variant, why), nil
}

type tally struct {
	rules int
	ours  bool
}

// census counts rules; what cannot be read counts as none.
func census(ctx context.Context, run host.Runner, p programs) tally {
	var t tally
	for _, f := range p.families {
		out, err := run.Run(ctx, host.Cmd{Path: p.save[f]})
		if err != nil {
			continue
		}
		for _, l := range strings.Split(string(out), "\n") {
			if strings.HasPrefix(l, "-A ") {
				t.rules++
			}
			t.ours = t.ours || strings.HasPrefix(l, ":"+prefixOurs)
		}
	}
	return t
}
