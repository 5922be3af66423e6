// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

var tampers = flag.Int("tampers", 10, "how often each other tool tries to change the rules")

// foreignRules are tables of somebody else, in the same hooks.
const foreignRules = `
table inet theirs {
	set s { type ipv4_addr; flags interval; elements = { 192.0.2.0/24, 198.51.100.7 } }
	map m { type inet_service : verdict; elements = { 4444 : drop } }
	chain in {
		type filter hook input priority 0; policy accept;
		ip saddr @s drop comment "theirs"
		tcp dport vmap @m
	}
	chain out { type filter hook output priority 0; policy accept; oifname "rstun1" tcp dport 4444 drop; }
}
table ip filter {
	chain INPUT { type filter hook input priority 0; policy accept; tcp dport 4445 drop; }
}
`

// load gives nft a script.
func load(t testing.TB, ns *netnstest.NS, script string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	ns.Run("nft", "-f", file)
}

// tables lists a namespace's rules without counters: ours, or all the others.
func tables(t testing.TB, ns *netnstest.NS, ours bool) string {
	t.Helper()
	var out []string
	for _, line := range strings.Split(strings.TrimSpace(ns.Run("nft", "list", "tables")), "\n") {
		if f := strings.Fields(line); len(f) == 3 && (line == "table inet ripstop") == ours {
			out = append(out, ns.Run("nft", "-s", "-a", "list", "table", f[1], f[2]))
		}
	}
	return strings.Join(out, "")
}

// TestNetnsTamper_OwnedTableCannotBeOpened: other programs try to flush,
// delete and edit the agent's table while packets run.
func TestNetnsTamper_OwnedTableCannotBeOpened(t *testing.T) {
	g := newGuarded(t, false, "")
	if hs, err := g.agent.status(); err != nil || !hs.Status.Dataplane.OwnerFlag {
		t.Skipf("the kernel has no owner flag (%v)", err)
	}
	before := tables(t, g.inj.NS, true)
	done := 0
	for range *tampers {
		for _, c := range []struct {
			args   []string
			denied bool
		}{
			{[]string{"nft", "flush", "ruleset"}, false},
			{[]string{"nft", "flush", "table", "inet", "ripstop"}, true},
			{[]string{"nft", "delete", "table", "inet", "ripstop"}, true},
			{[]string{"nft", "insert", "rule", "inet", "ripstop", "rs-input", "accept"}, true},
			{[]string{"nft", "flush", "chain", "inet", "ripstop", "rs-hi-h"}, true},
			{[]string{"nft", "delete", "element", "inet", "ripstop", "rs-m-in", `{ "rstun0" }`}, true},
			{[]string{"iptables-nft", "-F"}, false},
			{[]string{"ip6tables-nft", "-F"}, false},
		} {
			var out []byte
			ended := g.inj.NS.Go(func() (err error) {
				out, err = exec.Command(c.args[0], c.args[1:]...).CombinedOutput()
				return err
			})
			var err error
			for running := true; running; {
				select {
				case err = <-ended:
					running = false
				default:
					g.s.burst(2)
				}
			}
			if (err != nil) != c.denied {
				t.Errorf("%q: %v: %s; want it denied: %v", c.args, err, out, c.denied)
			}
			done++
		}
	}
	g.s.burst(10)
	g.s.check(t)
	if after := tables(t, g.inj.NS, true); after != before {
		t.Errorf("the table was\n%s\nand is\n%s", before, after)
	}
	t.Logf("%d tries, %d packets, %d wrong", done, g.s.sent, g.s.admitted+g.s.cut)
}

