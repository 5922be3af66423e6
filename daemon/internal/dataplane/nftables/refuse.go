// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// setAside marks what the kernel refuses, though it was asked with fresh
// knowledge, so that the rest can go on. False: it cannot be told what, or
// the reason is not in the object.
func (f *Filter) setAside(r *refusal) bool {
	switch r.errno {
	case unix.ENOBUFS, unix.ENOMEM, unix.EINTR, unix.EAGAIN, unix.ERESTART, unix.EPERM, unix.EACCES, unix.EIO:
		return r.errno == unix.ERESTART // another's transaction came between
	}
	err := fmt.Errorf("refused by the kernel: %s", r.reason())
	switch r.object.kind {
	case 'c':
		if !f.setChainAside(r, err) {
			return false
		}
	case 's':
		if s := f.sets[r.object.name]; s != nil && s.refused == nil {
			s.refused = err
			break
		}
		return false
	case 'm':
		m := f.maps[r.object.name]
		if m == nil || m.hopeless {
			return false
		}
		if m.hopeless = m.refused != nil; !m.hopeless {
			m.refused = err
		}
	case 'v':
		m := f.verdicts[r.object.name]
		if m == nil || m.hopeless {
			return false
		}
		if m.hopeless = m.refused != nil; !m.hopeless {
			m.refused = err
		}
	case 'k':
		if f.refusedConsts[r.object.name] != nil {
			return false
		}
		f.refusedConsts[r.object.name] = err
	default:
		return false
	}
	f.retry = time.Now().Add(refusedAgain)
	return true
}

// setChainAside marks the rules that were refused, or, if it is the chain or
// it is a rule once too often, the chain.
func (f *Filter) setChainAside(r *refusal, err error) bool {
	c := f.chains[r.object.name]
	if c == nil || c.want == nil || c.hopeless {
		return false
	}
	if r.object.rule == 0 || c.refused != nil || c.bad[r.object.rule-1].tries >= 3 {
		c.hopeless = c.refused != nil
		if c.refused == nil {
			c.refused = err
		}
		return true
	}
	counted := map[object]bool{} // one rule may be several in the kernel
	for _, o := range append([]object{r.object}, r.rules...) {
		c := f.chains[o.name]
		if c == nil || c.want == nil || o.rule > len(c.want.Rules) || counted[o] {
			continue
		}
		counted[o] = true
		if c.bad == nil {
			c.bad = map[int]refusedRule{}
		}
		if bad := c.bad[o.rule-1]; bad.tries < 3 {
			c.bad[o.rule-1] = bad.note(err)
		}
	}
	return true
}

// forgive lets what was refused be tried again.
func (f *Filter) forgive() {
	f.retry = time.Time{}
	clear(f.refusedConsts)
	for _, c := range f.chains {
		if c.refused != nil || c.bad != nil {
			c.forget()
			f.dirtyChains[c] = struct{}{}
		}
	}
	for _, s := range f.sets {
		if s.refused != nil {
			s.refused = nil
			f.dirtySets[s] = struct{}{}
		}
	}
	for _, m := range f.verdicts {
		if m.refused != nil {
			m.refused, m.hopeless = nil, false
			m.allDirty()
			f.dirtyVerdicts[m] = struct{}{}
		}
	}
	for _, m := range f.maps {
		if m.refused != nil {
			m.refused, m.hopeless = nil, false
			f.dirtyMaps[m] = struct{}{}
			for name := range m.entries {
				m.dirty[name] = struct{}{}
			}
		}
	}
}
