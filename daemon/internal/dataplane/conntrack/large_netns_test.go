// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// wanted is a UDP connection that a test puts into the table.
type wanted struct {
	src, dst         netip.Addr
	srcPort, dstPort uint16
	master           *wanted
}

func (w *wanted) tuple(typ uint16, back bool) []byte {
	src, dst, sport, dport := w.src, w.dst, w.srcPort, w.dstPort
	if back {
		src, dst, sport, dport = dst, src, dport, sport
	}
	first := uint16(1)
	if src.Is6() {
		first = 3
	}
	be := func(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }
	ip := nlattr.Append(nlattr.Append(nil, first, src.AsSlice()), first+1, dst.AsSlice())
	proto := nlattr.Append(nlattr.Append(nlattr.Append(nil, 1, []byte{17}), 2, be(sport)), 3, be(dport))
	return nlattr.Append(nil, typ|nlattr.Nested, append(nlattr.Append(nil, attrTupleIP|nlattr.Nested, ip), nlattr.Append(nil, attrTupleProto|nlattr.Nested, proto)...))
}

// put makes entries in the table of the namespace, assured ones that last.
func put(c *conn, list []wanted) error {
	for len(list) > 0 {
		n := min(len(list), atOnce)
		var b []byte
		for _, w := range list[:n] {
			body := []byte{unix.AF_INET, 0, 0, 0}
			if w.src.Is6() {
				body[0] = unix.AF_INET6
			}
			body = append(body, w.tuple(attrOrig, false)...)
			body = append(body, w.tuple(attrReply, true)...)
			body = nlattr.Append(body, attrStatus, []byte{0, 0, 0, 0x0e}) // seen reply, assured, confirmed
			body = nlattr.Append(body, 7, []byte{0, 0, 0x0e, 0x10})       // an hour
			if w.master != nil {
				body = append(body, w.master.tuple(attrMaster, false)...)
			}
			b, _ = c.append(b, subsystem, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, body)
		}
		if err := c.send(b); err != nil {
			return err
		}
		for answers := 0; answers < n; {
			b, err := c.recv()
			if err == nil {
				err = messages(b, func(m message) error { answers++; return m.errno() })
			}
			if err != nil {
				return err
			}
		}
		list = list[n:]
	}
	return nil
}

// many are n connections from as many clients to this host, port 80 and 443
// in turn.
func many(n int) []wanted {
	var out []wanted
	for i := range n {
		w := wanted{src: netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)}), dst: netip.MustParseAddr(host4), srcPort: 40000, dstPort: 80}
		if i%2 == 1 {
			w.dstPort = 443
		}
		out = append(out, w)
	}
	return out
}

// policies is a host with n policies that judge what comes in by a set each,
// before the one that allows all but a port.
func policies(n int, last ...intent.Rule) []intent.Change {
	var names []string
	changes := []intent.Change{settings(intent.Settings{}), open}
	for i := range n {
		s, p := fmt.Sprint("s", i), fmt.Sprint("p", i)
		changes = append(changes, set(s), policy(p, &intent.Policy{Ingress: []intent.Rule{
			{Action: api.Allow, Protocol: protoTCP, Source: intent.Entity{Set: s}},
			{Action: api.Deny, Source: intent.Entity{Set: s}},
		}}))
		for j := range 20 {
			changes = append(changes, member(s, fmt.Sprintf("172.%d.%d.0/24", 16+j%16, i%256), true))
		}
		names = append(names, p)
	}
	names = append(names, "last")
	return append(changes, policy("last", &intent.Policy{Ingress: last}), guard(names, nil))
}

