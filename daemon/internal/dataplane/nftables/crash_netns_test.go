// SPDX-License-Identifier: Apache-2.0

package nftables_test

import (
	"flag"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/filtertest"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/nftables"
)

var kills = flag.Int("kills", 100, "how often TestNetnsKill kills the process that changes the rules")

func TestMain(m *testing.M) {
	filtertest.Main(m, func(string) (filtertest.Backend, error) { return nftables.New(nftables.Default()) })
}

// TestNetnsKill: the process that rewrites the table is killed at any moment,
// and started again.
func TestNetnsKill(t *testing.T) {
	filtertest.Kill(t, "nftables", *kills, 20*time.Millisecond)
}
