// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/audit"
	"github.com/ripstop/ripstop/daemon/store"
)

// Restorer is who restores, in the record, what a change has written when
// nobody has asked for it: its time is over, or a host has refused it.
const Restorer = "ripstop-server"

// restoring is a Store for whoever rolls changes back: what it restores, that
// is, what it writes while a Change is at a revision, is recorded like other
// writes, an intent before and the end behind it. Unlike those it is written
// also when nothing can be recorded: it may be what lets an operator in again.
type restoring struct {
	store.Store
	to   Recorder
	line audit.Record // what all lines have in common
	log  *slog.Logger
}

// Restoring is the Store for a change.Keeper; to may be nil.
func Restoring(s store.Store, to Recorder, log *slog.Logger) store.Store {
	if to == nil {
		return s
	}
	return &restoring{Store: s, to: to, line: audit.Record{Who: &audit.Who{User: Restorer}}, log: log}
}

// restoringFor is the Store for a request that rolls a change back.
func (s *Server) restoringFor(r *request) store.Store {
	if s.recorder.to == nil {
		return s.cfg.Store
	}
	line := r.line(audit.Intent)
	return &restoring{Store: s.cfg.Store, to: s.recorder.to, line: audit.Record{Request: line.Request, Who: line.Who}, log: s.log}
}

// Put implements store.Store.
func (s *restoring) Put(ctx context.Context, o api.Object, cond store.If) (api.Revision, error) {
	verb := "update"
	if cond.IsAbsent() {
		verb = "create"
	}
	end := s.begin(ctx, verb, o.Key(), o, cond)
	rev, err := s.Store.Put(ctx, o, cond)
	end(err)
	return rev, err
}

// Delete implements store.Store.
func (s *restoring) Delete(ctx context.Context, k api.Key, cond store.If) error {
	end := s.begin(ctx, "delete", k, nil, cond)
	err := s.Store.Delete(ctx, k, cond)
	end(err)
	return err
}

// begin records what is about to be restored; end, how it went.
func (s *restoring) begin(ctx context.Context, verb string, k api.Key, after api.Object, cond store.If) (end func(error)) {
	of, _ := cond.Other()
	d, known := api.DescriptorOf(k.Kind)
	if of.Kind != api.KindChange || !known {
		return func(error) {}
	}
	rec := s.line
	rec.Stage, rec.Verb, rec.Resource, rec.Namespace, rec.Name = audit.Intent, verb, resourceName(d.Plural, d.Group), k.Namespace, k.Name
	rec.Message = "change " + of.Name + " is rolled back"
	end = func(err error) {
		rec.Stage, rec.Code, rec.Before, rec.After = audit.Done, http.StatusOK, nil, nil
		if err != nil {
			rec.Stage, rec.Code, rec.Message = audit.Failed, http.StatusConflict, rec.Message+": "+err.Error()
			if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrExists) && !errors.Is(err, store.ErrNotFound) {
				rec.Code = http.StatusServiceUnavailable
			}
		}
		s.to.Append(rec)
	}
	if before, err := s.Store.Get(ctx, k); err == nil {
		rec.Before = audit.Object(before)
	}
	rec.After = audit.Object(after)
	if err := s.to.Commit(rec); err != nil {
		s.log.Warn("Restored without a record", "key", k.String(), "change", of.Name, "err", err)
	}
	return end
}
