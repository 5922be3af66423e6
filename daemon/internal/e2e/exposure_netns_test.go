// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// looked runs ripstop doctor or exposure against an agent and reads the report.
func looked(t testing.TB, a *agent, into any, args ...string) (code int) {
	t.Helper()
	cmd := exec.Command(binary(t, "ripstop"), append(args, "-o", "json")...)
	cmd.Env = append(os.Environ(), "RIPSTOP_AGENT=unix://"+a.dir+"/run/agent.sock")
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("ripstop %v: %v", args, err)
	}
	if err := json.Unmarshal(out, into); err != nil {
		t.Fatalf("ripstop %v: %v: %s", args, err, out)
	}
	return cmd.ProcessState.ExitCode()
}

// exposurePolicy lets everyone reach port 80, the app hosts 6379, and over IPv6
// everyone 3306.
const exposurePolicy = chaosEndpoint + `---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: app, labels: {role: app}}
spec: {node: h2, interfaceName: eth0, expectedIPs: [10.1.0.9, "fd01::9"]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: main}
spec:
  selector: role == 'victim'
  types: [Ingress]
  ingress:
    - {action: Deny, source: {nets: [10.1.0.66/32]}}
    - {action: Allow, protocol: TCP, destination: {ports: [80, 4444]}}
    - {action: Allow, protocol: TCP, source: {selector: role == 'app'}, destination: {ports: [6379]}}
    - {action: Allow, ipVersion: 6, protocol: TCP, destination: {ports: [3306]}}
`

// TestNetnsExposure_SaysWhatPacketsMeet: for each socket, whoever is said to
// reach it does, by a real packet, and nobody else; rules of others included.
func TestNetnsExposure_SaysWhatPacketsMeet(t *testing.T) {
	srv, inj := startServer(t), netnstest.NewInjector(t, netnstest.InjectorConfig{})
	load(t, inj.NS, foreignRules)
	ports := []uint16{22, 80, 3306, 4444, 6379, 7777}
	inj.NS.MustDo(func() error {
		for _, p := range ports {
			l, err := net.Listen("tcp", fmt.Sprintf("[::]:%d", p))
			if err != nil {
				return err
			}
			t.Cleanup(func() { l.Close() })
		}
		return nil
	})
	rev := srv.put(t, exposurePolicy)
	a := startAgent(t, inj.NS, srv.etcd())
	a.applied(t, rev)
	var r api.ExposureReport
	if code := looked(t, a, &r, "exposure"); code != 0 || r.Kind != api.KindExposureReport || r.Host != here {
		t.Fatalf("ripstop exposure: code %d, kind %s of host %s", code, r.Kind, r.Host)
	}
	port, asked := uint16(30000), 0
	for _, number := range ports {
		i := slices.IndexFunc(r.Exposed, func(e api.Exposed) bool { return e.Port == number && e.Protocol == "tcp" })
		if i < 0 {
			t.Errorf("port %d is not in the report", number)
			continue
		}
		e := r.Exposed[i]
		if e.Process == "" || e.PID != os.Getpid() {
			t.Errorf("port %d is said to be of process %q (%d), want this one", number, e.Process, e.PID)
		}
		for _, p := range []struct {
			iface, src, dst string
			app, banned     bool
		}{
			{"rstun0", "10.1.0.200", "10.1.0.1", false, false}, {"rstun0", "10.1.0.9", "10.1.0.1", true, false}, {"rstun0", "10.1.0.66", "10.1.0.1", false, true},
			{"rstun0", "fd01::c8", "fd01::1", false, false}, {"rstun0", "fd01::9", "fd01::1", true, false}, {"rstun1", "10.2.0.9", "10.2.0.1", false, false}, {"rstun1", "fd02::9", "fd02::1", false, false},
		} {
			said := false
			for _, reach := range e.Reach {
				family := 4
				if strings.Contains(p.src, ":") {
					family = 6
				}
				if !slices.Contains(reach.Interfaces, p.iface) || !slices.Contains(reach.Families, family) || reach.Who == "nobody" {
					continue
				}
				if reach.Unless != "" {
					t.Errorf("port %d: %+v is left open", number, reach)
				}
				banned := p.banned && strings.Contains(reach.Who, "10.1.0.66")
				said = said || reach.Everyone && !banned || p.app && strings.HasPrefix(reach.Who, "role == 'app'")
			}
			port++
			asked++
			passes := inj.In(p.iface, netnstest.Packet{Src: addr(p.src), Dst: addr(p.dst), Protocol: netnstest.TCP, SrcPort: port, DstPort: number})
			if passes != said {
				t.Errorf("port %d from %s over %s: passes: %v, and the report says %v: %+v", number, p.src, p.iface, passes, said, e.Reach)
			}
		}
	}
	if d := r.Exposed[0]; d.Port != 3306 || d.Danger != api.DangerCritical || len(d.Notes) != 1 {
		t.Errorf("the first is %+v, want port 3306, open over IPv6", d)
	}
	t.Logf("%d packets", asked)

	// Without the agent, ripstopd says the same of the same rules.
	a.stop()
	out, err := ripstopd(inj.NS, "--exposure", "--role", "agent", "--node", here, "--etcd-endpoints", srv.etcd(), "--run-dir", a.dir+"/run", "--state-dir", a.dir+"/state")
	if err != nil || out != r.Text(true) {
		t.Errorf("ripstopd --exposure: %v:\n%s\nwant\n%s", err, out, r.Text(true))
	}
}

