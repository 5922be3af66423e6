// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

var ssh = intent.Settings{FailsafeInbound: []intent.Failsafe{{Protocol: protoTCP, Port: 22}}}

// TestNetnsConntrack_MemberThatGoesTakesItsFlowsAlong: and only flows with the
// member at one end are looked at.
func TestNetnsConntrack_MemberThatGoesTakesItsFlowsAlong(t *testing.T) {
	b := newBed(t)
	b.client.Run("ip", "addr", "add", "10.1.0.3/24", "dev", "c0")
	serve(t, b.host, host4+":80")
	serve(t, b.host, "["+host6+"]:80")
	rule := intent.Rule{Action: api.Allow, Source: intent.Entity{Set: "s"}}
	b.say(settings(intent.Settings{}), open, set("s"), member("s", "10.1.0.2/32", true), member("s", "10.1.0.3/32", true), member("s", "fd01::/64", true),
		guard([]string{"in"}, []string{"out"}), policy("in", &intent.Policy{Ingress: []intent.Rule{rule}}), policy("out", &intent.Policy{Egress: []intent.Rule{all}}))
	two, six := dialFlow(t, b.client, "tcp", host4+":80"), dialFlow(t, b.client, "tcp", "["+host6+"]:80")
	var three *flow
	b.client.MustDo(func() error {
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("10.1.0.3")}}).Dial("tcp", host4+":80")
		three = &flow{name: "tcp from .3", Conn: c}
		return err
	})
	defer three.Close()
	if s := b.say(member("s", "10.1.0.2/32", false)); s.LastCut != 1 || s.LastJudged != 1 {
		t.Errorf("without one member: %d flows cut of %d judged, want 1 of 1", s.LastCut, s.LastJudged)
	}
	expect(t, false, two)
	expect(t, true, three, six)
	if s := b.say(member("s", "fd01::/64", false)); s.LastCut != 1 || s.LastJudged != 1 {
		t.Errorf("without the prefix: %d flows cut of %d judged, want 1 of 1", s.LastCut, s.LastJudged)
	}
	expect(t, false, six)
	expect(t, true, three)
}

// TestNetnsConntrack_NewEndpointCutsAllButFailsafes: what was open because
// nothing governed the interface is cut when something does, except what
// policy cannot take away.
func TestNetnsConntrack_NewEndpointCutsAllButFailsafes(t *testing.T) {
	b := newBed(t)
	b.say(settings(ssh), open)
	var failsafe, other []*flow
	for _, host := range []string{host4, "[" + host6 + "]"} {
		serve(t, b.host, host+":22")
		serve(t, b.host, host+":80")
		failsafe = append(failsafe, dialFlow(t, b.client, "tcp", host+":22"))
		other = append(other, dialFlow(t, b.client, "tcp", host+":80"))
	}
	lo := dialLoopback(t, b)
	if s := b.say(guard([]string{"none"}, []string{"none"}), policy("none", &intent.Policy{})); s.LastCut != len(other) {
		t.Errorf("%d flows cut, want %d", s.LastCut, len(other))
	}
	expect(t, false, other...)
	expect(t, true, append(failsafe, lo)...)
}

func dialLoopback(t *testing.T, b *bed) *flow {
	serve(t, b.host, "127.0.0.1:90")
	return dialFlow(t, b.host, "tcp", "127.0.0.1:90")
}

// TestNetnsConntrack_OlderThanTheFirstPlanIsLeftAlone: an agent that begins
// work cuts nothing, whatever its first plan says.
func TestNetnsConntrack_OlderThanTheFirstPlanIsLeftAlone(t *testing.T) {
	b := newBed(t)
	b.host.Run("sh", "-c", "nft add table inet t; nft 'add chain inet t c { type filter hook input priority 0; }'; nft add rule inet t c ct state established accept")
	serve(t, b.host, host4+":80")
	f := dialFlow(t, b.client, "tcp", host4+":80")
	deny := policy("none", &intent.Policy{})
	b.say(settings(intent.Settings{}), open, guard([]string{"none"}, []string{"none"}), deny)
	if s := b.say(policy("none", &intent.Policy{Ingress: []intent.Rule{ports(api.Deny, protoTCP, 80)}})); s.LastCut != 0 || s.LastTime.IsZero() {
		t.Errorf("%d flows cut at %v, want none in one pass", s.LastCut, s.LastTime)
	}
	expect(t, true, f)
}

