// SPDX-License-Identifier: Apache-2.0

package test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var cycles = flag.Int("cycles", 1, "how often the packages are upgraded and downgraded again")

// policy lets one port of the machine in.
const policy = `
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: m1-host0, labels: {role: web}}
spec: {node: m1, interfaceName: host0}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: web}
spec:
  selector: role == 'web'
  types: [Ingress, Egress]
  ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]
  egress: [{action: Allow}]
`

// install installs both debs of a folder, as the laboratory does.
func (m *machine) install(dir string) string {
	m.t.Helper()
	var debs []string
	for _, f := range files(m.t, dir, "*.deb") {
		m.push(f, "/var/tmp/"+filepath.Base(f))
		debs = append(debs, "/var/tmp/"+filepath.Base(f))
	}
	return m.provisioned("install.sh", debs...)
}

// kernel is what the machine's kernel has been told of the network, as text.
func (m *machine) kernel() string {
	m.t.Helper()
	rules := m.run("nft", "list", "ruleset")
	routes := m.run("sh", "-c", "ip route show table all; ip -6 route show table all; ip rule; ip neigh show nud permanent")
	sysctls := m.run("sh", "-c", "sysctl -a 2>/dev/null | grep ^net | sort")
	// The link-local routes of IPv6 come when the kernel has looked for doubles.
	routes = regexp.MustCompile(`(?m)^.*(fe80|ff00)::.*\n`).ReplaceAllString(routes, "")
	// What counts by itself, or is made up by the kernel at random.
	moving := regexp.MustCompile(`(?m)^net\.(netfilter\.nf_conntrack_count|ipv[46]\.conf\.[^ ]*stable_secret|ipv4\.tcp_fastopen_key|core\.netdev_rss_key).*\n`)
	return rules + routes + moving.ReplaceAllString(sysctls, "")
}

// TestDeb_LifeOnAMachine: installed, it filters nothing; the first policy is
// the user's act; upgrade and downgrade go on under traffic without a packet
// judged wrongly; after a reboot policy is in force before the network is; an
// edited configuration stays; removed and purged, nothing is left.
func TestDeb_LifeOnAMachine(t *testing.T) {
	first, next := built(t, "1.0.0"), built(t, "1.1.0")
	m := boot(t)
	m.listen(22, 80, 81)
	before := m.kernel()

	m.install(first)
	m.settled()
	m.want("installed", map[int]bool{22: true, 80: true, 81: true})
	for _, unit := range []string{"ripstopd.service", "ripstop-server.service", "ripstop-boot.service"} {
		if state := strings.TrimSpace(m.run("systemctl", "is-enabled", unit)); state != "enabled" {
			t.Errorf("%s is %s, want enabled", unit, state)
		}
	}
	wantModes(m)
	logExposure(m)

	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o644); err != nil {
		t.Fatal(err)
	}
	m.push(file, "/root/policy.yaml")
	m.run("ripstop", "apply", "-f", "/root/policy.yaml")
	m.settled()
	protected := map[int]bool{22: true, 80: true, 81: false}
	m.want("policy applied", protected)
	wantWitness(t, m)

	m.run("sh", "-c", "echo 'log-level: debug' >> /etc/ripstop/ripstopd.yaml; systemctl reload ripstopd")
	m.settled()
	for n := range 2 * *cycles {
		c := []struct{ what, dir, version string }{{"upgrade", next, "1.1.0"}, {"downgrade", first, "1.0.0"}}[n%2]
		end := m.watch(80, 81)
		m.install(c.dir)
		m.settled()
		end(c.what)
		if got := m.run("ripstop", "status"); !strings.Contains(got, "ripstop "+c.version) {
			t.Errorf("after the %s the agent is not %s:\n%s", c.what, c.version, got)
		}
		m.want(c.what, protected)
	}
	if got := m.run("cat", "/etc/ripstop/ripstopd.yaml"); !strings.HasSuffix(got, "log-level: debug\n") {
		t.Errorf("the edited configuration was not kept:\n%s", got)
	}

	m.run("systemctl", "disable", "ripstop-server") // the datastore stays away
	m.reboot("")
	m.listen(22, 80, 81)
	m.want("rebooted without a datastore", protected)
	log := m.run("journalctl", "--no-pager", "-b", "-o", "cat")
	force, network := strings.Index(log, "In force: the state of revision"), strings.Index(log, "Reached target network-pre.target")
	if force < 0 || network < 0 || force > network {
		t.Errorf("policy was not in force before network-pre.target was reached (at %d, %d) in:\n%s", force, network, log)
	}

	m.run("systemctl", "enable", "ripstop-server")
	m.reboot("ripstop.off=1")
	m.listen(22, 80, 81)
	m.want("switched off on the kernel command line", map[int]bool{22: true, 80: true, 81: true})
	m.reboot("")
	m.settled()

	out := m.run("dpkg", "--purge", "ripstop", "ripstop-server")
	if !strings.Contains(out, "no longer filtered by Ripstop") {
		t.Errorf("removal opens the host and does not say so:\n%s", out)
	}
	if diff := cmp.Diff(before, m.kernel()); diff != "" {
		t.Errorf("the kernel before (-) and after (+) the packages:\n%s", diff)
	}
	left := m.run("sh", "-c", `find / -xdev -name '*ripstop*' -not -path '/proc/*' -not -path '/var/tmp/*' -not -path '/root/*' -not -path '/var/log/journal/*' -not -path '/var/lib/dpkg/*' -not -path '/var/cache/*'; dpkg -l | grep ripstop || true`)
	if left != "" {
		t.Errorf("left after purge:\n%s", left)
	}
}

