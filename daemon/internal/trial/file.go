// SPDX-License-Identifier: Apache-2.0

package trial

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/host"
)

// fileName is the file of the open changes in the agent's directory.
const fileName = "trials.json"

// maxFile bounds it, in bytes.
const maxFile = 64 << 20

// stored is an open change as it is on disk.
type stored struct {
	Change *api.Change `json:"change"`
	// Saved is when this was written, Until when the change goes back, by the
	// wall clock.
	Saved    time.Time `json:"saved"`
	Until    time.Time `json:"until"`
	Back     bool      `json:"back"`
	Reason   string    `json:"reason,omitempty"`
	Restored bool      `json:"restored,omitempty"`
}

// saveLocked writes what is open. If that fails the state in memory still
// holds; after a restart the snapshot is enforced, and then what the store
// says, with a new timer.
func (f *Filter) saveLocked() {
	list := []stored{}
	now := f.cfg.Clock.Now().Round(0)
	for _, o := range f.open {
		list = append(list, stored{o.change, now, o.until, o.back, o.reason, o.restored})
	}
	err := host.WriteFileAtomic(filepath.Join(f.cfg.Dir, fileName), 0o600, func(w io.Writer) error { return json.NewEncoder(w).Encode(list) })
	if err != nil {
		f.cfg.Log.Error("Open changes are not on disk", "err", err)
	}
}

// load reads what is open. Whatever does not hold is not.
func (f *Filter) load() []*open {
	data, err := host.ReadFileIn(f.cfg.Dir, fileName, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var opens []*open
	if err == nil {
		opens, err = parse(data, f.cfg.Clock.Now())
	}
	if err != nil {
		f.cfg.Log.Error("What is on disk of open changes does not hold: the store tells which there are", "err", err)
		return nil
	}
	return opens
}

// parse reads the file. A change whose time is over, or that was saved in what
// is the future by the clock of now, is over: its deadline is now.
func parse(data []byte, now time.Time) ([]*open, error) {
	var list []stored
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fmt.Errorf("%s: %w", fileName, err)
	}
	var out []*open
	for _, s := range list {
		if s.Change == nil || s.Change.Name == "" {
			return nil, fmt.Errorf("%s: a change without a name", fileName)
		}
		left := s.Until.Sub(now.Round(0))
		if s.Saved.After(now.Round(0)) || left > s.Change.Spec.Timeout.Duration {
			left = 0
		}
		out = append(out, &open{change: s.Change, deadline: now.Add(left), until: now.Round(0).Add(left), back: s.Back, reason: s.Reason, restored: s.Restored})
	}
	return out, nil
}
