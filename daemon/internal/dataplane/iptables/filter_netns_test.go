// SPDX-License-Identifier: Apache-2.0

package iptables_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/filtertest"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// eachVariant runs a test for both variants of iptables.
func eachVariant(t *testing.T, test func(t *testing.T, name string, v iptables.Variant)) {
	for _, name := range []string{"legacy", "nft"} {
		t.Run(name, func(t *testing.T) { test(t, name, variants[name]) })
	}
}

func open(t testing.TB, ns *netnstest.NS, cfg iptables.Config) *iptables.Filter {
	t.Helper()
	if cfg.Run == nil && cfg.Variant != iptables.Auto { // who chooses runs programs in New, on the namespace's thread
		cfg.Run = inNS{ns}
	}
	var f *iptables.Filter
	ns.MustDo(func() (err error) {
		f, err = iptables.New(cfg)
		return err
	})
	t.Cleanup(func() { f.Close() })
	return f
}

func config(v iptables.Variant) iptables.Config {
	c := iptables.Default()
	c.Variant = v
	return c
}

func reconcile(t testing.TB, f *iptables.Filter) {
	t.Helper()
	if _, err := f.Reconcile(t.Context()); err != nil {
		t.Fatalf("Reconcile: %v", err)
	}
}

func verb(v ruleset.Verb, port uint16) ruleset.Rule {
	r := ruleset.Rule{Action: ruleset.Action{Verb: v}}
	if port != 0 {
		r.Match = ruleset.Match{Protocol: netnstest.TCP, DstPorts: []ruleset.PortRange{{Min: port, Max: port}}}
	}
	return r
}

func yield(r ruleset.Rule) ruleset.Rule {
	r.Action.Yield = true
	return r
}

func tcp(port uint16) netnstest.Packet {
	return netnstest.Packet{Src: netip.MustParseAddr("10.1.0.2"), Dst: netip.MustParseAddr("10.1.0.1"), Protocol: netnstest.TCP, SrcPort: 1000, DstPort: port}
}

func openPorts(inj *netnstest.Injector, ports ...uint16) string {
	var got []string
	for _, p := range ports {
		inj.FlushConntrack()
		if inj.In("rstun0", tcp(p)) {
			got = append(got, fmt.Sprint(p))
		}
	}
	return strings.Join(got, " ")
}

// counting counts the programs that are run.
type counting struct {
	host.Runner
	ran []string
}

func (c *counting) Run(ctx context.Context, cmd host.Cmd) ([]byte, error) {
	c.ran = append(c.ran, filepath.Base(cmd.Path))
	return c.Runner.Run(ctx, cmd)
}

// TestNetnsYield: what a base chain allows is accepted whatever the rules of
// others say; what it only yields, and what it says nothing of, they judge.
func TestNetnsYield(t *testing.T) {
	eachVariant(t, func(t *testing.T, name string, v iptables.Variant) {
		inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
		f := open(t, inj.NS, config(v))
		one := &ruleset.Chain{Hook: ruleset.HookInput, Rules: []ruleset.Rule{
			verb(ruleset.Accept, 1), yield(verb(ruleset.Accept, 2)), verb(ruleset.Return, 3), verb(ruleset.Accept, 4), verb(ruleset.Drop, 5),
			yield(verb(ruleset.Accept, 6)), yield(verb(ruleset.Accept, 0)),
		}}
		f.Want(filtertest.ChainID("one"), one)
		f.Want(filtertest.ChainID("none"), &ruleset.Chain{})
		two := &ruleset.Chain{Hook: ruleset.HookInput, Priority: 1, Rules: []ruleset.Rule{
			{Action: ruleset.Action{Verb: ruleset.Jump, Target: "none"}}, verb(ruleset.Drop, 4), verb(ruleset.Accept, 6), verb(ruleset.Accept, 7), yield(verb(ruleset.Accept, 0)),
		}}
		f.Want(filtertest.ChainID("two"), two)
		reconcile(t, f)
		ports := []uint16{1, 2, 3, 4, 5, 6, 7, 8}
		if got, want := openPorts(inj, ports...), "1 2 3 6 7 8"; got != want {
			t.Errorf("without rules of others: open %s, want %s", got, want)
		}
		inj.NS.Run("iptables-"+name, "-A", "INPUT", "-p", "tcp", "-j", "DROP")
		if got, want := openPorts(inj, ports...), "1 6 7"; got != want {
			t.Errorf("others drop everything: open %s, want %s", got, want)
		}
		yields := *two
		yields.Yield = true
		f.Want(filtertest.ChainID("two"), &yields)
		reconcile(t, f)
		if got, want := openPorts(inj, ports...), "1"; got != want {
			t.Errorf("the second chain yields: open %s, want %s", got, want)
		}
		f.SetAppend(true)
		reconcile(t, f)
		if got, want := openPorts(inj, ports...), ""; got != want {
			t.Errorf("our chains last: open %s, want %s", got, want)
		}
		f.SetAppend(false)
		reconcile(t, f)
		if got, want := openPorts(inj, ports...), "1"; got != want {
			t.Errorf("our chains first again: open %s, want %s", got, want)
		}
	})
}

