// SPDX-License-Identifier: Apache-2.0

// Package calctest proves package calc: it keeps what a graph has said and
// complains when the graph breaks a promise (Facts), prints it canonically,
// has lists of states to lead a graph through (Lists), and ways to walk them
// (Walks). It is used by tests of calc and of what listens to calc; it has no
// tests of packet semantics.
package calctest

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// Facts is what has been said so far, as a planner would know it.
type Facts struct {
	Now map[intent.Key]intent.Value
	// changed are the keys of this batch.
	changed map[intent.Key]bool
	errs    []error
	// Said counts changes, ever.
	Said int
}

// NewFacts knows nothing yet.
func NewFacts() *Facts {
	return &Facts{Now: map[intent.Key]intent.Value{}, changed: map[intent.Key]bool{}}
}

// Take is to be handed to Flush.
func (f *Facts) Take(c intent.Change) {
	f.Said++
	if f.changed[c.Key] {
		f.errorf("%s: said twice in one batch", keyText(c.Key))
	}
	f.changed[c.Key] = true
	old, had := f.Now[c.Key]
	switch {
	case c.Value == nil && !had:
		f.errorf("%s: taken back without having been said", keyText(c.Key))
	case c.Value == nil:
		delete(f.Now, c.Key)
	case had && reflect.DeepEqual(old, c.Value):
		f.errorf("%s: said again without a difference", keyText(c.Key))
	default:
		if !fits(c.Key.Kind, c.Value) {
			f.errorf("%s: value is a %T", keyText(c.Key), c.Value)
		}
		f.Now[c.Key] = c.Value
	}
}

func fits(k intent.Kind, v intent.Value) bool {
	switch v.(type) {
	case *intent.Settings:
		return k == intent.KindSettings
	case *intent.Set:
		return k == intent.KindSet
	case intent.IsMember:
		return k == intent.KindMember
	case *intent.Policy:
		return k == intent.KindPolicy
	case *intent.Profile:
		return k == intent.KindProfile
	case *intent.HostEndpoint:
		return k == intent.KindHostEndpoint
	case *intent.WorkloadEndpoint:
		return k == intent.KindWorkloadEndpoint
	}
	return false
}

func (f *Facts) errorf(format string, args ...any) {
	f.errs = append(f.errs, fmt.Errorf(format, args...))
}

// End ends a batch: it returns every promise that was broken in it. All that
// is named must be there, and all that is there must be named by something.
func (f *Facts) End() error {
	used := map[intent.Key]bool{}
	use := func(by string, k intent.Key) intent.Value {
		used[k] = true
		v, ok := f.Now[k]
		if !ok {
			f.errorf("%s names %s, which is not there", by, keyText(k))
		}
		return v
	}
	for k, v := range f.Now {
		by := keyText(k)
		useSet := func(id string, t intent.SetType) {
			if id == "" {
				return
			}
			if s, ok := use(by, intent.Key{Kind: intent.KindSet, Name: id}).(*intent.Set); ok && s.Type != t {
				f.errorf("%s uses set %s as type %d, and it is %d", by, id, t, s.Type)
			}
		}
		useRules := func(list []intent.Rule) {
			for i := range list {
				for _, e := range []*intent.Entity{&list[i].Source, &list[i].Destination} {
					useSet(e.Set, intent.Nets)
					useSet(e.NotSet, intent.Nets)
					for _, id := range append(append([]string{}, e.NamedPorts...), e.NotNamedPorts...) {
						useSet(id, intent.NamedPorts)
					}
				}
			}
		}
		useProfiles := func(list []string) {
			for _, p := range list {
				use(by, intent.Key{Kind: intent.KindProfile, Name: p})
			}
		}
		// useTiers: want is what the policies in them must be.
		useTiers := func(list []intent.Tier, want intent.Policy) {
			for _, t := range list {
				for _, p := range append(append([]api.Key{}, t.Ingress...), t.Egress...) {
					pol, ok := use(by, intent.Key{Kind: intent.KindPolicy, Policy: p}).(*intent.Policy)
					if ok && (pol.Untracked != want.Untracked || pol.PreDNAT != want.PreDNAT || want.ApplyOnForward && !pol.ApplyOnForward) {
						f.errorf("%s lists %s in tiers of another sort", by, p)
					}
				}
			}
		}
		switch v := v.(type) {
		case *intent.Settings:
			used[k] = true
		case *intent.HostEndpoint:
			used[k] = true
			useProfiles(v.Profiles)
			useTiers(v.Tiers, intent.Policy{})
			useTiers(v.ForwardTiers, intent.Policy{ApplyOnForward: true})
			useTiers(v.UntrackedTiers, intent.Policy{Untracked: true})
			useTiers(v.PreDNATTiers, intent.Policy{PreDNAT: true})
		case *intent.WorkloadEndpoint:
			used[k] = true
			useProfiles(v.Profiles)
			useTiers(v.Tiers, intent.Policy{})
		case *intent.Policy:
			useRules(v.Ingress)
			useRules(v.Egress)
		case *intent.Profile:
			useRules(v.Ingress)
			useRules(v.Egress)
		case intent.IsMember:
			used[k] = true
			f.checkMember(k)
		}
	}
	for k := range f.Now {
		if !used[k] && !f.unlisted(k) {
			f.errorf("%s is named by nothing", keyText(k))
		}
	}
	err := errors.Join(f.errs...)
	f.errs = nil
	clear(f.changed)
	return err
}

// unlisted: a policy whose types are none of the known ones is listed
// nowhere, and still there; so is one that is kept in any case.
func (f *Facts) unlisted(k intent.Key) bool {
	p, ok := f.Now[k].(*intent.Policy)
	return ok && (p.Ingress == nil && p.Egress == nil || p.Kept)
}

func (f *Facts) checkMember(k intent.Key) {
	s, ok := f.Now[intent.Key{Kind: intent.KindSet, Name: k.Name}].(*intent.Set)
	m := k.Member
	switch {
	case !ok:
		f.errorf("%s: there is no such set", keyText(k))
	case m.Net != m.Net.Masked() || !m.Net.IsValid():
		f.errorf("%s: the prefix is not masked", keyText(k))
	case s.Type == intent.Nets && (m.Protocol != 0 || m.Port != 0):
		f.errorf("%s: a port in a set of networks", keyText(k))
	case s.Type == intent.NamedPorts && (m.Protocol == 0 || !m.Net.IsSingleIP()):
		f.errorf("%s: not an address with a port", keyText(k))
	}
}