// edits are what an outsider may do to a table that nobody owns. Each opens
// UDP port 9999.
func edits(t testing.TB, ns *netnstest.NS) map[string]func() {
	handle := func(chain, rule string) string {
		t.Helper()
		list := ns.Run("nft", "-a", "-s", "list", "chain", "inet", "ripstop", chain)
		m := regexp.MustCompile(`(?m)` + rule + `.*# handle (\d+)$`).FindStringSubmatch(list)
		if m == nil {
			t.Fatalf("no rule %s in\n%s", rule, list)
		}
		return m[1]
	}
	return map[string]func(){
		"accept inserted": func() { ns.Run("nft", "insert", "rule", "inet", "ripstop", "rs-input", "accept") },
		"rule deleted": func() {
			ns.Run("nft", "delete", "rule", "inet", "ripstop", "rs-input", "handle", handle("rs-input", "iifname vmap"))
		},
		"verdict altered, comment kept": func() {
			chain := "rs-pi-gnp/main//0"
			ns.Run("nft", "replace", "rule", "inet", "ripstop", chain, "handle", handle(chain, "counter drop"),
				"counter", "accept", "comment", `"gnp/main ingress 0"`)
		},
		"element deleted": func() { ns.Run("nft", "delete", "element", "inet", "ripstop", "rs-m-in", `{ "rstun0" }`) },
		"chain flushed":   func() { ns.Run("nft", "flush", "chain", "inet", "ripstop", "rs-input") },
	}
}

// denied tells whether a new flow to UDP port 9999 is stopped.
func denied(inj *netnstest.Injector, port *uint16) bool {
	*port++
	return !inj.In("rstun0", netnstest.Packet{Src: addr("10.1.0.7"), Dst: addr("10.1.0.1"), Protocol: netnstest.UDP, SrcPort: *port, DstPort: 9999})
}

// editAndRepair edits the table, lets the repair happen, and checks that the
// table is what it was.
func (g *guarded) editAndRepair(t *testing.T, name string, edit, repair func(), port *uint16) {
	t.Helper()
	want := stripHandles(tables(t, g.inj.NS, true))
	edit()
	repair()
	eventually(t, name+" is repaired", func() error {
		if !denied(g.inj, port) {
			return fmt.Errorf("UDP port 9999 passes")
		}
		if d := cmp.Diff(want, stripHandles(tables(t, g.inj.NS, true))); d != "" {
			return fmt.Errorf("the table, want -, is +:\n%s", d)
		}
		return nil
	})
	g.inj.FlushConntrack()
	g.s.burst(50)
	g.s.check(t)
}

func stripHandles(s string) string {
	s = regexp.MustCompile(` # handle \d+( progname \S+)?`).ReplaceAllString(s, "")
	s = regexp.MustCompile(`\tflags (owner)?\n\n`).ReplaceAllString(s, "")
	// Rules that are made anew come last in their table; their order says
	// nothing.
	blocks := strings.Split(s, "\n\n")
	slices.Sort(blocks)
	return strings.Join(blocks, "\n\n")
}

// TestNetnsTamper_OrphanedTableIsRepairedAtStart: while the agent is dead,
// somebody edits its table.
func TestNetnsTamper_OrphanedTableIsRepairedAtStart(t *testing.T) {
	g := newGuarded(t, false, "")
	port := uint16(20000)
	for name := range edits(t, g.inj.NS) {
		var hs *api.HostStatus
		g.editAndRepair(t, name, func() {
			g.agent.kill()
			edits(t, g.inj.NS)[name]()
			if denied(g.inj, &port) {
				t.Errorf("%s: UDP port 9999 is still denied, so nothing is to be repaired", name)
			}
			g.inj.FlushConntrack()
		}, func() {
			g.agent.run(t)
			hs = g.agent.until(t, "verified", verified)
		}, &port)
		t.Logf("%s: repaired at start, drift reported: %v", name, hs.Status.Drift)
	}
}

