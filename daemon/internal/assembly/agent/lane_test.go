// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"sync"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/calc"
	"github.com/ripstop/ripstop/daemon/internal/intent"
	"github.com/ripstop/ripstop/daemon/internal/status"
)

// TestLane_ShowsTheNewestOfItsEndpoints: several goroutines have something to
// say of endpoints; whoever is late, the board ends with what is so now.
func TestLane_ShowsTheNewestOfItsEndpoints(t *testing.T) {
	board := status.NewBoard(status.Config{Host: "h1"})
	l := &lane{board: board, interfaces: map[string]*intent.Interface{}}
	l.showEndpoints()
	for i := range 5000 {
		name := fmt.Sprint("h", i)
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(l.showEndpoints)
		}
		wg.Go(func() { l.setEndpoints([]calc.Endpoint{{Name: name}}) })
		wg.Wait()
		if got := board.Status().Status.Endpoints; len(got) != 1 || got[0].Name != name {
			t.Fatalf("round %d: the board shows %v, want %s", i, got, name)
		}
	}
}