// TestNetnsDoctor_SeesStrangersAndOurselves: beside the rules of everybody,
// with and without the agent.
func TestNetnsDoctor_SeesStrangersAndOurselves(t *testing.T) {
	needs(t, "nft", "iptables-nft", "iptables-legacy", "ipset")
	srv, inj := startServer(t), netnstest.NewInjector(t, netnstest.InjectorConfig{})
	settle(t, inj.NS)
	rev := srv.put(t, chaosEndpoint+"---\n"+chaosPolicies(0))
	a := startAgent(t, inj.NS, srv.etcd())
	a.applied(t, rev)
	var r api.DoctorReport
	code := looked(t, a, &r, "doctor")
	if code != 3 || r.Kind != api.KindDoctorReport || len(r.Unseen) > 0 {
		t.Errorf("ripstop doctor: code %d, kind %s, not seen %q; want 3, a report, and all seen", code, r.Kind, r.Unseen)
	}
	owners := map[string]bool{}
	for _, f := range r.Filters {
		for _, o := range f.Owners {
			owners[o.Name] = true
		}
	}
	for _, want := range []string{"Ripstop", "firewalld", "ufw", "Docker", "Podman", "fail2ban"} {
		if !owners[want] {
			t.Errorf("no table is said to be of %s: %v", want, owners)
		}
	}
	var codes []string
	for _, f := range r.Findings {
		codes = append(codes, f.Code)
	}
	for _, want := range []string{"ForeignDrop", "TwoIptables", "PublishedPorts"} {
		if !slices.Contains(codes, want) {
			t.Errorf("findings %v, want %s among them", codes, want)
		}
	}
	if slices.Contains(codes, "NoRules") || slices.Contains(codes, "AgentStopped") {
		t.Errorf("findings %v beside a running agent", codes)
	}
	if len(r.Sets) != 3 {
		t.Errorf("ipsets %+v, want the three", r.Sets)
	}
	a.stop()
	out, err := ripstopd(inj.NS, "--doctor", "--role", "agent", "--node", here, "--etcd-endpoints", srv.etcd(), "--run-dir", a.dir+"/run", "--state-dir", a.dir+"/state")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(out, "the agent does not run") || !strings.Contains(out, "firewalld") {
		t.Errorf("ripstopd --doctor: %v:\n%s\nwant code 3, and that the agent does not run", err, out)
	}
}

// TestNetnsDoctor_OthersThanRootAreToldWhatIsNotSeen: not less than the truth.
func TestNetnsDoctor_OthersThanRootAreToldWhatIsNotSeen(t *testing.T) {
	needs(t, "setpriv")
	ns := netnstest.New(t)
	load(t, ns, foreignRules)
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	program := dir + "/ripstopd"
	if out, err := exec.Command("cp", binary(t, "ripstopd"), program).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := ns.Try("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", program, "--doctor", "--node", here, "--run-dir", dir+"/run", "--state-dir", dir+"/state")
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 3 || !strings.Contains(out, "tables of nf_tables: the kernel shows them to root only") {
		t.Errorf("ripstopd --doctor as nobody: %v:\n%s\nwant code 3, and that tables are not seen", err, out)
	}
}
