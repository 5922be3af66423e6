// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// lackingWire is the way to a kernel that was built without some of the
// expressions of nf_tables: rules with one are refused, and with them the
// transaction.
type lackingWire struct {
	wire
	lacks   []string
	answers [][]byte
}

func (w *lackingWire) send(b []byte) error {
	w.answers = nil
	err := messages(b, func(m message) error {
		if m.typ != subsystem|unix.NFT_MSG_NEWRULE {
			return nil
		}
		for _, name := range w.lacks {
			head := binary.NativeEndian.AppendUint16(nil, uint16(5+len(name)))
			head = binary.NativeEndian.AppendUint16(head, unix.NFTA_EXPR_NAME)
			if bytes.Contains(m.data, append(append(head, name...), 0)) {
				w.answers = append(w.answers, refusalOf(m))
				break
			}
		}
		return nil
	})
	if err != nil || len(w.answers) > 0 {
		return err
	}
	return w.wire.send(b)
}

func refusalOf(m message) []byte {
	b := make([]byte, 36)
	binary.NativeEndian.PutUint32(b, 36)
	binary.NativeEndian.PutUint16(b[4:], unix.NLMSG_ERROR)
	binary.NativeEndian.PutUint32(b[8:], m.seq)
	refused := int32(unix.ENOENT)
	binary.NativeEndian.PutUint32(b[16:], uint32(-refused))
	return b
}

func (w *lackingWire) recv(b []byte, wait int) (int, error) {
	if len(w.answers) == 0 {
		return w.wire.recv(b, wait)
	}
	n := copy(b, w.answers[0])
	w.answers = w.answers[1:]
	return n, nil
}

// lacking opens a Filter over such a kernel.
func lacking(t *testing.T, ns *netnstest.NS, exprs ...string) (*Filter, *lackingWire) {
	t.Helper()
	w := &lackingWire{lacks: exprs}
	cfg := Default()
	cfg.open = func() (wire, error) {
		s, err := openSocket()
		if w.wire != nil || err != nil {
			return s, err
		}
		w.wire = s
		return w, nil
	}
	return open(t, ns, cfg), w
}

// guarded is an endpoint as the planner makes it: essential and failsafe
// traffic first, then policies, of which several have what may be lacking.
// Its interface is found by name, or is nobody's else.
func guarded(f *Filter, wildcard bool, policies map[string][]ruleset.Rule) {
	accept, drop := ruleset.Action{Verb: ruleset.Accept}, ruleset.Action{Verb: ruleset.Drop}
	jump := func(to string) ruleset.Rule {
		return ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Jump, Target: to}}
	}
	f.Want(chain("failsafe"), &ruleset.Chain{Rules: []ruleset.Rule{onPort(22, ruleset.Accept)}})
	ep := []ruleset.Rule{
		{Match: ruleset.Match{Family: ruleset.IPv6, Protocol: 58, ICMP: &ruleset.ICMP{Type: 135}}, Action: accept},
		jump("failsafe"),
	}
	for _, name := range []string{"pi-one", "pi-two"} {
		if rules, ok := policies[name]; ok {
			f.Want(chain(name), &ruleset.Chain{Rules: rules})
			ep = append(ep, jump(name))
		}
	}
	f.Want(chain("hi-ep"), &ruleset.Chain{Rules: append(ep, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Reject}})})
	f.Want(dispatch("in"), &ruleset.Dispatch{})
	last := ruleset.Rule{Action: accept}
	if wildcard {
		last = ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Goto, Target: "hi-ep"}}
	} else {
		f.Want(entryID("in", "rstun0"), ruleset.Entry{Chain: "hi-ep"})
	}
	f.Want(chain("input"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: []ruleset.Rule{
		{Action: ruleset.Action{Verb: ruleset.DispatchIn, Target: "in"}}, last, {Action: drop},
	}})
}

func onPort(p uint16, verb ruleset.Verb) ruleset.Rule {
	return ruleset.Rule{
		Match:  ruleset.Match{Protocol: 6, DstPorts: []ruleset.PortRange{{Min: p, Max: p}}},
		Action: ruleset.Action{Verb: verb},
	}
}

func onPorts(lo, hi uint16, verb ruleset.Verb) ruleset.Rule {
	r := onPort(lo, verb)
	r.Match.DstPorts[0].Max = hi
	return r
}

