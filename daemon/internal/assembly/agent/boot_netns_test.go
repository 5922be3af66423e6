// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/internal/snapshot"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

// TestNetnsBoot_StateThatIsNotInForceInTimeIsALockdown: the unit fails, and the
// host is open at its failsafe ports only, of both IP versions. With time enough
// the state is in force.
func TestNetnsBoot_StateThatIsNotInForceInTimeIsALockdown(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	cfg := config.Config{Role: config.Agent, Node: "h1", RunDir: t.TempDir(), StateDir: t.TempDir()}
	w := snapshot.NewWriter(snapshotConfig(cfg, log, nil), snapshot.Loaded{})
	docs, err := api.DecodeAll([]byte(`
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: default}
---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: h1}
spec: {node: h1, interfaceName: '*'}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: web}
spec: {selector: all(), types: [Ingress], ingress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]}
`), "test")
	if err != nil {
		t.Fatal(err)
	}
	var evs []api.Event
	for i, d := range docs {
		d.Object.Default()
		evs = append(evs, api.Event{Key: d.Object.Key(), Object: d.Object, Revision: api.Revision(i + 1)})
	}
	for _, step := range []func() error{
		func() error { return w.Phase(t.Context(), syncer.Resyncing) },
		func() error { return w.Events(t.Context(), evs) },
		func() error { return w.Phase(t.Context(), syncer.InSync) },
		w.Flush,
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		most  time.Duration
		said  string
		ports map[uint16]bool
	}{
		{time.Nanosecond, "In force: a lockdown, for the last state could not be put in force", map[uint16]bool{22: true, 80: false, 81: false}},
		{time.Minute, "In force: the state of revision 3.", map[uint16]bool{22: true, 80: true, 81: false}},
	} {
		inj := netnstest.NewInjector(t, netnstest.InjectorConfig{})
		var out bytes.Buffer
		inj.NS.MustDo(func() error { err = bootWithin(t.Context(), cfg, log, &out, c.most); return nil })
		if late := c.most == time.Nanosecond; (err != nil) != late || !strings.Contains(out.String(), c.said) {
			t.Errorf("within %v: error %v, printed %q, want %q", c.most, err, out.String(), c.said)
		}
		for port, want := range c.ports {
			for _, ends := range [][2]string{{"10.1.0.2", "10.1.0.1"}, {"fd01::2", "fd01::1"}} {
				p := netnstest.Packet{Src: netip.MustParseAddr(ends[0]), Dst: netip.MustParseAddr(ends[1]), Protocol: netnstest.TCP, SrcPort: 9, DstPort: port}
				if got := inj.In("rstun0", p); got != want {
					t.Errorf("within %v: port %d from %s passes: %v, want %v", c.most, port, ends[0], got, want)
				}
			}
		}
	}
}
