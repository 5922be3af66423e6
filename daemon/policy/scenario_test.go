// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
)

// doc is one YAML document; what is left empty is left out.
func doc(kind, name, labels, spec string) string {
	meta := "name: " + name
	if ns, n, ok := strings.Cut(name, "/"); ok {
		meta = "namespace: " + ns + ", name: " + n
	}
	if labels != "" {
		meta += ", labels: {" + labels + "}"
	}
	return "---\n{apiVersion: projectcalico.org/v3, kind: " + kind + ", metadata: {" + meta + "}, spec: {" + spec + "}}\n"
}

func hep(name, labels, spec string) string {
	return doc("HostEndpoint", name, labels, "node: h, "+spec)
}
func gnp(name, spec string) string     { return doc("GlobalNetworkPolicy", name, "", spec) }
func sgnp(name, spec string) string    { return doc("StagedGlobalNetworkPolicy", name, "", spec) }
func np(name, spec string) string      { return doc("NetworkPolicy", name, "", spec) }
func tierDoc(name, spec string) string { return doc("Tier", name, "", spec) }
func gns(name, labels, nets string) string {
	return doc("GlobalNetworkSet", name, labels, "nets: ["+nets+"]")
}
func ns(name, labels, nets string) string { return doc("NetworkSet", name, labels, "nets: ["+nets+"]") }
func profileDoc(name, spec string) string { return doc("Profile", name, "", spec) }
func felix(name, spec string) string      { return doc("FelixConfiguration", name, "", spec) }
func wep(ns, pod, labels, spec string) string {
	return doc("WorkloadEndpoint", ns+"/h-k8s-"+pod+"-eth0", labels, "node: h, orchestrator: k8s, pod: "+pod+", endpoint: eth0, "+spec)
}

// objects reads documents and defaults them as a store would.
func objects(t testing.TB, docs string) []api.Object {
	t.Helper()
	list, err := api.DecodeAll([]byte(docs), "test")
	if err != nil {
		t.Fatalf("DecodeAll: %v\n%s", err, docs)
	}
	var objs []api.Object
	for _, d := range list {
		d.Object.Default()
		objs = append(objs, d.Object)
	}
	return objs
}

func world(t testing.TB, docs string) *World {
	t.Helper()
	return NewWorld(objects(t, docs), Options{})
}

