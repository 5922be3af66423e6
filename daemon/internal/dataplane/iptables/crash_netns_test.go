// SPDX-License-Identifier: Apache-2.0

package iptables_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/filtertest"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/iptables"
)

var kills = flag.Int("kills", 100, "how often TestNetnsKill kills the process that changes the rules, for each variant")

func TestMain(m *testing.M) {
	filtertest.Main(m, func(variant string) (filtertest.Backend, error) {
		var v iptables.Variant
		if _, err := fmt.Sscan(variant, &v); err != nil {
			return nil, err
		}
		return iptables.New(config(v))
	})
}

// TestNetnsKill: the process that rewrites the chains is killed at any moment,
// and started again.
func TestNetnsKill(t *testing.T) {
	eachVariant(t, func(t *testing.T, _ string, v iptables.Variant) {
		filtertest.Kill(t, fmt.Sprint(v), *kills, 120*time.Millisecond)
	})
}
