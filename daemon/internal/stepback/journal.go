// SPDX-License-Identifier: Apache-2.0

package stepback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/host"
)

// fileName is the file of the journal and of what is held, in the agent's
// directory. maxFile bounds it, in bytes: what is held comes from the journal,
// twice.
const (
	fileName = "stepback.json"
	maxFile  = 64 << 20
)

// saveEvery is how long a change may be in memory only.
const saveEvery = time.Second

// noteLocked takes what events change into the journal. Values are looked up
// later, from what is remembered here: the events do not wait for it.
func (f *Filter) noteLocked(evs []api.Event) {
	var objects []object
	sets := true
	for _, ev := range evs {
		if !f.worthNoting(ev) {
			continue
		}
		objects = append(objects, object{Kind: ev.Key.Kind, Namespace: ev.Key.Namespace, Name: ev.Key.Name,
			before: f.cfg.Stored(ev.Key), after: func() api.Object { return ev.Object }})
		sets = sets && isSet(ev.Key.Kind)
	}
	if len(objects) == 0 {
		return
	}
	now := f.cfg.Clock.Now()
	var e *entry
	if n := len(f.journal); n > 0 && !f.last.IsZero() && (now.Sub(f.last) < pause || sets && onlySets(f.journal[n-1])) {
		e = f.journal[n-1]
	} else {
		e = &entry{At: api.Time{Time: now.UTC().Truncate(time.Second)}}
		f.journal = append(f.journal, e)
	}
	f.last = now
	for _, o := range objects {
		if i := slices.IndexFunc(e.Objects, func(have object) bool { return have.key() == o.key() }); i >= 0 {
			e.Objects[i].after = o.after
			continue
		}
		e.Objects = append(e.Objects, o)
	}
	f.soonLocked()
}

// soonLocked has everything written down before long.
func (f *Filter) soonLocked() {
	f.dirty = true
	select {
	case f.news <- struct{}{}:
	default:
	}
}

// worthNoting reports whether an event is of what says which packets may pass
// here.
func (f *Filter) worthNoting(ev api.Event) bool {
	switch {
	case ev.Key.Name == "" || !api.Changeable(ev.Key.Kind):
		return false
	case ev.Key.Kind == api.KindHostEndpoint:
		if h, is := ev.Object.(*api.HostEndpoint); is {
			return h.Spec.Node == f.cfg.Node
		}
		h, is := f.cfg.Stored(ev.Key)().(*api.HostEndpoint)
		return is && h.Spec.Node == f.cfg.Node
	}
	return true
}

func isSet(k api.Kind) bool { return k == api.KindGlobalNetworkSet || k == api.KindNetworkSet }

func onlySets(e *entry) bool {
	return !slices.ContainsFunc(e.Objects, func(o object) bool { return !isSet(o.Kind) })
}

// size is how many bytes of values an entry has.
func (e *entry) size() (n int) {
	for _, o := range e.Objects {
		for _, v := range []api.ChangedValue{o.Before, o.After} {
			n += len(v.Value) + len(v.Packed)
		}
	}
	return n
}

// lookUpLocked fills in what the journal's resources were, and forgets the
// oldest changes if they are too many or too large.
func (f *Filter) lookUpLocked() {
	for _, e := range f.journal {
		for i := range e.Objects {
			o := &e.Objects[i]
			if o.before != nil {
				v, err := api.NewChangedValue(o.before())
				if err != nil {
					f.cfg.Log.Info("What was before a change is no value that can be gone back to", "key", o.key().String(), "err", err)
					o.Name = "" // it is taken out below
				}
				o.Before, o.before = v, nil
			}
			if o.after != nil {
				v, err := api.NewChangedValue(o.after())
				if err != nil { // what cannot be read is not enforced: the value before is
					v = o.Before
				}
				o.After, o.after = v, nil
			}
		}
		e.Objects = slices.DeleteFunc(e.Objects, func(o object) bool { return o.Name == "" })
	}
	f.journal = slices.DeleteFunc(f.journal, func(e *entry) bool { return len(e.Objects) == 0 })
	f.journal = slices.DeleteFunc(f.journal, func(e *entry) bool {
		much := onlySets(e) && e.size() > maxValues
		if much { // what people have changed stays
			f.cfg.Log.Info("A change of network sets is too large to go back before, and is passed over", "sets", len(e.Objects))
		}
		return much
	})
	total, keep := 0, len(f.journal)
	for keep > 0 && len(f.journal)-keep < maxChanges {
		if total += f.journal[keep-1].size(); total > maxValues {
			break
		}
		keep--
	}
	f.journal = slices.Clone(f.journal[keep:])
}

