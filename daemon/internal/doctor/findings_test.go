// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// own is Ripstop's table as it should be.
func own() Table {
	return Table{Family: "inet", Name: Ours, Owned: true, Persist: true, Chains: []Chain{{Name: "rs-input", Type: "filter", Hook: "input"}}}
}

// healthy is a host with nothing to worry about.
func healthy() Facts {
	return Facts{Host: "h1", Tables: []Table{own()}, Sysctls: map[string]string{
		"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.forwarding": "0", "net.ipv4.conf.all.rp_filter": "2", "net.ipv4.conf.eth0.rp_filter": "0",
		"net.ipv4.conf.all.route_localnet": "0", "net.ipv4.conf.eth0.route_localnet": "0",
		"net.netfilter.nf_conntrack_count": "79", "net.netfilter.nf_conntrack_max": "100",
		"net.bridge.bridge-nf-call-iptables": "1", "user.max_user_namespaces": "0",
	}, Interfaces: []Interface{
		{Name: "lo", Up: true, Loopback: true}, {Name: "eth0", Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}},
	}}
}

func base(family, table, hook string, drop bool, rules ...Rule) Table {
	return Table{Family: family, Name: table, Chains: []Chain{{Name: strings.ToUpper(hook), Type: "filter", Hook: hook, Drop: drop, Rules: rules}}}
}