// TestNetnsTamper_UnownedTableIsRepairedWhileRunning: a table that was there
// before the agent cannot be owned, so others can edit it. It is repaired, and
// the status says what was altered and by whom.
func TestNetnsTamper_UnownedTableIsRepairedWhileRunning(t *testing.T) {
	srv, inj := startServer(t), netnstest.NewInjector(t, netnstest.InjectorConfig{})
	inj.NS.Run("nft", "add", "table", "inet", "ripstop")
	g := &guarded{srv: srv, inj: inj, s: &streams{inj: inj}}
	rev := srv.put(t, chaosEndpoint+"---\n"+chaosPolicies(0))
	g.agent = startAgent(t, inj.NS, srv.etcd())
	if hs := g.agent.applied(t, rev); hs.Status.Dataplane.OwnerFlag {
		t.Fatal("the table is owned")
	}
	g.s.burst(50)
	var counts api.RuleCounts
	if err := g.agent.get("/counts", &counts); err != nil || !slices.ContainsFunc(counts.Rules, func(r api.RuleCount) bool {
		return strings.HasPrefix(r.Rule, "gnp/") && r.Packets > 0 && r.Bytes > 0
	}) {
		t.Errorf("no rule of a policy has counted anything: %+v, %v", counts, err)
	}
	port := uint16(20000)
	var worst time.Duration
	total, shown := int64(0), 0
	for name := range edits(t, inj.NS) {
		var began time.Time
		g.editAndRepair(t, name, func() {
			began = time.Now()
			edits(t, inj.NS)[name]()
		}, func() {
			eventually(t, name+" is repaired", func() error {
				if !denied(inj, &port) {
					return fmt.Errorf("UDP port 9999 passes")
				}
				return nil
			})
			worst = max(worst, time.Since(began))
			inj.FlushConntrack()
		}, &port)
		hs := g.agent.until(t, name+" is reported", func(hs *api.HostStatus) bool { return hs.Status.DriftTotal > total })
		total = hs.Status.DriftTotal
		d := hs.Status.Drift[len(hs.Status.Drift)-1]
		if !d.Repaired || d.What == "" || !strings.Contains(d.By, "nft") {
			t.Errorf("%s: the drift is %+v, want it repaired, with what was altered, by nft", name, d)
		}
		if strings.Contains(d.What, "; for example ") {
			shown++
		}
		if c := condition(hs, "DriftFree"); c.Status != "False" {
			t.Errorf("%s: condition DriftFree is %+v, want False", name, c)
		}
	}
	if shown == 0 {
		t.Error("no drift was shown by a packet")
	}
	t.Logf("repaired %v after the edit at the latest, %d shown by a packet", worst.Round(time.Millisecond), shown)
	// Deleted altogether, it is made anew, and then owned.
	inj.NS.Run("nft", "delete", "table", "inet", "ripstop")
	g.agent.until(t, "the table is made anew and owned", func(hs *api.HostStatus) bool { return hs.Status.Dataplane.OwnerFlag })
	inj.FlushConntrack()
	g.s.burst(50)
	g.s.check(t)
}

