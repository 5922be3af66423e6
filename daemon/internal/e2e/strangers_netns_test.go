// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

var updates = flag.Int("updates", 400, "how many pictures of six objects each come while strangers' rules must stay")

// strangers is where the rules of other programs are, as they made them
// themselves.
const strangers = "../doctor/testdata/strangers"

// settle makes a namespace the machine of somebody who has everything: the
// rules of firewalld, Docker, Podman and fail2ban (through iptables-nft and
// nft), ufw's through iptables-legacy, ipsets with rules that use them, rules
// by hand in families of every kind, routes, routing rules and sysctls.
func settle(t testing.TB, ns *netnstest.NS) {
	t.Helper()
	for _, f := range []string{"docker.v4", "podman.v4", "fail2ban.v4"} {
		ns.Run("iptables-nft-restore", "--noflush", filepath.Join(strangers, f))
	}
	for _, f := range []string{"docker.v6", "fail2ban.v6"} {
		ns.Run("ip6tables-nft-restore", "--noflush", filepath.Join(strangers, f))
	}
	ns.Run("iptables-legacy-restore", filepath.Join(strangers, "ufw.v4"))
	ns.Run("ip6tables-legacy-restore", filepath.Join(strangers, "ufw.v6"))
	for _, f := range []string{"firewalld.nft", "fail2ban.nft", "handmade.nft"} {
		ns.Run("nft", "-f", filepath.Join(strangers, f))
	}
	load(t, ns, `
table bridge b {
	chain c { type filter hook forward priority 0; ether type arp accept; }
}
table arp a {
	chain c { type filter hook input priority 0; arp operation request accept; }
}
table netdev n {
	chain c { type filter hook ingress device "rstun0" priority 0; ip saddr 198.51.100.9 drop; }
}
table ip rs-lookalike {
	set rs-s { type ipv4_addr; elements = { 192.0.2.1 }; }
	chain rs-input { type filter hook input priority 5; tcp dport 1 drop; }
}
`)
	for _, c := range []string{
		"ipset create bad hash:net", "ipset add bad 198.51.100.0/28", "ipset create rs-mine hash:ip family inet6", "ipset add rs-mine 2001:db8::6",
		"ipset create both list:set", "ipset add both bad",
		"iptables-legacy -t raw -A PREROUTING -m set --match-set bad src -j DROP",
		"ip6tables-legacy -t mangle -A FORWARD -j MARK --set-mark 7",
		"ip rule add fwmark 0x20 table 77", "ip -6 rule add from fd09::/64 table 77", "ip route add 198.18.0.0/24 dev rstun1 table 77",
		"ip route add 198.18.1.0/24 dev rstun1 proto static", "ip -6 route add fd09::/64 dev rstun1",
		"sysctl -q -w net.ipv4.conf.rstun0.rp_filter=1 net.ipv4.ip_forward=0 net.ipv6.conf.rstun1.accept_ra=2 net.ipv4.conf.rstun1.proxy_arp=1",
	} {
		w := strings.Fields(c)
		ns.Run(w[0], w[1:]...)
	}
}

// machine is everything of a namespace that Ripstop might touch, by the
// program that shows it. Counters are left out: packets may come at any time.
func machine(t testing.TB, ns *netnstest.NS) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, c := range []string{
		wholeRuleset, "iptables-nft-save", "ip6tables-nft-save", "iptables-legacy-save", "ip6tables-legacy-save", "ipset save",
		"ip route show table all", "ip -6 route show table all", "ip rule", "ip -6 rule", "ip neigh show nud permanent", "ip neigh show proxy",
		"ip -o link", "ip -o addr", "sysctl -a --pattern ^net\\.",
	} {
		w := strings.Fields(c)
		out[c] = steady(ns.Run(w[0], w[1:]...))
	}
	for _, line := range strings.Split(strings.TrimSpace(ns.Run("nft", "list", "tables")), "\n") {
		if w := strings.Fields(line); len(w) == 3 && line != "table inet ripstop" {
			out[line] = steady(ns.Run("nft", "-s", "list", "table", w[1], w[2]))
		}
	}
	return out
}

