// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/store"
)

var lockouts = flag.Int("lockouts", 20, "from how many hosts a change locks everybody out and has to go back, with kills and reboots at random")

// lockoutTime is how long such a change may wait for its confirmation, and
// lockoutLate how long after that a host must let its operator in again.
const (
	lockoutTime = 10 * time.Second
	lockoutLate = 5 * time.Second
)

// operatorPort is where the operators work: no failsafe guards it.
const operatorPort = 2222

// fleet is hosts of one server.
type fleet struct {
	srv   *server
	hosts []*guarded
	rev   api.Revision
}

func newFleet(t testing.TB, n int) *fleet {
	t.Helper()
	f := &fleet{srv: startServer(t)}
	docs := allowTCP("operators", operatorPort)
	for i := range n {
		docs += fmt.Sprintf(`---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: host%d, labels: {role: victim}}
spec: {node: host%d, interfaceName: "*"}
`, i, i)
	}
	f.rev = f.srv.put(t, docs)
	for i := range n {
		g := &guarded{srv: f.srv, inj: netnstest.NewInjector(t, netnstest.InjectorConfig{}), rev: f.rev}
		g.agent = startAgent(t, g.inj.NS, f.srv.etcd(), "--node", fmt.Sprintf("host%d", i))
		f.hosts = append(f.hosts, g)
	}
	for _, g := range f.hosts {
		g.agent.applied(t, f.rev)
		// A host without a state on disk has nothing to boot with.
		eventually(t, "the state is on disk", func() error {
			_, err := os.Stat(g.agent.dir + "/state/agent/snapshot")
			return err
		})
	}
	return f
}

// post sends JSON to the API and returns what it answers.
func (s *server) post(t testing.TB, path string, in, out any) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", s.dir+"/run/api.sock")
		}}}
	r, err := c.Post("http://localhost"+path, "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode/100 != 2 {
		t.Fatalf("POST %s: %s: %s (%v)", path, r.Status, data, err)
	}
	if out != nil {
		if err := json.Unmarshal(data, out); err != nil {
			t.Fatalf("POST %s: %v: %s", path, err, data)
		}
	}
}

// change makes a change of two policies that locks all operators out: one is
// made, and the one that lets them in is deleted.
func (f *fleet) change(t testing.TB, must ...string) string {
	t.Helper()
	req := api.ChangeRequest{TypeMeta: api.TypeMeta{Kind: api.KindChangeRequest, APIVersion: api.VersionOurs}}
	req.Spec.Timeout, req.Spec.MustReach = api.Duration{Duration: lockoutTime}, must
	req.Spec.Writes = []api.ChangeWrite{
		{Verb: "create", Kind: api.KindGlobalNetworkPolicy, Body: json.RawMessage(
			`{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkPolicy","metadata":{"name":"nobody"},"spec":{"order":1,"selector":"role == 'victim'","types":["Ingress"],"ingress":[{"action":"Deny"}]}}`)},
		{Verb: "delete", Kind: api.KindGlobalNetworkPolicy, Name: "operators"},
	}
	f.srv.post(t, api.ChangeRequestPath, req, &req)
	if req.Status.Change == "" {
		t.Fatalf("no change was made: %+v", req.Status)
	}
	return req.Status.Change
}

// lets reports whether a host lets its operator in, in both families.
func (g *guarded) lets() bool {
	four, six := passesEach(g.inj, "rstun0", operatorPort)
	return four && six
}

// restored waits until the store is as it was before the change.
func (f *fleet) restored(t testing.TB) {
	t.Helper()
	eventually(t, "the store has gone back", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		list, _, err := f.srv.store.List(ctx, api.KindGlobalNetworkPolicy, store.ListOptions{})
		if err != nil {
			return err
		}
		if len(list) != 1 || list[0].Metadata().Name != "operators" {
			return fmt.Errorf("it has %d policies, the first is %v", len(list), list[0].Key())
		}
		return nil
	})
}

