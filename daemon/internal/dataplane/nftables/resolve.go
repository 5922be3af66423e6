// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

func (p *plan) nameMap(m *mapState) {
	f, k := p.f, p.f.k
	what := "dispatch " + m.name
	kname, err := pick(mapName(m.name), func(kname string) (there, fits bool) {
		ks := k.sets[kname]
		return ks != nil, ks != nil && !ks.tainted && ks.spec == dispatchSpec && (m.kname == "" || m.kname == kname)
	})
	if err == nil && m.want && p.redirects(m, k.sets[kname]) {
		kname, err = free(mapName(m.name), func(kname string) bool { return k.sets[kname] != nil })
	}
	if err != nil {
		p.softly(what, err)
		return
	}
	if m.kname != kname {
		if m.kname != "" && k.sets[m.kname] != nil {
			f.doomed[ref{'s', m.kname}] = struct{}{}
		}
		m.kname = kname
		f.users(use{ruleset.KindDispatch, m.name})
		m.allDirty()
	}
	if !m.want {
		if k.sets[kname] != nil {
			f.doomed[ref{'s', kname}] = struct{}{}
		}
		f.users(use{ruleset.KindDispatch, m.name})
		return
	}
	delete(f.doomed, ref{'s', kname})
	if k.sets[kname] == nil && !m.hopeless {
		p.newSets = append(p.newSets, newSet{kname, dispatchSpec, object{kind: 'm', name: m.name}})
		f.users(use{ruleset.KindDispatch, m.name})
		m.allDirty()
	}
}

func (m *mapState) allDirty() {
	for name := range m.entries {
		m.dirty[name] = struct{}{}
	}
}

// redirects reports whether an interface that has an entry gets another: its
// element must be deleted and added, and between the two a packet might find
// neither.
func (p *plan) redirects(m *mapState, have *kset) bool {
	if have == nil {
		return false
	}
	for name := range m.dirty {
		e, wanted := m.entries[name]
		old := have.verdicts[string(ifname(name))]
		if !wanted || !old.there {
			continue
		}
		if e.Chain == "" && old.chain != "" || e.Chain != "" && (old.chain == "" || !p.isChain(old.chain, e.Chain)) {
			return true
		}
	}
	return false
}

// isChain reports whether the kernel's chain kname is a variant of name.
func (p *plan) isChain(kname, name string) bool {
	plain, _, _ := strings.Cut(kname, "~")
	return plain == chainName(name)
}

var hooks = map[ruleset.Hook]uint32{
	ruleset.HookPrerouting: unix.NF_INET_PRE_ROUTING, ruleset.HookInput: unix.NF_INET_LOCAL_IN,
	ruleset.HookForward: unix.NF_INET_FORWARD, ruleset.HookOutput: unix.NF_INET_LOCAL_OUT,
	ruleset.HookPostrouting: unix.NF_INET_POST_ROUTING,
}

func (p *plan) nameChain(c *chainState) {
	f, k := p.f, p.f.k
	if c.want == nil {
		if c.kname != "" && k.chains[c.kname] != nil {
			f.doomed[ref{'c', c.kname}] = struct{}{}
		}
		f.users(use{ruleset.KindChain, c.name})
		return
	}
	base := c.want.Hook != ruleset.NoHook
	kname, err := pick(chainName(c.name), func(kname string) (there, fits bool) {
		ch := k.chains[kname]
		if ch == nil {
			return false, false
		}
		return true, ch.base == base &&
			(!base || ch.hook == hooks[c.want.Hook] && ch.prio == int32(c.want.Priority) && ch.typ == "filter")
	})
	if err != nil {
		p.softly("chain "+c.name, err)
		p.keep[c] = struct{}{}
		return
	}
	if c.kname != kname {
		if c.kname != "" && k.chains[c.kname] != nil {
			f.doomed[ref{'c', c.kname}] = struct{}{}
		}
		f.users(use{ruleset.KindChain, c.name})
		c.kname = kname
	}
	delete(f.doomed, ref{'c', kname})
	if k.chains[kname] == nil {
		f.users(use{ruleset.KindChain, c.name})
	}
}

var (
	errNotWanted = errors.New("not wanted")
	errBase      = errors.New("a base chain is no target")
)

// set, chain and dispatch resolve names for the lowerer.
func (p *plan) set(name string, typ ruleset.SetType, fam ruleset.Family) (string, bool, error) {
	p.cur.uses = append(p.cur.uses, use{ruleset.KindSet, name})
	s := p.f.sets[name]
	switch {
	case s == nil || s.want == nil:
		return "", false, fmt.Errorf("set %s: %w", name, errNotWanted)
	case s.want.Type != typ || s.want.Family != fam:
		return "", false, fmt.Errorf("set %s: of another type or family than the rule", name)
	case s.refused != nil && p.f.k.sets[s.kname] == nil:
		return "", false, fmt.Errorf("set %s: %w", name, s.refused)
	}
	return s.kname, s.over, nil
}

func (p *plan) chain(name string) (string, error) {
	p.cur.uses = append(p.cur.uses, use{ruleset.KindChain, name})
	c := p.f.chains[name]
	switch {
	case c == nil || c.want == nil:
		return "", fmt.Errorf("chain %s: %w", name, errNotWanted)
	case c.want.Hook != ruleset.NoHook:
		return "", fmt.Errorf("chain %s: %w", name, errBase)
	case c.kname == "":
		return "", fmt.Errorf("chain %s: without a name", name)
	case c.hopeless && p.f.k.chains[c.kname] == nil:
		return "", fmt.Errorf("chain %s: %w", name, c.refused)
	}
	return c.kname, nil
}

func (p *plan) dispatch(name string) (string, error) {
	p.cur.uses = append(p.cur.uses, use{ruleset.KindDispatch, name})
	m := p.f.maps[name]
	switch {
	case m == nil || !m.want:
		return "", fmt.Errorf("dispatch %s: %w", name, errNotWanted)
	case m.hopeless && p.f.k.sets[m.kname] == nil:
		return "", fmt.Errorf("dispatch %s: %w", name, m.refused)
	}
	return m.kname, nil
}

// constName is the kernel name for a constant set.
func (p *plan) constName(kname string, spec setSpec) string {
	k := p.f.k
	v, err := pick(kname, func(kname string) (there, fits bool) {
		ks := k.sets[kname]
		return ks != nil, ks != nil && !ks.tainted && ks.spec == spec
	})
	if err != nil {
		return kname // the kernel will say what is wrong
	}
	return v
}
