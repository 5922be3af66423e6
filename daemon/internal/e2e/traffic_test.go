// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// trafficInterfaces are those of a host that does all that a host can do:
// between two networks, with two workloads.
var trafficInterfaces = []netnstest.Interface{
	{Name: "rstun0", Addrs: []string{"10.1.0.1/24", "fd01::1/64"}},
	{Name: "rstun1", Addrs: []string{"10.2.0.1/24", "fd02::1/64"}},
	{Name: "cali1"}, {Name: "cali2"},
}

const trafficEndpoints = `
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: h, labels: {role: victim, edge: "yes"}}
spec: {node: h1, interfaceName: rstun0, expectedIPs: [10.1.0.1, "fd01::1"]}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: i, labels: {edge: "yes"}}
spec: {node: h1, interfaceName: rstun1, expectedIPs: [10.2.0.1, "fd02::1"]}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {namespace: default, name: h1-cni-one-eth0, labels: {app: one}}
spec: {node: h1, orchestrator: cni, containerID: one, endpoint: eth0, interfaceName: cali1, ipNetworks: [10.3.0.2/32, "fd03::2/128"]}
---
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {namespace: default, name: h1-cni-two-eth0, labels: {app: two}}
spec: {node: h1, orchestrator: cni, containerID: two, endpoint: eth0, interfaceName: cali2, ipNetworks: [10.0.0.2/32, "fd00::2/128"]}
`

// trafficPolicies are pictures of all kinds of policy beside that of the host's
// own traffic (chaosPolicies). Whatever n is, they agree about trafficProbes.
func trafficPolicies(n int) string {
	net := fmt.Sprintf("203.0.113.%d/32", n%250)
	first := "{action: Allow, protocol: UDP, destination: {ports: ['7990:8010']}}"
	if n%2 == 1 {
		first = fmt.Sprintf("{action: Deny, source: {nets: [%s]}}", net)
	}
	edge, workloads := "selector: edge == 'yes', order: %d, ", "selector: has(app), order: %d, "
	policy := func(name, head string, order int, spec string) string {
		return gnp(name, fmt.Sprintf(head, order)+spec)
	}
	text := policy("forward", edge, 200, fmt.Sprintf(`applyOnForward: true, types: [Ingress, Egress],
		ingress: [{action: Deny, protocol: UDP, destination: {ports: [9999, %d]}}, %s, {action: Allow, protocol: UDP, destination: {ports: [8000, 7001, 7101, 9998]}}],
		egress: [{action: Deny, source: {nets: [%s]}}, {action: Allow, protocol: UDP, destination: {ports: [8000, 7100, 7101, 9997]}}]`, 13000+n%1000, first, net))
	text += policy("untracked", edge, 90, fmt.Sprintf(`doNotTrack: true, applyOnForward: true, types: [Ingress, Egress],
		ingress: [{action: Deny, source: {nets: [%s]}}, {action: Allow, protocol: UDP, destination: {ports: [7000, 7100, %d]}}, {action: Deny, protocol: UDP, destination: {ports: [7001, 7101]}}],
		egress: [{action: Allow, protocol: UDP, source: {ports: [7000]}}, {action: Deny, protocol: UDP, source: {ports: [7001, %d]}}]`, net, 14000+n%1000, 15000+n%1000))
	text += policy("dialled", edge, 91, fmt.Sprintf(`preDNAT: true, applyOnForward: true, types: [Ingress],
		ingress: [{action: Deny, protocol: UDP, destination: {ports: [30001, %d]}}]`, 16000+n%1000))
	text += policy("workloads", workloads, 92, fmt.Sprintf(`types: [Ingress, Egress],
		ingress: [{action: Deny, source: {nets: [%s]}}, {action: Allow, protocol: UDP, destination: {ports: [8000, %d]}}],
		egress: [{action: Deny, protocol: UDP, destination: {ports: [9997, %d]}}, {action: Allow, destination: {notPorts: [%d]}, protocol: UDP}]`,
		net, 17000+n%1000, 18000+n%1000, 19000+n%1000))
	for i := range n % 4 {
		text += policy(fmt.Sprint("more-", i), edge, 80+i, fmt.Sprintf("applyOnForward: true, ingress: [{action: Deny, protocol: UDP, destination: {ports: [%d]}}]", 21000+(n+i)%1000))
	}
	return text
}