// TestNetnsMarks: packets leave our chains without our marks and with all
// others, and bits that somebody else has set there do not deceive us.
func TestNetnsMarks(t *testing.T) {
	eachVariant(t, func(t *testing.T, name string, v iptables.Variant) {
		inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
		f := open(t, inj.NS, config(v))
		inj.NS.Run("iptables-"+name, "-t", "mangle", "-A", "PREROUTING", "-j", "MARK", "--set-mark", "0xfc0003")
		f.Want(filtertest.ChainID("in"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: []ruleset.Rule{
			verb(ruleset.Accept, 1), {Match: ruleset.Match{FromHost: true}, Action: ruleset.Action{Verb: ruleset.Drop}},
			yield(verb(ruleset.Accept, 2)), verb(ruleset.Drop, 3),
		}})
		f.Want(filtertest.ChainID("fwd"), &ruleset.Chain{Hook: ruleset.HookForward, Rules: []ruleset.Rule{verb(ruleset.Accept, 0)}})
		f.Want(filtertest.ChainID("post"), &ruleset.Chain{Hook: ruleset.HookPostrouting, Rules: []ruleset.Rule{
			{Match: ruleset.Match{FromHost: true}, Action: ruleset.Action{Verb: ruleset.Drop}}, yield(verb(ruleset.Accept, 0)),
		}})
		reconcile(t, f)
		inj.NS.Run("iptables-"+name, "-A", "INPUT", "-m", "mark", "!", "--mark", "0xe00003", "-j", "DROP")
		inj.NS.Run("iptables-"+name, "-t", "mangle", "-A", "POSTROUTING", "-m", "mark", "--mark", "0xe00003", "-m", "comment", "--comment", "clean", "-j", "ACCEPT")
		if got, want := openPorts(inj, 1, 2, 3, 4), "1 2 4"; got != want {
			t.Errorf("open %s, want %s", got, want)
		}
		p := tcp(80)
		p.Dst = netip.MustParseAddr("10.2.0.2")
		if !inj.Forward(p, "rstun0", "rstun1") {
			t.Error("a forwarded packet counts as one of the host in postrouting")
		}
		if out := inj.NS.Run("iptables-"+name, "-t", "mangle", "-vnL", "POSTROUTING"); !strings.Contains(strings.Join(strings.Fields(out), " "), "1 48 ACCEPT") {
			t.Errorf("the forwarded packet left with other marks than 0xe00003:\n%s", out)
		}
		out := netnstest.Packet{Src: netip.MustParseAddr("10.1.0.1"), Dst: netip.MustParseAddr("10.1.0.2"), Protocol: netnstest.UDP, SrcPort: 7, DstPort: 8}
		if inj.Out("rstun0", out) {
			t.Error("a packet of the host does not count as one in postrouting")
		}
	})
}