// flow reads "in eth0 tcp 10.0.0.2:4000 10.0.0.1:80", "out eth0 ...", "fwd
// eth0 eth1 ..." and for ICMP "icmp/8/0" with addresses only. Behind it may
// stand a state, "dialled=10.0.0.1:30000" and "first=eth1" (the interface
// before destination NAT). The host is h; interfaces is what is known of it.
func flow(t testing.TB, text string, interfaces map[string][]netip.Addr) Flow {
	t.Helper()
	w := strings.Fields(text)
	f := Flow{Host: Host{Name: "h", Interfaces: interfaces}}
	switch w[0] {
	case "in":
		f.Direction, f.InInterface, w = Inbound, w[1], w[2:]
	case "out":
		f.Direction, f.OutInterface, w = Outbound, w[1], w[2:]
	case "fwd":
		f.Direction, f.InInterface, f.OutInterface, w = Forwarded, w[1], w[2], w[3:]
	default:
		t.Fatalf("flow %q: no direction", text)
	}
	name, icmp, _ := strings.Cut(w[0], "/")
	numbers := map[string]uint8{"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "sctp": 132, "udplite": 136}
	f.Protocol = numbers[name]
	if f.Protocol == 0 {
		n, err := strconv.ParseUint(name, 10, 8)
		if err != nil {
			t.Fatalf("flow %q: protocol: %v", text, err)
		}
		f.Protocol = uint8(n)
	}
	if hasPorts(f.Protocol) {
		from, to := netip.MustParseAddrPort(w[1]), netip.MustParseAddrPort(w[2])
		f.Source, f.SourcePort = from.Addr(), from.Port()
		f.Destination, f.DestinationPort = to.Addr(), to.Port()
	} else {
		f.Source, f.Destination = netip.MustParseAddr(w[1]), netip.MustParseAddr(w[2])
	}
	if icmp != "" {
		if _, err := fmt.Sscanf(icmp, "%d/%d", &f.ICMPType, &f.ICMPCode); err != nil {
			t.Fatalf("flow %q: %v", text, err)
		}
	}
	for _, option := range w[3:] {
		if dialled, ok := strings.CutPrefix(option, "dialled="); ok {
			f.Dialled = netip.MustParseAddrPort(dialled)
			continue
		}
		if first, ok := strings.CutPrefix(option, "first="); ok {
			f.DialledInterface = first
			continue
		}
		s, err := state(option)
		if err != nil {
			t.Fatalf("flow %q: %v", text, err)
		}
		f.State = s
	}
	return f
}

// guest is a workload endpoint of host h: its name, interface and addresses.
func guest(name, iface, addresses, more string) string {
	return wep("prod", name, "app: "+name, "interfaceName: "+iface+", ipNetworks: ["+addresses+"], "+more)
}

// short is a decision in one line: verdict, reason, tier, policy and rule
// (from 1), as far as they apply.
func short(d Decision) string {
	s := d.Verdict.String() + " " + string(d.Reason)
	if d.Tier != "" {
		s += " " + d.Tier
	}
	if d.Policy.Name != "" {
		s += " " + d.Policy.Name
	}
	if d.RuleIndex >= 0 {
		s += " " + strconv.Itoa(d.RuleIndex+1)
	}
	return s
}

// scenario is a world with flows and what becomes of each.
type scenario struct {
	name       string
	world      string
	interfaces map[string][]netip.Addr
	flows      [][2]string // flow, verdict as short says it
}

func run(t *testing.T, scenarios []scenario) {
	t.Helper()
	for _, s := range scenarios {
		t.Run(s.name, func(t *testing.T) {
			w := world(t, s.world)
			for _, f := range s.flows {
				d := w.Evaluate(flow(t, f[0], s.interfaces))
				if got := short(d); got != f[1] {
					t.Errorf("Evaluate(%s)\n got  %s\n want %s\n%s", f[0], got, f[1], strings.Join(d.Sentences(), "\n"))
				}
			}
		})
	}
}

const (
	defaultTier = "---\n{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: default}, spec: {order: 1000000, defaultAction: Deny}}\n"
	eth0        = "---\n{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h-eth0, labels: {role: db}}, spec: {node: h, interfaceName: eth0}}\n"
	wildcard    = "---\n{apiVersion: projectcalico.org/v3, kind: HostEndpoint, metadata: {name: h-all, labels: {role: db}}, spec: {node: h, interfaceName: '*'}}\n"
	allowAll    = "---\n{apiVersion: projectcalico.org/v3, kind: Profile, metadata: {name: open}, spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}}\n"

	// Two workloads with a profile that allows all, unless policy selects them.
	guests = allowAll +
		"---\n{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {namespace: prod, name: h-k8s-w1-eth0, labels: {app: w1}}, spec: {node: h, orchestrator: k8s, pod: w1, endpoint: eth0, interfaceName: calia, ipNetworks: [10.65.0.2/32, 'fd65::2/128'], profiles: [open]}}\n" +
		"---\n{apiVersion: projectcalico.org/v3, kind: WorkloadEndpoint, metadata: {namespace: prod, name: h-k8s-w2-eth0, labels: {app: w2}}, spec: {node: h, orchestrator: k8s, pod: w2, endpoint: eth0, interfaceName: calib, ipNetworks: [10.65.0.3/32, 'fd65::3/128'], profiles: [open]}}\n"

	allows  = "Allow Rule default p 1"
	ended   = "Deny EndOfTier default"
	none    = "NotGoverned NoEndpoint"
	opened  = "Allow Profile open 1"
	strange = "Deny UnknownInterface"
)
