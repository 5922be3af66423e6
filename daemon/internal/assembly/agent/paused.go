// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"log/slog"
	"path/filepath"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/audit"
	"github.com/ripstop/ripstop/daemon/internal/auditlog"
	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/pause"
)

// record is what is done on this host through the agent's socket: a log like
// the server's, in the agent's directory.
type record struct {
	log *auditlog.Log // nil: it could not be opened
	err error         // why
}

// openRecord never fails: a host without a record is protected all the same,
// and cannot be paused.
func openRecord(cfg config.Config, log *slog.Logger) record {
	l, err := auditlog.Open(auditlog.Config{
		Dir: filepath.Join(cfg.StateDir, "agent", "audit"), MaxBytes: 1 << 20, Keep: 4,
		Program: "ripstopd " + api.Version, Journal: auditlog.ToJournald("ripstopd-audit"), Log: log.With("part", "audit"),
	})
	if err != nil {
		log.Error("The host's record cannot be written, so policy cannot be paused", "err", err)
	}
	return record{l, err}
}

func (r record) close() {
	if r.log != nil {
		_ = r.log.Close() // each line is on disk already
	}
}

// done puts on disk that somebody has done something.
func (r record) done(verb, by, message string) error {
	if r.err != nil {
		return r.err
	}
	return r.log.Commit(audit.Record{Time: time.Now().UTC(), Stage: audit.Done, Verb: verb, Path: "/" + verb,
		Who: &audit.Who{User: by, Method: "socket", From: "unix"}, Message: message})
}

// openPause reads whether policy was paused when the last agent ended.
func openPause(cfg config.Config, log *slog.Logger, r record) *pause.Keeper {
	return pause.Open(pause.Config{Dir: filepath.Join(cfg.StateDir, "agent"), Record: r.done, Log: log.With("part", "pause")})
}