// TestNetnsForeign_TablesAreNeverTouched: not by a start, not by changes of
// policy, not by a kill, not by a restart, not by --cleanup.
func TestNetnsForeign_TablesAreNeverTouched(t *testing.T) {
	srv, inj := startServer(t), netnstest.NewInjector(t, netnstest.InjectorConfig{})
	load(t, inj.NS, foreignRules)
	before := tables(t, inj.NS, false)
	same := func(when string) {
		t.Helper()
		if got := tables(t, inj.NS, false); got != before {
			t.Fatalf("%s: the others' tables are\n%s\nwere\n%s", when, got, before)
		}
	}
	rev := srv.put(t, chaosEndpoint+"---\n"+chaosPolicies(0))
	a := startAgent(t, inj.NS, srv.etcd())
	a.applied(t, rev)
	same("started")
	if !strings.Contains(a.log.String(), "inet theirs") {
		t.Errorf("the agent does not say that it has seen table inet theirs:\n%s", a.log)
	}
	for n := range 10 {
		a.applied(t, srv.put(t, chaosPolicies(n)))
	}
	same("after changes of policy")
	wantPass(t, inj, "both judge", map[uint16]bool{8000: true, 4444: false, 4445: false})
	a.kill()
	same("killed")
	a.run(t)
	a.until(t, "verified", verified)
	same("restarted")

	// Not while the agent runs: it would put the rules back.
	ours := tables(t, inj.NS, true)
	if out, err := ripstopd(inj.NS, "--cleanup"); err == nil || !strings.Contains(out, "running") {
		t.Errorf("ripstopd --cleanup beside a running agent: %v: %s; want it refused", err, out)
	}
	if got := tables(t, inj.NS, true); got != ours {
		t.Errorf("ripstopd --cleanup beside a running agent changed the table:\n%s", got)
	}
	a.stop()
	same("stopped")
	if d := cmp.Diff(stripHandles(ours), stripHandles(tables(t, inj.NS, true))); d != "" {
		t.Errorf("stopping the agent changed its table, before -, after +:\n%s", d)
	}
	out, err := ripstopd(inj.NS, "--cleanup")
	if err != nil {
		t.Fatalf("ripstopd --cleanup: %v: %s", err, out)
	}
	same("cleaned up")
	if got := tables(t, inj.NS, true); got != "" {
		t.Errorf("after ripstopd --cleanup there is\n%s", got)
	}
	if out, err := ripstopd(inj.NS, "--cleanup"); err != nil {
		t.Errorf("ripstopd --cleanup with nothing to remove: %v: %s", err, out)
	}
}

// ripstopd runs the agent's program to its end.
func ripstopd(ns *netnstest.NS, args ...string) (string, error) {
	dir, err := binaries()
	if err != nil {
		return "", err
	}
	return ns.Try(filepath.Join(dir, "ripstopd"), args...)
}

