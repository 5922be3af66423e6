// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// RuleCounts shows to Prometheus what the kernel has counted for each rule,
// read when somebody asks. A rule is called "gnp/web ingress 0" (kind, policy,
// direction, place in the list); a profile's "pro/NAME ingress 0"; the end of
// a tier "tier NAME default".
type RuleCounts struct {
	read           func(context.Context) (map[string]ruleset.Count, error)
	packets, bytes desc
}

// countsWithin bounds how long the kernel may take to tell.
const countsWithin = 5 * time.Second

// NewRuleCounts gives the RuleCounts of a packet filter; register it once.
// read gives counts by rule and may be called from any goroutine.
func NewRuleCounts(read func(context.Context) (map[string]ruleset.Count, error)) *RuleCounts {
	return &RuleCounts{
		read:    read,
		packets: counter("ripstop_rule_packets_total", "Packets that a rule has decided, logged or passed.", "rule"),
		bytes:   counter("ripstop_rule_bytes_total", "Bytes of these packets.", "rule"),
	}
}

// Describe names the metrics.
func (c *RuleCounts) Describe(ch chan<- *prometheus.Desc) {
	ch <- c.packets.d
	ch <- c.bytes.d
}

// Collect reads the counters. If they cannot be read there are none.
func (c *RuleCounts) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), countsWithin)
	defer cancel()
	counts, err := c.read(ctx)
	if err != nil {
		return // everything else is still worth to be told
	}
	for rule, n := range counts {
		ch <- prometheus.MustNewConstMetric(c.packets.d, c.packets.t, float64(n.Packets), rule)
		ch <- prometheus.MustNewConstMetric(c.bytes.d, c.bytes.t, float64(n.Bytes), rule)
	}
}
