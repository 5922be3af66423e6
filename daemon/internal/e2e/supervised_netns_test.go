// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestNetnsSupervised_SystemdIsTold: ready once policy is in force, alive as
// long as it is, and after SIGHUP the same process begins anew with its new
// configuration, without a packet judged wrongly. A configuration with a
// fault changes nothing.
func TestNetnsSupervised_SystemdIsTold(t *testing.T) {
	g := newGuarded(t, false, allowTCP("early", 7000))
	g.agent.kill()
	dir := shortDir(t)
	systemd, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/notify", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer systemd.Close()
	told := make(chan string, 1000)
	go func() {
		b := make([]byte, 4096)
		for {
			n, err := systemd.Read(b)
			if err != nil {
				close(told)
				return
			}
			told <- string(b[:n])
		}
	}()
	await := func(want string) {
		t.Helper()
		deadline := time.After(30 * time.Second)
		for {
			select {
			case s := <-told:
				if strings.Contains(s, "STOPPING=1") && want != "STOPPING=1" {
					t.Fatalf("systemd was told %q, which makes it end the service, before %q", s, want)
				}
				if strings.Contains(s, want) {
					return
				}
			case <-deadline:
				t.Fatalf("systemd was not told %q within 30 s; the agent's log:\n%s", want, tail(g.agent.log.String(), 3000))
			}
		}
	}
	file := dir + "/ripstopd.yaml"
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("log-level: info\n")
	cmd := exec.Command(binary(t, "ripstopd"), "--config", file, "--role", "agent", "--node", here, "--etcd-endpoints", g.agent.etcd,
		"--run-dir", g.agent.dir+"/run", "--state-dir", g.agent.dir+"/state", "--metrics-address", "")
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+dir+"/notify", fmt.Sprintf("WATCHDOG_USEC=%d", (300*time.Millisecond).Microseconds()))
	g.agent.process = startCommand(t, g.inj.NS, cmd)
	await("READY=1")
	await("WATCHDOG=1")
	wantPass(t, g.inj, "ready", map[uint16]bool{7000: true, 7001: false})

	write("log-level: loud\n")
	hup := func() {
		t.Helper()
		if err := g.agent.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	hup()
	eventually(t, "the fault is logged", func() error {
		if !strings.Contains(g.agent.log.String(), "The configuration cannot be used, the one in force stays") {
			return fmt.Errorf("log: %s", tail(g.agent.log.String(), 500))
		}
		return nil
	})
	await("WATCHDOG=1")

	write("log-format: json\n")
	hup()
	await("RELOADING=1")
	await("READY=1")
	select {
	case <-g.agent.done:
		t.Fatal("the process ended at SIGHUP")
	default:
	}
	if !strings.Contains(g.agent.log.String(), `"level":"INFO"`) {
		t.Error("after the reload lines are not logged as JSON: the new configuration is not in force")
	}
	g.s.last(500 * time.Millisecond)
	g.s.check(t)
	wantPass(t, g.inj, "reloaded", map[uint16]bool{7000: true, 7001: false})
	if err := g.agent.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	await("STOPPING=1")
	<-g.agent.done
}
