// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/policy"
	"github.com/ripstop/ripstop/daemon/policytest"
)

// tutorial reads the resources of the tutorial, which the package ships as its
// samples.
func tutorial(t *testing.T) (objs []api.Object, tests []*api.PolicyTest) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(top, "docs/tutorial/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("docs/tutorial: %d files, %v", len(files), err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		docs, err := api.DecodeAll(data, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range docs {
			d.Object.Default()
			objs = append(objs, d.Object)
			if x, is := d.Object.(*api.PolicyTest); is {
				tests = append(tests, x)
			}
		}
	}
	return objs, tests
}

// TestPolicyTests_EachPolicyOfTheTutorialHasOneAndNeedsItsOwn: the samples'
// tests pass, and without a policy the test of its name does not.
func TestPolicyTests_EachPolicyOfTheTutorialHasOneAndNeedsItsOwn(t *testing.T) {
	failed := func(without string) map[string]int {
		objs, tests := tutorial(t)
		var kept []api.Object
		for _, o := range objs {
			if o.Key() != (api.Key{Kind: api.KindGlobalNetworkPolicy, Name: without}) {
				kept = append(kept, o)
			}
		}
		n := map[string]int{}
		for _, r := range policytest.Run(tests, policy.NewWorld(kept, policy.Options{}), 1000) {
			if !r.Passed {
				n[r.Test]++
				if without == "" {
					t.Error(r)
				}
			}
		}
		return n
	}
	failed("")
	objs, _ := tutorial(t)
	policies := 0
	for _, o := range objs {
		if p, is := o.(*api.GlobalNetworkPolicy); is {
			policies++
			if failed(p.Name)[p.Name] == 0 {
				t.Errorf("without policy %s its test passes", p.Name)
			}
		}
	}
	if policies == 0 {
		t.Error("the tutorial has no policies")
	}
}

// TestNetnsPolicyTests_SayWhatPacketsDo sends each flow that the tutorial's
// policy tests are judged by, in its laboratory, and looks whether it becomes of
// it what the judge says.
func TestNetnsPolicyTests_SayWhatPacketsDo(t *testing.T) {
	netnstest.New(t) // skips where no namespace can be made
	dir := clone(t)
	lab, prefix := filepath.Join(dir, "lab"), "rsp"+filepath.Base(dir)[2:]
	env := []string{"LAB=" + lab, "LAB_PREFIX=" + prefix, "RIPSTOP_SERVER=unix://" + lab + "/server/api.sock"}
	t.Cleanup(func() {
		bash(t, nil, dir, "vagrant/lab.sh down", env...)
		leftNothing(t, lab, prefix)
	})
	out := bash(t, nil, dir, "vagrant/lab.sh up && bin/ripstop apply -f docs/tutorial/ && bin/ripstop test --live", env...)
	if !strings.Contains(out, " 0 failed") {
		t.Fatalf("ripstop test --live:\n%s", out)
	}
	homes := map[netip.Addr]string{}
	for host, addrs := range map[string][]string{"web": {"10.99.0.11", "fd99::11"}, "db": {"10.99.0.12", "fd99::12"}, "client": {"10.99.0.20", "fd99::20"}} {
		for _, a := range addrs {
			homes[netip.MustParseAddr(a)] = host
		}
	}
	objs, tests := tutorial(t)
	w := policy.NewWorld(objs, policy.Options{})
	sent := 0
	for _, test := range tests {
		for i := range test.Spec.Cases {
			for _, f := range flowsOf(t, &test.Spec.Cases[i], w) {
				if homes[f.Source] == "" { // somebody whom no resource knows
					homes[f.Source] = "client"
					bash(t, nil, dir, fmt.Sprintf("ip -n %s-client addr add %s/%d dev eth0 %s", prefix, f.Source, f.Source.BitLen(),
						map[bool]string{true: "", false: "nodad"}[f.Source.Is4()]))
				}
				passes := test.Spec.Cases[i].Expect == api.Allow
				eventually(t, fmt.Sprintf("%s: case %q: %s: passes %v", test.Name, test.Spec.Cases[i].Name, f, passes), func() error {
					if got := gets(prefix+"-"+homes[f.Source], f); got != passes {
						return fmt.Errorf("passes %v", got)
					}
					return nil
				})
				sent++
			}
		}
	}
	if sent < 20 {
		t.Errorf("%d flows were sent, want all of the tutorial's", sent)
	}
	t.Logf("%d flows were sent", sent)
}

// flowsOf are the flows that a case is judged by, as their source sends them.
func flowsOf(t *testing.T, c *api.PolicyTestCase, w *policy.World) []policy.Flow {
	t.Helper()
	questions, err := policytest.Questions(c, w)
	if err != nil {
		t.Fatal(err)
	}
	var flows []policy.Flow
	for q := range questions {
		answer, err := w.Explain(q, policy.Known{})
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range answer.Cases {
			flows = append(flows, x.Hops[0].Flow)
		}
	}
	return flows
}

// gets sends a flow's first packet from a namespace, and tells whether it is
// answered. Whatever is asked for in the laboratory listens.
func gets(ns string, f policy.Flow) bool {
	args := []string{"netns", "exec", ns, "nc", "-s", f.Source.String(), "-z", "-w", "1", f.Destination.String(), strconv.Itoa(int(f.DestinationPort))}
	if f.Protocol != 6 {
		args = []string{"netns", "exec", ns, "ping", "-I", f.Source.String(), "-c", "1", "-W", "1", f.Destination.String()}
	}
	return exec.Command("ip", args...).Run() == nil
}