// TestNetnsConntrack_ForwardedAndRewritten: flows through this host, to an
// address behind it and to one of its own that is rewritten, are judged by the
// chains of both interfaces and by the destination as each hook sees it.
func TestNetnsConntrack_ForwardedAndRewritten(t *testing.T) {
	b := newBed(t)
	serve(t, b.server, server4+":80")
	serve(t, b.server, server4+":81")
	serve(t, b.server, "["+server6+"]:80")
	b.host.Run("sh", "-c", "nft add table ip n; nft 'add chain ip n pre { type nat hook prerouting priority -100; }';"+
		"nft add rule ip n pre ip daddr "+host4+" tcp dport 8080 dnat to "+server4+":80")
	ep := func(list ...string) intent.Change {
		tier := intent.Tier{Name: "default"}
		for _, n := range list {
			tier.Egress = append(tier.Egress, gnp(n))
		}
		return intent.Change{Key: intent.Key{Kind: intent.KindHostEndpoint, Name: "h"}, Value: &intent.HostEndpoint{Interface: "eth1", ForwardTiers: []intent.Tier{tier}, Profiles: []string{"open"}}}
	}
	out := func(rules ...intent.Rule) intent.Change {
		return policy("out", &intent.Policy{ApplyOnForward: true, Egress: rules})
	}
	b.say(settings(intent.Settings{}), open, ep("out"), out(all))
	plain, six := dialFlow(t, b.client, "tcp", server4+":80"), dialFlow(t, b.client, "udp", "["+server6+"]:80")
	rewritten, other := dialFlow(t, b.client, "tcp", host4+":8080"), dialFlow(t, b.client, "tcp", server4+":81")
	// Port 80 is denied both ways, so that neither end can begin again.
	both := intent.Rule{Action: api.Deny, Protocol: protoTCP, Source: intent.Entity{Ports: []intent.PortRange{{Min: 80, Max: 80}}}}
	s := b.say(ep("out"), out(ports(api.Deny, protoTCP, 80), ports(api.Deny, 17, 80), both, all))
	if s.LastCut != 3 {
		t.Errorf("%d flows cut, want 3", s.LastCut)
	}
	expect(t, false, plain, six, rewritten)
	expect(t, true, other)
	// Nothing of the host's own goes by these chains.
	serve(t, b.host, host4+":80")
	expect(t, true, dialFlow(t, b.client, "tcp", host4+":80"))
}

// TestNetnsConntrack_PreroutingSeesWhatWasDialled: a chain before destination
// NAT denies the port that the client dialled, not the one it was sent to.
func TestNetnsConntrack_PreroutingSeesWhatWasDialled(t *testing.T) {
	b := newBed(t)
	serve(t, b.server, server4+":80")
	b.host.Run("sh", "-c", "nft add table ip n; nft 'add chain ip n pre { type nat hook prerouting priority -100; }';"+
		"nft add rule ip n pre ip daddr "+host4+" tcp dport 8080 dnat to "+server4+":80")
	b.say(settings(intent.Settings{}), open)
	direct, rewritten := dialFlow(t, b.client, "tcp", server4+":80"), dialFlow(t, b.client, "tcp", host4+":8080")
	chain := func(port uint16) *ruleset.Chain {
		return &ruleset.Chain{Hook: ruleset.HookPrerouting, Priority: -150, Rules: []ruleset.Rule{
			{Match: ruleset.Match{CtState: ruleset.CtEstablished | ruleset.CtRelated}, Action: ruleset.Action{Verb: ruleset.Accept}},
			{Match: ruleset.Match{InInterface: "eth0", Protocol: protoTCP, DstPorts: []ruleset.PortRange{{Min: port, Max: port}}}, Action: ruleset.Action{Verb: ruleset.Drop}},
		}}
	}
	id := ruleset.ID{Kind: ruleset.KindChain, Name: "pre"}
	tee{b.lane}.Want(id, chain(8080))
	if s := b.settle(); s.LastCut != 1 {
		t.Errorf("port 8080 denied before NAT: %d flows cut, want 1", s.LastCut)
	}
	expect(t, true, direct)
	tee{b.lane}.Want(id, chain(80))
	if s := b.settle(); s.LastCut != 1 {
		t.Errorf("port 80 denied before NAT: %d flows cut, want 1", s.LastCut)
	}
	expect(t, true, rewritten) // allowed again, so it goes on
}