var (
	counters = regexp.MustCompile(`\[\d+:\d+\]`)
	comments = regexp.MustCompile(`(?m)^# (Generated|Completed|Warning).*\n`)
	// volatile are what counts, in sysctl and ip, and what is told of the
	// moment only.
	volatile = regexp.MustCompile(`(?m)^net\.netfilter\.nf_conntrack_count.*\n|^net\.ipv4\.route\.flush.*\n|^sysctl: .*\n|expires \d+sec|net\.ipv4\.tcp_fastopen_key.*|(valid|preferred)_lft \d+sec|^net\.ipv[46]\.conf\..*stable_secret.*\n`)
)

func steady(s string) string {
	return volatile.ReplaceAllString(comments.ReplaceAllString(counters.ReplaceAllString(s, ""), ""), "")
}

// wholeRuleset shows Ripstop's table too, as long as it is there.
const wholeRuleset = "nft -s list ruleset"

// sameMachine compares the machine with what it was.
func sameMachine(t testing.TB, ns *netnstest.NS, when string, before map[string]string, installed bool) {
	t.Helper()
	after := machine(t, ns)
	for what := range after {
		if _, ok := before[what]; !ok {
			t.Errorf("%s: there is a %s now", when, what)
		}
	}
	for what, text := range before {
		if installed && what == wholeRuleset {
			continue
		}
		if d := cmp.Diff(strings.Split(text, "\n"), strings.Split(after[what], "\n")); d != "" {
			t.Errorf("%s: %s differs, before -, now +:\n%s", when, what, d)
		}
	}
}

// TestNetnsStrangers_NothingOfOthersIsTouched: thousands of changes of policy,
// while others change their own rules too, a kill, a restart, and --cleanup:
// everything of others is as it was, and at the end the machine is as it was
// before Ripstop came.
func TestNetnsStrangers_NothingOfOthersIsTouched(t *testing.T) {
	needs(t, "nft", "iptables-nft", "iptables-legacy", "ipset", "sysctl")
	srv, inj := startServer(t), netnstest.NewInjector(t, netnstest.InjectorConfig{})
	settle(t, inj.NS)
	before := machine(t, inj.NS)
	for what, text := range before {
		if what != "ip neigh show nud permanent" && what != "ip neigh show proxy" && strings.TrimSpace(text) == "" {
			t.Fatalf("%s shows nothing: is it still compared?", what)
		}
	}
	srv.put(t, chaosEndpoint)
	a := startAgent(t, inj.NS, srv.etcd())
	a.applied(t, srv.put(t, chaosPolicies(0)))
	same := func(when string, installed bool) {
		t.Helper()
		sameMachine(t, inj.NS, when, before, installed)
	}
	same("started", true)

	puts, done := 0, 0
	for puts < *updates {
		rev := srv.put(t, chaosPolicies(puts))
		puts++
		if puts%20 != 0 {
			continue
		}
		inj.NS.Run("nft", "add", "element", "inet", "f2b-table", "addr-set-recidive", fmt.Sprintf("{ 203.0.113.%d }", puts/20%250))
		inj.NS.Run("iptables-nft", "-w", "-I", "DOCKER-USER", "-s", "203.0.113.1", "-j", "DROP")
		inj.NS.Run("iptables-legacy", "-w", "-A", "ufw-user-input", "-p", "tcp", "--dport", "7", "-j", "ACCEPT")
		a.applied(t, rev)
		done++
		inj.NS.Run("nft", "delete", "element", "inet", "f2b-table", "addr-set-recidive", fmt.Sprintf("{ 203.0.113.%d }", puts/20%250))
		inj.NS.Run("iptables-nft", "-w", "-D", "DOCKER-USER", "-s", "203.0.113.1", "-j", "DROP")
		inj.NS.Run("iptables-legacy", "-w", "-D", "ufw-user-input", "-p", "tcp", "--dport", "7", "-j", "ACCEPT")
	}
	same("after changes of policy", true)
	a.kill()
	same("killed", true)
	a.run(t)
	a.until(t, "verified", verified)
	same("restarted", true)
	a.stop()
	same("stopped", true)
	if out, err := ripstopd(inj.NS, "--cleanup"); err != nil {
		t.Fatalf("ripstopd --cleanup: %v: %s", err, out)
	}
	same("cleaned up", false)
	t.Logf("%d pictures written, %d times others changed their rules meanwhile", puts, done)
}

func needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%v; the Makefile's list of packages has it", err)
		}
	}
}