// trafficProbes is what every picture says of packets: of new flows, and of
// one (@) that goes on. What is answered is sent once; its answers would be
// denied if they began a flow.
const trafficProbes = `
	fwd rstun0 rstun1 udp 10.1.0.7 10.2.0.7 8000 ok
	fwd rstun0 rstun1 udp 10.1.0.7@999 10.2.0.7 8000 ok
	fwd rstun0 rstun1 udp 10.1.0.7 10.2.0.7 9999 blocked
	fwd rstun1 rstun0 udp 10.2.0.7 10.1.0.7 8000 ok
	fwd rstun1 rstun0 udp 10.2.0.7 10.1.0.7 9998 blocked

	fwd rstun0 cali1 udp 10.1.0.7 10.3.0.2 8000 ok
	fwd rstun0 cali1 udp 10.1.0.7 10.3.0.2 9998 blocked
	fwd cali1 rstun0 udp 10.3.0.2 10.1.0.7 8000 ok
	fwd cali1 rstun0 udp 10.3.0.2@999 10.1.0.7 8000 ok
	fwd cali1 rstun0 udp 10.3.0.2 10.1.0.7 9997 blocked
	fwd cali1 rstun0 udp 10.3.0.9 10.1.0.7 8000 blocked
	fwd cali1 cali2 udp 10.3.0.2 10.0.0.2 8000 ok
	fwd cali1 cali2 udp 10.3.0.2@999 10.0.0.2 8000 ok
	fwd cali1 cali2 udp 10.3.0.2 10.0.0.2 9998 blocked
	fwd cali2 cali1 udp 10.0.0.2 10.3.0.2 9997 blocked

	fwd rstun0 cali1 udp 10.1.0.7 10.3.0.2 8000 dialled 10.1.0.1 30000 ok
	fwd rstun0 cali1 udp 10.1.0.7@999 10.3.0.2 8000 dialled 10.1.0.1 30000 ok
	fwd rstun0 cali1 udp 10.1.0.7 10.3.0.2 8000 dialled 10.1.0.1 30001 blocked

	in rstun0 udp 10.1.0.7 10.1.0.1 7000 ok
	in rstun0 udp 10.1.0.7@999 10.1.0.1 7000 ok
	out rstun0 udp 10.1.0.1@7000 10.1.0.7 999 ok
	in rstun0 udp 10.1.0.7 10.1.0.1 7001 blocked
	out rstun0 udp 10.1.0.1@7001 10.1.0.7 999 blocked
	fwd rstun0 rstun1 udp 10.1.0.7 10.2.0.7 7100 ok
	fwd rstun0 rstun1 udp 10.1.0.7@999 10.2.0.7 7100 ok
	fwd rstun0 rstun1 udp 10.1.0.7 10.2.0.7 7101 blocked
	fwd rstun1 rstun0 udp 10.2.0.7 10.1.0.7 7102 blocked

	out rstun0 udp 10.1.0.1@5001 10.1.0.7 6001 answered
	in rstun0 udp 10.1.0.7@6001 10.1.0.1 5001 ok
	in rstun0 udp 10.1.0.7 10.1.0.1 5001 blocked
	fwd cali1 rstun0 udp 10.3.0.2@5002 10.1.0.7 8000 answered
	fwd rstun0 cali1 udp 10.1.0.7@8000 10.3.0.2 5002 ok
	fwd rstun0 cali1 udp 10.1.0.7 10.3.0.2 5002 blocked
	fwd cali1 cali2 udp 10.3.0.2@5003 10.0.0.2 8000 answered
	fwd cali2 cali1 udp 10.0.0.2@8000 10.3.0.2 5003 ok
	fwd rstun0 rstun1 udp 10.1.0.7@5004 10.2.0.7 8000 answered
	fwd rstun1 rstun0 udp 10.2.0.7@8000 10.1.0.7 5004 ok
	fwd rstun1 rstun0 udp 10.2.0.7 10.1.0.7 5004 blocked
`

