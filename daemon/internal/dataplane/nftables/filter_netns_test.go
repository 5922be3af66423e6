// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"net/netip"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// open makes a Filter in a namespace.
func open(t testing.TB, ns *netnstest.NS, cfg Config) *Filter {
	t.Helper()
	var f *Filter
	ns.MustDo(func() (err error) {
		f, err = New(cfg)
		return err
	})
	t.Cleanup(func() { f.Close() })
	return f
}

func reconcile(t testing.TB, f *Filter) {
	t.Helper()
	if _, err := f.Reconcile(t.Context()); err != nil {
		t.Fatalf("Reconcile: %v", err)
	}
}

func chain(name string) ruleset.ID { return ruleset.ID{Kind: ruleset.KindChain, Name: name} }
func set(name string) ruleset.ID   { return ruleset.ID{Kind: ruleset.KindSet, Name: name} }
func dispatch(name string) ruleset.ID {
	return ruleset.ID{Kind: ruleset.KindDispatch, Name: name}
}
func member(set, prefix string) ruleset.ID {
	return ruleset.ID{Kind: ruleset.KindMember, Name: set, Elem: ruleset.Element{Net: netip.MustParsePrefix(prefix)}}
}
func entryID(m, iface string) ruleset.ID {
	return ruleset.ID{Kind: ruleset.KindEntry, Name: m, Iface: iface}
}

// sample is a small whole ruleset.
func sample(f *Filter) {
	f.Want(set("s4"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
	f.Want(member("s4", "10.1.0.7/32"), ruleset.Member{})
	f.Want(set("s6"), &ruleset.Set{Family: ruleset.IPv6, Type: ruleset.TypeNet})
	f.Want(member("s6", "fd01::/64"), ruleset.Member{})
	f.Want(member("s6", "fd01::7/128"), ruleset.Member{})
	f.Want(set("p4"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeAddrPort})
	f.Want(ruleset.ID{Kind: ruleset.KindMember, Name: "p4", Elem: ruleset.Element{Net: netip.MustParsePrefix("10.1.0.1/32"), Proto: 6, Port: 80}}, ruleset.Member{})
	f.Want(dispatch("in"), &ruleset.Dispatch{})
	f.Want(entryID("in", "rstun0"), ruleset.Entry{Chain: "ep"})
	f.Want(entryID("in", "lo"), ruleset.Entry{})
	f.Want(chain("input"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: []ruleset.Rule{
		{Match: ruleset.Match{CtState: ruleset.CtEstablished | ruleset.CtRelated}, Action: ruleset.Action{Verb: ruleset.Accept}},
		{Action: ruleset.Action{Verb: ruleset.DispatchIn, Target: "in"}},
		{Action: ruleset.Action{Verb: ruleset.Accept}},
	}})
	f.Want(chain("ep"), &ruleset.Chain{Rules: []ruleset.Rule{
		{Match: ruleset.Match{Family: ruleset.IPv4, Protocol: 6, SrcSets: []string{"s4"}, DstPorts: []ruleset.PortRange{{Min: 22, Max: 22}, {Min: 100, Max: 200}}},
			Action: ruleset.Action{Verb: ruleset.Accept}, Counter: true, Comment: "gnp/a ingress 0"},
		{Match: ruleset.Match{Family: ruleset.IPv6, Protocol: 6, SrcSets: []string{"s6"}, DstPorts: []ruleset.PortRange{{Min: 22, Max: 22}}},
			Action: ruleset.Action{Verb: ruleset.Accept}, Counter: true, Comment: "gnp/a ingress 0"},
		{Match: ruleset.Match{Family: ruleset.IPv4, DstPortSets: []string{"p4"}}, Action: ruleset.Action{Verb: ruleset.Accept}},
		{Match: ruleset.Match{NotDNATed: true, Protocol: 17}, Action: ruleset.Action{Verb: ruleset.Log, LogPrefix: "x: ", LogRate: 3, LogUnit: "minute", LogBurst: 7}},
		{Action: ruleset.Action{Verb: ruleset.SetMark, Mark: 0x10, MarkMask: 0xf0}},
		{Action: ruleset.Action{Verb: ruleset.Jump, Target: "tail"}},
		{Action: ruleset.Action{Verb: ruleset.Reject}, Counter: true, Comment: "default"},
	}})
	f.Want(chain("tail"), &ruleset.Chain{Rules: []ruleset.Rule{
		{Match: ruleset.Match{Family: ruleset.IPv4, NotSrc: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.4.0/22")}}, Action: ruleset.Action{Verb: ruleset.Drop}},
		{Match: ruleset.Match{Family: ruleset.IPv6, Protocol: 58, NotICMP: &ruleset.ICMP{Type: 128, Code: 0, HasCode: true}, HopLimit255: true}, Action: ruleset.Action{Verb: ruleset.Return}},
	}})
}

func TestNetnsFilter_Sample(t *testing.T) {
	ns := netnstest.New(t)
	f := open(t, ns, Default())
	sample(f)
	reconcile(t, f)
	t.Log(ns.Run("nft", "list", "ruleset"))
	if err := f.Verify(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := f.Summary()
	t.Logf("%+v", s)
}
