// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
)

// screen is a status as people read it: short lines, a word in front of each.
type screen struct {
	bytes.Buffer
	now time.Time
}

// line writes a line with its word in front; an empty word continues.
func (s *screen) line(word, format string, args ...any) {
	text := strings.TrimRight(fmt.Sprintf("%-13s%s", word, oneLine(fmt.Sprintf(format, args...))), " ")
	s.WriteString(text + "\n")
}

// item writes a line that belongs to the one above.
func (s *screen) item(format string, args ...any) {
	s.WriteString("  " + oneLine(fmt.Sprintf(format, args...)) + "\n")
}

// since is a time with how long ago that was.
func (s *screen) since(t api.Time) string {
	if t.IsZero() {
		return "never"
	}
	d := s.now.Sub(t.Time).Truncate(time.Second)
	if d < 0 {
		return t.UTC().Format(time.RFC3339)
	}
	return t.UTC().Format(time.RFC3339) + " (" + d.String() + " ago)"
}

// writeStatus writes the screen of a host's status.
func writeStatus(w io.Writer, h *api.HostStatus, now time.Time) error {
	s := &screen{now: now}
	st := &h.Status
	s.head(h)
	s.datastore(st)
	s.dataplane(st)
	s.endpoints(st.Endpoints)
	s.list("Failsafe in", st.FailsafesInbound, "none: policy can close every port, that of SSH too")
	s.list("Failsafe out", st.FailsafesOutbound, "none")
	if len(st.NoEffect) > 0 {
		s.line("No effect", "these parameters are set and accepted, and nothing is done about them:")
		for _, p := range st.NoEffect {
			s.item("%s", p)
		}
	}
	s.faults(st.Faults)
	s.drift(st)
	s.conditions(st.Conditions)
	_, err := w.Write(s.Bytes())
	return err
}

func (s *screen) head(h *api.HostStatus) {
	st := &h.Status
	role := st.Role
	if role == "" {
		role = "role not said"
	}
	s.line("Host", "%s (%s), ripstop %s", h.Name, role, orNone(st.Version, "of unknown version"))
	s.line("Started", "%s", s.since(st.StartedAt))
	s.line("Reported", "%s", s.since(st.ReportedAt))
	for _, c := range st.Changes {
		if c.WentBack {
			s.line("WENT BACK", "this host enforces what was before change %s of %s: %s", c.Name, orNone(c.User, "somebody"), orNone(c.Reason, "no reason given"))
			continue
		}
		s.line("ON TRIAL", "change %s of %s goes back at %s unless it is confirmed", c.Name, orNone(c.User, "somebody"), c.Until.Format(time.RFC3339))
		s.line("", "to keep it: ripstop confirm %s", c.Name)
	}
	if b := st.SteppedBack; b != nil {
		s.line("STEPPED BACK", "earlier values of %d resources are enforced here than the datastore has: as before %s", b.Count, b.Before.Format(time.RFC3339))
		names := slices.Clone(b.Resources[:min(len(b.Resources), mostTouched)])
		if b.Count > len(names) {
			names = append(names, fmt.Sprintf("and %d more", b.Count-len(names)))
		}
		s.line("", "%s, at the will of %s %s", strings.Join(names, ", "), b.By, s.since(b.Since))
		s.line("", "to take the datastore's: ripstop rollback --here --undo")
	}
	if p := st.Paused; p != nil {
		s.line("PAUSED", "NOTHING IS FILTERED until %s: %s has paused policy %s", p.Until.Format(time.RFC3339), p.By, s.since(p.Since))
		s.line("", "to end it now: ripstop resume")
	}
}

func (s *screen) datastore(st *api.HostStatusStatus) {
	d := &st.Datastore
	s.line("Datastore", "%s %s", orNone(d.Type, "unknown"), strings.Join(d.Endpoints, ", "))
	source := ""
	switch d.Source {
	case "", "live":
	case "snapshot":
		source = ", from the snapshot on disk"
	default:
		source = ", from " + d.Source
	}
	s.line("", "%s%s, since %s", orNone(d.Phase, "unknown"), source, s.since(d.Since))
	if d.Held != "" {
		s.line("", "HELD: what was received last is not applied: %s", d.Held)
		s.line("", "to accept it: ripstop store accept-rollback")
	}
	if d.Error != "" {
		s.line("", "error: %s", d.Error)
	}
}

