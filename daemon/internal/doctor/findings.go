// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
)

// findings are all things to worry about, the gravest first.
func findings(f Facts, s Settings) []api.Finding {
	out := []api.Finding{}
	for _, look := range []func(Facts, Settings) []api.Finding{
		ownTable, conntrackRoom, unread, closedHooks, flushers, twoVariants, localnet, forwarding,
		published, bridgeFilter, reversePath, userNamespaces,
	} {
		out = append(out, look(f, s)...)
	}
	rank := map[api.Severity]int{api.SeverityCritical: 0, api.SeverityWarning: 1, api.SeverityAdvice: 2}
	slices.SortStableFunc(out, func(a, b api.Finding) int { return rank[a.Severity] - rank[b.Severity] })
	return out
}

// ownTable looks for Ripstop's own rules.
func ownTable(f Facts, s Settings) []api.Finding {
	if s.Stopped {
		return []api.Finding{{Severity: api.SeverityWarning, Code: "AgentStopped", Title: "the agent does not run",
			Detail: "Rules that it has left stay in force. Changes of policy are not, and what others change is not repaired.",
			Do:     "start ripstopd"}}
	}
	i := slices.IndexFunc(f.Tables, Table.ours)
	elsewhere := slices.ContainsFunc(f.Tables, func(t Table) bool {
		return slices.ContainsFunc(t.Chains, func(c Chain) bool { return !t.ours() && strings.HasPrefix(c.Name, OurPrefix) })
	})
	switch {
	case i < 0 && (elsewhere || slices.ContainsFunc(f.Tables, func(t Table) bool { return t.Unread })):
		return nil
	case i < 0:
		return []api.Finding{{Severity: api.SeverityCritical, Code: "NoRules", Title: "nothing of Ripstop is in the kernel",
			Detail: "The agent answers, and the packet filter has no table of it: this host is not protected.",
			Do:     "see ripstop status for the error"}}
	case f.Tables[i].Dormant:
		return []api.Finding{{Severity: api.SeverityCritical, Code: "NoRules", Title: "Ripstop's table is dormant",
			Detail: "Somebody has switched it off: this host is not protected.", Do: "restart ripstopd"}}
	case !f.Tables[i].Owned:
		return []api.Finding{{Severity: api.SeverityAdvice, Code: "NotOwned", Title: "other programs can change Ripstop's table",
			Detail: "The table has no owner flag: a kernel below 6.9, or the table was there before the agent. What others change is repaired after the fact.",
			Do:     "run a kernel of 6.9 or newer; after an upgrade: ripstopd --cleanup, then start the agent"}}
	}
	return nil
}

// unread says that something may filter that was not looked at.
func unread(f Facts, _ Settings) []api.Finding {
	if len(f.Unseen) == 0 {
		return nil
	}
	return []api.Finding{{Severity: api.SeverityWarning, Code: "NotSeen", Title: "not everything could be looked at",
		Detail: "What is not seen may filter or redirect packets, and is missing in this report.", Evidence: f.Unseen,
		Do: "do what the lines say, and run it again"}}
}

// closing tells by what a base chain drops all that its rules do not accept;
// empty: it does not.
func (c Chain) closing() (by string, packets string) {
	if c.Drop {
		return "by its policy drop", ""
	}
	for _, r := range c.Rules {
		if m := r.Match; (r.Action == Drops || r.Action == Rejects) && (Match{}.And(m)).anyOfFamily() {
			if r.Counted {
				packets = fmt.Sprintf(", %d packets so far", r.Packets)
			}
			return "by its last rule", packets
		}
	}
	return "", ""
}

// anyOfFamily tells whether the match is true of all packets of its family.
func (m Match) anyOfFamily() bool { m.Family = 0; return m.Anything() }

