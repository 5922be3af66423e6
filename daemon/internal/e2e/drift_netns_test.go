// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

var removals = flag.Int("removals", 5, "how often another program removes a rule of ours from iptables")

// TestNetnsDrift_RuleRemovedFromIPTablesComesBack: the legacy variant tells of
// no changes, and nobody guards its chains. The figures are how long the rule
// was away and what the agent uses while nothing happens; -removals for more.
func TestNetnsDrift_RuleRemovedFromIPTablesComesBack(t *testing.T) {
	srv := startServer(t)
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{Interfaces: trafficInterfaces})
	inj.NS.Run("sh", "-c", publishedBy("legacy"))
	srv.put(t, trafficEndpoints)
	rev := srv.put(t, chaosPolicies(0)+trafficPolicies(0))
	a := startAgent(t, inj.NS, srv.etcd(), "--dataplane", "iptables")
	a.applied(t, rev)
	var took []time.Duration
	for range *removals {
		time.Sleep(1200 * time.Millisecond) // so that it is no fight, which is repaired more slowly
		inj.NS.Run("iptables-legacy", "-w", "-F", "rs-INPUT")
		began := time.Now()
		eventually(t, "the rule is back", func() error {
			_, err := inj.NS.Try("sh", "-c", "iptables-legacy -w -S rs-INPUT | grep -q -- -A")
			return err
		})
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	before := cpuTicks(t, a.cmd.Process.Pid)
	time.Sleep(2 * time.Second)
	used := cpuTicks(t, a.cmd.Process.Pid) - before
	t.Logf("%d removals, back after p50 %v, longest %v; idle it uses %d%% of a processor", len(took), took[len(took)/2], took[len(took)-1], used/2)
}

// cpuTicks is how much processor a process has used, in hundredths of a second.
func cpuTicks(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	sum := 0
	for _, i := range []int{11, 12} { // utime, stime
		n, err := strconv.Atoi(f[i])
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}