func TestExamine_FindsWhatWorksAgainstUs(t *testing.T) {
	publish := Rule{Match: Match{Protocols: []Cond[uint8]{{Any: []uint8{6}}}, DestinationPorts: []Cond[Ports]{{Any: []Ports{{80, 80}}}}},
		Action: DNATs, To: netip.MustParseAddrPort("172.17.0.2:80")}
	nat := Table{Family: "ip", Name: "nat", Chains: []Chain{{Name: "PREROUTING", Type: "nat", Hook: "prerouting", Rules: []Rule{publish}}}}
	for _, c := range []struct {
		name   string
		change func(*Facts, *Settings)
		want   string // severity and code of each, in order
	}{
		{"a healthy host", func(*Facts, *Settings) {}, ""},
		{"no table of ours", func(f *Facts, _ *Settings) { f.Tables = nil }, "Critical NoRules"},
		{"ours is dormant", func(f *Facts, _ *Settings) { f.Tables[0].Dormant = true }, "Critical NoRules"},
		{"ours inside of iptables' tables", func(f *Facts, _ *Settings) {
			f.Tables = []Table{{Family: "ip", Name: "filter", Chains: []Chain{{Name: "rs-INPUT"}}}}
		}, ""},
		{"ours is not owned", func(f *Facts, _ *Settings) { f.Tables[0].Owned = false }, "Advice NotOwned"},
		{"no agent", func(_ *Facts, s *Settings) { s.Stopped = true }, "Warning AgentStopped"},
		{"something not seen", func(f *Facts, _ *Settings) { f.Unseen = []string{"ipsets"} }, "Warning NotSeen"},
		{"a policy of drop at input", func(f *Facts, _ *Settings) { f.Tables = append(f.Tables, base("ip", "filter", "input", true)) }, "Warning ForeignDrop"},
		{"a last rule that drops", func(f *Facts, _ *Settings) {
			f.Tables = append(f.Tables, base("ip6", "x", "output", false, Rule{Match: Match{Family: 6}, Action: Rejects}))
		}, "Warning ForeignDrop"},
		{"a rule that drops some", func(f *Facts, _ *Settings) {
			f.Tables = append(f.Tables, base("inet", "x", "input", false, Rule{Match: Match{States: Invalid}, Action: Drops}))
		}, ""},
		{"a dormant table that drops", func(f *Facts, _ *Settings) {
			f.Tables = append(f.Tables, base("ip", "filter", "input", true))
			f.Tables[1].Dormant = true
		}, ""},
		{"closed to forwarding, which matters to nobody", func(f *Facts, _ *Settings) { f.Tables = append(f.Tables, base("ip", "filter", "forward", true)) }, "Advice ForeignDrop"},
		{"closed to forwarding, with workloads", func(f *Facts, s *Settings) {
			f.Tables = append(f.Tables, base("ip", "filter", "forward", true))
			f.Sysctls["net.ipv4.ip_forward"], f.Sysctls["net.ipv6.conf.all.forwarding"] = "1", "1"
			s.Workloads = 1
		}, "Warning ForeignDrop"},
		{"workloads without forwarding", func(_ *Facts, s *Settings) { s.Workloads = 2 }, "Warning ForwardingOff"},
		{"a service that flushes, kept off our table", func(f *Facts, _ *Settings) { f.Flushers = []Flusher{{"nftables.service", "line"}} }, "Advice FlushService"},
		{"a service that flushes", func(f *Facts, _ *Settings) {
			f.Flushers = []Flusher{{"nftables.service", "line"}}
			f.Tables[0].Persist = false
		}, "Warning FlushService"},
		{"both variants of iptables", func(f *Facts, _ *Settings) {
			legacy := base("ip", "filter", "input", false, Rule{})
			legacy.Legacy = true
			f.Tables = append(f.Tables, base("ip6", "filter", "input", false, Rule{}), legacy)
		}, "Warning TwoIptables"},
		{"both variants, one empty", func(f *Facts, _ *Settings) {
			legacy := base("ip", "filter", "input", false)
			legacy.Legacy = true
			f.Tables = append(f.Tables, base("ip6", "filter", "input", false, Rule{}), legacy)
		}, ""},
		{"route_localnet", func(f *Facts, _ *Settings) { f.Sysctls["net.ipv4.conf.eth0.route_localnet"] = "1" }, "Warning RouteLocalnet"},
		{"connection tracking at 80 %", func(f *Facts, _ *Settings) { f.Sysctls["net.netfilter.nf_conntrack_count"] = "80" }, "Warning ConntrackFull"},
		{"connection tracking at 95 %", func(f *Facts, _ *Settings) { f.Sysctls["net.netfilter.nf_conntrack_count"] = "95" }, "Critical ConntrackFull"},
		{"published ports", func(f *Facts, _ *Settings) { f.Tables = append(f.Tables, nat) }, "Warning PublishedPorts"},
		{"published ports that policy judges", func(f *Facts, s *Settings) {
			f.Tables = append(f.Tables, nat)
			s.ForwardPolicies = true
		}, ""},
		{"a bridge", func(f *Facts, _ *Settings) {
			f.Interfaces = append(f.Interfaces, Interface{Name: "br0", Bridge: true})
		}, "Advice BridgeNetfilter"},
		{"no reverse path filter", func(f *Facts, _ *Settings) { f.Sysctls["net.ipv4.conf.all.rp_filter"] = "0" }, "Advice NoReversePathFilter"},
		{"user namespaces", func(f *Facts, _ *Settings) { f.Sysctls["user.max_user_namespaces"] = "100" }, "Advice UserNamespaces"},
		{"user namespaces that Debian forbids", func(f *Facts, _ *Settings) {
			f.Sysctls["user.max_user_namespaces"], f.Sysctls["kernel.unprivileged_userns_clone"] = "100", "0"
		}, ""},
		{"the gravest first", func(f *Facts, _ *Settings) {
			f.Sysctls["user.max_user_namespaces"], f.Sysctls["net.netfilter.nf_conntrack_count"] = "100", "99"
			f.Unseen = []string{"ipsets"}
		}, "Critical ConntrackFull, Warning NotSeen, Advice UserNamespaces"},
	} {
		f, s := healthy(), Settings{}
		c.change(&f, &s)
		r := Examine(f, s)
		var got []string
		for _, x := range r.Findings {
			got = append(got, string(x.Severity)+" "+x.Code)
			if x.Title == "" || x.Do == "" {
				t.Errorf("%s: finding %s says not what is so or not what to do: %+v", c.name, x.Code, x)
			}
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%s: findings %q, want %q", c.name, got, c.want)
		}
		if r.Worry() != (strings.Contains(c.want, "Critical") || strings.Contains(c.want, "Warning")) {
			t.Errorf("%s: Worry() = %v with %q", c.name, r.Worry(), got)
		}
	}
}

// saved reads the rules that a program has made.
func saved(t *testing.T, file string) []Table {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/strangers", file))
	if err != nil {
		t.Fatal(err)
	}
	family := map[string]string{".v4": "ip", ".v6": "ip6"}[filepath.Ext(file)]
	tables, err := ParseSave(family, string(b))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return tables
}