// publishedBy is the program that publishes ports of the first workload by
// means of a packet filter: all variants of iptables, or nftables.
func publishedBy(filter string) string {
	if filter == "nftables" {
		return `nft -f - <<END
table inet other {
	chain pre {
		type nat hook prerouting priority dstnat; policy accept;
		meta nfproto ipv4 iifname rstun0 udp dport { 30000, 30001 } dnat ip to 10.3.0.2:8000
		meta nfproto ipv6 iifname rstun0 udp dport { 30000, 30001 } dnat ip6 to [fd03::2]:8000
	}
}
END`
	}
	variant := strings.Replace(filter, "nf_tables", "nft", 1)
	const rule = " -t nat -A PREROUTING -i rstun0 -p udp --dport 30000:30001 -j DNAT --to-destination "
	return "iptables-" + variant + rule + "10.3.0.2:8000 && ip6tables-" + variant + rule + "'[fd03::2]:8000'"
}

// traffic sends the packets of trafficProbes, of both families, and counts wrong verdicts.
type traffic struct {
	stage         *stage
	rules         string // a shell command that prints what the packet filter has
	lines         []trafficLine
	rounds, sent  int
	admitted, cut int
	firstWrong    string
}

type trafficLine struct {
	text     string
	p        probe
	ok       bool
	fixed    bool // its source port
	answered bool // is sent only after connection tracking has forgotten all
}

func newTraffic(t testing.TB, inj *netnstest.Injector, rules string) *traffic {
	tr := &traffic{stage: &stage{t: t, inj: inj, port: 20000}, rules: rules}
	for line := range strings.Lines(trafficProbes) {
		for _, text := range []string{strings.TrimSpace(line), twin(strings.TrimSpace(line))} {
			if text == "" {
				continue
			}
			l := trafficLine{text: text, fixed: strings.Contains(text, "@"), answered: strings.HasSuffix(text, "answered")}
			l.p, l.ok = tr.stage.packet(strings.Replace(text, "answered", "ok", 1))
			tr.lines = append(tr.lines, l)
		}
	}
	return tr
}

// burst sends every packet n times.
func (tr *traffic) burst(n int) {
	for range n {
		begin := tr.rounds%400 == 0
		if begin {
			tr.stage.inj.FlushConntrack()
		}
		tr.rounds++
		for i := range tr.lines {
			l := &tr.lines[i]
			if l.answered && !begin {
				continue
			}
			if !l.fixed {
				if tr.stage.port++; tr.stage.port < 20000 {
					tr.stage.port = 20000
				}
				l.p.packet.SrcPort = tr.stage.port
			}
			tr.sent++
			if passes := tr.stage.send(l.p); passes != l.ok {
				tr.wrong(l, passes)
			}
		}
	}
}

func (tr *traffic) wrong(l *trafficLine, passes bool) {
	what := "cut"
	if tr.cut++; passes {
		tr.cut--
		tr.admitted++
		what = "admitted"
	}
	if tr.firstWrong == "" {
		rules, err := tr.stage.inj.NS.Try("sh", "-c", tr.rules)
		tr.firstWrong = fmt.Sprintf("%s after %d packets: %s\nthe kernel just after (%v):\n%s", what, tr.sent, l.text, err, rules)
	}
}

func (tr *traffic) check(t *testing.T) {
	t.Helper()
	if tr.admitted+tr.cut > 0 {
		t.Errorf("%d packets: %d admitted that every picture denies, %d cut that every picture allows; first: %s", tr.sent, tr.admitted, tr.cut, tr.firstWrong)
	}
}
