// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/intent"
)

// setName is the name of the half of a set that holds one family.
func setName(id string, f ruleset.Family) string {
	if f == ruleset.IPv4 {
		return id + "-4"
	}
	return id + "-6"
}

func (p *Planner) noteSet(c intent.Change) {
	note(p.sets, c.Key.Name, c.Value)
	if p.compiler != nil {
		p.compiler.noteSet(p, c)
		return
	}
	for _, f := range []ruleset.Family{ruleset.IPv4, ruleset.IPv6} {
		id := ruleset.ID{Kind: ruleset.KindSet, Name: setName(c.Key.Name, f)}
		if c.Value == nil {
			p.out.Unwant(id)
			continue
		}
		p.out.Want(id, p.rulesetSet(c.Value.(*intent.Set), f))
	}
}

// rulesetSet is the half of a set that holds one family.
func (p *Planner) rulesetSet(s *intent.Set, f ruleset.Family) *ruleset.Set {
	typ := ruleset.TypeNet
	if s.Type == intent.NamedPorts {
		typ = ruleset.TypeAddrPort
	}
	return &ruleset.Set{Family: f, Type: typ, MaxSize: p.settings.MaxSetSize}
}

func (p *Planner) noteMember(c intent.Change) {
	m := c.Key.Member
	f := ruleset.IPv6
	if m.Net.Addr().Is4() {
		f = ruleset.IPv4
	}
	id := ruleset.ID{
		Kind: ruleset.KindMember,
		Name: setName(c.Key.Name, f),
		Elem: ruleset.Element{Net: m.Net, Proto: m.Protocol, Port: m.Port},
	}
	if p.compiler != nil {
		p.noteKept(id, c.Value != nil)
		return
	}
	if c.Value == nil {
		p.out.Unwant(id)
		return
	}
	p.out.Want(id, ruleset.Member{})
}
