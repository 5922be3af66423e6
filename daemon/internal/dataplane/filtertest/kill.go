// SPDX-License-Identifier: Apache-2.0

package filtertest

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// churnVariable makes a test binary the process that Kill kills.
const churnVariable = "RIPSTOP_TEST_CHURN"

// Main is TestMain of a back end whose tests call Kill. open makes the back
// end in the process that is killed; variant is what Kill was given.
func Main(m *testing.M, open func(variant string) (Backend, error)) {
	text := os.Getenv(churnVariable)
	if text == "" {
		os.Exit(m.Run())
	}
	if err := churnOn(text, open); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// churnOn adopts the objects, says so, and changes them until it dies.
func churnOn(text string, open func(variant string) (Backend, error)) error {
	var seed uint64
	var variant string
	if _, err := fmt.Sscanf(text, "%d/%s", &seed, &variant); err != nil {
		return err
	}
	be, err := open(variant)
	if err != nil {
		return err
	}
	WantAll(be, DriftState())
	ctx := context.Background()
	if _, err := be.Reconcile(ctx); err != nil {
		return err
	}
	fmt.Println("ready")
	return Churn(ctx, rand.New(rand.NewPCG(seed, 3)), be, func(int) bool { return true })
}

// Kill starts the process that rewrites the objects of a back end (see Main)
// and kills it, again and again, each time within a time: what old and new
// rules deny is never admitted, what both accept never cut. variant is one
// word.
func Kill(t *testing.T, variant string, times int, within time.Duration) {
	t.Helper()
	r := Rand(t)
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
	if testing.Short() {
		times = min(times, 10)
	}
	var tally Tally
	for i := range times {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d/%s", churnVariable, r.Uint64(), variant))
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // with the namespace, also when the test is cut short
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
		end := time.Now().Add(time.Duration(r.Int64N(int64(within))))
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
	t.Logf("%d kills: %v", times, &tally)
	if tally.Admitted+tally.Cut > 0 {
		t.Errorf("%d kills: %v", times, &tally)
	}
}
