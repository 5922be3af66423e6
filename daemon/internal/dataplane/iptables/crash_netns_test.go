// SPDX-License-Identifier: Apache-2.0

package iptables_test

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/filtertest"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

var kills = flag.Int("kills", 100, "how often TestNetnsKill kills the process that changes the rules, for each variant")

const churnSeed = "RIPSTOP_TEST_CHURN_SEED"

// TestMain is also the process that TestNetnsKill kills: it adopts the chains,
// says so, and changes them until it dies.
func TestMain(m *testing.M) {
	if s := os.Getenv(churnSeed); s != "" {
		if err := churn(s); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func churn(seed string) error {
	var n uint64
	var v iptables.Variant
	if _, err := fmt.Sscan(seed, &n, &v); err != nil {
		return err
	}
	f, err := iptables.New(config(v))
	if err != nil {
		return err
	}
	filtertest.WantAll(f, filtertest.DriftState())
	ctx := context.Background()
	if _, err := f.Reconcile(ctx); err != nil {
		return err
	}
	fmt.Println("ready")
	return filtertest.Churn(ctx, rand.New(rand.NewPCG(n, 3)), f, func(int) bool { return true })
}

// TestNetnsKill: the process that rewrites the rules is killed at any moment,
// and started again; what old and new rules deny is never admitted, what both
// accept never cut.
func TestNetnsKill(t *testing.T) {
	eachVariant(t, func(t *testing.T, name string, v iptables.Variant) {
		r := filtertest.Rand(t)
		inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
		n := *kills
		if testing.Short() {
			n = 10
		}
		var tally filtertest.Tally
		for i := range n {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", churnSeed, r.Uint64(), v))
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := inj.NS.Start(cmd); err != nil {
				t.Fatal(err)
			}
			ready := make(chan string, 1)
			go func() {
				line, _ := bufio.NewReader(out).ReadString('\n')
				ready <- line
			}()
			// The first start begins with an open host; every later one must
			// not open it, so packets go all the time.
			var line string
			for line == "" {
				select {
				case line = <-ready:
				default:
					if i > 0 {
						tally.Probe(inj)
					}
				}
			}
			if line != "ready\n" {
				t.Fatalf("process says %q", line)
			}
			end := time.Now().Add(time.Duration(r.Int64N(int64(120 * time.Millisecond))))
			for time.Now().Before(end) {
				tally.Probe(inj)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			for range 50 {
				tally.Probe(inj) // while it dies
			}
			if err := cmd.Wait(); err == nil || cmd.ProcessState.Exited() {
				t.Fatalf("process ended by itself: %v", err)
			}
			tally.Probe(inj)
		}
		t.Logf("%d kills: %v", n, &tally)
		if tally.Admitted+tally.Cut > 0 {
			t.Errorf("%d kills: %v", n, &tally)
		}
	})
}
