// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/store"
)

// built is the folder that binaries has made; empty: none yet.
var built string

// binaries builds the programs once for all tests and returns their folder.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "rsbin")
	if err != nil {
		return "", err
	}
	built = dir
	cmd := exec.Command("go", "build", "-o", dir+"/", "./daemon/cmd/...", "./cli/ripstop")
	cmd.Dir = "../../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

func binary(t testing.TB, name string) string {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatalf("building the programs: %v", err)
	}
	return filepath.Join(dir, name)
}

// process is a program that a test started; it is ended when the test ends.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	log  *logBuffer
	done chan struct{}
	err  error
}

// logBuffer keeps what a program prints, for failures.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.b.Len() > 1<<20 {
		l.b.Reset()
	}
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start starts a program, inside ns if it is not nil.
func start(t testing.TB, ns *netnstest.NS, name string, args ...string) *process {
	t.Helper()
	return startCommand(t, ns, exec.Command(binary(t, name), args...))
}

// startCommand is start for a command that is made already.
func startCommand(t testing.TB, ns *netnstest.NS, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, log: &logBuffer{}, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	// The kernel ends the program with the thread that started it, also when
	// the test is killed: a namespace's thread lives as long as the test, and
	// a thread of our own is kept until the program has ended.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		begin := p.cmd.Start
		if ns != nil {
			begin = func() error { return ns.Start(p.cmd) }
		}
		err := begin()
		started <- err
		if err != nil {
			return
		}
		p.err = p.cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		t.Fatalf("starting %s: %v", cmd, err)
	}
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("%s printed:\n%s", cmd, tail(p.log.String(), 6000))
		}
	})
	return p
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// kill ends the program at once (SIGKILL) and waits for it.
func (p *process) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// patience bounds every wait: nothing takes so long, but a machine with two
// cores, the race detector and other tests beside may take half of it.
const patience = time.Minute

// stop ends the program in good order, or by force.
func (p *process) stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Errorf("%s did not end within %v of SIGTERM", p.cmd.Path, patience)
		p.cmd.Process.Kill()
		<-p.done
	}
}

// eventually waits until check is nil, with patience.
func eventually(t testing.TB, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// shortDir is a directory whose path is short enough for unix sockets.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "rs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// server is a running ripstop-server with its embedded etcd.
type server struct {
	*process
	dir   string
	store store.Store
}

func startServer(t testing.TB) *server {
	t.Helper()
	s := &server{dir: shortDir(t)}
	s.run(t)
	c, err := client.New(client.Config{Server: s.socket()})
	if err != nil {
		t.Fatal(err)
	}
	s.store = c
	s.ready(t)
	return s
}

func (s *server) run(t testing.TB) {
	s.process = start(t, nil, "ripstop-server", "--run-dir", s.dir+"/run", "--state-dir", s.dir+"/state")
}

func (s *server) ready(t testing.TB) {
	t.Helper()
	eventually(t, "ripstop-server answers", func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := s.store.Get(ctx, api.Key{Kind: api.KindTier, Name: "default"})
		return err
	})
}

func (s *server) socket() string { return "unix://" + s.dir + "/run/api.sock" }
func (s *server) etcd() string   { return "unix://" + s.dir + "/run/etcd.sock" }

// put writes documents, whatever is there before.
func (s *server) put(t testing.TB, yaml string) api.Revision {
	t.Helper()
	docs, err := api.DecodeAll([]byte(yaml), "test")
	if err != nil {
		t.Fatal(err)
	}
	var rev api.Revision
	for _, d := range docs {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		rev, err = s.store.Put(ctx, d.Object, store.Always())
		cancel()
		if err != nil {
			t.Fatalf("writing %s: %v", d.Object.Key(), err)
		}
	}
	return rev
}

// agent is a running ripstopd in a namespace.
type agent struct {
	*process
	dir  string
	ns   *netnstest.NS
	etcd string
	args []string
}

func startAgent(t testing.TB, ns *netnstest.NS, etcd string, args ...string) *agent {
	t.Helper()
	a := &agent{dir: shortDir(t), ns: ns, etcd: etcd, args: args}
	a.run(t)
	return a
}

// run starts the agent, again with the same directories.
func (a *agent) run(t testing.TB) {
	t.Helper()
	a.process = start(t, a.ns, "ripstopd", append([]string{"--role", "agent", "--node", here, "--etcd-endpoints", a.etcd,
		"--run-dir", a.dir + "/run", "--state-dir", a.dir + "/state", "--metrics-address", ""}, a.args...)...)
}

// alive fails the test if the agent has ended by itself.
func (a *agent) alive(t testing.TB) {
	t.Helper()
	select {
	case <-a.done:
		t.Fatalf("the agent has ended: %v\n%s", a.err, tail(a.log.String(), 2000))
	default:
	}
}

// status asks the agent's socket.
func (a *agent) status() (*api.HostStatus, error) {
	var hs api.HostStatus
	return &hs, a.get("/status", &hs)
}

func (a *agent) http() *http.Client {
	return &http.Client{Timeout: patience / 2, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", a.dir+"/run/agent.sock")
		},
	}}
}

func (a *agent) get(path string, into any) error {
	r, err := a.http().Get("http://agent" + path)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, r.Status)
	}
	return json.NewDecoder(r.Body).Decode(into)
}

// applied waits until the kernel has what the store had at a revision.
func (a *agent) applied(t testing.TB, rev api.Revision) *api.HostStatus {
	t.Helper()
	var hs *api.HostStatus
	eventually(t, fmt.Sprintf("revision %d is applied", rev), func() error {
		a.alive(t)
		var err error
		if hs, err = a.status(); err != nil {
			return err
		}
		if got := hs.Status.Dataplane.AppliedRevision; got < rev {
			return fmt.Errorf("applied revision is %d", got)
		}
		return nil
	})
	return hs
}

// cli runs the ripstop program against a server and returns what it prints.
func (s *server) cli(t testing.TB, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(binary(t, "ripstop"), args...)
	cmd.Env = append(os.Environ(), "RIPSTOP_SERVER="+s.socket())
	out, err := cmd.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}
