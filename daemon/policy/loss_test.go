// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
)

func TestLosses_AreWhatPassedAndIsDenied(t *testing.T) {
	const (
		office = "selector: role == 'a', types: [Ingress], ingress: [{action: Allow, protocol: TCP, source: {nets: [10.0.0.0/24]}}, {action: Allow, protocol: TCP, source: {nets: ['fd00::/64']}}]"
		narrow = "selector: role == 'a', types: [Ingress], ingress: [{action: Allow, protocol: TCP, source: {nets: [10.0.0.7/32]}}, {action: Allow, protocol: TCP, source: {nets: ['fd00::7/128']}}]"
	)
	base := defaultTier + hep("a", "role: a", "interfaceName: eth0")
	before, after := world(t, base+gnp("p", office)), world(t, base+gnp("p", narrow))
	flows := []Flow{
		flow(t, "in eth0 tcp 10.0.0.7:4000 10.0.0.1:80", nil),             // stays
		flow(t, "in eth0 tcp 10.0.0.8:4000 10.0.0.1:80 established", nil), // lost, though established
		flow(t, "in eth0 tcp 10.1.0.8:4000 10.0.0.1:80", nil),             // was denied before
		flow(t, "in eth0 tcp [fd00::8]:4000 [fd00::1]:80", nil),           // lost
		flow(t, "in eth1 tcp 10.0.0.8:4000 10.0.0.1:80", nil),             // nothing governs
	}
	var got []string
	for _, l := range Losses(before, after, flows) {
		got = append(got, fmt.Sprint(l.Flow.Source, " ", l.Decision.Reason, " ", l.Decision.Tier))
	}
	if want := "[10.0.0.8 EndOfTier default fd00::8 EndOfTier default]"; fmt.Sprint(got) != want {
		t.Errorf("Losses: got %v, want %s", got, want)
	}
	if got := Losses(after, before, flows); got != nil {
		t.Errorf("Losses of what only opens: %v", got)
	}
}

// Of random changes, what is lost is what Evaluate tells apart, flow by flow.
func TestLosses_OfRandomChangesAreExact(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	var flows []Flow
	for s := range 4 {
		for port := range 4 {
			flows = append(flows,
				flow(t, fmt.Sprintf("in eth0 tcp 10.0.0.%d:4000 10.0.1.1:%d", s+1, port+1), nil),
				flow(t, fmt.Sprintf("in eth0 tcp [fd00::%d]:4000 [fd00:1::1]:%d", s+1, port+1), nil))
		}
	}
	picture := func() *World {
		docs := defaultTier + hep("a", "role: a", "interfaceName: eth0")
		for i := range r.IntN(4) {
			net := fmt.Sprintf("10.0.0.%d/32", r.IntN(4)+1)
			if r.IntN(2) == 0 {
				net = fmt.Sprintf("'fd00::%d/128'", r.IntN(4)+1)
			}
			docs += gnp(fmt.Sprint("p", i), fmt.Sprintf("order: %d, selector: all(), types: [Ingress], ingress: [{action: %s, protocol: TCP, source: {nets: [%s]}, destination: {ports: ['1:%d']}}]",
				i, []api.Action{api.Allow, api.Deny}[r.IntN(2)], net, r.IntN(4)+1))
		}
		return world(t, docs)
	}
	lost := 0
	for range 100 {
		before, after := picture(), picture()
		at := map[string]bool{}
		for _, l := range Losses(before, after, flows) {
			at[l.Flow.String()] = true
			lost++
		}
		for _, f := range flows {
			want := before.Evaluate(f).Verdict != Deny && after.Evaluate(f).Verdict == Deny
			if at[f.String()] != want {
				t.Fatalf("seed %d: %s: lost %v, want %v", seed, f, at[f.String()], want)
			}
		}
	}
	if lost == 0 {
		t.Errorf("seed %d: no change takes anything: nothing was tested", seed)
	}
}
