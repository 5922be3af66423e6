// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client/clienttest"
	"github.com/ripstop/ripstop/daemon/store"
)

// counts are all objects of a population, and all that is found by a label, as
// text.
func (p *population) counts() (out []string) {
	for l := range p.all {
		out = append(out, fmt.Sprint(l.namespace, l.labels))
	}
	for k, values := range p.with {
		for v, objs := range values {
			out = append(out, fmt.Sprint(k, "=", v, " ", len(objs)))
		}
	}
	slices.Sort(out)
	return out
}

func (c *census) counts() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, g := range []*counted{&c.endpoints, &c.sets} {
		out = append(append(out, "--"), g.counts()...)
		for _, ns := range []string{"a", "b"} {
			out = append(append(out, "-- "+ns), g.within(ns).counts()...)
		}
	}
	return out
}

// randomObject is an object of a kind that is counted.
func randomObject(rng *rand.Rand) api.Object {
	labels := map[string]string{}
	for range rng.IntN(3) {
		labels[fmt.Sprint("l", rng.IntN(3))] = fmt.Sprint(rng.IntN(3))
	}
	var profiles []string
	for range rng.IntN(3) {
		profiles = append(profiles, fmt.Sprint("n", rng.IntN(4)))
	}
	kind := censusKinds[rng.IntN(len(censusKinds))]
	d, _ := api.DescriptorOf(kind)
	o := d.New()
	m := o.Metadata()
	m.Name = fmt.Sprint("n", rng.IntN(4))
	if d.Namespaced {
		m.Namespace = string("ab"[rng.IntN(2)])
	}
	switch o := o.(type) {
	case *api.Profile:
		o.Spec.LabelsToApply = labels
		return o
	case *api.HostEndpoint:
		o.Spec.Profiles = profiles
	case *api.WorkloadEndpoint:
		o.Spec.Profiles = profiles
		o.Spec.Node, o.Spec.Orchestrator, o.Spec.Workload, o.Spec.Endpoint = "h", "o", "w", m.Name
		m.Name = "h-o-w-" + m.Name
	}
	m.Labels = labels
	return o
}

// TestCensus_FollowedIsAsCounted: after any changes it is what it would be if
// everything were counted anew.
func TestCensus_FollowedIsAsCounted(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	m := clienttest.NewStore(t, 0)
	follow := func() *census {
		c := newCensus(m)
		ctx, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); c.run(ctx) }()
		t.Cleanup(func() { stop(); <-done })
		if !c.catchUp(ctx) {
			t.Fatal("the census knows nothing")
		}
		return c
	}
	followed := follow()
	for step := range 40 {
		for range 10 {
			o := randomObject(rng)
			if rng.IntN(3) == 0 {
				if err := m.Delete(ctx, o.Key(), store.Always()); err != nil && step == 0 {
					continue // it was never there
				}
				continue
			}
			if _, err := m.Put(ctx, o, store.Always()); err != nil {
				t.Fatal(err)
			}
		}
		// The last write of each kind tells that all before it are known.
		for _, kind := range censusKinds {
			var o api.Object
			for o = randomObject(rng); o.Key().Kind != kind; o = randomObject(rng) {
			}
			rev, err := m.Put(ctx, o, store.Always())
			if err != nil {
				t.Fatal(err)
			}
			followed.wrote(kind, rev)
		}
		if !followed.catchUp(ctx) {
			t.Fatalf("step %d: the census does not follow", step)
		}
		if d := cmp.Diff(follow().counts(), followed.counts()); d != "" {
			t.Fatalf("step %d: -counted anew +followed\n%s", step, d)
		}
	}
}

// TestPopulation_MatchesAsEachObjectDoes: the labels lead to the same answer
// as asking everybody.
func TestPopulation_MatchesAsEachObjectDoes(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	condition := func() string {
		l, v := fmt.Sprint("l", rng.IntN(4)), fmt.Sprint(rng.IntN(4))
		return []string{
			l + " == '" + v + "'", l + " != '" + v + "'", "has(" + l + ")", "!has(" + l + ")",
			l + " in {'" + v + "', '9'}", l + " not in {'" + v + "'}", "all()", "!all()", l + " in {}",
		}[rng.IntN(9)]
	}
	yes := 0
	for range 3000 {
		var p population
		var alive []*labelled
		for range rng.IntN(8) {
			l := &labelled{labels: map[string]string{}}
			for range rng.IntN(4) {
				l.labels[fmt.Sprint("l", rng.IntN(4))] = fmt.Sprint(rng.IntN(4))
			}
			if p.add(l); rng.IntN(4) == 0 {
				p.remove(l)
				continue
			}
			alive = append(alive, l)
		}
		text := condition() + []string{" && ", " || "}[rng.IntN(2)] + condition()
		if mismatch(text, "", new(int), &p) != "" && len(alive) > 0 && !strings.Contains(text, "==") && !strings.Contains(text, "in") &&
			!strings.Contains(text, "has") && !strings.Contains(text, "!all()") {
			t.Errorf("%s with no tries left: a mismatch is told, want silence", text)
		}
		tries := 1000
		said := mismatch(text, "", &tries, &p)
		want := true
		for _, l := range alive {
			one := population{}
			one.add(l)
			n := 1
			want = want && mismatch(text, "", &n, &one) != ""
		}
		if said != "" != want {
			t.Fatalf("%s among %v: %q, want a mismatch: %t", text, p.counts(), said, want)
		}
		if !want {
			yes++
		}
	}
	if yes < 300 || yes > 2700 {
		t.Errorf("%d of 3000 match: the cases are too much alike", yes)
	}
}