// TestNetnsConfirm_WhatLocksOutGoesBackByItself: a change locks everybody out
// of all hosts of a fleet and is not confirmed. Agents and the server with its
// etcd are killed at random moments and started again after a while, hosts are
// started anew without a rule in their kernel. Each host lets its operator in
// again in time, and the store goes back too.
func TestNetnsConfirm_WhatLocksOutGoesBackByItself(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	const size = 5
	f := newFleet(t, size)
	var latest time.Duration
	did := map[string]int{}
	for round := 0; round < (*lockouts+size-1)/size; round++ {
		for i, g := range f.hosts {
			if !g.lets() {
				t.Fatalf("round %d: host %d does not let its operator in at first", round, i)
			}
		}
		began := time.Now()
		f.change(t)
		for i, g := range f.hosts {
			eventually(t, fmt.Sprintf("round %d: host %d locks out", round, i), func() error {
				if g.lets() {
					return fmt.Errorf("it lets its operator in")
				}
				return nil
			})
		}

		// What happens, and when, after the change was made.
		type happening struct {
			at   time.Duration
			what func()
		}
		var plan []happening
		at := func(d time.Duration, what func()) { plan = append(plan, happening{d, what}) }
		some := func(most time.Duration) time.Duration { return time.Duration(r.Int64N(int64(most))) }
		for _, g := range f.hosts {
			when := some(lockoutTime)
			switch r.IntN(3) {
			case 0:
				did["left alone"]++
			case 1:
				did["agent killed"]++
				at(when, g.agent.kill)
				at(when+some(3*time.Second), func() { g.agent.run(t) })
			case 2:
				did["rebooted"]++
				at(when, func() {
					g.agent.kill()
					g.fresh(t)
					g.bootAs(t)
				})
				at(when+some(3*time.Second), func() { g.agent.run(t) })
			}
		}
		serverBack := time.Duration(0)
		if r.IntN(3) > 0 {
			did["server killed"]++
			when := some(lockoutTime)
			serverBack = when + some(12*time.Second)
			at(when, func() {
				for _, pid := range f.srv.children(t) {
					_ = syscall.Kill(pid, syscall.SIGKILL)
				}
				f.srv.kill()
			})
			at(serverBack, func() { f.srv.run(t) })
		}
		slices.SortStableFunc(plan, func(a, b happening) int { return cmp.Compare(a.at, b.at) })
		in := map[int]bool{}
		check := func() {
			for i, g := range f.hosts {
				if !in[i] && g.lets() && time.Since(began) > lockoutTime-time.Second {
					in[i], latest = true, max(latest, time.Since(began)-lockoutTime)
				}
			}
		}
		for len(in) < size && time.Since(began) < lockoutTime+lockoutLate || len(plan) > 0 {
			for len(plan) > 0 && time.Since(began) >= plan[0].at {
				plan[0].what()
				plan = plan[1:]
			}
			check()
			time.Sleep(20 * time.Millisecond)
		}
		for i := range f.hosts {
			if !in[i] {
				hs, err := f.hosts[i].agent.status()
				t.Fatalf("round %d: host %d does not let its operator in %v after the time was over: %+v, %v", round, i, lockoutLate, hs.Status.Changes, err)
			}
		}
		f.restored(t)
		for i, g := range f.hosts {
			g.agent.until(t, fmt.Sprintf("round %d: host %d is at peace with the store", round, i), func(hs *api.HostStatus) bool {
				return len(hs.Status.Changes) == 0 && hs.Status.Datastore.Phase == "InSync" && hs.Status.Datastore.Source == "live"
			})
			if !g.lets() {
				t.Errorf("round %d: host %d locks out again", round, i)
			}
		}
	}
	t.Logf("%d hosts locked out, the last let its operator in again %v after the time was over; %v", (*lockouts+size-1)/size*size, latest.Round(time.Millisecond), did)
}

// bootAs boots a host of a fleet.
func (g *guarded) bootAs(t testing.TB) {
	t.Helper()
	cmd := exec.Command(binary(t, "ripstopd"), append([]string{"--boot", "--role", "agent",
		"--run-dir", g.agent.dir + "/run", "--state-dir", g.agent.dir + "/state"}, g.agent.args...)...)
	var out []byte
	g.inj.NS.MustDo(func() (err error) { out, err = cmd.CombinedOutput(); return err })
	if !strings.Contains(string(out), "In force: ") {
		t.Errorf("ripstopd --boot printed %q", out)
	}
}

// TestNetnsConfirm_ConfirmedStaysAndAProbeGoesBackAtOnce.
func TestNetnsConfirm_ConfirmedStaysAndAProbeGoesBackAtOnce(t *testing.T) {
	f := newFleet(t, 2)
	began := time.Now()
	// Nobody listens there: each host finds that it does not reach it.
	f.change(t, "tcp:127.0.0.1:9")
	f.restored(t)
	if took := time.Since(began); took >= lockoutTime {
		t.Errorf("the store went back after %v, want before the time was over", took)
	}
	for i, g := range f.hosts {
		eventually(t, fmt.Sprintf("host %d lets its operator in", i), func() error {
			if !g.lets() {
				return fmt.Errorf("it does not")
			}
			return nil
		})
	}

	name := f.change(t)
	f.srv.post(t, "/apis/ripstop.io/v1/changes/"+name+"/confirm", struct{}{}, nil)
	for i, g := range f.hosts {
		g.agent.until(t, fmt.Sprintf("host %d knows that it was confirmed", i), func(hs *api.HostStatus) bool { return len(hs.Status.Changes) == 0 })
	}
	began = time.Now()
	for time.Since(began) < lockoutTime+time.Second {
		time.Sleep(200 * time.Millisecond)
		for i, g := range f.hosts {
			if g.lets() {
				t.Fatalf("host %d has gone back from a change that was confirmed", i)
			}
		}
	}
}