// closedHooks finds base chains of others that drop by themselves what Ripstop
// lets through: at a hook, each must let a packet pass.
func closedHooks(f Facts, s Settings) []api.Finding {
	var out []api.Finding
	for _, t := range f.Tables {
		if t.ours() || t.Dormant || !slices.Contains([]string{"inet", "ip", "ip6"}, t.Family) {
			continue
		}
		for _, c := range t.Chains {
			if c.Hook == "" || c.Type == "nat" {
				continue
			}
			by, packets := c.closing()
			if by == "" {
				continue
			}
			owner := owners(t)[0].Name
			x := api.Finding{Severity: api.SeverityWarning, Code: "ForeignDrop",
				Title:    fmt.Sprintf("%s drops at hook %s what it does not accept itself (%s)", t.ID()+" "+c.Name, c.Hook, owner),
				Detail:   "A packet must be let through by it and by Ripstop. What a policy allows is still dropped there unless it has a rule for it too.",
				Do:       remedy(owner),
				Evidence: []string{fmt.Sprintf("table %s, chain %s, priority %d: closed %s%s, %d rules", t.ID(), c.Name, c.Priority, by, packets, len(c.Rules))}}
			if c.Hook == "forward" && s.Workloads == 0 && !s.ForwardPolicies {
				x.Severity, x.Detail = api.SeverityAdvice, "It matters once this host forwards for workloads of Ripstop or has applyOnForward policies."
			}
			out = append(out, x)
		}
	}
	return out
}

// remedy is how to let a packet through the filter of a program.
func remedy(owner string) string {
	how := map[string]string{
		"ufw":         "ufw allow PORT/PROTOCOL for what policies allow, or ufw disable if Ripstop replaces it",
		"firewalld":   "firewall-cmd --permanent --add-port=PORT/PROTOCOL for what policies allow, or systemctl disable --now firewalld if Ripstop replaces it",
		"Docker":      "iptables -I DOCKER-USER -j ACCEPT with the addresses that are to be forwarded; Docker needs its own rules for containers",
		"libvirt":     "choose the forward mode \"open\" for networks whose guests are to be reached",
		"Calico":      "do not run Calico's agent and Ripstop's on one host",
		"CNI plugins": "see the configuration of the plugin firewall in /etc/cni/net.d",
	}[owner]
	if how == "" {
		how = "add rules to it that accept what policies allow, or remove it if Ripstop replaces it"
	}
	return how
}

// flushers are services that empty the packet filter.
func flushers(f Facts, _ Settings) []api.Finding {
	guarded := slices.ContainsFunc(f.Tables, func(t Table) bool { return t.ours() && t.Owned && t.Persist })
	var out []api.Finding
	for _, u := range f.Flushers {
		x := api.Finding{Severity: api.SeverityWarning, Code: "FlushService", Title: u.Unit + " is enabled and empties the packet filter when it starts",
			Detail: "It takes Ripstop's rules away too until the agent has repaired them.", Evidence: []string{u.Evidence},
			Do: "let it delete its own table instead of the whole ruleset, or disable it: systemctl disable " + u.Unit}
		if guarded {
			x.Severity = api.SeverityAdvice
			x.Detail = "The kernel keeps it off Ripstop's table, but the rules of others, such as Docker's, go."
		}
		out = append(out, x)
	}
	return out
}

// twoVariants finds rules of both variants of iptables.
func twoVariants(f Facts, _ Settings) []api.Finding {
	var legacy, nft []string
	for _, t := range f.Tables {
		rules := 0
		for _, c := range t.Chains {
			if !strings.HasPrefix(c.Name, OurPrefix) {
				rules += len(c.Rules)
			}
		}
		switch {
		case rules == 0:
		case t.Legacy:
			legacy = append(legacy, fmt.Sprintf("table %s: %d rules", t.ID(), rules))
		case (t.Family == "ip" || t.Family == "ip6") && slices.ContainsFunc(t.Chains, func(c Chain) bool { return slices.Contains(builtin, c.Name) }):
			nft = append(nft, fmt.Sprintf("table %s: %d rules", t.ID(), rules))
		}
	}
	if len(legacy) == 0 || len(nft) == 0 {
		return nil
	}
	return []api.Finding{{Severity: api.SeverityWarning, Code: "TwoIptables", Title: "both variants of iptables hold rules",
		Detail: "iptables-legacy and iptables-nft do not show each other's rules, and a packet meets both: what one accepts the other may drop.",
		Do:     "choose one: update-alternatives --config iptables, then restart what made the rules", Evidence: append(legacy, nft...)}}
}

