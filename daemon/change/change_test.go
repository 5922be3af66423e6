// SPDX-License-Identifier: Apache-2.0

package change_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/change"
	"github.com/ripstop/ripstop/daemon/internal/store/mem"
	"github.com/ripstop/ripstop/daemon/store"
)

// set is a network set with an id, so that what is stored of it is known.
func set(name string, nets ...string) *api.GlobalNetworkSet {
	o := &api.GlobalNetworkSet{TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkSet, APIVersion: api.VersionCalico}}
	o.Name, o.UID = name, "11111111-1111-4111-8111-1111111111"+name
	o.CreationTimestamp = api.Time{Time: time.Unix(1e9, 0).UTC()}
	o.Spec.Nets = nets
	return o
}

// value is an object as a change has it.
func value(t testing.TB, o api.Object) api.ChangedValue {
	t.Helper()
	v, err := api.NewChangedValue(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// plan is a change of three objects: aa is replaced, bb is made, cc is deleted.
func plan(t testing.TB, name string) *api.Change {
	c := &api.Change{TypeMeta: api.TypeMeta{Kind: api.KindChange, APIVersion: api.VersionOurs}}
	c.Name = name
	c.Spec.User, c.Spec.At, c.Spec.Timeout = "u", api.Time{Time: time.Now().UTC().Truncate(time.Second)}, api.Duration{Duration: time.Minute}
	c.Spec.Objects = []api.ChangedObject{
		{Kind: api.KindGlobalNetworkSet, Name: "aa", Before: value(t, set("aa", "10.0.0.0/8")), After: value(t, set("aa", "fd00::/8"))},
		{Kind: api.KindGlobalNetworkSet, Name: "bb", After: value(t, set("bb"))},
		{Kind: api.KindGlobalNetworkSet, Name: "cc", Before: value(t, set("cc"))},
	}
	return c
}

// before is a store with what plan finds, and the revisions of that.
func before(t testing.TB) (*mem.Store, []api.Revision) {
	t.Helper()
	s := mem.New(mem.Config{})
	a, aerr := s.Put(t.Context(), set("aa", "10.0.0.0/8"), store.Absent())
	c, cerr := s.Put(t.Context(), set("cc"), store.Absent())
	if err := errors.Join(aerr, cerr); err != nil {
		t.Fatal(err)
	}
	return s, []api.Revision{a, 0, c}
}

// do begins plan and writes its objects.
func do(ctx context.Context, s store.Store, c *api.Change, at []api.Revision) error {
	c, err := change.Begin(ctx, s, c)
	if err != nil {
		return err
	}
	for i := range c.Spec.Objects {
		if _, err := change.Write(ctx, s, c, i, at[i]); err != nil {
			return err
		}
	}
	return nil
}

// objects says which of plan's objects are as before and as after.
func objects(t testing.TB, s store.Store) string {
	t.Helper()
	out := ""
	for _, o := range plan(t, "x").Spec.Objects {
		live, err := s.Get(t.Context(), o.Key())
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			t.Fatal(err)
		}
		if err != nil {
			live = nil
		}
		was, werr := change.Same(live, o.Key(), o.Before)
		is, ierr := change.Same(live, o.Key(), o.After)
		switch err := errors.Join(werr, ierr); {
		case err != nil:
			t.Fatal(err)
		case was:
			out += "b"
		case is:
			out += "a"
		default:
			out += "?"
		}
	}
	return out
}

func TestChange_ConfirmedStays(t *testing.T) {
	s, at := before(t)
	if err := do(t.Context(), s, plan(t, "c"), at); err != nil {
		t.Fatal(err)
	}
	if got := objects(t, s); got != "aaa" {
		t.Fatalf("after the writes: %s, want aaa", got)
	}
	if _, err := change.Confirm(t.Context(), s, "c"); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func() (*api.Change, error){
		"Confirm":  func() (*api.Change, error) { return change.Confirm(t.Context(), s, "c") },
		"Refuse":   func() (*api.Change, error) { return change.Refuse(t.Context(), s, "c", "r") },
		"RollBack": func() (*api.Change, error) { return change.RollBack(t.Context(), s, "c", "r") },
	} {
		if _, err := f(); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s of a confirmed change: %v, want ErrNotFound", name, err)
		}
	}
	if got := objects(t, s); got != "aaa" {
		t.Errorf("at the end: %s, want aaa", got)
	}
}

func TestChange_RolledBackIsAsBefore(t *testing.T) {
	s, at := before(t)
	if err := do(t.Context(), s, plan(t, "c"), at); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		c, err := change.RollBack(t.Context(), s, "c", "because")
		if err != nil || c.Status.Phase != api.ChangeRolledBack || c.Status.Reason != "because" || len(c.Status.Objects) != 3 {
			t.Fatalf("RollBack: %+v, %v", c, err)
		}
		for i, o := range c.Status.Objects {
			if o.Left != "" || (o.Revision == 0) != (i == 1) {
				t.Errorf("object %d: %+v", i, o)
			}
		}
	}
	if got := objects(t, s); got != "bbb" {
		t.Errorf("got %s, want bbb", got)
	}
	if o, _ := s.Get(t.Context(), set("cc").Key()); o == nil || o.Metadata().UID != set("cc").UID {
		t.Errorf("a deleted object came back as another: %v", o)
	}
	if _, err := change.Confirm(t.Context(), s, "c"); !errors.Is(err, change.ErrOver) {
		t.Errorf("Confirm of a change that was undone: %v, want ErrOver", err)
	}
}