// open tells which of the ports the host takes a connection to.
func openPorts(inj *netnstest.Injector, ports ...uint16) map[uint16]bool {
	got := map[uint16]bool{}
	for _, p := range ports {
		inj.FlushConntrack()
		packet := netnstest.Packet{Src: inj4("10.1.0.9"), Dst: inj4("10.1.0.1"), Protocol: 6, SrcPort: 4000, DstPort: p}
		if inj.In("rstun0", packet) {
			got[p] = true
		}
	}
	return got
}

// TestNetnsStandIn_NewEndpointIsGuardedWhateverTheKernelRefuses: on a host
// that had no rules and on one on which the endpoint is new, named and
// wildcard, a kernel that lacks an expression denies what policy denies and
// lets failsafes in. When the expression is there, all is as wanted.
func TestNetnsStandIn_NewEndpointIsGuardedWhateverTheKernelRefuses(t *testing.T) {
	cases := []struct {
		name     string
		lacks    []string
		policies map[string][]ruleset.Rule
		open     []uint16 // of 22, 80, 81, 90, 250, with stand-ins
		whole    []uint16 // of the same, without
		says     string
	}{
		{
			name: "log decides nothing", lacks: []string{"log"},
			policies: map[string][]ruleset.Rule{"pi-one": {
				{Action: ruleset.Action{Verb: ruleset.Log, LogPrefix: "x"}}, onPort(80, ruleset.Accept), onPort(81, ruleset.Drop),
			}, "pi-two": {{Action: ruleset.Action{Verb: ruleset.Log, LogPrefix: "y"}}, onPort(90, ruleset.Accept)}},
			open: []uint16{22, 80, 90}, whole: []uint16{22, 80, 90},
			says: "chain pi-one: rule 0 (log \"x\"), replaced by nothing: refused by the kernel",
		},
		{
			name: "reject becomes drop", lacks: []string{"reject"},
			policies: map[string][]ruleset.Rule{"pi-one": {onPort(81, ruleset.Reject), onPort(80, ruleset.Accept)}},
			open:     []uint16{22, 80}, whole: []uint16{22, 80},
			says: "chain hi-ep: rule 3 (reject), replaced by drop: refused by the kernel",
		},
		{
			name: "accept of a range is left out", lacks: []string{"range"},
			policies: map[string][]ruleset.Rule{"pi-one": {onPorts(80, 81, ruleset.Accept), onPort(90, ruleset.Accept)}},
			open:     []uint16{22, 90}, whole: []uint16{22, 80, 81, 90},
			says: "chain pi-one: rule 0 (accept), replaced by nothing",
		},
		{
			name: "drop of a range becomes drop of all", lacks: []string{"range"},
			policies: map[string][]ruleset.Rule{"pi-one": {onPorts(80, 81, ruleset.Drop), onPort(90, ruleset.Accept)}},
			open:     []uint16{22}, whole: []uint16{22, 90},
			says: "chain pi-one: rule 0 (drop), replaced by drop",
		},
		{
			name: "reject of a range becomes drop of all", lacks: []string{"range", "reject"},
			policies: map[string][]ruleset.Rule{"pi-one": {onPorts(80, 81, ruleset.Reject), onPort(90, ruleset.Accept)}},
			open:     []uint16{22}, whole: []uint16{22, 90},
			says: "chain pi-one: rule 0 (reject), replaced by drop",
		},
		{
			name: "nothing is refused but a jump leads nowhere", lacks: nil,
			policies: map[string][]ruleset.Rule{"pi-one": {
				onPort(80, ruleset.Accept), {Action: ruleset.Action{Verb: ruleset.Jump, Target: "missing"}}, onPort(90, ruleset.Accept),
			}},
			open: []uint16{22, 80}, whole: []uint16{22, 80},
			says: "chain pi-one: rule 1 (jump missing), replaced by drop: chain missing: not wanted",
		},
	}
	ports := []uint16{22, 80, 81, 90, 250}
	set := func(list []uint16) map[uint16]bool {
		m := map[uint16]bool{}
		for _, p := range list {
			m[p] = true
		}
		return m
	}
	same := func(a, b map[uint16]bool) bool {
		for _, p := range ports {
			if a[p] != b[p] {
				return false
			}
		}
		return true
	}
	for _, c := range cases {
		for _, how := range []string{"named", "named, fresh host", "wildcard", "wildcard, fresh host"} {
			t.Run(c.name+", "+how, func(t *testing.T) {
				inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
				f, w := lacking(t, inj.NS, c.lacks...)
				if !strings.Contains(how, "fresh") { // nobody governs the interface yet
					f.Want(dispatch("in"), &ruleset.Dispatch{})
					f.Want(chain("input"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: []ruleset.Rule{
						{Action: ruleset.Action{Verb: ruleset.DispatchIn, Target: "in"}},
						{Action: ruleset.Action{Verb: ruleset.Accept}}, {Action: ruleset.Action{Verb: ruleset.Drop}},
					}})
					reconcile(t, f)
				}
				guarded(f, strings.HasPrefix(how, "wildcard"), c.policies)
				again, err := f.Reconcile(t.Context())
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("Reconcile() = %v, want it to say %q", err, c.says)
				}
				if c.lacks != nil && again <= 0 {
					t.Error("what was refused is not tried again")
				}
				if got := openPorts(inj, ports...); !same(got, set(c.open)) {
					t.Errorf("open ports with stand-ins: %v, want %v\n%s", got, c.open, inj.NS.Run("nft", "list", "ruleset"))
				}
				if err := f.Verify(t.Context()); err != nil {
					t.Error(err)
				}

				w.lacks = nil
				f.forgive()
				if _, err := f.Reconcile(t.Context()); err != nil && c.lacks != nil {
					t.Errorf("Reconcile with a whole kernel: %v", err)
				}
				if got := openPorts(inj, ports...); !same(got, set(c.whole)) {
					t.Errorf("open ports with a whole kernel: %v, want %v\n%s", got, c.whole, inj.NS.Run("nft", "list", "ruleset"))
				}
			})
		}
	}
}