func TestExamine_SaysWhoseTablesAre(t *testing.T) {
	for file, want := range map[string]string{"ufw.v4": "ufw", "ufw.v6": "ufw", "docker.v4": "Docker", "docker.v6": "Docker", "podman.v4": "Podman", "fail2ban.v4": "fail2ban"} {
		for _, f := range Examine(Facts{Tables: saved(t, file)}, Settings{}).Filters {
			if f.Owners[0].Name != want || f.Owners[0].Evidence == "" {
				t.Errorf("%s: table %s is said to be of %v, want %s with the evidence", file, f.Table, f.Owners, want)
			}
		}
	}
	for _, c := range []struct {
		t    Table
		want string
	}{
		{own(), "Ripstop"},
		{Table{Family: "inet", Name: "firewalld"}, "firewalld"},
		{Table{Family: "inet", Name: "filter", Chains: []Chain{{Name: "input", Hook: "input"}}}, "unknown"},
		{base("ip", "filter", "input", false), "rules made with iptables-nft"},
		{Table{Family: "ip", Name: "filter", Legacy: true}, "rules made with iptables-legacy"},
		{Table{Family: "ip", Name: "ripstop"}, "unknown"},
	} {
		if got := owners(c.t); got[0].Name != c.want {
			t.Errorf("owners(%s) = %v, want %s", c.t.ID(), got, c.want)
		}
	}
	both := append(saved(t, "docker.v4"), saved(t, "fail2ban.v4")...)
	merged := Table{Family: "ip", Name: "filter", Chains: append(slices.Clone(both[0].Chains), both[2].Chains...)}
	if got := owners(merged); len(got) != 2 || got[0].Name != "Docker" || got[1].Name != "fail2ban" {
		t.Errorf("owners of a table that two share: %v, want Docker and fail2ban", got)
	}
}

func TestExamine_OrdersChainsAsAPacketMeetsThem(t *testing.T) {
	facts := Facts{Tables: []Table{
		base("inet", "late", "input", false), base("ip", "early", "input", true), base("bridge", "b", "forward", false), base("arp", "a", "input", false),
		base("inet", "asleep", "input", false),
	}}
	facts.Tables[0].Chains[0].Priority, facts.Tables[1].Chains[0].Priority = 50, -10
	facts.Tables[4].Dormant = true
	facts.Tables = append(facts.Tables, saved(t, "ufw.v4")...)
	var got []string
	for _, h := range Examine(facts, Settings{}).Order {
		for _, s := range h.Stations {
			got = append(got, h.Hook+": "+s.Facility+" "+s.Family+" "+s.Table+" "+s.Chain+" "+s.Policy)
		}
	}
	want := []string{
		"input: nf_tables ip early INPUT drop", "input: xtables ip filter INPUT drop", "input: nf_tables inet late INPUT accept",
		"forward: xtables ip filter FORWARD drop", "output: xtables ip filter OUTPUT accept",
		"bridge forward: nf_tables bridge b FORWARD accept", "arp input: nf_tables arp a INPUT accept",
	}
	if !slices.Equal(got, want) {
		t.Errorf("order\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestParseSave_RefusesWhatIsNone(t *testing.T) {
	for _, text := range []string{"-A INPUT -j DROP", "*filter\n:INPUT", "*filter\n-A INPUT -j DROP", "*filter\n:INPUT DROP [0:0]\n-A INPUT -s 10.0.0.0/33 -j DROP",
		"*filter\n:INPUT DROP [0:0]\n-A INPUT -p tcp --dport x -j DROP", "*filter\n:INPUT DROP [0:0]\n[x:1] -A INPUT"} {
		if tables, err := ParseSave("ip", text); err == nil {
			t.Errorf("ParseSave(%q) = %v, want an error", text, tables)
		}
	}
}

func FuzzParseSave(f *testing.F) {
	files, _ := filepath.Glob("testdata/strangers/*.v*")
	for _, name := range files {
		if b, err := os.ReadFile(name); err == nil {
			f.Add(string(b))
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		tables, err := ParseSave("ip", text)
		if err != nil {
			return
		}
		Examine(Facts{Tables: tables}, Settings{})
		Expose(Facts{Tables: tables, Interfaces: []Interface{{Name: "eth0", Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}}}, nil, noFailsafes())
		Judge(tables, hookOrder, Packet{Protocol: 6, In: "eth0", Source: netip.MustParseAddr("192.0.2.7"), Destination: netip.MustParseAddr("192.0.2.1")})
	})
}