func (s *screen) dataplane(st *api.HostStatusStatus) {
	d, seen := &st.Dataplane, st.Datastore.SeenRevision
	behind := "the kernel holds what was seen"
	switch {
	case d.AppliedRevision == 0:
		behind = "nothing was read back from the kernel yet"
	case d.AppliedRevision < seen:
		behind = "the kernel holds an older one"
	}
	s.line("Revision", "seen %d, applied %d: %s", seen, d.AppliedRevision, behind)
	owner := "other tools can change our table"
	if d.OwnerFlag {
		owner = "the kernel keeps other tools off our table"
	}
	s.line("Kernel", "%s (%s); %s", orNone(d.Backend, "no packet filter"), orNone(d.Why, "no reason given"), owner)
	s.line("", "%d chains, %d rules, %d sets with %d members, %d verdicts in maps", d.Chains, d.Rules, d.Sets, d.Members, d.VerdictElements)
	s.line("", "applied %s, verified %s", s.since(d.LastApplied), s.since(d.LastVerified))
	if d.Error != "" {
		s.line("", "error: %s", d.Error)
	}
	if f := &st.Flows; f.Most > 0 {
		s.line("Connections", "%d of at most %d tracked; %d cut because a change no longer allowed them", f.Tracked, f.Most, f.CutTotal)
		if !f.LastChange.IsZero() {
			s.line("", "%d of them by the last change, %s", f.LastCut, s.since(f.LastChange))
		}
	}
}

func (s *screen) endpoints(eps []api.EndpointState) {
	if len(eps) == 0 {
		s.line("Endpoints", "none: no HostEndpoint names this host, nothing is filtered")
		return
	}
	s.line("Endpoints", "%d", len(eps))
	for _, e := range eps {
		s.item("%s: %s, %s", e.Name, e.Status, orNone(strings.Join(e.Interfaces, ", "), "no interface"))
		if e.Message != "" {
			s.item("  %s", e.Message)
		}
		for _, p := range e.Policies {
			s.item("  %s", p)
		}
		if len(e.Policies) == 0 {
			s.item("  no policy")
		}
		if len(e.Profiles) > 0 {
			s.item("  profiles: %s", strings.Join(e.Profiles, ", "))
		}
		for _, x := range e.Enforced {
			s.item("  %s", enforced(&x))
		}
	}
}

// enforced says how rules are enforced at one place.
func enforced(x *api.Enforced) string {
	if x.Program == "" {
		return fmt.Sprintf("%s: %d rules, one by one: %s", x.Chain, x.Rules, x.Why)
	}
	shared := ""
	if x.Program != x.Chain {
		shared = " (shared with " + x.Program + ")"
	}
	return fmt.Sprintf("%s: %d rules, compiled%s: %d classes of %d peers, %d verdicts by port, %d lists, %d kB",
		x.Chain, x.Rules, shared, x.Classes, x.Peers, x.Entries, x.Lists, (x.Bytes+1023)/1024)
}

func (s *screen) list(word string, items []string, none string) {
	if len(items) == 0 {
		s.line(word, "%s", none)
		return
	}
	s.line(word, "%s", strings.Join(items, ", "))
}

func (s *screen) faults(faults []api.Fault) {
	if len(faults) == 0 {
		s.line("Faults", "none")
		return
	}
	s.line("Faults", "%d", len(faults))
	for _, f := range faults {
		s.item("%s: %s", f.Object, f.Message)
		if f.Effect != "" {
			s.item("  enforced instead: %s", f.Effect)
		}
	}
}

func (s *screen) drift(st *api.HostStatusStatus) {
	if st.DriftTotal == 0 && len(st.Drift) == 0 {
		s.line("Drift", "none: nobody else changed our rules")
		return
	}
	s.line("Drift", "%d times our rules were changed by somebody else; the last:", st.DriftTotal)
	for _, d := range st.Drift {
		repaired := "NOT repaired"
		if d.Repaired {
			repaired = "repaired"
		}
		by := ""
		if d.By != "" {
			by = " by " + d.By
		}
		s.item("%s: %s%s: %s", s.since(d.Time), d.What, by, repaired)
	}
}

func (s *screen) conditions(cs []api.Condition) {
	if len(cs) == 0 {
		return
	}
	s.line("Conditions", "")
	for _, c := range cs {
		text := c.Type + " " + c.Status
		if c.Reason != "" {
			text += " (" + c.Reason + ")"
		}
		if c.Message != "" {
			text += ": " + c.Message
		}
		s.item("%s", text)
	}
}

func orNone(s, none string) string {
	if s == "" {
		return none
	}
	return s
}
