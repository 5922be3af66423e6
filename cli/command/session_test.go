// SPDX-License-Identifier: Apache-2.0

package command

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestSession_IsReadAsSshdWritesIt(t *testing.T) {
	for _, c := range []struct{ text, want, iface string }{
		{"192.0.2.9 50000 198.51.100.1 22", "192.0.2.9:50000 198.51.100.1:22", ""},
		{"2001:db8::9 50000 2001:db8::1 22", "[2001:db8::9]:50000 [2001:db8::1]:22", ""},
		{"fe80::9%eth1 50000 fe80::1%eth1 22", "[fe80::9]:50000 [fe80::1]:22", "eth1"},
		{"::ffff:192.0.2.9 50000 198.51.100.1 22", "192.0.2.9:50000 198.51.100.1:22", ""},
		{"", "", ""},
		{"UNKNOWN 65535 UNKNOWN 65535", "", ""},
		{"192.0.2.9 50000 198.51.100.1", "", ""},
		{"192.0.2.9 50000 198.51.100.1 70000", "", ""},
		{"192.0.2.9 50000 2001:db8::1 22", "", ""},
	} {
		s, ok := parseSession(c.text)
		got := ""
		if ok {
			got = s.client.String() + " " + s.server.String()
		}
		if got != c.want || ok && s.iface != c.iface {
			t.Errorf("parseSession(%q): got %q by %q, want %q by %q", c.text, got, s.iface, c.want, c.iface)
		}
	}
}

// As under sudo: the program itself has no SSH_CONNECTION, the one above its
// parent has.
func TestSession_IsFoundAboveSudo(t *testing.T) {
	if os.Getenv("SESSION_BELOW") != "" {
		s, ok := ownSession()
		if ok {
			os.Stdout.WriteString("found " + s.client.String() + "\n")
		}
		return
	}
	// The shell keeps what it was started with and waits for env, which starts
	// this test once more without the variable.
	cmd := exec.Command("sh", "-c", `env -u SSH_CONNECTION sh -c '"$0" -test.run=TestSession_IsFoundAboveSudo; true' "$0"; true`, os.Args[0])
	cmd.Env = append(os.Environ(), "SESSION_BELOW=1", "SSH_CONNECTION=192.0.2.9 50000 198.51.100.1 22")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "found 192.0.2.9:50000\n") {
		t.Errorf("a session two programs above: %v, %q", err, out)
	}
}