// sysctlOf are the interfaces for which net.FAMILY.conf.*.NAME has a value.
func (f Facts) sysctlOf(family, name string, is func(string) bool) []string {
	var out []string
	for key, v := range f.Sysctls {
		iface, ok := strings.CutPrefix(key, "net."+family+".conf.")
		iface, ok2 := strings.CutSuffix(iface, "."+name)
		if ok && ok2 && is(v) {
			out = append(out, strings.ReplaceAll(iface, "/", "."))
		}
	}
	slices.Sort(out)
	return out
}

func localnet(f Facts, _ Settings) []api.Finding {
	on := f.sysctlOf("ipv4", "route_localnet", func(v string) bool { return v != "0" })
	if len(on) == 0 {
		return nil
	}
	return []api.Finding{{Severity: api.SeverityWarning, Code: "RouteLocalnet", Title: "route_localnet is on: " + listed(on),
		Detail:   "What listens on 127.0.0.1 only can be reached by neighbours on these links. Ripstop drops packets to 127.0.0.0/8 where an endpoint governs; elsewhere nothing does.",
		Do:       "sysctl -w net.ipv4.conf.NAME.route_localnet=0 unless the program that set it needs it (kube-proxy, some container engines)",
		Evidence: []string{"net.ipv4.conf.{" + strings.Join(on, ",") + "}.route_localnet is not 0"}}}
}

func forwarding(f Facts, s Settings) []api.Finding {
	var off []string
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if f.Sysctls[key] == "0" {
			off = append(off, key+" = 0")
		}
	}
	if s.Workloads == 0 || len(off) == 0 {
		return nil
	}
	return []api.Finding{{Severity: api.SeverityWarning, Code: "ForwardingOff", Title: fmt.Sprintf("this host does not forward, and has %d workloads", s.Workloads),
		Detail: "Workloads reach nothing but this host.", Do: "sysctl -w " + strings.ReplaceAll(off[0], " = 0", "=1") + ", and find out what switched it off", Evidence: off}}
}

// conntrackRoom warns before new connections are lost.
func conntrackRoom(f Facts, _ Settings) []api.Finding {
	count, err1 := strconv.Atoi(f.Sysctls["net.netfilter.nf_conntrack_count"])
	most, err2 := strconv.Atoi(f.Sysctls["net.netfilter.nf_conntrack_max"])
	if err1 != nil || err2 != nil || most == 0 || count*100 < most*80 {
		return nil
	}
	x := api.Finding{Severity: api.SeverityWarning, Code: "ConntrackFull", Title: fmt.Sprintf("connection tracking is %d %% full", count*100/most),
		Detail:   "When it is full, new connections are dropped, whatever policy says.",
		Do:       "raise net.netfilter.nf_conntrack_max, and find out who makes so many connections",
		Evidence: []string{fmt.Sprintf("net.netfilter.nf_conntrack_count = %d of net.netfilter.nf_conntrack_max = %d", count, most)}}
	if count*100 >= most*95 {
		x.Severity = api.SeverityCritical
	}
	return []api.Finding{x}
}

