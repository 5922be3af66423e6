// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// live is another program that filters packets, running for real. CI has the
// rules that these programs make (see strangers) and not the programs: their
// packages start and enable services on the machine they are installed on.
type live struct {
	name     string
	programs []string
	// begin starts it and returns when its rules are there.
	begin func(t *testing.T, ns *netnstest.NS, dir string)
	// busy lets it change its rules and change them back.
	busy func(t *testing.T, ns *netnstest.NS, dir string)
}

var lives = []live{
	{"firewalld", []string{"firewalld", "firewall-cmd", "dbus-daemon"}, beginFirewalld, func(t *testing.T, ns *netnstest.NS, dir string) {
		firewallCmd(ns, dir, "--reload")
		firewallCmd(ns, dir, "--add-port=8444/tcp")
		firewallCmd(ns, dir, "--remove-port=8444/tcp")
	}},
	{"ufw", []string{"ufw", "unshare"}, func(t *testing.T, ns *netnstest.NS, dir string) {
		ufw(ns, dir, "ufw allow 22/tcp && ufw deny from 198.51.100.0/24 && ufw --force enable")
	}, func(t *testing.T, ns *netnstest.NS, dir string) {
		ufw(ns, dir, "ufw allow 8444/tcp && ufw delete allow 8444/tcp && ufw reload")
	}},
	{"fail2ban", []string{"fail2ban-server", "fail2ban-client"}, beginFail2ban, func(t *testing.T, ns *netnstest.NS, dir string) {
		for _, jail := range []string{"sshd", "recidive"} {
			fail2ban(ns, dir, "set", jail, "banip", "198.51.100.88")
			fail2ban(ns, dir, "set", jail, "unbanip", "198.51.100.88")
		}
	}},
	{"Docker", []string{"dockerd", "docker", "containerd", "busybox"}, beginDocker, func(t *testing.T, ns *netnstest.NS, dir string) {
		docker(ns, dir, "run", "-d", "--name", "second", "-p", "8082:80", "box", "/bin/busybox", "sleep", "600")
		docker(ns, dir, "rm", "-f", "second")
	}},
	{"Podman", []string{"podman", "runc", "busybox"}, beginPodman, func(t *testing.T, ns *netnstest.NS, dir string) {
		podman(ns, dir, "run", "-d", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--name", "second", "-p", "8082:80", "box", "/bin/busybox", "sleep", "600")
		podman(ns, dir, "rm", "-f", "-t", "0", "second")
	}},
}

// TestNetnsLive_ProgramsAndRipstopLeaveEachOtherAlone: the programs themselves,
// working while Ripstop does; what each has made is as it was, and at the end
// the machine is as it was before Ripstop came.
func TestNetnsLive_ProgramsAndRipstopLeaveEachOtherAlone(t *testing.T) {
	srv := startServer(t)
	rev := srv.put(t, chaosEndpoint+"---\n"+chaosPolicies(0))
	for _, l := range lives {
		t.Run(l.name, func(t *testing.T) {
			for _, p := range append([]string{"iptables-nft", "ipset"}, l.programs...) {
				if _, err := exec.LookPath(p); err != nil {
					t.Skipf("%v: CI uses the rules that were recorded instead", err)
				}
			}
			inj, dir := netnstest.NewInjector(t, netnstest.InjectorConfig{}), shortDir(t)
			l.begin(t, inj.NS, dir)
			l.busy(t, inj.NS, dir) // what it makes once and leaves is there
			before := machine(t, inj.NS)
			a := startAgent(t, inj.NS, srv.etcd())
			a.applied(t, rev)
			sameMachine(t, inj.NS, "started", before, true)
			ours := tables(t, inj.NS, true)
			l.busy(t, inj.NS, dir)
			sameMachine(t, inj.NS, l.name+" has worked", before, true)
			if d := cmp.Diff(ours, tables(t, inj.NS, true)); d != "" {
				t.Errorf("%s has changed our table:\n%s", l.name, d)
			}
			port := uint16(40000)
			if !denied(inj, &port) {
				t.Errorf("beside %s, UDP port 9999 is not denied", l.name)
			}
			for n := range 20 {
				a.applied(t, srv.put(t, chaosPolicies(n)))
			}
			a.kill()
			a.run(t)
			a.until(t, "verified", verified)
			sameMachine(t, inj.NS, "restarted", before, true)
			if hs, err := a.status(); err != nil || hs.Status.DriftTotal > 0 {
				t.Errorf("%d changes of our table are reported (%v)", hs.Status.DriftTotal, err)
			}
			a.stop()
			if out, err := ripstopd(inj.NS, "--cleanup"); err != nil {
				t.Fatalf("ripstopd --cleanup: %v: %s", err, out)
			}
			inj.FlushConntrack()
			sameMachine(t, inj.NS, "cleaned up", before, false)
			rev = srv.put(t, chaosPolicies(0))
		})
	}
}

func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func beginFirewalld(t *testing.T, ns *netnstest.NS, dir string) {
	conf := write(t, dir+"/bus.conf", `<busconfig><type>custom</type><listen>unix:path=`+dir+`/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>`)
	startCommand(t, ns, exec.Command("dbus-daemon", "--config-file="+conf, "--nofork", "--nopidfile"))
	eventually(t, "the bus is there", func() error { _, err := os.Stat(dir + "/bus"); return err })
	write(t, dir+"/conf/firewalld.conf", "DefaultZone=public\nFirewallBackend=nftables\n")
	cmd := exec.Command("firewalld", "--nofork", "--nopid", "--system-config", dir+"/conf", "--log-file", dir+"/log")
	cmd.Env = append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+dir+"/bus")
	startCommand(t, ns, cmd)
	eventually(t, "firewalld runs", func() error {
		out, err := ns.Try("env", "DBUS_SYSTEM_BUS_ADDRESS=unix:path="+dir+"/bus", "firewall-cmd", "--state")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	firewallCmd(ns, dir, "--permanent", "--add-port=8000/udp")
	firewallCmd(ns, dir, "--reload")
}

func firewallCmd(ns *netnstest.NS, dir string, args ...string) {
	ns.Run("env", append([]string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + dir + "/bus", "firewall-cmd"}, args...)...)
}

// ufw runs commands with copies of ufw's files in place of the machine's.
func ufw(ns *netnstest.NS, dir, commands string) {
	ns.Run("unshare", "-m", "bash", "-ec", `
for d in /etc/ufw /etc/default /var/lib/ufw; do
	[ -d $d ] || continue
	mkdir -p `+dir+`$d
	[ -e `+dir+`$d.copied ] || { cp -a $d/. `+dir+`$d/; touch `+dir+`$d.copied; }
	mount --bind `+dir+`$d $d
done
`+commands)
}

func beginFail2ban(t *testing.T, ns *netnstest.NS, dir string) {
	if out, err := exec.Command("cp", "-a", "/etc/fail2ban", dir+"/etc").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	debian, err := filepath.Glob(dir + "/etc/jail.d/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range debian {
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	log := write(t, dir+"/auth.log", "")
	write(t, dir+"/etc/fail2ban.local", "[Definition]\ndbfile = None\nlogtarget = "+dir+"/f2b.log\n")
	write(t, dir+"/etc/jail.local", fmt.Sprintf("[DEFAULT]\nbackend = polling\nlogpath = %s\n[sshd]\nenabled = true\nbanaction = iptables-multiport\nlogpath = %s\n[recidive]\nenabled = true\nbanaction = nftables-allports\nlogpath = %s\n", log, log, log))
	startCommand(t, ns, exec.Command("fail2ban-server", "-c", dir+"/etc", "-s", dir+"/s", "-p", dir+"/p", "-f"))
	eventually(t, "fail2ban runs", func() error {
		out, err := ns.Try("fail2ban-client", "-c", dir+"/etc", "-s", dir+"/s", "ping")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	for _, jail := range []string{"sshd", "recidive"} {
		fail2ban(ns, dir, "set", jail, "banip", "198.51.100.66")
	}
	eventually(t, "fail2ban has banned", func() error {
		if rules := ns.Run("nft", "list", "ruleset"); strings.Count(rules, "198.51.100.66") < 2 {
			return fmt.Errorf("%s", rules)
		}
		return nil
	})
}

func fail2ban(ns *netnstest.NS, dir string, args ...string) {
	ns.Run("fail2ban-client", append([]string{"-c", dir + "/etc", "-s", dir + "/s"}, args...)...)
}

// image is an archive of a root folder with busybox alone.
func image(t *testing.T, dir string) string {
	t.Helper()
	if out, err := exec.Command("bash", "-ec", "mkdir -p "+dir+"/img/bin; cp $(command -v busybox) "+dir+"/img/bin/busybox; tar -C "+dir+"/img -cf "+dir+"/img.tar .").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return dir + "/img.tar"
}

func beginDocker(t *testing.T, ns *netnstest.NS, dir string) {
	conf := write(t, dir+"/daemon.json", "{}")
	startCommand(t, ns, exec.Command("dockerd", "--data-root", dir+"/data", "--exec-root", dir+"/exec", "-H", "unix://"+dir+"/sock", "-p", dir+"/pid", "--config-file", conf))
	eventually(t, "dockerd answers", func() error {
		out, err := ns.Try("docker", "-H", "unix://"+dir+"/sock", "info")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	docker(ns, dir, "import", image(t, dir), "box")
	docker(ns, dir, "run", "-d", "--name", "first", "-p", "8080:80", "-p", "127.0.0.1:5432:5432", "box", "/bin/busybox", "sleep", "600")
	t.Cleanup(func() { docker(ns, dir, "rm", "-f", "first") })
}

func docker(ns *netnstest.NS, dir string, args ...string) {
	ns.Run("docker", append([]string{"-H", "unix://" + dir + "/sock"}, args...)...)
}

func beginPodman(t *testing.T, ns *netnstest.NS, dir string) {
	podman(ns, dir, "import", image(t, dir), "box")
	podman(ns, dir, "run", "-d", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", "--name", "first", "-p", "8080:80", "box", "/bin/busybox", "sleep", "600")
	t.Cleanup(func() { podman(ns, dir, "rm", "-f", "-t", "0", "first") })
}

func podman(ns *netnstest.NS, dir string, args ...string) {
	ns.Run("podman", append([]string{"--root", dir + "/root", "--runroot", dir + "/run", "--tmpdir", dir + "/tmp", "--runtime", "runc",
		"--cgroup-manager", "cgroupfs", "--network-config-dir", dir + "/net"}, args...)...)
}
