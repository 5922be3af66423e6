// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	changes "github.com/ripstop/ripstop/daemon/change"
	"github.com/ripstop/ripstop/daemon/store"
)

// restored are the lines of a record about what changeRequest wrote and what
// was put back, which comes last first.
var restored = []string{
	"intent create globalnetworksets.projectcalico.org old 0", "done create globalnetworksets.projectcalico.org old 200",
	"intent delete globalnetworkpolicies.projectcalico.org p 0", "done delete globalnetworkpolicies.projectcalico.org p 200",
	"intent delete tiers.projectcalico.org t 0", "done delete tiers.projectcalico.org t 200",
}

func TestRestoring_IsRecordedOfWhoeverAskedForIt(t *testing.T) {
	e, m := audited(t, nil)
	e.want(201, "POST", "/apis/projectcalico.org/v3/globalnetworksets", oldSet)
	name := requestOne(t, e)
	m.take()
	a := e.want(200, "POST", changesPath+"/"+name+"/rollback", "{}")
	words, records := m.take()
	if len(words) != len(restored)+2 || !slices.Equal(words[1:len(words)-1], restored) {
		t.Fatalf("recorded:\n%s\nwant between the two of the request:\n%s", strings.Join(words, "\n"), strings.Join(restored, "\n"))
	}
	for _, r := range records {
		if r.Request != a.header.Get("Audit-Id") || r.Who == nil || r.Who.Method != "socket" {
			t.Errorf("line of %s is of request %q by %+v", r.Name, r.Request, r.Who)
		}
	}
	if r := records[1]; r.Before != nil || !strings.Contains(string(r.After), "192.0.2.0/24") || r.Message != "change "+name+" is rolled back" {
		t.Errorf("the set that comes again: %q, before %s, after %s", r.Message, r.Before, r.After)
	}
	if r := records[3]; !strings.Contains(string(r.Before), `"all()"`) || r.After != nil {
		t.Errorf("the policy that goes: before %s, after %s", r.Before, r.After)
	}
}

// TestRestoring_OfItselfIsRecordedAndDoneWithoutARecordToo: the time of a change
// is over; once the record can be written, once it cannot.
func TestRestoring_OfItselfIsRecordedAndDoneWithoutARecordToo(t *testing.T) {
	for _, full := range []bool{false, true} {
		e, m := audited(t, nil)
		e.want(201, "POST", "/apis/projectcalico.org/v3/globalnetworksets", oldSet)
		requestOne(t, e)
		m.take()
		m.mu.Lock()
		m.full = full
		m.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		keeper := &changes.Keeper{
			Store: Restoring(e.mem, m, slog.New(slog.DiscardHandler)), Log: slog.New(slog.DiscardHandler),
			Now:  func() time.Time { return time.Now().Add(time.Hour) },
			Over: func(context.Context, *api.Change) { cancel() },
		}
		keeper.Run(ctx)
		cancel()
		if got := there(t, e); got != "001" {
			t.Errorf("full %v: rolled back: %s, want 001", full, got)
		}
		words, records := m.take()
		want := restored
		if full {
			want = []string{restored[1], restored[3], restored[5]} // what can be appended
		}
		if !slices.Equal(words, want) {
			t.Errorf("full %v: recorded:\n%s\nwant:\n%s", full, strings.Join(words, "\n"), strings.Join(want, "\n"))
		}
		for _, r := range records {
			if r.Who == nil || r.Who.User != Restorer || r.Request != "" {
				t.Errorf("line of %s is of request %q by %+v", r.Name, r.Request, r.Who)
			}
		}
	}
}

// TestRestoring_WhatFailsIsRecordedSo: somebody was faster. What is no part of
// a change is not recorded here.
func TestRestoring_WhatFailsIsRecordedSo(t *testing.T) {
	e, m := audited(t, nil)
	e.want(201, "POST", "/apis/projectcalico.org/v3/globalnetworksets", oldSet)
	name := requestOne(t, e)
	m.take()
	s := Restoring(e.mem, m, slog.New(slog.DiscardHandler))
	c, err := changes.Get(t.Context(), s, name)
	if err != nil {
		t.Fatal(err)
	}
	at, err := revisionOf(c)
	if err != nil {
		t.Fatal(err)
	}
	tier := api.Key{Kind: api.KindTier, Name: "t"}
	if err := s.Delete(t.Context(), tier, store.At(at+1000).While(c.Key(), at)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("Delete at a revision to come: %v, want ErrConflict", err)
	}
	if words, _ := m.take(); !slices.Equal(words, []string{"intent delete tiers.projectcalico.org t 0", "failed delete tiers.projectcalico.org t 409"}) {
		t.Errorf("recorded: %q", words)
	}
	if err := s.Delete(t.Context(), tier, store.Always()); err != nil {
		t.Error(err)
	}
	if words, _ := m.take(); len(words) != 0 {
		t.Errorf("recorded of what belongs to no change: %q", words)
	}
}