// published says that redirected ports take another way than policy on input.
func published(f Facts, s Settings) []api.Finding {
	n := map[string]int{}
	for _, p := range publishedPorts(f.Tables) {
		n[p.Owner]++
	}
	if len(n) == 0 || s.ForwardPolicies {
		return nil
	}
	var seen []string
	for owner, count := range n {
		seen = append(seen, fmt.Sprintf("%s: %d", owner, count))
	}
	slices.Sort(seen)
	return []api.Finding{{Severity: api.SeverityWarning, Code: "PublishedPorts", Title: "published ports are judged by no policy",
		Detail:   "What is dialled there is redirected and forwarded; it does not pass the hook input, and no policy with applyOnForward judges it.",
		Do:       "see ripstop exposure for who reaches them; write a policy with applyOnForward for them",
		Evidence: []string{"redirecting rules of " + strings.Join(seen, ", ")}}}
}

func bridgeFilter(f Facts, _ Settings) []api.Finding {
	var bridges []string
	for _, i := range f.Interfaces {
		if i.Bridge {
			bridges = append(bridges, i.Name)
		}
	}
	var on []string
	for _, key := range []string{"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"} {
		if v := f.Sysctls[key]; v != "" && v != "0" {
			on = append(on, key+" = "+v)
		}
	}
	if len(bridges) == 0 || len(on) == 0 {
		return nil
	}
	return []api.Finding{{Severity: api.SeverityAdvice, Code: "BridgeNetfilter", Title: "bridged packets pass the IP hooks (br_netfilter)",
		Detail:   "Traffic between two ports of a bridge meets the hooks prerouting, forward and postrouting as if it were forwarded, by every table at them.",
		Do:       "leave it on if Docker or Kubernetes needs it; else set it to 0",
		Evidence: append(on, "bridges: "+listed(bridges))}}
}

// reversePath looks for interfaces that take any source address.
func reversePath(f Facts, _ Settings) []api.Finding {
	if v := f.Sysctls["net.ipv4.conf.all.rp_filter"]; v != "0" {
		return nil
	}
	var open []string
	for _, name := range f.sysctlOf("ipv4", "rp_filter", func(v string) bool { return v == "0" }) {
		if i := slices.IndexFunc(f.Interfaces, func(i Interface) bool { return i.Name == name }); i >= 0 && !f.Interfaces[i].Loopback && !f.Interfaces[i].Port && len(f.Interfaces[i].Addrs) > 0 {
			open = append(open, name)
		}
	}
	if len(open) == 0 {
		return nil
	}
	return []api.Finding{{Severity: api.SeverityAdvice, Code: "NoReversePathFilter", Title: "forged source addresses are not filtered: " + listed(open),
		Detail:   "Policies that go by source address trust what the sender wrote. Nothing checks whether answers would leave by the same interface.",
		Do:       "sysctl -w net.ipv4.conf.all.rp_filter=2 (loose), or 1 where routes are symmetric",
		Evidence: []string{"net.ipv4.conf.all.rp_filter = 0, and 0 on these interfaces"}}}
}

func userNamespaces(f Facts, _ Settings) []api.Finding {
	max, clone, armoured := f.Sysctls["user.max_user_namespaces"], f.Sysctls["kernel.unprivileged_userns_clone"], f.Sysctls["kernel.apparmor_restrict_unprivileged_userns"]
	if max == "" || max == "0" || clone == "0" || armoured != "" && armoured != "0" {
		return nil
	}
	seen := "user.max_user_namespaces = " + max
	if clone != "" {
		seen += ", kernel.unprivileged_userns_clone = " + clone
	}
	return []api.Finding{{Severity: api.SeverityAdvice, Code: "UserNamespaces", Title: "every user can make user namespaces",
		Detail:   "In one of its own, a user without rights reaches the kernel's packet filter code; most of its faults that gave root were reached so.",
		Do:       "where rootless containers are not needed: sysctl -w user.max_user_namespaces=0 (Debian also: kernel.unprivileged_userns_clone=0)",
		Evidence: []string{seen}}}
}

// listed is a list of names, the first few of many.
func listed(names []string) string {
	const most = 6
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}