// TestNetnsStandIn_KnownChainKeepsItsRules: what is in force stays where a
// stand-in would decide otherwise, and goes on to what is wanted where it
// would not.
func TestNetnsStandIn_KnownChainKeepsItsRules(t *testing.T) {
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
	f, w := lacking(t, inj.NS)
	guarded(f, false, map[string][]ruleset.Rule{"pi-one": {onPort(80, ruleset.Accept)}, "pi-two": {onPort(90, ruleset.Accept)}})
	reconcile(t, f)
	w.lacks = []string{"range", "log"}
	f.Want(chain("pi-one"), &ruleset.Chain{Rules: []ruleset.Rule{onPorts(81, 82, ruleset.Accept)}})
	f.Want(chain("pi-two"), &ruleset.Chain{Rules: []ruleset.Rule{{Action: ruleset.Action{Verb: ruleset.Log}}, onPort(91, ruleset.Accept)}})
	_, err := f.Reconcile(t.Context())
	for _, want := range []string{"chain pi-one: rule 0: refused by the kernel", "chain pi-two: rule 0 (log \"\"), replaced by nothing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Reconcile() = %v, want it to say %q", err, want)
		}
	}
	for p, want := range map[uint16]bool{22: true, 80: true, 81: false, 90: false, 91: true} {
		if got := openPorts(inj, p)[p]; got != want {
			t.Errorf("port %d: accepted %v, want %v", p, got, want)
		}
	}
}

// TestNetnsStandIn_ManyRefusalsAreSetAsideAtOnce: a kernel without log, and
// more policies that log than a Reconcile has tries.
func TestNetnsStandIn_ManyRefusalsAreSetAsideAtOnce(t *testing.T) {
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
	f, _ := lacking(t, inj.NS, "log")
	guarded(f, false, nil)
	ep := *f.chains["hi-ep"].want
	rules := ep.Rules[:2:2]
	for i := range 3 * maxTries {
		name := "pi-" + string(rune('a'+i))
		f.Want(chain(name), &ruleset.Chain{Rules: []ruleset.Rule{
			{Action: ruleset.Action{Verb: ruleset.Log}}, onPort(uint16(100+i), ruleset.Accept),
		}})
		rules = append(rules, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Jump, Target: name}})
	}
	ep.Rules = append(rules, ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Drop}})
	f.Want(chain("hi-ep"), &ep)
	if _, err := f.Reconcile(t.Context()); err == nil || strings.Count(err.Error(), "replaced by nothing") != 3*maxTries {
		t.Errorf("Reconcile() = %v, want %d rules replaced", err, 3*maxTries)
	}
	last := uint16(100 + 3*maxTries - 1)
	if got := openPorts(inj, 22, 100, last, 99); !got[22] || !got[100] || !got[last] || got[99] {
		t.Errorf("open ports: %v, want 22, 100 and %d", got, last)
	}
}