// wantModes checks who may read and enter what.
func wantModes(m *machine) {
	m.t.Helper()
	got := strings.Fields(m.run("sh", "-c", `cd / && stat -c '%a:%U:%G:%n' etc/ripstop/ripstopd.yaml etc/ripstop/ripstop-server.yaml var/lib/ripstop var/lib/ripstop/agent var/lib/ripstop/etcd run/ripstop run/ripstop/agent.sock run/ripstop/api.sock run/ripstop/etcd.sock usr/sbin/ripstopd`))
	want := []string{
		"640:root:root:etc/ripstop/ripstopd.yaml", "640:root:root:etc/ripstop/ripstop-server.yaml",
		"700:root:ripstop:var/lib/ripstop", "700:root:ripstop:var/lib/ripstop/agent", "700:root:ripstop:var/lib/ripstop/etcd",
		"750:root:ripstop:run/ripstop", "660:root:ripstop:run/ripstop/agent.sock", "660:root:ripstop:run/ripstop/api.sock",
		"600:root:ripstop:run/ripstop/etcd.sock", "755:root:root:usr/sbin/ripstopd",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		m.t.Errorf("modes and owners (-want +got):\n%s", diff)
	}
	// Nothing of ours listens on an address that others can reach.
	listening := m.run("sh", "-c", "ss -Hltunp | grep -i ripstop || true")
	for line := range strings.Lines(listening) {
		if f := strings.Fields(line); len(f) < 5 || !strings.HasPrefix(f[4], "127.0.0.1:") && !strings.HasPrefix(f[4], "[::1]:") {
			m.t.Errorf("listens for others: %s", line)
		}
	}
}

// logExposure reports what systemd thinks of the units' sandboxes.
func logExposure(m *machine) {
	m.t.Helper()
	var scores []string
	for _, unit := range []string{"ripstopd", "ripstop-server", "ripstop-boot"} {
		out := m.run("systemd-analyze", "security", "--no-pager", unit+".service")
		for line := range strings.Lines(out) {
			if strings.Contains(line, "Overall exposure level") {
				scores = append(scores, strings.TrimSpace(line))
			}
		}
	}
	if len(scores) != 3 || slices.ContainsFunc(scores, func(s string) bool { return strings.Contains(s, "UNSAFE") || strings.Contains(s, "EXPOSED") }) {
		m.t.Errorf("exposure of the units: %s", fmt.Sprint(scores))
	}
	m.t.Log(strings.Join(scores, "\n"))
}
