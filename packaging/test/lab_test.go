// SPDX-License-Identifier: Apache-2.0

package test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const provision = root + "/vagrant/provision/"

// provisioned runs a script of vagrant/provision inside, as root, as Vagrant does.
func (m *machine) provisioned(script string, args ...string) string {
	m.t.Helper()
	m.push(provision+script, "/var/tmp/"+script)
	return m.run(append([]string{"/var/tmp/" + script}, args...)...)
}

// addresses of the machines in vagrant/Vagrantfile.
var addresses = map[string][2]string{
	"server": {"10.99.0.20", "fd99::20"}, "web": {"10.99.0.11", "fd99::11"}, "db": {"10.99.0.12", "fd99::12"},
}

// TestLab_IsAsItsPageSays builds the laboratory of vagrant/Vagrantfile from
// booted machines with its scripts, and types what vagrant/README.md says.
func TestLab_IsAsItsPageSays(t *testing.T) {
	page := string(read(t, root+"/vagrant/README.md"))
	vagrantfile := string(read(t, root+"/vagrant/Vagrantfile"))
	dir, dist := t.TempDir(), built(t, "1.0.0")
	get := exec.Command("apt-get", "download", "-q", "etcd-server")
	get.Dir = dir
	if out, err := get.CombinedOutput(); err != nil {
		t.Fatalf("apt-get download etcd-server, which the machines cannot do: %v\n%s", err, out)
	}

	// All is as the Vagrantfile has it, in its order.
	certificates := []string{dir + "/certificates"}
	for _, name := range slices.Sorted(maps.Keys(addresses)) {
		a := addresses[name]
		certificates = append(certificates, fmt.Sprintf("%s=%s,%s", name, a[0], a[1]))
		if want := fmt.Sprintf("%q => [%q, %q]", name, a[0], a[1]); !strings.Contains(vagrantfile, want) {
			t.Errorf("vagrant/Vagrantfile does not have %s", want)
		}
	}
	for range 2 { // the second time they stay
		if out, err := exec.Command(provision+"certificates.sh", certificates...).CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("certificates.sh: %v\n%s", err, out)
		}
	}

	bridge := newBridge(t)
	machines := map[string]*machine{}
	for _, name := range []string{"server", "web", "db"} {
		m := boot(t)
		machines[name] = m
		a := addresses[name]
		m.run("hostnamectl", "set-hostname", name)
		bridge.join(m, name, a[0])
		m.run("mkdir", "/tmp/ripstop")
		for _, file := range []string{"ca.pem", name + ".pem", name + ".key"} {
			m.push(dir+"/certificates/"+file, "/tmp/ripstop/"+file)
		}
		m.provisioned("network.sh", a[:]...)
		debs := []string{"ripstop"}
		if name == "server" {
			debs = []string{"ripstop", "ripstop-server"}
			m.push(files(t, dir, "etcd-server_*.deb")[0], "/var/tmp/etcd.deb")
			m.provisioned("install.sh", "/var/tmp/etcd.deb")
			m.push(root+"/vagrant/host-endpoints.yaml", "/root/host-endpoints.yaml")
			m.provisioned("etcd.sh", "/tmp/ripstop", name, a[0])
		}
		for i, deb := range debs {
			m.push(files(t, dist, deb+"_*.deb")[0], "/tmp/ripstop/"+deb+".deb")
			debs[i] = "/tmp/ripstop/" + deb + ".deb"
		}
		m.provisioned("install.sh", debs...)
		s := addresses["server"]
		m.provisioned("settings.sh", "/tmp/ripstop", name, "https://"+s[0]+":2379", "https://["+s[1]+"]:2379")
	}
	machines["web"].provisioned("serve.sh", "80", "8080")
	machines["db"].provisioned("serve.sh", "5432")
	for _, script := range files(t, provision, "*.sh") {
		if !strings.Contains(vagrantfile, "provision/"+filepath.Base(script)) {
			t.Errorf("vagrant/Vagrantfile does not use %s", script)
		}
	}

	typed, out := 0, ""
	for line := range strings.Lines(page) {
		call := regexp.MustCompile(`^(! )?vagrant ssh (\w+) -c "(.*)"\n$`).FindStringSubmatch(line)
		if call == nil {
			continue
		}
		typed++
		command := strings.ReplaceAll(call[3], "sudo ", "")
		machines[call[2]].eventually(strings.TrimSpace(line), func() error {
			said, err := machines[call[2]].try("exec", "sh", "-c", "cd /root && "+command)
			if out += said; (err != nil) != (call[1] != "") {
				return fmt.Errorf("%v: %s", err, said)
			}
			return nil
		})
	}
	if typed < 10 || !strings.Contains(out, "answer: denied") {
		t.Errorf("%d lines of vagrant/README.md were typed, want 10 at least; they print\n%s", typed, out)
	}
}

// TestLab_VagrantfileIsRuby: it has no fault of syntax. That Vagrant can use it
// no test shows.
func TestLab_VagrantfileIsRuby(t *testing.T) {
	ruby, err := exec.LookPath("ruby")
	if err != nil {
		t.Skip("ruby is not installed")
	}
	if out, err := exec.Command(ruby, "-c", root+"/vagrant/Vagrantfile").CombinedOutput(); err != nil {
		t.Errorf("ruby -c: %v\n%s", err, out)
	}
}

// bridge is a network of several machines, in a namespace of its own.
type bridge struct {
	t    *testing.T
	name string
}

func newBridge(t *testing.T) *bridge {
	t.Helper()
	b := &bridge{t, fmt.Sprintf("rspk%d-lab", os.Getpid())}
	b.ip("netns", "add", b.name)
	t.Cleanup(func() { b.ip("netns", "del", b.name) })
	b.ip("-n", b.name, "link", "add", "br0", "type", "bridge")
	b.ip("-n", b.name, "link", "set", "br0", "up")
	return b
}

func (b *bridge) ip(args ...string) {
	b.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		b.t.Fatalf("ip %q: %v\n%s", args, err, out)
	}
}

// join gives a machine a second interface, eth1, on the bridge; until it
// reboots.
func (b *bridge) join(m *machine, port, address string) {
	b.t.Helper()
	ns := m.lab + "-m"
	b.ip("-n", b.name, "link", "add", port, "type", "veth", "peer", "name", "eth1", "netns", ns)
	b.ip("-n", b.name, "link", "set", port, "master", "br0", "up")
	b.ip("-n", ns, "link", "set", "eth1", "up")
	b.ip("-n", ns, "address", "add", address+"/24", "dev", "eth1")
}
