// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// The settle functions make what a transaction did what is believed; they are
// also called for one that had nothing to do.

func (p *plan) settlePrepared() {
	k := p.f.k
	for _, s := range p.newSets {
		p.fresh[s.kname] = true
		k.sets[s.kname] = &kset{spec: s.spec}
		if s.spec.flags&unix.NFT_SET_MAP != 0 {
			k.sets[s.kname].verdicts = map[string]verdict{}
		}
	}
	p.settleSets(true)
	for _, c := range p.chains {
		if c.beside() {
			p.settleChain(c)
		}
	}
}

func (p *plan) settleChanged() {
	f, k := p.f, p.f.k
	if p.wake {
		k.table.flags &^= flagDormant
	}
	for _, kname := range p.policies {
		k.chains[kname].policy = nfAccept
	}
	p.settleSets(false)
	for _, c := range p.chains {
		if !c.beside() {
			p.settleChain(c)
		}
	}
	for r, d := range p.delta {
		if f.refs[r] += d; f.refs[r] <= 0 {
			delete(f.refs, r)
		}
	}
}

func (p *plan) settleSets(fresh bool) {
	k := p.f.k
	for _, s := range p.elements {
		if p.fresh[s.kname] == fresh {
			s.settle()
		}
	}
	for _, c := range p.consts {
		if p.fresh[c.kname] == fresh {
			k.sets[c.kname].ranges = c.set.ranges
		}
	}
	for _, m := range p.rulings {
		if p.fresh[m.kname] == fresh {
			m.settle(k.sets[m.kname])
		}
	}
	for _, m := range p.maps {
		if p.fresh[m.kname] != fresh {
			continue
		}
		for key, v := range m.set {
			if v.there {
				k.sets[m.kname].verdicts[key] = v
			} else {
				delete(k.sets[m.kname].verdicts, key)
			}
		}
	}
}

func (p *plan) settleChain(c *chainPlan) {
	ch := p.f.k.chains[c.kname]
	if ch == nil {
		ch = &kchain{policy: nfAccept}
		if want := c.c.want; want.Hook != ruleset.NoHook {
			ch.base, ch.hook, ch.prio, ch.typ = true, hooks[want.Hook], int32(want.Priority), "filter"
		}
		p.f.k.chains[c.kname] = ch
	}
	ch.refs = c.refs
	ch.rules = make([]krule, len(c.rules)) // handles come with verify
	for i, r := range c.rules {
		ch.rules[i] = krule{sum: r.body.sum, comment: commentHash(r.comment)}
	}
}

func (p *plan) settleCleaned() {
	f, k := p.f, p.f.k
	for _, r := range p.gone {
		delete(f.doomed, r)
		if r.kind == 'c' {
			delete(k.chains, r.name)
		} else {
			delete(k.sets, r.name)
		}
	}
	p.done(f)
}

// done marks what was planned as done, and forgets what is neither wanted nor
// there.
func (p *plan) done(f *Filter) {
	for c := range f.dirtyChains {
		if c.want == nil && f.k.chains[c.kname] == nil {
			delete(f.chains, c.name)
		}
	}
	f.dirtyChains = p.keep
	for s := range f.dirtySets {
		switch {
		case s.want != nil:
			if len(s.loose) == 0 && s.refused == nil {
				delete(f.dirtySets, s)
			}
			continue
		case f.k.sets[s.kname] == nil && s.m != nil:
			s.m.seenAll() // gone from the kernel with all its elements
			s.kname, s.over = "", false
			if s.m.wanted() == 0 && len(s.loose) == 0 {
				delete(f.sets, s.name)
			}
		case s.m == nil && len(s.loose) == 0:
			delete(f.sets, s.name)
		}
		delete(f.dirtySets, s)
	}
	for m := range f.dirtyVerdicts {
		p.doneVerdicts(m)
	}
	for m := range f.dirtyMaps {
		clear(m.dirty)
		if keep := p.keepM[m]; keep != nil {
			m.dirty = keep
			continue
		}
		if m.refused == nil {
			delete(f.dirtyMaps, m)
		}
		if !m.want && len(m.entries) == 0 && f.k.sets[m.kname] == nil {
			delete(f.maps, m.name)
		}
	}
}

// softErrors are what stands in the way of single objects.
func (f *Filter) softErrors() error {
	var errs []error
	for _, what := range sortedKeys(f.soft) {
		errs = append(errs, f.soft[what])
	}
	return errors.Join(errs...)
}