// TestNetnsSeveral_DaemonsDoNotDisturbOneAnother: three on one machine, in
// namespaces and directories of their own; one is standalone.
func TestNetnsSeveral_DaemonsDoNotDisturbOneAnother(t *testing.T) {
	srv := startServer(t)
	one, two := netnstest.NewInjector(t, netnstest.InjectorConfig{}), netnstest.NewInjector(t, netnstest.InjectorConfig{})
	three := netnstest.NewInjector(t, netnstest.InjectorConfig{})
	second := `---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: h-of-2, labels: {role: second}}
spec: {node: h2, interfaceName: rstun0, expectedIPs: [10.1.0.1, "fd01::1"]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: second}
spec: {selector: role == 'second', types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [2222]}}]}
`
	rev := srv.put(t, chaosEndpoint+"---\n"+chaosPolicies(0)+allowTCP("early", 1111)+second)
	a1 := startAgent(t, one.NS, srv.etcd())
	a2 := startAgent(t, two.NS, srv.etcd(), "--node", "h2")
	alone := &server{dir: shortDir(t)}
	a3 := &agent{dir: alone.dir, ns: three.NS}
	a3.process = start(t, three.NS, "ripstopd", "--role", "standalone", "--node", "h1",
		"--run-dir", alone.dir+"/run", "--state-dir", alone.dir+"/state", "--metrics-address", "")
	a1.applied(t, rev)
	a2.applied(t, rev)
	a3.until(t, "the standalone agent has a datastore of its own", func(hs *api.HostStatus) bool {
		return verified(hs) && hs.Status.Datastore.Source == "live" && hs.Status.Role == "standalone"
	})
	state := func(when string, all map[*netnstest.Injector]map[uint16]bool) {
		t.Helper()
		for inj, want := range all {
			wantPass(t, inj, when, want)
		}
	}
	open := map[uint16]bool{1111: true, 2222: true, 3333: true}
	state("each by its own policies", map[*netnstest.Injector]map[uint16]bool{
		one: {1111: true, 2222: false, 3333: false}, two: {1111: false, 2222: true, 3333: false}, three: open,
	})
	// A second agent in the same namespace can change nothing, and says so.
	intruder := startAgent(t, one.NS, srv.etcd(), "--node", "h2")
	intruder.until(t, "the second agent in a namespace says that it can do nothing", func(hs *api.HostStatus) bool {
		return condition(hs, "Ready").Status == "False" && hs.Status.Dataplane.Error != ""
	})
	state("an intruder", map[*netnstest.Injector]map[uint16]bool{one: {1111: true, 2222: false, 3333: false}})
	intruder.stop()
	// A second agent in the same directories is refused.
	if out, err := ripstopd(two.NS, "--role", "agent", "--node", "h9", "--etcd-endpoints", srv.etcd(), "--run-dir", a2.dir+"/run", "--state-dir", a2.dir+"/state", "--metrics-address", ""); err == nil {
		t.Errorf("a second agent in the same directories runs: %s", out)
	}

	a2.stop()
	out, err := ripstopd(two.NS, "--cleanup")
	if err != nil {
		t.Fatalf("ripstopd --cleanup: %v: %s", err, out)
	}
	srv.remove(t, gnpKey("early"))
	a1.applied(t, srv.put(t, allowTCP("late", 1112)))
	state("one cleaned up, one changed", map[*netnstest.Injector]map[uint16]bool{
		one: {1111: false, 1112: true, 2222: false}, two: open, three: open,
	})

	// The standalone one obeys its own datastore, and takes its server along.
	pids := a3.children(t)
	if len(pids) != 1 {
		t.Errorf("the standalone agent's children are %v, want one", pids)
	}
	alone.process = a3.process
	alone.store = connect(t, alone.socket())
	a3.applied(t, alone.put(t, chaosEndpoint+"---\n"+chaosPolicies(0)+allowTCP("third", 3333)))
	only3 := map[uint16]bool{1111: false, 2222: false, 3333: true}
	state("the standalone one has policies", map[*netnstest.Injector]map[uint16]bool{three: only3})
	a3.stop()
	for _, pid := range pids {
		if err := unix.Kill(pid, 0); err == nil {
			t.Errorf("ripstop-server (process %d) outlives its agent", pid)
		}
	}
	state("the standalone one has stopped", map[*netnstest.Injector]map[uint16]bool{three: only3})
}

// TestNetnsCheck_ChangesNothing: ripstopd --check prints the plan and leaves
// kernel, disk and datastore as they are.
func TestNetnsCheck_ChangesNothing(t *testing.T) {
	srv, inj := startServer(t), netnstest.NewInjector(t, netnstest.InjectorConfig{})
	load(t, inj.NS, foreignRules)
	srv.put(t, chaosEndpoint+"---\n"+chaosPolicies(0))
	raw := rawEtcd(t, srv.etcd())
	at := func() int64 {
		t.Helper()
		st, err := raw.Status(bounded(t))
		if err != nil {
			t.Fatal(err)
		}
		return st.Revision
	}
	dir := shortDir(t)
	rules, rev := inj.NS.Run("nft", "-a", "list", "ruleset"), at()
	out, err := ripstopd(inj.NS, "--check", "--role", "agent", "--node", here, "--etcd-endpoints", srv.etcd(), "--run-dir", dir+"/run", "--state-dir", dir+"/state")
	if err != nil || !strings.Contains(out, "gnp/main") || !strings.Contains(out, "rstun0") {
		t.Errorf("ripstopd --check: %v: %s; want the plan", err, out)
	}
	if got := inj.NS.Run("nft", "-a", "list", "ruleset"); got != rules {
		t.Errorf("the rules were\n%s\nand are\n%s", rules, got)
	}
	if got := at(); got != rev {
		t.Errorf("the datastore's revision was %d and is %d", rev, got)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("on disk there is now %v (%v)", left, err)
	}
}