// TestNetnsConntrack_Workload: flows from and to an address behind an interface
// of its own are judged by the chains that its name leads to.
func TestNetnsConntrack_Workload(t *testing.T) {
	b := newBed(t)
	workload := netnstest.New(t)
	netnstest.Veth(workload, b.host, "w0", "cali1", []string{"10.9.0.5/32", "fd09::5/128"}, nil)
	b.host.Run("sh", "-c", "ip route add 10.9.0.5/32 dev cali1; ip -6 route add fd09::5/128 dev cali1; echo 1 > /proc/sys/net/ipv4/conf/cali1/proxy_arp; ip -6 addr add fe80::99/64 dev cali1 nodad")
	workload.Run("sh", "-c", "ip route add default dev w0; ip -6 route add default via fe80::99 dev w0")
	for _, at := range []string{"10.9.0.5:80", "[fd09::5]:80"} {
		serve(t, workload, at)
	}
	for _, at := range []string{server4 + ":81", "[" + server6 + "]:81"} {
		serve(t, b.server, at)
	}
	out := tee{b.lane}
	id := func(kind ruleset.Kind, name string) ruleset.ID { return ruleset.ID{Kind: kind, Name: name} }
	established := ruleset.Rule{Match: ruleset.Match{CtState: ruleset.CtEstablished | ruleset.CtRelated}, Action: ruleset.Action{Verb: ruleset.Accept}}
	chains := map[string]ruleset.Action{"from": {Verb: ruleset.DispatchIn, Target: "from"}, "to": {Verb: ruleset.DispatchOut, Target: "to"}}
	for i, name := range []string{"from", "to"} {
		out.Want(id(ruleset.KindDispatch, name), &ruleset.Dispatch{})
		out.Want(ruleset.ID{Kind: ruleset.KindEntry, Name: name, Iface: "cali1"}, ruleset.Entry{Chain: name + "-1"})
		out.Want(id(ruleset.KindChain, name), &ruleset.Chain{Hook: ruleset.HookForward, Priority: i, Rules: []ruleset.Rule{established, {Action: chains[name]}}})
		out.Want(id(ruleset.KindChain, name+"-1"), &ruleset.Chain{})
	}
	b.settle()
	to := []*flow{dialFlow(t, b.client, "udp", "10.9.0.5:80"), dialFlow(t, b.client, "udp", "[fd09::5]:80"), dialFlow(t, b.server, "tcp", "10.9.0.5:80")}
	from := []*flow{dialFlow(t, workload, "tcp", server4+":81"), dialFlow(t, workload, "udp", "["+server6+"]:81")}
	past := dialFlow(t, b.client, "tcp", server4+":81")
	deny := func(port uint16, protocols ...uint8) *ruleset.Chain {
		c := &ruleset.Chain{}
		for _, p := range protocols {
			ports := []ruleset.PortRange{{Min: port, Max: port}}
			c.Rules = append(c.Rules,
				ruleset.Rule{Match: ruleset.Match{Protocol: p, DstPorts: ports}, Action: ruleset.Action{Verb: ruleset.Drop}},
				ruleset.Rule{Match: ruleset.Match{Protocol: p, SrcPorts: ports}, Action: ruleset.Action{Verb: ruleset.Drop}})
		}
		return c
	}
	out.Want(id(ruleset.KindChain, "to-1"), deny(80, protoTCP, 17))
	out.Want(id(ruleset.KindChain, "from-1"), deny(80, protoTCP, 17))
	if s := b.settle(); s.LastCut != len(to) {
		t.Errorf("what comes to the workload is denied: %d flows cut, want %d", s.LastCut, len(to))
	}
	expect(t, false, to...)
	expect(t, true, append(from, past)...)
	out.Want(id(ruleset.KindChain, "to-1"), deny(81, protoTCP, 17))
	out.Want(id(ruleset.KindChain, "from-1"), deny(81, protoTCP, 17))
	if s := b.settle(); s.LastCut != len(from) {
		t.Errorf("what the workload sends is denied: %d flows cut, want %d", s.LastCut, len(from))
	}
	expect(t, false, from...)
	expect(t, true, past)
}

// TestNetnsConntrack_InterfaceThatGetsAnotherChain: no rule changes, only which
// of them an interface's packets meet.
func TestNetnsConntrack_InterfaceThatGetsAnotherChain(t *testing.T) {
	b := newBed(t)
	serve(t, b.host, host4+":80")
	serve(t, b.host, back4+":80")
	out := tee{b.lane}
	id := func(kind ruleset.Kind, name string) ruleset.ID { return ruleset.ID{Kind: kind, Name: name} }
	entry := func(iface string) ruleset.ID {
		return ruleset.ID{Kind: ruleset.KindEntry, Name: "in", Iface: iface}
	}
	out.Want(id(ruleset.KindDispatch, "in"), &ruleset.Dispatch{})
	out.Want(entry("eth0"), ruleset.Entry{})
	out.Want(id(ruleset.KindChain, "closed"), &ruleset.Chain{Rules: []ruleset.Rule{{Action: ruleset.Action{Verb: ruleset.Drop}}}})
	out.Want(id(ruleset.KindChain, "base"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: []ruleset.Rule{
		{Match: ruleset.Match{CtState: ruleset.CtEstablished | ruleset.CtRelated}, Action: ruleset.Action{Verb: ruleset.Accept}},
		{Action: ruleset.Action{Verb: ruleset.DispatchIn, Target: "in"}},
	}})
	b.settle()
	by0, by1 := dialFlow(t, b.client, "tcp", host4+":80"), dialFlow(t, b.server, "tcp", back4+":80")
	out.Want(entry("eth0"), ruleset.Entry{Chain: "closed"})
	if s := b.settle(); s.LastCut != 1 {
		t.Errorf("%d flows cut, want the one by eth0", s.LastCut)
	}
	expect(t, false, by0)
	expect(t, true, by1)
	out.Want(entry("eth1"), ruleset.Entry{Chain: "closed"})
	if s := b.settle(); s.LastCut != 1 {
		t.Errorf("%d flows cut, want the one by eth1", s.LastCut)
	}
	expect(t, false, by1)
}

