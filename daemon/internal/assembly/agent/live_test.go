// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/reconcile"
)

// hanging is a Part that does not come back before it is let go.
type hanging struct{ let chan bool }

func (hanging) Name() string { return "hanging" }
func (hanging) Resync()      {}
func (h hanging) Reconcile(context.Context) (time.Duration, error) {
	<-h.let
	return 0, nil
}

// TestLiveness_NamesWhatHangs: each piece that is at one thing for too long,
// and none that waits for something to do.
func TestLiveness_NamesWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		part, calc := hanging{make(chan bool)}, &pulse{}
		loop := reconcile.NewLoop(reconcile.Config{Name: "host", Parts: []reconcile.Part{part}})
		live := liveness(loop, calc)
		expect := func(when, piece string, hangs bool) {
			t.Helper()
			if err := live[piece](); (err != nil) != hangs {
				t.Errorf("%s: %s: %v, want an error: %v", when, piece, err, hangs)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- loop.Run(ctx) }()
		time.Sleep(time.Hour)
		expect("nothing to do", "lane", false)
		expect("nothing to do", "calc", false)
		loop.Open()
		calc.work()
		time.Sleep(calcMost - time.Second)
		expect("at work for a while", "lane", false)
		expect("at work for a while", "calc", false)
		time.Sleep(2 * time.Second)
		expect("calc hangs", "calc", true)
		time.Sleep(laneMost)
		expect("the lane hangs", "lane", true)
		calc.rest()
		part.let <- true
		synctest.Wait()
		expect("both are back", "lane", false)
		expect("both are back", "calc", false)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