// TestNetnsFewPrograms: a change runs a restore and a save for each table that
// it touches, and a pass without one runs nothing; in particular our own
// change is not taken for somebody else's.
func TestNetnsFewPrograms(t *testing.T) {
	eachVariant(t, func(t *testing.T, name string, v iptables.Variant) {
		inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
		ns := inj.NS
		run := &counting{Runner: inNS{ns}}
		cfg := config(v)
		cfg.Run = run
		f := open(t, ns, cfg)
		filtertest.WantAll(f, filtertest.DriftState())
		reconcile(t, f)
		openPorts(inj, 80, 81) // counters are no change
		check := func(what string, want ...string) {
			t.Helper()
			run.ran = nil
			reconcile(t, f)
			if !slices.Equal(run.ran, want) {
				t.Errorf("%s: ran %v, want %v", what, run.ran, want)
			}
		}
		check("nothing new")
		f.Want(filtertest.ChainID("ep"), &ruleset.Chain{Rules: []ruleset.Rule{verb(ruleset.Drop, 0)}})
		check("a chain", "iptables-"+name+"-restore", "iptables-"+name+"-save", "ip6tables-"+name+"-restore", "ip6tables-"+name+"-save")
		check("nothing new")
		f.Want(filtertest.MemberID("s", "10.1.0.9/32"), ruleset.Member{})
		check("a member")
		check("nothing new")
		f.Resync()
		check("asked to read again", "iptables-"+name+"-save", "ip6tables-"+name+"-save")
	})
}