// TestNetnsConntrack_LargeTableIsDoneInSlices: no call holds up the lane, and
// what is to be cut in a table of 20,000 is, and nothing else.
func TestNetnsConntrack_LargeTableIsDoneInSlices(t *testing.T) {
	b := newBed(t)
	const n = 20_000
	b.host.MustDo(func() error { return put(b.part.c, many(n)) })
	b.say(policies(20, all)...)
	b.plan(policy("last", &intent.Policy{Ingress: []intent.Rule{ports(api.Deny, 17, 80), all}}))
	turns := 0
	for turns == 0 || b.part.pass != nil {
		b.turn()
		turns++
	}
	s := b.part.Summary()
	if s.LastCut != n/2 || s.LastJudged != n/2 { // the rule says nothing of the others
		t.Errorf("%d flows cut of %d judged, want %d of %d", s.LastCut, s.LastJudged, n/2, n/2)
	}
	if turns < 3 {
		t.Errorf("%d turns for %d entries in %v, want several: a turn is %v", turns, n, s.LastTook, slice)
	}
	t.Logf("%d entries in %d turns, %v", n, turns, s.LastTook)
	for flow := range b.entries() {
		if flow.dstPort == 80 {
			t.Fatalf("left: %+v", flow)
		}
	}
}

// TestNetnsConntrack_ChangeDuringAPassIsTheNextPass: it neither stops the pass
// nor is forgotten.
func TestNetnsConntrack_ChangeDuringAPassIsTheNextPass(t *testing.T) {
	b := newBed(t)
	const n = 20_000
	b.host.MustDo(func() error { return put(b.part.c, many(n)) })
	b.say(policies(20, all)...)
	b.plan(policy("last", &intent.Policy{Ingress: []intent.Rule{ports(api.Deny, 17, 80), all}}))
	b.turn()
	if b.part.pass == nil {
		t.Fatalf("the pass is over after one turn: %+v", b.part.Summary())
	}
	cut := b.part.pass.cut
	b.plan(policy("last", &intent.Policy{Ingress: []intent.Rule{ports(api.Deny, 17, 80, 443), all}}))
	b.part.Resync() // begins the pass anew; what was cut is cut
	s := b.settle()
	if s.Cut != n || s.LastCut != n/2 {
		t.Errorf("%d flows cut, %d by the second change (%d before it came); want %d, %d", s.Cut, s.LastCut, cut, n, n/2)
	}
}

// TestNetnsConntrack_RelatedGoesWithItsMaster: and stays with it.
func TestNetnsConntrack_RelatedGoesWithItsMaster(t *testing.T) {
	for _, n := range []int{2, 4} {
		b := newBed(t)
		control := many(n)
		for i := range control {
			control[i].dstPort = 21 + uint16(i%2)
		}
		data := []wanted{control[0], control[1]}
		for i := range data {
			data[i].dstPort, data[i].master = 5000+uint16(i), &control[i]
		}
		b.say(policies(0, ports(api.Allow, 17, 21, 22))...)
		b.host.MustDo(func() error { return put(b.part.c, append(append([]wanted{}, control...), data...)) })
		if s := b.say(policy("last", &intent.Policy{Ingress: []intent.Rule{ports(api.Allow, 17, 22)}})); s.LastCut != n/2+1 {
			t.Errorf("%d flows cut of %d, want half of them and what came of one of those", s.LastCut, n)
		}
		for flow := range b.entries() {
			if flow.dstPort != 22 && flow.dstPort != 5001 {
				t.Errorf("left: %+v", flow)
			}
		}
	}
}

// TestNetnsConntrack_DeletionMissesAnotherFlowOfTheSameTuple: an entry that
// ended and began again since it was read is not the one that was judged.
func TestNetnsConntrack_DeletionMissesAnotherFlowOfTheSameTuple(t *testing.T) {
	b := newBed(t)
	one := many(1)
	b.host.MustDo(func() error { return put(b.part.c, one) })
	var doom []doomed
	for _, e := range b.entries() {
		doom = append(doom, e.doom())
	}
	b.host.MustDo(func() error {
		if removed, kept, err := b.part.c.remove(doom); removed != 1 || kept != 0 || err != nil {
			t.Errorf("deleting = %d, %d, %v; want 1, 0, nil", removed, kept, err)
		}
		// Another takes the place in memory, of which the id is made.
		if err := put(b.part.c, many(2)[1:]); err != nil {
			return err
		}
		if err := put(b.part.c, one); err != nil {
			return err
		}
		if removed, kept, err := b.part.c.remove(doom); removed != 0 || kept != 0 || err != nil {
			t.Errorf("deleting it again, when there is another = %d, %d, %v; want 0, 0, nil", removed, kept, err)
		}
		return nil
	})
	if n := len(b.entries()); n != 2 {
		t.Errorf("%d entries, want the new one and the other", n)
	}
}

