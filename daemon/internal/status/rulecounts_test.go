// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"errors"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// TestRuleCounts_ShowWhatWasRead: each rule's packets and bytes; and nothing,
// but no failure either, if the kernel does not tell.
func TestRuleCounts_ShowWhatWasRead(t *testing.T) {
	var err error
	reg := prometheus.NewRegistry()
	reg.MustRegister(NewRuleCounts(func(context.Context) (map[string]ruleset.Count, error) {
		return map[string]ruleset.Count{"gnp/web ingress 0": {Packets: 3, Bytes: 180}}, err
	}))
	got := map[string]float64{}
	gather := func() {
		clear(got)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				got[f.GetName()+" "+m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
			}
		}
	}
	gather()
	if len(got) != 2 || got["ripstop_rule_packets_total gnp/web ingress 0"] != 3 || got["ripstop_rule_bytes_total gnp/web ingress 0"] != 180 {
		t.Errorf("Gather() = %v, want 3 packets and 180 bytes of gnp/web ingress 0", got)
	}
	if err = errors.New("closed"); true {
		gather()
	}
	if len(got) != 0 {
		t.Errorf("Gather() = %v, want nothing", got)
	}
}
