// SPDX-License-Identifier: Apache-2.0

package syncer

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

var (
	seed   = flag.Uint64("seed", 0, "seed of random tests; 0: a new one each time")
	rounds = flag.Int("rounds", 60, "rounds of random tests")
)

// history is what was written to a store, by key.
type history map[api.Key][]moment

type moment struct {
	at     api.Revision
	exists bool
}

// existsAt tells whether the key existed at a revision.
func (h history) existsAt(k api.Key, at api.Revision) bool {
	exists := false
	for _, m := range h[k] {
		if m.at <= at {
			exists = m.exists
		}
	}
	return exists
}

// TestWatcher_PictureEqualsTheStoreWhateverBreaks writes at random while
// watches break, the store goes away and history is compacted. No deletion is
// ever sent of what exists, and in the end the sink has what the store has.
func TestWatcher_PictureEqualsTheStoreWhateverBreaks(t *testing.T) {
	s := *seed
	if s == 0 {
		s = rand.Uint64()
	}
	for round := range *rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			t.Logf("seed %d (-seed=%d -rounds=1 repeats it)", s+uint64(round), s+uint64(round))
			synctest.Test(t, func(t *testing.T) { anyBreaks(t, rand.New(rand.NewPCG(s+uint64(round), 1))) })
		})
	}
}

func anyBreaks(t *testing.T, rng *rand.Rand) {
	f := initialised(t, 0)
	ctx := context.Background()
	past := history{}
	write := func() {
		o := gns(fmt.Sprintf("s%d", rng.IntN(12)), "10.0.0.0/8")
		if rng.IntN(2) == 0 {
			o = hep(fmt.Sprintf("e%d", rng.IntN(12)))
		}
		k := o.Key()
		if last := past[k]; len(last) > 0 && last[len(last)-1].exists && rng.IntN(3) == 0 {
			remove(t, f, k)
			_, rev, err := f.Store.List(ctx, k.Kind, store.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			past[k] = append(past[k], moment{rev, false})
			return
		}
		past[k] = append(past[k], moment{put(t, f, o), true})
	}
	for range rng.IntN(30) {
		write()
	}
	r := newRecorder()
	var w *Watcher
	stop := func() {}
	start := func(known Known) {
		var cfg = Config{Store: f, Known: known}
		w, stop = running(t, cfg, r)
	}
	start(Known{})
	for range 200 {
		switch rng.IntN(14) {
		case 0:
			f.breakWatches()
		case 1:
			f.setAway(true)
		case 2:
			f.setAway(false)
		case 3:
			_, rev, err := f.Store.List(ctx, api.KindTier, store.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			f.Compact(ctx, rev-api.Revision(rng.IntN(3)))
		case 4:
			rest(time.Duration(rng.IntN(12000)) * time.Millisecond)
		case 5:
			if rng.IntN(4) == 0 { // the agent is started anew with what it knew
				stop()
				start(knownOfSink(r, w))
			}
		case 6:
			synctest.Wait()
		default:
			write()
		}
	}
	f.setAway(false)
	for range 5 {
		rest(20 * time.Second)
		w.Accept() // many may have gone while it was away
	}
	rest(20 * time.Second)
	stop()
	if diff := cmp.Diff(inStore(t, f.Store), r.objects); diff != "" {
		t.Errorf("picture at the sink (-store +sink):\n%s", diff)
	}
	for _, ev := range r.deletes {
		if past.existsAt(ev.Key, ev.Revision) {
			t.Errorf("deletion of %s at revision %d was sent, but it existed: %v", ev.Key, ev.Revision, past[ev.Key])
		}
	}
	if r.phase() != InSync {
		t.Errorf("phase in the end = %v, want InSync", r.phase())
	}
}

// knownOfSink is what a snapshot of the sink would hold.
func knownOfSink(r *recorder, w *Watcher) Known {
	k := Known{Revision: r.revision, ClusterGUID: w.known.guid}
	var events []api.Event
	for key, rev := range r.objects {
		o := gns(key.Name, "10.0.0.0/8")
		if key.Kind != api.KindGlobalNetworkSet {
			o = hep(key.Name)
		}
		events = append(events, api.Event{Key: key, Object: o, Revision: rev})
	}
	k.remember(events)
	return k
}

// BenchmarkLatency measures from Store.Put to the event at the sink.
func BenchmarkLatency(b *testing.B) {
	f := initialised(b, 1000)
	r := newRecorder()
	r.heard = make(chan api.Event, 2000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- New(Config{Store: f, Kinds: testKinds}).Run(ctx, r) }()
	for range 1004 {
		<-r.heard
	}
	for b.Loop() {
		rev := put(b, f, gns("probe", "10.0.0.0/8"))
		for ev := range r.heard {
			if ev.Revision == rev {
				break
			}
		}
	}
	cancel()
	<-done
}

// BenchmarkRelist measures a full listing of 10,000 objects that brings no
// change: the cost of a compaction while away.
func BenchmarkRelist(b *testing.B) {
	f := initialised(b, 10_000)
	w := New(Config{Store: f, Kinds: testKinds})
	r := newRecorder()
	for b.Loop() {
		if err := w.resync(context.Background(), r); err != nil {
			b.Fatal(err)
		}
	}
	if _, puts := r.counts(); puts != 10_004 {
		b.Errorf("%d events for 10,004 objects listed again and again, want one each", puts)
	}
}
