// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/ripstop/ripstop/daemon/api"
)

func TestConnections_AreWrittenAsOneAnswer(t *testing.T) {
	eth0 := map[string][]netip.Addr{"eth0": {netip.MustParseAddr("10.0.0.5")}}
	want := api.Connections{Host: "h1", Interfaces: eth0, More: 7, Connections: []api.Connection{
		{Way: "inbound", Protocol: 6, Source: netip.MustParseAddr("192.0.2.7"), Destination: netip.MustParseAddr("10.0.0.5"), SourcePort: 51000, DestinationPort: 5432, In: []string{"eth0"}},
		{Way: "outbound", Protocol: 58, Source: netip.MustParseAddr("fd00::5"), Destination: netip.MustParseAddr("fd00::1"), ICMPType: 128, Out: []string{"eth0"}},
	}}
	for _, c := range []struct {
		name        string
		early, late error
		code        int
		contains    string
		broken      bool
	}{
		{name: "all is well", code: 200},
		{name: "nothing can be read", early: errors.New("no table"), code: 503, contains: "no table"},
		{name: "it breaks off", late: errors.New("no more"), code: 200, broken: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, _ := newTestBoard()
			client, _ := serving(t, b, Actions{Connections: func(_ context.Context, most int, begin func(api.Connections) error, visit func(api.Connection) error) (int, error) {
				if c.early != nil {
					return 0, c.early
				}
				if most != 100_000 {
					t.Errorf("so many are asked for: %d", most)
				}
				err := begin(api.Connections{Host: "h1", Interfaces: eth0})
				for _, x := range want.Connections {
					err = errors.Join(err, visit(x))
				}
				return 7, errors.Join(err, c.late)
			}})
			code, body := ask(t, client, "GET", "/connections")
			if code != c.code || !strings.Contains(body, c.contains) {
				t.Fatalf("GET /connections = %d %q, want %d %q", code, body, c.code, c.contains)
			}
			if c.early != nil {
				return
			}
			var got api.Connections
			err := json.Unmarshal([]byte(body), &got)
			if (err != nil) != c.broken {
				t.Fatalf("GET /connections = %q: %v, broken should be %v", body, err, c.broken)
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); err == nil && diff != "" {
				t.Errorf("GET /connections (-want +got):\n%s", diff)
			}
		})
	}
}