// TestNetnsConntrack_FromHost: what this host began is cut by an egress deny.
func TestNetnsConntrack_FromHost(t *testing.T) {
	b := newBed(t)
	for _, at := range []string{server4 + ":80", server4 + ":81", "[" + server6 + "]:80"} {
		serve(t, b.server, at)
	}
	b.say(settings(intent.Settings{}), open, guard(nil, []string{"out"}), policy("out", &intent.Policy{Egress: []intent.Rule{all}}))
	cut := []*flow{dialFlow(t, b.host, "tcp", server4+":80"), dialFlow(t, b.host, "udp", server4+":80"), dialFlow(t, b.host, "tcp", "["+server6+"]:80")}
	kept := dialFlow(t, b.host, "tcp", server4+":81")
	if s := b.say(policy("out", &intent.Policy{Egress: []intent.Rule{ports(api.Deny, protoTCP, 80), ports(api.Deny, 17, 80), all}})); s.LastCut != 3 {
		t.Errorf("%d flows cut, want 3", s.LastCut)
	}
	expect(t, false, cut...)
	expect(t, true, kept)
}

// TestNetnsConntrack_ServerThatPushesDoesNotBringItsFlowBack: the kernel takes
// a TCP connection up again with any packet of either end. A server that goes
// on sending, and may begin flows of its own, must not undo a cut.
func TestNetnsConntrack_ServerThatPushesDoesNotBringItsFlowBack(t *testing.T) {
	b := newBed(t)
	var l net.Listener
	b.host.MustDo(func() (err error) { l, err = net.Listen("tcp", host4+":80"); return err })
	defer l.Close()
	ended := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		for err == nil {
			_, err = c.Write(make([]byte, 1000))
			time.Sleep(time.Millisecond)
		}
		c.Close()
		ended <- err
	}()
	b.say(settings(intent.Settings{}), open, guard([]string{"in"}, nil), policy("in", &intent.Policy{Ingress: []intent.Rule{all}}))
	var c net.Conn
	b.client.MustDo(func() (err error) { c, err = net.Dial("tcp", host4+":80"); return err })
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 10_000)); err != nil {
		t.Fatal(err)
	}
	if s := b.say(policy("in", &intent.Policy{Ingress: []intent.Rule{ports(api.Deny, protoTCP, 80), all}})); s.LastCut != 1 {
		t.Errorf("%d flows cut, want 1", s.LastCut)
	}
	select {
	case err := <-ended:
		if !strings.Contains(fmt.Sprint(err), "abort") && !strings.Contains(fmt.Sprint(err), "broken pipe") {
			t.Errorf("the server's socket ended with %v, want one that was closed under it", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the server's socket still takes data 10 s after the cut")
	}
	for flow := range b.entries() {
		if flow.protocol == protoTCP {
			t.Errorf("the connection is tracked again: %+v", flow)
		}
	}
	b.say(policy("in", &intent.Policy{Ingress: []intent.Rule{all}}))
	serve(t, b.host, host4+":81")
	expect(t, true, dialFlow(t, b.client, "tcp", host4+":81"))
}

// TestNetnsConntrack_ListeningSocketIsNeverClosed: a connection whose socket is
// gone already must not lead to the one that listens.
func TestNetnsConntrack_ListeningSocketIsNeverClosed(t *testing.T) {
	b := newBed(t)
	serve(t, b.host, host4+":80")
	b.say(settings(intent.Settings{}), open)
	f := dialFlow(t, b.client, "tcp", host4+":80")
	gone := f.LocalAddr().(*net.TCPAddr).AddrPort()
	local := f.RemoteAddr().(*net.TCPAddr).AddrPort()
	b.host.MustDo(func() error {
		c, err := dial(4) // NETLINK_SOCK_DIAG
		if err != nil {
			return err
		}
		defer c.close()
		for range 2 { // the second time there is only the listener
			if err := c.shut(end{local, gone}); err != nil {
				return err
			}
		}
		return nil
	})
	expect(t, false, f)
	expect(t, true, dialFlow(t, b.client, "tcp", host4+":80"))
}
