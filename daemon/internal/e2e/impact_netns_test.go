// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// impactBefore lets everybody in to three ports, impactAfter one of them no
// more, and to another only who is not the client.
const (
	impactBefore = `
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: h, labels: {role: victim}}
spec: {node: h1, interfaceName: eth0}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: services}
spec:
  selector: role == 'victim'
  types: [Ingress]
  ingress:
    - {action: Allow, protocol: TCP, destination: {ports: [5432, 8080, 9090]}}
`
	impactAfter = `
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: services}
spec:
  selector: role == 'victim'
  types: [Ingress]
  ingress:
    - {action: Deny, protocol: TCP, source: {nets: [10.1.0.2/32]}, destination: {ports: [8080]}}
    - {action: Allow, protocol: TCP, destination: {ports: [8080, 9090]}}
`
)

// TestNetnsImpact_SaysWhichConnectionsAreCut: those that diff says would be cut
// are those that do not answer any more once the change is made, and no others.
func TestNetnsImpact_SaysWhichConnectionsAreCut(t *testing.T) {
	srv, host, client := startServer(t), netnstest.New(t), netnstest.New(t)
	netnstest.Veth(client, host, "c0", "eth0", []string{"10.1.0.2/24", "fd01::2/64"}, []string{"10.1.0.1/24", "fd01::1/64"})
	a := startAgent(t, host, srv.etcd())
	a.applied(t, srv.put(t, impactBefore))

	conns := map[string]net.Conn{} // by how a line calls them
	want := map[string]bool{}      // cut
	for _, port := range []int{5432, 8080, 9090} {
		listen(t, host, fmt.Sprintf("[::]:%d", port))
		for _, at := range []string{"10.1.0.1", "fd01::1"} {
			for range 2 {
				c, err := dial(client, net.JoinHostPort(at, fmt.Sprint(port)), patience)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				from, to := netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(c.RemoteAddr().String())
				name := fmt.Sprintf("tcp %s -> %s", from, to)
				conns[name], want[name] = c, port == 5432 || port == 8080 && at == "10.1.0.1"
				if err := answers(c, patience); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
			}
		}
	}

	file := t.TempDir() + "/change.yaml"
	if err := os.WriteFile(file, []byte(impactAfter), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"diff", "-f", file}, {"apply", "-f", file, "--dry-run=server"}} {
		cmd := exec.Command(binary(t, "ripstop"), args...)
		cmd.Env = append(os.Environ(), "RIPSTOP_SERVER="+srv.socket(), "RIPSTOP_AGENT=unix://"+a.dir+"/run/agent.sock", "SSH_CONNECTION=")
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !(errors.As(err, &exit) && exit.ExitCode() == 1 && args[0] == "diff") {
			t.Fatalf("ripstop %v: %v: %s", args, err, out)
		}
		line := ""
		for l := range strings.Lines(string(out)) {
			if strings.HasPrefix(l, "would cut: ") {
				line = strings.TrimSpace(l)
			}
		}
		said := strings.Split(strings.TrimPrefix(line, "would cut: 6 connections of this host: "), ", ")
		var expected []string
		for name, cut := range want {
			if cut {
				expected = append(expected, name)
			}
		}
		slices.Sort(said)
		slices.Sort(expected)
		if !slices.Equal(said, expected) {
			t.Errorf("ripstop %v says %q, want that %d connections would be cut: %q\n%s", args, line, len(expected), expected, out)
		}
		for _, sentence := range []string{"loses: all -> tcp 5432 of host h1 eth0, ", "loses: 10.1.0.2 -> tcp 8080 of host h1 eth0, by services (rule 1)"} {
			if !strings.Contains(string(out), sentence) {
				t.Errorf("ripstop %v does not say %q:\n%s", args, sentence, out)
			}
		}
	}
	for name, c := range conns {
		if err := answers(c, patience); err != nil {
			t.Errorf("%s: %v, and nothing was changed yet", name, err)
		}
	}

	a.applied(t, srv.put(t, impactAfter))
	eventually(t, "the connections are cut", func() error {
		hs, err := a.status()
		if err == nil && hs.Status.Flows.CutTotal < 6 {
			err = fmt.Errorf("%d are", hs.Status.Flows.CutTotal)
		}
		return err
	})
	for name, c := range conns {
		if err := answers(c, 2*time.Second); (err != nil) != want[name] {
			t.Errorf("%s: %v after the change, and it was said that it would be cut: %v", name, err, want[name])
		}
	}
}

// answers says whether one byte comes back.
func answers(c net.Conn, timeout time.Duration) error {
	c.SetDeadline(time.Now().Add(timeout))
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}
