// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	bin "encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
)

var (
	upgrades     = flag.Int("upgrades", 6, "how often the agent ends, and is started again, under long TCP flows")
	upgradeFlows = flag.Int("flows", 20, "how many TCP flows outlive the restarts of the agent")
)

// otherVersion builds the agent with another version and returns its path.
func otherVersion(t *testing.T, version string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ripstopd")
	cmd := exec.Command("go", "build", "-ldflags", "-X github.com/ripstop/ripstop/daemon/api.Version="+version, "-o", path, "./daemon/cmd/ripstopd")
	cmd.Dir = top
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building the agent: %v\n%s", err, out)
	}
	return path
}

// talkers are TCP flows that are spoken over without a pause.
type talkers struct {
	stop    chan struct{}
	wg      sync.WaitGroup
	answers atomic.Int64
	slowest atomic.Int64

	mu     sync.Mutex // guards broken
	broken []error
}

// talk begins flows to a port of the pair's host, in both families.
func talk(t *testing.T, p pair, port string, flows int) *talkers {
	t.Helper()
	k := &talkers{stop: make(chan struct{})}
	for i := range flows {
		address := []string{"10.9.0.1:", "[fd09::1]:"}[i%2] + port
		c, err := dial(p.peer, address, 5*time.Second)
		if err != nil {
			t.Fatalf("flow %d: %v", i, err)
		}
		k.wg.Go(func() {
			defer c.Close()
			b := make([]byte, 512)
			for n := uint64(0); ; n++ {
				select {
				case <-k.stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				began := time.Now()
				c.SetDeadline(began.Add(20 * time.Second))
				bin.BigEndian.PutUint64(b, n)
				_, err := c.Write(b)
				if err == nil {
					_, err = io.ReadFull(c, b)
				}
				if got := bin.BigEndian.Uint64(b); err == nil && got != n {
					err = fmt.Errorf("%d came back", got)
				}
				if err != nil {
					k.mu.Lock()
					k.broken = append(k.broken, fmt.Errorf("flow %d to %s, round %d: %w", i, address, n, err))
					k.mu.Unlock()
					return
				}
				k.answers.Add(1)
				for d := int64(time.Since(began)); ; {
					s := k.slowest.Load()
					if d <= s || k.slowest.CompareAndSwap(s, d) {
						break
					}
				}
			}
		})
	}
	return k
}

// end ends the flows and reports those that broke before.
func (k *talkers) end(t *testing.T) {
	t.Helper()
	close(k.stop)
	k.wg.Wait()
	for _, err := range k.broken {
		t.Error(err)
	}
}

// TestNetnsUpgrade_FlowsOutliveRestarts: long TCP flows that all pictures allow
// go on while the agent ends in good order or is killed, is replaced by one of
// another version and back, and policies are rewritten. How long they wait is
// told and not judged.
func TestNetnsUpgrade_FlowsOutliveRestarts(t *testing.T) {
	const version = "9.9.9-next"
	paths := []string{binary(t, "ripstopd"), otherVersion(t, version)}
	for _, filter := range []string{"nftables", "iptables"} {
		t.Run(filter, func(t *testing.T) {
			r := newRand(t)
			srv, p := startServer(t), newPair(t)
			listen(t, p.host, ":8000")
			rev := srv.put(t, strings.Replace(strings.Replace(chaosEndpoint, "rstun0", "eth0", 1), `[10.1.0.1, "fd01::1"]`, `[10.9.0.1, "fd09::1"]`, 1)+"---\n"+chaosPolicies(0))
			a := &agent{dir: shortDir(t), ns: p.host}
			begin := func(path string) {
				a.process = startCommand(t, p.host, exec.Command(path, "--role", "agent", "--node", here, "--etcd-endpoints", srv.etcd(),
					"--run-dir", a.dir+"/run", "--state-dir", a.dir+"/state", "--metrics-address", "", "--dataplane", filter))
			}
			begin(paths[0])
			a.applied(t, rev)
			k := talk(t, p, "8000", *upgradeFlows)
			killed, replaced := 0, 0
			for n := range *upgrades {
				srv.put(t, chaosPolicies(n+1))
				time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
				if r.IntN(2) == 0 {
					a.kill()
					killed++
				} else {
					a.stop()
				}
				begin(paths[(n/2)%2])
				replaced += n % 2 * (n / 2 % 2)
				if n%4 == 3 {
					hs := a.until(t, "verified", verified)
					if want := []string{api.Version, version}[(n/2)%2]; hs.Status.Version != want {
						t.Errorf("the agent says it is of version %q, want %q", hs.Status.Version, want)
					}
				}
			}
			a.applied(t, srv.put(t, chaosPolicies(1)))
			k.end(t)
			t.Logf("%d restarts, %d of them kills, %d to another version: %d flows, %d reset, %d answers, the slowest after %v",
				*upgrades, killed, replaced, *upgradeFlows, len(k.broken), k.answers.Load(), time.Duration(k.slowest.Load()).Round(time.Microsecond))
		})
	}
}
