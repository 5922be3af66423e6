// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

var scopeRules = flag.Int("scope-rules", 2, "all policies of up to so many rules of the small alphabet are judged, 1 to 3; below 3, a random share of those of three rules as well")

// scopeShare is how many random policies of three rules are judged where not
// all are.
const scopeShare = 1000

// atOnce is how many policies are in one picture.
const atOnce = 28

// scopeCourts is how many courts judge at once: the kernel makes a court wait
// whenever it takes a change.
const scopeCourts = 4

// alphabet is 84 rules: 3 actions, 7 forms of protocol and ports, 4 forms of
// source.
func alphabet() []api.Rule {
	var out []api.Rule
	tcp, udp := &api.Protocol{Name: "TCP"}, &api.Protocol{Name: "UDP"}
	one := func(lo, hi uint16) []api.Port { return []api.Port{{Min: lo, Max: hi}} }
	for _, action := range []api.Action{api.Allow, api.Deny, api.Pass} {
		for _, form := range []func(*api.Rule){
			func(*api.Rule) {},
			func(r *api.Rule) { r.Protocol = tcp },
			func(r *api.Rule) { r.Protocol = tcp; r.Destination.Ports = one(80, 80) },
			func(r *api.Rule) { r.Protocol = tcp; r.Destination.Ports = one(80, 81) },
			func(r *api.Rule) { r.Protocol = tcp; r.Destination.NotPorts = one(80, 80) },
			func(r *api.Rule) { r.Protocol = udp; r.Destination.Ports = one(80, 80) },
			func(r *api.Rule) { r.NotProtocol = tcp },
		} {
			for _, source := range []func(*api.Rule){
				func(*api.Rule) {},
				func(r *api.Rule) { r.Source.Nets = []string{"10.0.0.0/24"} },
				func(r *api.Rule) { r.Source.Selector = "zone == 'in'" },
				func(r *api.Rule) { r.Source.NotSelector = "zone == 'in'" },
			} {
				r := api.Rule{Action: action}
				form(&r)
				source(&r)
				out = append(out, r)
			}
		}
	}
	return out
}

// scopeProbes are 27 packets: three sources (in net and set, in the set only,
// in neither), three protocols, three ports. They arrive on the interface of
// the nth policy, and none is of a connection with those on another.
func scopeProbes(n int) []probe {
	var out []probe
	for _, src := range []string{"10.0.0.2", "10.1.0.2", "192.168.0.9"} {
		for _, proto := range []uint8{6, 17, 132} {
			for _, port := range []uint16{80, 81, 82} {
				out = append(out, probe{hook: ruleset.HookInput, packet: ruleset.Packet{
					Src: addr(src), Dst: addr("10.0.0.1"), Protocol: proto, SrcPort: uint16(1000 + n*27 + len(out)), DstPort: port,
					In: scopeInterface(n), State: ruleset.CtNew, HopLimit: 64,
				}})
			}
		}
	}
	return out
}

func scopeInterface(n int) string { return "in" + strconv.Itoa(n) }

// scopePolicy is the nth of all policies over an alphabet, the shortest first.
func scopePolicy(alphabet []api.Rule, n int) []api.Rule {
	length, many := 1, len(alphabet)
	for ; n >= many; many *= len(alphabet) {
		n -= many
		length++
	}
	out := make([]api.Rule, length)
	for i := range out {
		out[length-1-i] = alphabet[n%len(alphabet)]
		n /= len(alphabet)
	}
	return out
}

// policiesUpTo is how many policies of up to so many rules there are.
func policiesUpTo(alphabet []api.Rule, length int) (n int) {
	for range length {
		n = (n + 1) * len(alphabet)
	}
	return n
}

func TestExhaustive_EachPolicyIsJudgedOnce(t *testing.T) {
	rules := alphabet()[:3]
	seen := map[string]bool{}
	for n := range policiesUpTo(rules, 3) {
		list := scopePolicy(rules, n)
		if len(list) > 3 || n < policiesUpTo(rules, 2) && len(list) > 2 || n < len(rules) && len(list) > 1 {
			t.Errorf("policy %d has %d rules", n, len(list))
		}
		seen[text(scopePicture(0, list))] = true
	}
	if want := 3 + 3*3 + 3*3*3; len(seen) != want {
		t.Errorf("%d different policies, want %d", len(seen), want)
	}
	if n := policiesUpTo(alphabet(), 3); n != 599_844 {
		t.Errorf("%d policies over the whole alphabet, want 599844", n)
	}
}

