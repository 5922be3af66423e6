// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// judging wants a ruleset that leads, by interface, peer and port, to rules of
// policies; all else is dropped.
func judging(f *Filter) {
	chainOf := func(name string, hook ruleset.Hook, rules ...ruleset.Rule) {
		f.Want(chain(name), &ruleset.Chain{Hook: hook, Rules: rules})
	}
	to := func(v ruleset.Verb, target string, field ruleset.Field, m ruleset.Match) ruleset.Rule {
		return ruleset.Rule{Match: m, Action: ruleset.Action{Verb: v, Target: target, Field: field}}
	}
	drop := ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Drop}}
	accept := ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Accept}, Counter: true, Comment: "gnp/a ingress 0"}
	chainOf("input", ruleset.HookInput, to(ruleset.DispatchIn, "in", 0, ruleset.Match{}), drop)
	f.Want(ruleset.ID{Kind: ruleset.KindDispatch, Name: "in"}, &ruleset.Dispatch{})
	f.Want(ruleset.ID{Kind: ruleset.KindEntry, Name: "in", Iface: "eth7"}, ruleset.Entry{Chain: "hi-e"})
	chainOf("hi-e", 0,
		ruleset.Rule{Match: ruleset.Match{Family: ruleset.IPv4, SrcSets: []string{"bad"}}, Action: ruleset.Action{Verb: ruleset.Drop}},
		to(ruleset.Classify, "peers4", ruleset.FieldSrc, ruleset.Match{Family: ruleset.IPv4}),
		to(ruleset.Classify, "peers6", ruleset.FieldSrc, ruleset.Match{Family: ruleset.IPv6}), drop)
	f.Want(ruleset.ID{Kind: ruleset.KindSet, Name: "bad"}, &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
	f.Want(ruleset.ID{Kind: ruleset.KindVerdicts, Name: "peers4"}, &ruleset.Verdicts{Family: ruleset.IPv4, Type: ruleset.ByNet})
	f.Want(ruleset.ID{Kind: ruleset.KindVerdicts, Name: "peers6"}, &ruleset.Verdicts{Family: ruleset.IPv6, Type: ruleset.ByNet})
	f.Want(ruleset.ID{Kind: ruleset.KindVerdicts, Name: "ports"}, &ruleset.Verdicts{Type: ruleset.ByPort})
	for i := range 300 {
		peer := func(name, n string) {
			f.Want(ruleset.ID{Kind: ruleset.KindVerdict, Name: name, Elem: ruleset.Element{Net: netip.MustParsePrefix(n)}}, ruleset.Ruling{Chain: "class"})
		}
		peer("peers4", fmt.Sprintf("10.9.%d.%d/32", i>>8, i&255))
		peer("peers6", fmt.Sprintf("2001:db8:9::%x/128", i))
		if i == 0 {
			peer("peers6", "2001:db8:a::/48")
		}
		f.Want(ruleset.ID{Kind: ruleset.KindMember, Name: "bad", Elem: ruleset.Element{Net: netip.MustParsePrefix(fmt.Sprintf("10.8.%d.%d/32", i>>8, i&255))}}, ruleset.Member{})
	}
	chainOf("class", 0, to(ruleset.Classify, "ports", ruleset.FieldDstPort, ruleset.Match{Protocol: 6}), drop)
	f.Want(ruleset.ID{Kind: ruleset.KindVerdict, Name: "ports", Range: ruleset.PortRange{Min: 8443, Max: 8450}}, ruleset.Ruling{Chain: "rule"})
	f.Want(ruleset.ID{Kind: ruleset.KindVerdict, Name: "ports", Range: ruleset.PortRange{Min: 22, Max: 22}}, ruleset.Ruling{Chain: "rule"})
	chainOf("rule", 0, accept)
}