// TestNetnsRulesAndSetsTogether: rules and the sets that they use change in one
// step: no packet meets the old rules with the new members, or the other way
// round.
func TestNetnsRulesAndSetsTogether(t *testing.T) {
	eachVariant(t, func(t *testing.T, name string, v iptables.Variant) {
		inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
		f := open(t, inj.NS, config(v))
		f.Want(filtertest.SetID("s"), &ruleset.Set{Family: ruleset.IPv4, Type: ruleset.TypeNet})
		members := []ruleset.ID{filtertest.MemberID("s", "10.1.0.2/32"), filtertest.MemberID("s", "10.1.0.3/32")}
		show := func(i int) { // 10.1.0.2 to port 1, or 10.1.0.3 to port 2
			rule := verb(ruleset.Accept, uint16(1+i))
			rule.Match.Family, rule.Match.SrcSets = ruleset.IPv4, []string{"s"}
			f.Want(filtertest.ChainID("in"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: []ruleset.Rule{rule, verb(ruleset.Drop, 0)}})
			f.Want(members[i], ruleset.Member{})
			f.Unwant(members[1-i])
		}
		show(0)
		reconcile(t, f)
		done := make(chan error, 1)
		go func() {
			for i := range 60 {
				show((i + 1) % 2)
				if _, err := f.Reconcile(t.Context()); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
		wrong, packets := 0, 0
		for {
			for i, port := range []uint16{2, 1} { // never both
				p := tcp(port)
				p.Src = netip.AddrFrom4([4]byte{10, 1, 0, byte(2 + i)})
				packets++
				if inj.In("rstun0", p) {
					wrong++
				}
			}
			select {
			case err := <-done:
				if err != nil || wrong > 0 {
					t.Errorf("%v; %d of %d packets wrongly admitted", err, wrong, packets)
				}
				return
			default:
			}
		}
	})
}

// TestNetnsSeesForItself: what another program changes is found and repaired
// without a Resync, by looking.
func TestNetnsSeesForItself(t *testing.T) {
	eachVariant(t, func(t *testing.T, name string, v iptables.Variant) {
		s := suite(name)
		for _, what := range slices.Sorted(maps(s.Tamper)) {
			t.Run(what, func(t *testing.T) {
				inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
				var drifts []string
				cfg := config(v)
				cfg.OnDrift = func(d iptables.Drift) { drifts = append(drifts, d.What...) }
				f := open(t, inj.NS, cfg)
				filtertest.WantAll(f, filtertest.DriftState())
				reconcile(t, f)
				inj.NS.Run("sh", "-ec", s.Tamper[what])
				again, err := f.Reconcile(t.Context())
				if err != nil || len(drifts) == 0 {
					t.Errorf("Reconcile: %v; drift %v, want some", err, drifts)
				}
				if again <= 0 || again > time.Second {
					t.Errorf("Reconcile wants to be called again after %v, want at most 1s", again)
				}
				if got := openPorts(inj, 80, 81, 95); got != "80 95" {
					t.Errorf("open %s, want 80 95", got)
				}
			})
		}
	})
}

func maps[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TestNetnsFight: a program that changes our rules again and again is left
// alone for a while now and then, and told of.
func TestNetnsFight(t *testing.T) {
	ns := netnstest.New(t)
	f := open(t, ns, config(iptables.Legacy))
	filtertest.WantAll(f, filtertest.DriftState())
	reconcile(t, f)
	for range 30 {
		ns.Run("iptables-legacy", "-F", "rs-ep")
		if again, err := f.Reconcile(t.Context()); err != nil {
			if again <= 0 || !strings.Contains(err.Error(), "again and again") {
				t.Errorf("Reconcile: %v, %v", again, err)
			}
			return
		}
	}
	t.Error("30 repairs in a row without a pause")
}

// TestNetnsCleanup: what was there before is there afterwards, to the letter.
func TestNetnsCleanup(t *testing.T) {
	eachVariant(t, func(t *testing.T, name string, v iptables.Variant) {
		inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
		s := suite(name)
		inj.NS.Run("sh", "-ec", s.Foreign)
		for _, f := range []string{"iptables-", "ip6tables-"} {
			if v != iptables.Legacy { // tables of which, once made, stay
				break
			}
			for _, table := range []string{"raw", "mangle", "filter"} {
				inj.NS.Run(f+name, "-t", table, "-S")
			}
		}
		dump := func() string {
			return inj.NS.Run("sh", "-ec", strings.ReplaceAll(`(iptables-V-save; ip6tables-V-save) | sed 's/\[.*\]//; /^#/d'; ipset list; nft list ruleset | grep -v counter || true`, "V", name))
		}
		before := dump()
		f := open(t, inj.NS, config(v))
		filtertest.WantAll(f, filtertest.DriftState())
		for i, h := range []ruleset.Hook{ruleset.HookPrerouting, ruleset.HookOutput, ruleset.HookPostrouting, ruleset.HookForward} {
			f.Want(filtertest.ChainID(fmt.Sprint("c", h)), &ruleset.Chain{Hook: h, Priority: -300 * (1 - i/2), Rules: []ruleset.Rule{
				{Match: ruleset.Match{FromHost: true, Family: ruleset.IPv4, Src: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("10.3.0.0/24")}},
					Action: ruleset.Action{Verb: ruleset.Accept}},
			}})
		}
		reconcile(t, f)
		if dump() == before {
			t.Error("nothing was made")
		}
		inj.NS.Run("iptables-"+name, "-A", "mine", "-j", "rs-in") // whoever does that wants it gone with the chain
		if err := f.Cleanup(t.Context()); err != nil {
			t.Error(err)
		}
		if after := dump(); after != before {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
		if err := f.Cleanup(t.Context()); err != nil {
			t.Errorf("a second time: %v", err)
		}
		reconcile(t, f) // all of it again
		f.Close()
		inj.NS.MustDo(func() error {
			for i, want := range []bool{true, false} {
				if found, err := iptables.Cleanup(t.Context(), host.RealRunner{}); err != nil || found != want {
					t.Errorf("Cleanup without a Filter, time %d: found %v, %v", i+1, found, err)
				}
			}
			return nil
		})
		if after := dump(); after != before {
			t.Errorf("before:\n%s\nafter Cleanup without a Filter:\n%s", before, after)
		}
	})
}

// lacking is an iptables-restore, and a kernel behind it, that refuses rules
// with one of some words in them.
type lacking struct {
	host.Runner
	words []string
}

func (l *lacking) Run(ctx context.Context, c host.Cmd) ([]byte, error) {
	for _, w := range l.words {
		if strings.Contains(string(c.Stdin), w) {
			return nil, &host.ExitError{Path: c.Path, Code: 1, Stderr: "iptables-restore: line 9 failed"}
		}
	}
	return l.Runner.Run(ctx, c)
}

// TestNetnsRefused: what the kernel refuses is denied, and what it refuses of
// a rule that does not decide is left out; all else is in force. A chain that
// is there stays as it was. When the kernel takes it, it comes.
func TestNetnsRefused(t *testing.T) {
	eachVariant(t, func(t *testing.T, name string, v iptables.Variant) {
		inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
		run := &lacking{Runner: inNS{inj.NS}}
		cfg := config(v)
		cfg.Run = run
		f := open(t, inj.NS, cfg)
		log := ruleset.Rule{Action: ruleset.Action{Verb: ruleset.Log, LogPrefix: "x", LogRate: 5, LogUnit: "minute"}}
		related := verb(ruleset.Accept, 3)
		related.Match.CtState = ruleset.CtNew
		f.Want(filtertest.ChainID("ep"), &ruleset.Chain{Rules: []ruleset.Rule{log, verb(ruleset.Accept, 1), verb(ruleset.Reject, 2), related, verb(ruleset.Accept, 4), verb(ruleset.Drop, 0)}})
		f.Want(filtertest.DispatchID("in"), &ruleset.Dispatch{})
		f.Want(filtertest.EntryID("in", "rstun0"), ruleset.Entry{Chain: "ep"})
		f.Want(filtertest.ChainID("in"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: []ruleset.Rule{
			{Action: ruleset.Action{Verb: ruleset.DispatchIn, Target: "in"}}, verb(ruleset.Accept, 0),
		}})
		run.words = []string{"-m limit", "-j REJECT", "-m conntrack"}
		_, err := f.Reconcile(t.Context())
		if err == nil || !strings.Contains(err.Error(), "chain ep") || !strings.Contains(err.Error(), "-m conntrack") {
			t.Errorf("Reconcile: %v, want an error that names the chain and the rule", err)
		}
		if got, want := openPorts(inj, 1, 2, 3, 4, 5), "1 4"; got != want {
			t.Errorf("without limit, reject and conntrack: open %s, want %s", got, want)
		}
		run.words = nil
		f.Resync()
		f.Want(filtertest.ChainID("ep"), &ruleset.Chain{Rules: []ruleset.Rule{verb(ruleset.Accept, 1), verb(ruleset.Drop, 0)}})
		reconcile(t, f)
		if got, want := openPorts(inj, 1, 2, 3, 4, 5), "1"; got != want {
			t.Errorf("another chain: open %s, want %s", got, want)
		}
		run.words = []string{"--dports 9 "}
		f.Want(filtertest.ChainID("ep"), &ruleset.Chain{Rules: []ruleset.Rule{verb(ruleset.Accept, 2), verb(ruleset.Accept, 9), verb(ruleset.Drop, 0)}})
		if _, err := f.Reconcile(t.Context()); err == nil {
			t.Error("Reconcile with a rule that is refused: no error")
		}
		if got, want := openPorts(inj, 1, 2, 9), "1"; got != want {
			t.Errorf("a chain that is there, with a refused rule: open %s, want %s", got, want)
		}
	})
}

// otherWords prints some rules in other words than they were sent, as another
// version of iptables may.
type otherWords struct{ host.Runner }

func (o otherWords) Run(ctx context.Context, c host.Cmd) ([]byte, error) {
	out, err := o.Runner.Run(ctx, c)
	return []byte(strings.ReplaceAll(string(out), "-m multiport --dports 80,90:99", "-m multiport --destination-ports 80,90:99")), err
}

// TestNetnsOtherVersion: an iptables that prints rules in other words than
// ours is learned from, and what is altered is still seen.
func TestNetnsOtherVersion(t *testing.T) {
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
	cfg := config(iptables.Legacy)
	run := &counting{Runner: otherWords{inNS{inj.NS}}}
	cfg.Run = run
	var drifts []string
	cfg.OnDrift = func(d iptables.Drift) { drifts = append(drifts, d.What...) }
	f := open(t, inj.NS, cfg)
	filtertest.WantAll(f, filtertest.DriftState())
	for range 3 {
		if _, err := f.Reconcile(t.Context()); err == nil {
			break
		}
	}
	run.ran = nil
	f.Resync()
	reconcile(t, f)
	if len(drifts) > 0 || len(run.ran) != 2 {
		t.Errorf("drift %v, ran %v, want none and two saves", drifts, run.ran)
	}
	inj.NS.Run("sh", "-ec", suite("legacy").Tamper["alter match"])
	reconcile(t, f)
	if len(drifts) != 1 || openPorts(inj, 80, 81, 95) != "80 95" {
		t.Errorf("after an alteration: drift %v, open %s", drifts, openPorts(inj, 80, 81, 95))
	}
}

// TestNetnsLock: while another program holds the lock of xtables, nothing is
// half done and the error says why; the first attempt after it is free does
// all.
func TestNetnsLock(t *testing.T) {
	holds := []time.Duration{200 * time.Millisecond, 2500 * time.Millisecond}
	if !testing.Short() {
		holds = append(holds, 10*time.Second)
	}
	lock, err := os.OpenFile("/run/xtables.lock", os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	fd := int(lock.Fd())
	inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
	cfg := config(iptables.Legacy)
	cfg.LockWait = time.Second
	f := open(t, inj.NS, cfg)
	for i, hold := range holds {
		if err := unix.Flock(fd, unix.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		freed := make(chan time.Time, 1)
		go func() {
			time.Sleep(hold)
			freed <- time.Now()
			unix.Flock(fd, unix.LOCK_UN)
		}()
		port := uint16(100 + i)
		f.Want(filtertest.ChainID("in"), &ruleset.Chain{Hook: ruleset.HookInput, Rules: []ruleset.Rule{verb(ruleset.Drop, port), verb(ruleset.Accept, 0)}})
		failures, late, said := 0, 0, ""
		for {
			wasFree := len(freed) > 0
			_, err := f.Reconcile(t.Context())
			if err == nil {
				break
			}
			if failures, said = failures+1, err.Error(); wasFree {
				late++
			}
			if failures > 100 {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond << min(failures-1, 4)) // as the loop does
		}
		t.Logf("held %v: applied %v after release, %d attempts failed", hold, time.Since(<-freed).Round(time.Millisecond), failures)
		if late > 1 { // one may have begun just before the lock was free
			t.Errorf("held %v: %d attempts failed after release", hold, late)
		}
		if hold > 2*time.Second && (failures == 0 || !strings.Contains(said, "lock of xtables")) {
			t.Errorf("held %v: %d failures, the last says %q", hold, failures, said)
		}
		if got := openPorts(inj, port, port+50); got != fmt.Sprint(port+50) {
			t.Errorf("open %s", got)
		}
	}
}

// TestMissing: without the programs the error says so.
func TestMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, v := range []iptables.Variant{iptables.Auto, iptables.Legacy, iptables.NFT} {
		if _, err := iptables.New(config(v)); err == nil || !strings.Contains(err.Error(), "not installed (package iptables)") {
			t.Errorf("New(%s) = %v, want an error that names the package", v, err)
		}
	}
}

// TestNetnsAuto: the variant with our rules is taken, else the one with the
// host's, else the host's default.
func TestNetnsAuto(t *testing.T) {
	eachVariant(t, func(t *testing.T, name string, v iptables.Variant) {
		other := map[string]string{"legacy": "nft", "nft": "legacy"}[name]
		ns := netnstest.New(t)
		is := func(what string) {
			t.Helper()
			got, version, why := open(t, ns, config(iptables.Auto)).Variant()
			if got != v {
				t.Errorf("%s: variant %s (%s), want %s", what, got, why, v)
			}
			t.Log(got, version, why)
		}
		ns.Run("iptables-"+name, "-A", "INPUT", "-j", "ACCEPT")
		is("a rule of the host")
		ns.Run("iptables-"+other, "-A", "INPUT", "-j", "ACCEPT")
		ns.Run("iptables-"+name, "-N", "rs-x")
		is("a chain of ours")
	})
}