func TestRollBack_LeavesWhatSomebodyElseWrote(t *testing.T) {
	s, at := before(t)
	if err := do(t.Context(), s, plan(t, "c"), at); err != nil {
		t.Fatal(err)
	}
	for _, o := range []api.Object{set("aa", "192.0.2.0/24"), set("cc", "192.0.2.0/24")} {
		if _, err := s.Put(t.Context(), o, store.Always()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(t.Context(), set("bb").Key(), store.Always()); err != nil {
		t.Fatal(err)
	}
	c, err := change.RollBack(t.Context(), s, "c", "r")
	if err != nil || c.Status.Objects[0].Left == "" || c.Status.Objects[1].Left != "" || c.Status.Objects[2].Left == "" {
		t.Fatalf("%+v, %v: want the first and the last left", c, err)
	}
	if got := objects(t, s); got != "?b?" {
		t.Errorf("got %s, want ?b?", got)
	}
	if got := change.OutcomeOf(c); !strings.Contains(got, "rolled back: r; GlobalNetworkSet(aa) was left") {
		t.Errorf("outcome: %s", got)
	}
}

func TestRollBack_IgnoresWhatProgramsAdd(t *testing.T) {
	s, at := before(t)
	if err := do(t.Context(), s, plan(t, "c"), at); err != nil {
		t.Fatal(err)
	}
	o := set("aa", "fd00::/8")
	o.ManagedFields, o.Generation = []byte(`[{"manager":"x"}]`), 7
	if _, err := s.Put(t.Context(), o, store.Always()); err != nil {
		t.Fatal(err)
	}
	if _, err := change.RollBack(t.Context(), s, "c", "r"); err != nil {
		t.Fatal(err)
	}
	if got := objects(t, s); got != "bbb" {
		t.Errorf("got %s, want bbb: nobody changed what it says", got)
	}
}

func TestRollBack_LeavesATierWithAPolicy(t *testing.T) {
	s := mem.New(mem.Config{})
	tier := &api.Tier{TypeMeta: api.TypeMeta{Kind: api.KindTier, APIVersion: api.VersionCalico}, Meta: api.Meta{Name: "t"}}
	c := plan(t, "c")
	c.Spec.Objects = []api.ChangedObject{{Kind: api.KindTier, Name: "t", After: value(t, store.Stamp(tier, nil, time.Now()))}}
	if err := do(t.Context(), s, c, []api.Revision{0}); err != nil {
		t.Fatal(err)
	}
	p := &api.GlobalNetworkPolicy{TypeMeta: api.TypeMeta{Kind: api.KindGlobalNetworkPolicy, APIVersion: api.VersionCalico}, Meta: api.Meta{Name: "p"}}
	p.Spec.Tier = "t"
	if _, err := s.Put(t.Context(), p, store.Absent()); err != nil {
		t.Fatal(err)
	}
	c, err := change.RollBack(t.Context(), s, "c", "r")
	if err != nil || !strings.Contains(c.Status.Objects[0].Left, "GlobalNetworkPolicy(p)") {
		t.Errorf("%+v, %v: want the tier left for its policy", c, err)
	}
	if _, err := s.Get(t.Context(), tier.Key()); err != nil {
		t.Errorf("the tier: %v", err)
	}
}

func TestBegin_RefusesObjectsOfAnOpenChange(t *testing.T) {
	s, _ := before(t)
	if _, err := change.Begin(t.Context(), s, plan(t, "c")); err != nil {
		t.Fatal(err)
	}
	try := func() error {
		c := plan(t, "d")
		c.Spec.Objects = c.Spec.Objects[2:]
		_, err := change.Begin(t.Context(), s, c)
		return err
	}
	if err := try(); !errors.Is(err, change.ErrOverlap) || !strings.Contains(err.Error(), "cc") {
		t.Errorf("while it waits: %v, want ErrOverlap that names cc", err)
	}
	if _, err := change.Refuse(t.Context(), s, "c", "r"); err != nil {
		t.Fatal(err)
	}
	if err := try(); !errors.Is(err, change.ErrOverlap) {
		t.Errorf("while it goes back: %v, want ErrOverlap", err)
	}
	if _, err := s.Get(t.Context(), change.Key("d")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the refused change: %v, want none stored", err)
	}
	if _, err := change.RollBack(t.Context(), s, "c", "r"); err != nil {
		t.Fatal(err)
	}
	if err := try(); err != nil {
		t.Errorf("when it is undone: %v", err)
	}
}
