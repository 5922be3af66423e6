// SPDX-License-Identifier: Apache-2.0

package calc

import (
	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// profiles knows which profiles the endpoints of this host list, and has
// those translated.
type profiles struct {
	rules  *rules
	byName map[string]*api.Profile
	listed map[string]int // by how many endpoints
	dirty  map[string]struct{}
}

func newProfiles(r *rules) *profiles {
	return &profiles{
		rules:  r,
		byName: map[string]*api.Profile{},
		listed: map[string]int{},
		dirty:  map[string]struct{}{},
	}
}

// list notes that one more endpoint lists the profile, unlist one less.
func (p *profiles) list(name string) {
	p.listed[name]++
	p.dirty[name] = struct{}{}
}

func (p *profiles) unlist(name string) {
	if p.listed[name]--; p.listed[name] == 0 {
		delete(p.listed, name)
	}
	p.dirty[name] = struct{}{}
}

func (p *profiles) note(ev api.Event) {
	if ev.Key.Kind != api.KindProfile {
		return
	}
	if o, ok := ev.Object.(*api.Profile); ok {
		p.byName[ev.Key.Name] = o
	} else {
		delete(p.byName, ev.Key.Name)
	}
	p.dirty[ev.Key.Name] = struct{}{}
}

func (p *profiles) flush(func(intent.Change)) {
	for name := range p.dirty {
		k := intent.Key{Kind: intent.KindProfile, Name: name}
		if p.listed[name] == 0 {
			p.rules.unwant(k)
			continue
		}
		t := &translator{object: api.Key{Kind: api.KindProfile, Name: name}}
		p.rules.want(k, p.translate(name, t), t)
	}
	clear(p.dirty)
}

// sweep has nothing to take back: rules does it.
func (p *profiles) sweep(func(intent.Change)) {}

func (p *profiles) translate(name string, t *translator) *intent.Profile {
	o := p.byName[name]
	switch {
	case name == api.DefaultAllowProfile: // built in, whatever is stored
		return everything(api.Allow)
	case o == nil:
		t.faults = append(t.faults, api.Fault{
			Object:  t.object.String(),
			Message: "an endpoint of this host lists the profile, and it does not exist",
			Effect:  "it denies everything",
		})
		return everything(api.Deny)
	}
	return &intent.Profile{
		Ingress: t.rules("ingress", o.Spec.Ingress),
		Egress:  t.rules("egress", o.Spec.Egress),
	}
}

// everything is a profile that does the same to all traffic.
func everything(a api.Action) *intent.Profile {
	return &intent.Profile{Ingress: []intent.Rule{{Action: a}}, Egress: []intent.Rule{{Action: a}}}
}