// TestNetnsConntrack_OtherZonesAreLeftAlone: what other programs track in
// zones of their own did not pass by our rules as it is listed.
func TestNetnsConntrack_OtherZonesAreLeftAlone(t *testing.T) {
	b := newBed(t)
	serve(t, b.host, host4+":80")
	b.host.Run("sh", "-c", "nft add table inet z; nft 'add chain inet z pre { type filter hook prerouting priority -300; }';"+
		"nft 'add chain inet z out { type filter hook output priority -300; }'; nft add rule inet z pre ct zone set 7; nft add rule inet z out ct zone set 7")
	b.say(settings(intent.Settings{}), open)
	dialFlow(t, b.client, "tcp", host4+":80")
	if s := b.say(guard([]string{"none"}, nil), policy("none", &intent.Policy{})); s.LastCut != 0 || s.LastJudged != 0 || s.LastTime.IsZero() {
		t.Errorf("%d flows cut of %d judged at %v, want none in a pass", s.LastCut, s.LastJudged, s.LastTime)
	}
}

// The passes below are over 100,000 entries from as many clients, on a host
// with 100 policies. slowest-call-ms is the longest that the lane was held up.

// BenchmarkNetnsConntrack_RuleOfAPolicy: a rule changes that is for none of the
// flows.
func BenchmarkNetnsConntrack_RuleOfAPolicy(bm *testing.B) {
	benchmarkPass(bm, 0, func(i int) []intent.Change {
		return []intent.Change{policy("last", &intent.Policy{Ingress: []intent.Rule{ports(api.Deny, 17, uint16(1000+i)), all}})}
	})
}

// BenchmarkNetnsConntrack_PoliciesOfTheEndpoint: all flows are judged anew,
// by all policies.
func BenchmarkNetnsConntrack_PoliciesOfTheEndpoint(bm *testing.B) {
	benchmarkPass(bm, 100_000, func(i int) []intent.Change {
		names := []string{"last"}
		for j := range 100 - i%2 {
			names = append([]string{fmt.Sprint("p", j)}, names...)
		}
		return []intent.Change{guard(names, nil)}
	})
}

// BenchmarkNetnsConntrack_MemberOfASet: one client comes into a set, or goes.
func BenchmarkNetnsConntrack_MemberOfASet(bm *testing.B) {
	benchmarkPass(bm, 1, func(i int) []intent.Change {
		return []intent.Change{member("s1", "100.0.0.9/32", i%2 == 1)}
	})
}

func benchmarkPass(bm *testing.B, judged int, next func(i int) []intent.Change) {
	const n = 100_000
	b := newBed(bm)
	b.host.MustDo(func() error { return put(b.part.c, many(n)) })
	b.say(policies(100, all)...)
	var slowest time.Duration
	turns := 0
	for i := 1; bm.Loop(); i++ {
		b.plan(next(i)...)
		for first := true; first || b.part.pass != nil; first = false {
			b.host.MustDo(func() error {
				if _, err := b.filter.Reconcile(context.Background()); err != nil {
					return err
				}
				began := time.Now()
				_, err := b.part.Reconcile(context.Background())
				slowest = max(slowest, time.Since(began))
				return err
			})
			turns++
		}
		s := b.part.Summary()
		if s.LastJudged > judged || i > 1 && s.LastJudged < judged-1 || s.LastTime.IsZero() {
			bm.Fatalf("%d judged, want %d", s.LastJudged, judged)
		}
	}
	bm.ReportMetric(float64(slowest.Microseconds())/1000, "slowest-call-ms")
	bm.ReportMetric(float64(turns)/float64(bm.N), "turns/op")
}