// Run writes the journal down when there is something new in it, until ctx
// ends, and then what is left.
func (f *Filter) Run(ctx context.Context) error {
	failing := false
	save := func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if !f.dirty {
			return
		}
		f.lookUpLocked()
		err := f.saveLocked()
		if err != nil && !failing {
			f.cfg.Log.Warn("The journal of changes is not on disk: after a restart this host cannot go back before them", "err", err)
		}
		failing = err != nil
	}
	for {
		select {
		case <-ctx.Done():
			save()
			return nil
		case <-f.news:
		}
		t := f.cfg.Clock.NewTimer(saveEvery)
		select {
		case <-ctx.Done():
		case <-t.C():
		}
		t.Stop()
		save()
	}
}

// stored is the file.
type stored struct {
	Journal []*entry     `json:"journal"`
	Held    []storedHold `json:"held"`
	Since   api.Time     `json:"since,omitzero"`
	By      string       `json:"by,omitempty"`
}

type storedHold struct {
	Kind      api.Kind `json:"kind"`
	Namespace string   `json:"namespace,omitempty"`
	Name      string   `json:"name"`
	hold
}

// saveLocked writes everything down.
func (f *Filter) saveLocked() error {
	f.lookUpLocked()
	s := stored{Journal: f.journal, Held: []storedHold{}, Since: f.since, By: f.by}
	for _, k := range f.keysLocked() {
		s.Held = append(s.Held, storedHold{k.Kind, k.Namespace, k.Name, *f.held[k]})
	}
	err := host.WriteFileAtomic(filepath.Join(f.cfg.Dir, fileName), 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(s) })
	if err != nil {
		f.soonLocked() // again
		return err
	}
	f.dirty = false
	return nil
}

// load reads what the agent before left. Whatever does not hold is not: then
// the store's word counts.
func (f *Filter) load() {
	s, err := read(f.cfg.Dir)
	if err != nil {
		f.cfg.Log.Error("What is on disk of earlier values does not hold: the datastore's word counts", "err", err)
		return
	}
	f.journal, f.since, f.by = s.Journal, s.Since, s.By
	for _, h := range s.Held {
		one := h.hold
		f.held[api.Key{Kind: h.Kind, Namespace: h.Namespace, Name: h.Name}] = &one
	}
}

// read reads the file; one that is not there is empty.
func read(dir string) (stored, error) {
	data, err := host.ReadFileIn(dir, fileName, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return stored{}, nil
	}
	if err != nil {
		return stored{}, err
	}
	return parse(data)
}

// parse reads a file's text. All of it holds, or nothing does.
func parse(data []byte) (stored, error) {
	var s stored
	if err := json.Unmarshal(data, &s); err != nil {
		return stored{}, fmt.Errorf("%s: %w", fileName, err)
	}
	look := func(k api.Key, values ...api.ChangedValue) error {
		if !api.Changeable(k.Kind) || k.Name == "" {
			return fmt.Errorf("%s: %s is nothing to go back on", fileName, k)
		}
		for _, v := range values {
			if _, err := v.Object(k); err != nil {
				return fmt.Errorf("%s: %s: %w", fileName, k, err)
			}
		}
		return nil
	}
	for _, e := range s.Journal {
		if e == nil {
			return stored{}, fmt.Errorf("%s: a change without content", fileName)
		}
		for _, o := range e.Objects {
			if err := look(o.key(), o.Before, o.After); err != nil {
				return stored{}, err
			}
		}
	}
	for _, h := range s.Held {
		if err := look(api.Key{Kind: h.Kind, Namespace: h.Namespace, Name: h.Name}, h.Value, h.Live); err != nil {
			return stored{}, err
		}
	}
	return s, nil
}

// Over are the events of a state that was saved, with what is held in place of
// what was saved: whoever puts it in force needs no Filter. nil stays nil.
func Over(dir string, log *slog.Logger, events iter.Seq[[]api.Event]) iter.Seq[[]api.Event] {
	s, err := read(dir)
	if err != nil {
		log.Error("What is on disk of earlier values does not hold: the saved state counts", "err", err)
	}
	if err != nil || events == nil || len(s.Held) == 0 {
		return events
	}
	held := map[api.Key]bool{}
	var instead []api.Event
	for _, h := range s.Held {
		k := api.Key{Kind: h.Kind, Namespace: h.Namespace, Name: h.Name}
		held[k] = true
		if v, err := h.Value.Object(k); err == nil && v != nil { // parse has looked
			instead = append(instead, api.Event{Key: k, Object: v})
		}
	}
	return func(yield func([]api.Event) bool) {
		for batch := range events {
			batch = slices.DeleteFunc(slices.Clone(batch), func(ev api.Event) bool { return held[ev.Key] })
			if !yield(batch) {
				return
			}
		}
		if len(instead) > 0 {
			yield(instead)
		}
	}
}