// TestNetnsExhaustive_AllPoliciesOfFewRules: every policy of up to -scope-rules
// rules over the alphabet, and a random share of those of three, judged by
// package policy, by the plan that asks one rule after the other, by the
// compiled plan and by the kernel. A picture has a policy for each of many
// interfaces, so that the kernel is told of all of them at once.
func TestNetnsExhaustive_AllPoliciesOfFewRules(t *testing.T) {
	if *scopeRules < 1 || *scopeRules > 3 {
		t.Fatalf("-scope-rules %d: must be 1 to 3", *scopeRules)
	}
	r, rules := newRand(t), alphabet()
	all, longest := policiesUpTo(rules, *scopeRules), policiesUpTo(rules, 3)
	share := make([]int, min(scopeShare, longest-all))
	for i := range share {
		share[i] = policiesUpTo(rules, 2) + r.IntN(longest-policiesUpTo(rules, 2))
	}
	total := all + len(share)
	names, probes := []string{"eth1"}, [][]probe{}
	for i := range atOnce {
		names, probes = append(names, scopeInterface(i)), append(probes, scopeProbes(i))
	}
	var next, judged, packets atomic.Int64
	sit := func(t *testing.T) {
		c := newCourtOf(t, 1, names...) // input only
		for said := time.Now(); ; {
			first := int(next.Add(atOnce)) - atOnce
			if first >= total {
				return
			}
			var lists [][]api.Rule
			for n := first; n < min(first+atOnce, total); n++ {
				if n < all {
					lists = append(lists, scopePolicy(rules, n))
				} else {
					lists = append(lists, scopePolicy(rules, share[n-all]))
				}
			}
			if !c.agree(lists, probes) {
				next.Store(int64(total))
				return
			}
			judged.Add(int64(len(lists)))
			packets.Add(int64(len(lists) * len(probes[0])))
			if time.Since(said) > time.Minute {
				said = time.Now()
				t.Logf("%d of %d policies, %d packets", judged.Load(), total, packets.Load())
			}
		}
	}
	var courts sync.WaitGroup
	for n := range scopeCourts {
		courts.Go(func() { t.Run(strconv.Itoa(n), sit) })
	}
	courts.Wait()
	switch {
	case t.Failed():
		return
	case judged.Load() != int64(total):
		t.Fatalf("%d of %d policies were judged", judged.Load(), total)
	}
	t.Logf("%d policies (%d are all of up to %d rules), %d packets: policy = plan = compiled plan = kernel",
		judged.Load(), all, *scopeRules, packets.Load())
}

// agree judges the nth policy by the nth probes, and reports the first packet
// about which not all say the same.
func (c *court) agree(lists [][]api.Rule, probes [][]probe) bool {
	c.t.Helper()
	objs := scopePicture(0, lists...)
	linear, compiled := plannedBy(dataplane.NewPlanner, objs), c.load(objs)
	for i, list := range lists {
		alone := scopePicture(i, list) // for the others, it is as if it were alone
		w := worldOf(alone)
		for _, p := range probes[i] {
			want, _ := allowedByPolicy(w, p)
			one, _ := allowedByEval(linear, p)
			eval, _ := allowedByEval(compiled, p)
			if kernel := c.judge(p); want != one || want != eval || want != kernel {
				c.t.Errorf("the policy of %s: policy: allowed=%v, plan one by one: allowed=%v, compiled plan: allowed=%v, kernel: allowed=%v",
					p.packet.In, want, one, eval, kernel)
				c.reportSmallestOf(alone, objs, p)
				return false
			}
		}
	}
	return true
}

// reportSmallestOf reports the policy's own picture if that shows the fault,
// else the one in which it was seen.
func (c *court) reportSmallestOf(alone, all []api.Object, p probe) {
	c.t.Helper()
	oneByOne := func(objs []api.Object) *ruleset.State { return plannedBy(dataplane.NewPlanner, objs) }
	wrong := func(objs []api.Object) bool {
		want, _ := allowedByPolicy(worldOf(objs), p)
		one, _ := allowedByEval(oneByOne(objs), p)
		return want != one
	}
	if wrong(alone) {
		alone = shrink(alone, wrong)
		c.t.Errorf("packet %+v: the plan one by one differs from policy\nsmallest picture:\n%s\nplan:\n%s", p.packet, text(alone), oneByOne(alone))
		return
	}
	want, _ := allowedByPolicy(worldOf(alone), p)
	eval, _ := allowedByEval(c.load(alone), p)
	if kernel := c.judge(p); want == eval && want == kernel {
		c.t.Log("alone in a picture all agree about the policy")
		alone = all
	}
	c.reportSmallest(alone, p)
}

// scopePicture is policies, each of an interface of its own, numbered from
// first.
func scopePicture(first int, lists ...[]api.Rule) []api.Object {
	meta := func(k api.Kind) api.TypeMeta { return api.TypeMeta{Kind: k, APIVersion: api.VersionCalico} }
	tier := &api.Tier{TypeMeta: meta(api.KindTier), Meta: api.Meta{Name: "default"}}
	set := &api.GlobalNetworkSet{TypeMeta: meta(api.KindGlobalNetworkSet), Meta: api.Meta{Name: "in", Labels: map[string]string{"zone": "in"}}}
	set.Spec.Nets = []string{"10.0.0.0/24", "10.1.0.0/16", "fd00::/64"}
	pro := &api.Profile{TypeMeta: meta(api.KindProfile), Meta: api.Meta{Name: "pr"}}
	pro.Spec.Ingress = []api.Rule{{Action: api.Allow, Protocol: &api.Protocol{Name: "UDP"}}}
	objs := []api.Object{tier, set, pro}
	for i, rules := range lists {
		name := scopeInterface(first + i)
		hep := &api.HostEndpoint{TypeMeta: meta(api.KindHostEndpoint), Meta: api.Meta{Name: name, Labels: map[string]string{"at": name}}}
		hep.Spec = api.HostEndpointSpec{Node: here, InterfaceName: name, Profiles: []string{"pr"}}
		pol := &api.GlobalNetworkPolicy{TypeMeta: meta(api.KindGlobalNetworkPolicy), Meta: api.Meta{Name: name}}
		pol.Spec = api.PolicySpec{Selector: "at == '" + name + "'", Ingress: rules}
		objs = append(objs, hep, pol)
	}
	for _, o := range objs {
		o.Default()
	}
	return objs
}