// TestNetnsFilter_DriftIsShownByAPacket: whatever another alters, the report
// has a packet that fared otherwise, if there is one, and the table is mended.
func TestNetnsFilter_DriftIsShownByAPacket(t *testing.T) {
	for _, tc := range []struct {
		nft  []string // one command each
		want []string // in the header; none: there is no such packet
	}{
		{[]string{"delete element inet ripstop rs-v-peers4 { 10.9.1.7 }"}, []string{"input tcp 10.9.1.7:", "in eth7", "accepted, now dropped"}},
		{[]string{"delete element inet ripstop rs-v-peers6 { 2001:db8:9::12a }"}, []string{"input tcp [2001:db8:9::12a]:", "accepted, now dropped"}},
		{[]string{"add element inet ripstop rs-v-peers4 { 203.0.113.9 : goto rs-class }"}, []string{"tcp 203.0.113.9:", "dropped, now accepted"}},
		{[]string{"add element inet ripstop rs-bad { 10.9.0.77 }"}, []string{"tcp 10.9.0.77:", "accepted, now dropped"}},
		{[]string{"add element inet ripstop rs-v-ports { 23 : goto rs-rule }"}, []string{":23 in eth7", "dropped, now accepted"}},
		{[]string{"flush chain inet ripstop rs-class"}, []string{"dropped, now accepted"}},
		{[]string{"insert rule inet ripstop rs-input tcp dport 2323 accept"}, []string{":2323", "dropped, now accepted"}},
		{[]string{"insert rule inet ripstop rs-hi-e ip saddr 198.51.100.0/24 accept"}, []string{"198.51.100.", "dropped, now accepted"}},
		{[]string{"insert rule inet ripstop rs-input ct state established accept"}, []string{"established: dropped, now accepted"}},
		{[]string{"flush chain inet ripstop rs-rule", "add rule inet ripstop rs-rule drop"}, []string{"accepted, now dropped"}},
		{[]string{"add element inet ripstop rs-m-in { eth9 : accept }"}, []string{"in eth9", "dropped, now accepted"}},
		{[]string{"delete table inet ripstop"}, []string{"dropped, now accepted"}},
		{[]string{"add rule inet ripstop rs-class accept"}, nil}, // behind a drop
	} {
		t.Run(strings.Join(tc.nft, "; "), func(t *testing.T) {
			ns := netnstest.New(t)
			var told []Drift
			cfg := Default()
			cfg.Owner = false
			cfg.OnDrift = func(d Drift) { told = append(told, d) }
			f := open(t, ns, cfg)
			judging(f)
			reconcile(t, f)
			for _, c := range tc.nft {
				ns.Run("nft", c)
			}
			f.Resync()
			reconcile(t, f)
			if len(told) != 1 || !told[0].Repaired {
				t.Fatalf("told of %+v, want one drift that was repaired", told)
			}
			for _, w := range tc.want {
				if !strings.Contains(told[0].Header, w) {
					t.Errorf("header %q (of %q), want %q in it", told[0].Header, told[0].What, w)
				}
			}
			if tc.want == nil && told[0].Header != "" {
				t.Errorf("header %q of a rule that no packet reaches", told[0].Header)
			}
			if err := f.Verify(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNetnsFilter_AuditFindsWhatNobodyToldOf: an owned table cannot be altered
// by others, so no notice is looked at; the audit reads all of it all the same.
// What is altered here, by the owner's own socket, changes no counter, no
// handle and no rule.
func TestNetnsFilter_AuditFindsWhatNobodyToldOf(t *testing.T) {
	ns := netnstest.New(t)
	var told []Drift
	cfg := Default()
	cfg.OnDrift = func(d Drift) { told = append(told, d) }
	f := open(t, ns, cfg)
	judging(f)
	reconcile(t, f)
	if !f.owns {
		t.Fatal("the table is not owned")
	}
	for _, typ := range []uint16{unix.NFT_MSG_DELSETELEM, unix.NFT_MSG_NEWSETELEM} {
		b := newBatch()
		b.msg(typ, 0, object{kind: 'e', name: "rs-bad"})
		b.str(unix.NFTA_SET_ELEM_LIST_TABLE, cfg.Table)
		b.str(unix.NFTA_SET_ELEM_LIST_SET, "rs-bad")
		list := b.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		if typ == unix.NFT_MSG_DELSETELEM {
			putElement(&b.enc, []byte{10, 8, 0, 9}, false, verdict{})
		} else {
			putElement(&b.enc, []byte{10, 9, 0, 9}, false, verdict{})
		}
		b.end(list)
		if err := f.c.commit(b); err != nil {
			t.Fatal(err)
		}
	}
	reconcile(t, f)
	if len(told) != 0 {
		t.Fatalf("found without an audit: %+v; then this test shows nothing", told)
	}
	f.Resync()
	reconcile(t, f)
	if len(told) != 1 || !told[0].Repaired || !strings.Contains(told[0].Header, "10.9.0.9:") ||
		!strings.Contains(strings.Join(told[0].What, ";"), "rs-bad: 1 elements missing, 1 added") {
		t.Errorf("the audit told %+v, want one element missing and one added, shown by a packet, and repaired", told)
	}
	f.Resync()
	reconcile(t, f)
	if len(told) != 1 {
		t.Errorf("the next audit told of more: %+v", told[1:])
	}
}

// TestNetnsFilter_AuditFindsOurOwnMistake: the audit compares with what is
// wanted, not with what was believed to be done.
func TestNetnsFilter_AuditFindsOurOwnMistake(t *testing.T) {
	ns := netnstest.New(t)
	var told []Drift
	cfg := Default()
	cfg.OnDrift = func(d Drift) { told = append(told, d) }
	f := open(t, ns, cfg)
	judging(f)
	reconcile(t, f)
	for range 3 {
		f.Resync()
		reconcile(t, f)
	}
	if len(told) != 0 {
		t.Fatalf("told of %+v where all is well", told)
	}
	// Wanted without a word to plan it, as a mistake in the planning of
	// differences would leave it.
	c := *f.chains["rule"].want
	c.Rules = []ruleset.Rule{{Action: ruleset.Action{Verb: ruleset.Drop}}}
	f.chains["rule"].want = &c
	f.verdicts["peers4"].elems[string([]byte{203, 0, 113, 5})] = "class"
	reconcile(t, f)
	f.Resync()
	reconcile(t, f)
	if len(told) != 1 || !told[0].Repaired || len(told[0].What) < 2 || !strings.Contains(told[0].Header, "dropped, now accepted") {
		t.Errorf("the audit told %+v; want a chain and a set that are not as wanted, and a packet", told)
	}
	if out := ns.Run("nft", "list", "table", "inet", "ripstop"); !strings.Contains(out, "203.0.113.5") {
		t.Errorf("not repaired:\n%s", out)
	}
}
