// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/internal/snapshot"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/store"
)

// valve stands between an agent and its datastore: a unix socket that forwards
// to another one until it is closed.
type valve struct {
	t      testing.TB
	dir    string
	to     string
	accept sync.WaitGroup

	mu       sync.Mutex // guards all below
	listener net.Listener
	conns    map[net.Conn]bool
	pumps    sync.WaitGroup
}

// newValve gives an open valve to a unix socket, named by its URL.
func newValve(t testing.TB, to string) *valve {
	t.Helper()
	v := &valve{t: t, dir: shortDir(t), to: strings.TrimPrefix(to, "unix://"), conns: map[net.Conn]bool{}}
	v.open()
	t.Cleanup(v.shut)
	return v
}

func (v *valve) url() string { return "unix://" + v.dir + "/valve.sock" }

// open lets connections through.
func (v *valve) open() {
	v.t.Helper()
	l, err := net.Listen("unix", v.dir+"/valve.sock")
	if err != nil {
		v.t.Fatal(err)
	}
	v.mu.Lock()
	v.listener = l
	v.mu.Unlock()
	v.accept.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			v.join(c)
		}
	})
}

func (v *valve) join(c net.Conn) {
	d, err := net.Dial("unix", v.to)
	if err != nil {
		c.Close()
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.listener == nil {
		c.Close()
		d.Close()
		return
	}
	v.conns[c], v.conns[d] = true, true
	pump := func(from, to net.Conn) {
		io.Copy(to, from)
		from.Close()
		to.Close()
	}
	v.pumps.Go(func() { pump(c, d) })
	v.pumps.Go(func() { pump(d, c) })
}

// shut cuts all connections and refuses new ones. Shutting twice is nothing.
func (v *valve) shut() {
	v.mu.Lock()
	l := v.listener
	v.listener = nil
	for c := range v.conns {
		c.Close()
	}
	clear(v.conns)
	v.mu.Unlock()
	if l != nil {
		l.Close()
	}
	v.accept.Wait()
	v.pumps.Wait()
}

// rawEtcd is the datastore itself, past the REST API.
func rawEtcd(t testing.TB, url string) *etcd.Store {
	t.Helper()
	s, err := etcd.Open(etcd.Config{Endpoints: []string{url}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// bounded is a context for one call.
func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience/2)
	t.Cleanup(cancel)
	return ctx
}

// remove deletes objects and returns the store's revision after it.
func (s *server) remove(t testing.TB, keys ...api.Key) api.Revision {
	t.Helper()
	for _, k := range keys {
		if err := s.store.Delete(bounded(t), k, store.Always()); err != nil {
			t.Fatalf("deleting %s: %v", k, err)
		}
	}
	return s.revision(t)
}

// revision is the store's newest one.
func (s *server) revision(t testing.TB) api.Revision {
	t.Helper()
	_, rev, err := s.store.List(bounded(t), api.KindTier, store.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

// restart runs the server again after its end, with the same directories.
func (s *server) restart(t testing.TB) {
	t.Helper()
	s.run(t)
	s.ready(t)
}

// until waits until the agent's status is as wanted.
func (a *agent) until(t testing.TB, what string, ok func(*api.HostStatus) bool) *api.HostStatus {
	t.Helper()
	var hs *api.HostStatus
	eventually(t, what, func() (err error) {
		if hs, err = a.status(); err != nil {
			return err
		}
		if !ok(hs) {
			return fmt.Errorf("status is %+v", hs.Status)
		}
		return nil
	})
	return hs
}

// verified: the kernel has been read back by this agent process.
func verified(hs *api.HostStatus) bool { return !hs.Status.Dataplane.LastVerified.IsZero() }

// fromSnapshot: the snapshot is enforced, and the datastore is away.
func fromSnapshot(hs *api.HostStatus) bool {
	return verified(hs) && hs.Status.Datastore.Source == "snapshot"
}

// held: the datastore's picture is not applied for this reason.
func held(reason string) func(*api.HostStatus) bool {
	return func(hs *api.HostStatus) bool { return strings.HasPrefix(hs.Status.Datastore.Held, reason+": ") }
}

func condition(hs *api.HostStatus, name string) api.Condition {
	i := slices.IndexFunc(hs.Status.Conditions, func(c api.Condition) bool { return c.Type == name })
	if i < 0 {
		return api.Condition{}
	}
	return hs.Status.Conditions[i]
}

// saved waits until the agent's snapshot holds everything up to a revision.
func (a *agent) saved(t testing.TB, rev api.Revision) {
	t.Helper()
	eventually(t, fmt.Sprintf("the snapshot holds revision %d", rev), func() error {
		l, err := peekSnapshot(a.dir + "/state")
		if err == nil && l.Header.Revision < rev {
			return fmt.Errorf("its revision is %d", l.Header.Revision)
		}
		return err
	})
}

// metric is the value of one metric of the agent, with its labels as written.
func (a *agent) metric(t testing.TB, name string) float64 {
	t.Helper()
	r, err := a.http().Get("http://agent/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	for s := bufio.NewScanner(r.Body); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), name+" "); ok {
			f, err := strconv.ParseFloat(v, 64)
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// cpu is the processor time that a process has used.
func (p *process) cpu(t testing.TB) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * (time.Second / 100) // USER_HZ
}

// lines is the number of lines that a process has logged.
func (p *process) lines() int { return strings.Count(p.log.String(), "\n") }

// children are the ids of the processes that p has started.
func (p *process) children(t testing.TB) []int {
	t.Helper()
	var out []int
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", p.cmd.Process.Pid))
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		for _, s := range strings.Fields(string(b)) {
			pid, _ := strconv.Atoi(s)
			out = append(out, pid)
		}
	}
	return out
}

// gap sends packets, a few at a time, until stop says so.
func (s *streams) gap(stop func() bool) {
	for !stop() && s.admitted+s.cut == 0 {
		s.burst(5)
		time.Sleep(2 * time.Millisecond)
	}
}

// for sends packets for a while.
func (s *streams) last(d time.Duration) {
	end := time.Now().Add(d)
	s.gap(func() bool { return time.Now().After(end) })
}

// passes tells whether a new TCP flow to a port of the injector's host is let
// in, over both IP versions; a difference between the two fails the test.
func passes(t testing.TB, inj *netnstest.Injector, iface string, port uint16) bool {
	t.Helper()
	four, six := passesEach(inj, iface, port)
	if four != six {
		t.Errorf("TCP port %d on %s: IPv4 passes: %v, IPv6 passes: %v", port, iface, four, six)
	}
	return four
}

// passesEach is passes for each family. Iptables takes a change of both in two
// steps.
func passesEach(inj *netnstest.Injector, iface string, port uint16) (four, six bool) {
	inj.FlushConntrack()
	n := map[string]string{"rstun0": "1", "rstun1": "2"}[iface]
	p := netnstest.Packet{Src: addr("10." + n + ".0.9"), Dst: addr("10." + n + ".0.1"), Protocol: netnstest.TCP, SrcPort: 40000, DstPort: port}
	four = inj.In(iface, p)
	p.Src, p.Dst = addr("fd0"+n+"::9"), addr("fd0"+n+"::1")
	return four, inj.In(iface, p)
}

// wantPass checks which of TCP ports pass on rstun0.
func wantPass(t testing.TB, inj *netnstest.Injector, when string, want map[uint16]bool) {
	t.Helper()
	for port, ok := range want {
		if got := passes(t, inj, "rstun0", port); got != ok {
			t.Errorf("%s: TCP port %d passes: %v, want %v", when, port, got, ok)
		}
	}
}

// allowTCP is a policy that lets one TCP port in.
func allowTCP(name string, port int) string {
	return fmt.Sprintf(`---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: %s}
spec:
  order: 10
  selector: role == 'victim'
  types: [Ingress]
  ingress: [{action: Allow, protocol: TCP, destination: {ports: [%d]}}]
`, name, port)
}

func gnpKey(name string) api.Key { return api.Key{Kind: api.KindGlobalNetworkPolicy, Name: name} }

// sets are network sets that fill a store; n of them from number first.
func sets(first, n int) string {
	var b strings.Builder
	for i := first; i < first+n; i++ {
		fmt.Fprintf(&b, "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: set-%d, labels: {peers: \"yes\"}}\nspec: {nets: [192.168.%d.%d/32]}\n", i, i/250%250, i%250)
	}
	return b.String()
}

// api asks the REST API itself.
func (s *server) http() *http.Client {
	return &http.Client{Timeout: patience / 2, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", s.dir+"/run/api.sock")
		},
	}}
}

// peekSnapshot reads the snapshot under an agent's state directory.
func peekSnapshot(state string) (snapshot.Loaded, error) {
	return snapshot.Peek(snapshot.Config{Dir: state + "/agent", Host: here})
}

// connect is a client of the REST API.
func connect(t testing.TB, socket string) store.Store {
	t.Helper()
	c, err := client.New(client.Config{Server: socket})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
