// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// sign is a name by which a program is known: of a table or of chains.
type sign struct {
	owner string
	// table is a table's whole name, chain how names of chains begin.
	table, chain string
}

// signs are read from the programs' own rules, as they were in 2026.
var signs = []sign{
	{owner: "Ripstop", chain: OurPrefix},
	{owner: "firewalld", table: "firewalld"},
	{owner: "firewalld", chain: "INPUT_direct"},
	{owner: "ufw", chain: "ufw-"},
	{owner: "ufw", chain: "ufw6-"},
	{owner: "Docker", table: "docker-bridges"},
	{owner: "Docker", chain: "DOCKER"},
	{owner: "Podman", table: "netavark"},
	{owner: "Podman", chain: "NETAVARK"},
	{owner: "CNI plugins", table: "cni_hostport"},
	{owner: "CNI plugins", chain: "CNI-"},
	{owner: "kube-proxy", table: "kube-proxy"},
	{owner: "kube-proxy", chain: "KUBE-"},
	{owner: "libvirt", table: "libvirt_network"},
	{owner: "libvirt", chain: "LIBVIRT_"},
	{owner: "fail2ban", table: "f2b-table"},
	{owner: "fail2ban", chain: "f2b-"},
	{owner: "Calico", table: "calico"},
	{owner: "Calico", chain: "cali-"},
	{owner: "Cilium", chain: "CILIUM_"},
	{owner: "Flannel", chain: "FLANNEL-"},
	{owner: "Tailscale", chain: "ts-"},
	{owner: "LXD or Incus", table: "lxd"},
	{owner: "LXD or Incus", table: "incus"},
	{owner: "CrowdSec", table: "crowdsec"},
	{owner: "systemd", table: "io.systemd.nat"},
	{owner: "sshguard", chain: "sshguard"},
	{owner: "miniupnpd", chain: "MINIUPNPD"},
}

// builtin are the chains that iptables has by itself.
var builtin = []string{"PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "BROUTING"}

// owners guesses whose a table is: each program of which it bears a sign, in
// the order of signs. At least one.
func owners(t Table) []api.LikelyOwner {
	if t.ours() {
		return []api.LikelyOwner{{Name: "Ripstop", Evidence: "its name"}}
	}
	var out []api.LikelyOwner
	for _, s := range signs {
		if slices.ContainsFunc(out, func(o api.LikelyOwner) bool { return o.Name == s.owner }) {
			continue
		}
		if s.table != "" && t.Name == s.table {
			out = append(out, api.LikelyOwner{Name: s.owner, Evidence: "the table's name"})
			continue
		}
		for _, c := range t.Chains {
			if s.chain != "" && strings.HasPrefix(c.Name, s.chain) {
				out = append(out, api.LikelyOwner{Name: s.owner, Evidence: "chain " + c.Name})
				break
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	named := slices.Contains([]string{"filter", "nat", "mangle", "raw", "security"}, t.Name)
	hooked := slices.ContainsFunc(t.Chains, func(c Chain) bool { return slices.Contains(builtin, c.Name) })
	switch {
	case t.Legacy:
		return []api.LikelyOwner{{Name: "rules made with iptables-legacy", Evidence: "no program's sign"}}
	case named && hooked && t.Family != "inet":
		return []api.LikelyOwner{{Name: "rules made with iptables-nft", Evidence: "table and chains are named as iptables does"}}
	}
	return []api.LikelyOwner{{Name: "unknown"}}
}

// setOwner guesses whose an ipset is.
func setOwner(name string) string {
	for _, s := range []struct{ prefix, owner string }{
		{OurPrefix, "Ripstop"}, {"f2b-", "fail2ban"}, {"cali", "Calico"}, {"KUBE-", "kube-proxy"}, {"crowdsec", "CrowdSec"}, {"CNI-", "CNI plugins"},
	} {
		if strings.HasPrefix(name, s.prefix) {
			return s.owner
		}
	}
	return "unknown"
}
