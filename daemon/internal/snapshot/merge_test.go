// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/syncer"
)

// TestWriter_FileIsWhatAPlainMapWouldHold: whatever comes in whatever order,
// with writes in between, the file holds what a map of the last versions that
// could be read holds.
func TestWriter_FileIsWhatAPlainMapWouldHold(t *testing.T) {
	ctx := context.Background()
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 1))
		cfg := testConfig(t.TempDir())
		w := NewWriter(cfg, Loaded{})
		w.Phase(ctx, syncer.InSync)
		type version struct {
			rev api.Revision
			bad bool
		}
		model := map[api.Key]version{}
		rev := api.Revision(1)
		big := make([]byte, 20_000)
		for i := range big {
			big[i] = 'a' + byte(rng.IntN(26))
		}
		for step := range 60 {
			var evs []api.Event
			for range rng.IntN(40) {
				rev++
				o := gns(fmt.Sprintf("s%02d", rng.IntN(60)), "10.0.0.0/8")
				if rng.IntN(4) == 0 { // so that there are several blocks
					o.Metadata().Annotations = map[string]string{"a": string(big)}
				}
				k := o.Key()
				switch rng.IntN(5) {
				case 0:
					evs = append(evs, api.Event{Key: k, Revision: rev})
					delete(model, k)
				case 1:
					evs = append(evs, api.Event{Key: k, Object: api.DecodeStored(k, []byte("{"), rev), Revision: rev})
					if have, ok := model[k]; !ok || have.bad {
						model[k] = version{rev, true}
					}
				default:
					evs = append(evs, event(o, rev))
					model[k] = version{rev, false}
				}
			}
			w.Events(ctx, evs)
			if rng.IntN(3) > 0 {
				continue
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			if !exists(cfg, fileLast) {
				continue
			}
			l, err := Load(cfg)
			if err != nil {
				t.Fatal(err)
			}
			got := map[api.Key]version{}
			for _, r := range records(l.image) {
				got[r.key] = version{r.revision, r.unreadable}
				if r.unreadable != unreadable(r.object(new(api.StoredDecoder))) {
					t.Errorf("%s is marked unreadable: %v", r.key, r.unreadable)
				}
			}
			if diff := cmp.Diff(model, got, cmp.AllowUnexported(version{})); diff != "" {
				t.Fatalf("seed %d, step %d: want -, file +:\n%s", seed, step, diff)
			}
			if rng.IntN(4) == 0 { // the agent starts again
				w = NewWriter(cfg, l)
				w.Phase(ctx, syncer.InSync)
			}
		}
		if len(w.image) < 3 {
			t.Errorf("seed %d: %d blocks, the test wants several", seed, len(w.image))
		}
	}
}

// TestImage_ChangePacksOneBlockAnew: what no change is about is kept as it is.
func TestImage_ChangePacksOneBlockAnew(t *testing.T) {
	var evs []api.Event
	for i := range 5000 {
		evs = append(evs, event(gns(fmt.Sprintf("s%05d", i), "10.0.0.0/8"), api.Revision(i+1)))
	}
	cfg := testConfig(t.TempDir())
	written(t, cfg, evs)
	l, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	before := l.image
	after, differs, err := before.merge([]change{{key: evs[2500].Key, revision: 9000, object: evs[2500].Object}})
	if err != nil || !differs || len(after) != len(before) || len(before) < 5 {
		t.Fatalf("merge = %d blocks of %d, differs %v, %v", len(after), len(before), differs, err)
	}
	anew := 0
	for i := range after {
		if &after[i].packed[0] != &before[i].packed[0] {
			anew++
		}
	}
	if anew != 1 || after.count() != 5000 {
		t.Errorf("%d blocks of %d were packed anew, want 1; %d records", anew, len(after), after.count())
	}
	if _, differs, err := before.merge([]change{{key: evs[7].Key, revision: 8, object: evs[7].Object}}); differs || err != nil {
		t.Errorf("merge of what is there already differs: %v, %v", differs, err)
	}
}
