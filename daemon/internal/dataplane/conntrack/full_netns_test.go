// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"errors"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// fill fills the table up to a number of entries.
func (b *bed) fill(upTo int) {
	b.t.Helper()
	b.host.MustDo(func() error {
		u, err := b.part.c.usage()
		if err != nil {
			return err
		}
		var list []wanted
		for i := range upTo - u.entries {
			n := u.entries + i
			list = append(list, wanted{
				src: netip.AddrFrom4([4]byte{100, byte(n >> 16), byte(n >> 8), byte(n)}), dst: netip.MustParseAddr(host4), srcPort: 40000, dstPort: 443,
			})
		}
		err = put(b.part.c, list)
		if errors.Is(err, unix.ENOMEM) { // what is full is full
			err = nil
		}
		return err
	})
}

// usage looks at the table now.
func (b *bed) usage() Summary {
	b.t.Helper()
	b.host.MustDo(func() error { return b.part.look() })
	return b.part.Summary()
}

// TestNetnsConntrack_FullTableAdmitsNothing: with no room for a connection
// more, what is denied stays denied, the alarm is raised before and then, and
// all heals when there is room. The limit is the machine's own: it is one for
// all namespaces, and not ours to lower.
func TestNetnsConntrack_FullTableAdmitsNothing(t *testing.T) {
	if testing.Short() {
		t.Skip("fills the whole table: not with -short")
	}
	b := newBed(t)
	most := b.usage().Most
	if most == 0 || most > 1<<19 {
		t.Skipf("the kernel's limit is %d connections: it takes too long to fill", most)
	}
	for _, at := range []string{host4 + ":80", host4 + ":81"} {
		serve(t, b.host, at)
	}
	b.say(settings(intent.Settings{}), open, guard([]string{"in"}, nil), policy("in", &intent.Policy{Ingress: []intent.Rule{
		ports(api.Deny, protoTCP, 81), ports(api.Deny, 17, 81), all,
	}}))
	denied := func(when string) {
		t.Helper()
		for range 5 {
			if c, err := dialTimeout(b.client, host4+":81"); err == nil {
				c.Close()
				t.Fatalf("%s: a denied connection is admitted", when)
			}
		}
	}
	established := dialFlow(t, b.client, "tcp", host4+":80")
	b.fill(most/5*4 - 10)
	if s := b.usage(); s.NearlyFull() || s.Full {
		t.Errorf("alarm at %d of %d, want none yet", s.Entries, s.Most)
	}
	b.fill(most/5*4 + 10)
	if s := b.usage(); !s.NearlyFull() || s.Full {
		t.Errorf("at %d of %d: nearly full %v, full %v; want true, false", s.Entries, s.Most, s.NearlyFull(), s.Full)
	}
	for b.usage().Entries < most {
		b.fill(most)
	}
	if s := b.usage(); !s.Full {
		t.Errorf("at %d of %d: full %v, want true", s.Entries, s.Most, s.Full)
	}
	denied("when the table is full")
	if c, err := dialTimeout(b.client, host4+":80"); err == nil {
		c.Close()
		t.Log("an allowed connection found room")
	}
	expect(t, true, established)
	// A change still cuts, which makes room as well.
	if s := b.say(policy("in", &intent.Policy{Ingress: []intent.Rule{ports(api.Deny, 17, 443), ports(api.Deny, protoTCP, 81), all}})); s.LastCut < most/2 {
		t.Errorf("%d flows cut in a full table, want nearly all of %d", s.LastCut, most)
	} else {
		t.Logf("%d of %d flows cut in %v", s.LastCut, s.LastJudged, s.LastTook)
	}
	if s := b.usage(); s.NearlyFull() || s.Full {
		t.Errorf("at %d of %d: nearly full %v, full %v; want the alarm ended", s.Entries, s.Most, s.NearlyFull(), s.Full)
	}
	denied("when there is room again")
	expect(t, true, established, dialFlow(t, b.client, "tcp", host4+":80"))
}
