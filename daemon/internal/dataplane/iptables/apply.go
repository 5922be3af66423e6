// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/host"
)

// refusal is a transaction that was not carried out.
type refusal struct {
	at     place
	set    bool     // it was a set, and is set aside already
	locked bool     // another program holds the lock
	lines  []string // the rules that were sent
	err    error
}

// Error names the table.
func (r *refusal) Error() string {
	if r.set {
		return r.err.Error()
	}
	return fmt.Sprintf("table %s: %v", r.at, r.err)
}

// Unwrap is the program's error.
func (r *refusal) Unwrap() error { return r.err }

// apply carries the plan out. What it says of the kernel afterwards it has
// read.
func (p *plan) apply(ctx context.Context) error {
	if err := p.prepare(); err != nil {
		return err
	}
	for _, fam := range p.f.prog.families {
		for _, t := range []table{raw, mangle, filter} {
			if err := p.restore(ctx, place{fam, t}); err != nil {
				return err
			}
		}
	}
	return p.clean()
}

func (p *plan) prepare() error {
	f := p.f
	for _, kname := range p.first {
		if err := f.sock.destroy(kname); err != nil {
			return ipsetError(kname, err)
		}
	}
	for _, n := range p.newSets {
		if err := p.fill(n); err != nil {
			if n.over == "" && !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EINTR) {
				if n.s != nil { // that set alone; what uses it is denied
					n.s.refused = err
				} else {
					f.barred[n.kname] = err
				}
				f.retry = time.Now().Add(refusedAgain)
				return &refusal{set: true, err: err}
			}
			return err
		}
	}
	for _, c := range p.inPlace {
		if err := f.sock.add(c.kname, c.add); err != nil {
			return ipsetError(c.kname, err)
		}
		c.s.settle(c.add, nil)
	}
	return p.count()
}

// fill makes a set beside what is in force.
func (p *plan) fill(n newSet) error {
	f := p.f
	if err := f.sock.create(n.kname, n.spec); err != nil {
		return ipsetError(n.kname, err)
	}
	if err := f.sock.add(n.kname, n.add); err != nil {
		return ipsetError(n.kname, err)
	}
	if n.over != "" {
		if err := f.sock.swap(n.kname, n.over); err != nil {
			return ipsetError(n.kname, err)
		}
		if err := f.sock.destroy(n.kname); err != nil {
			return ipsetError(n.kname, err)
		}
	} else {
		f.k.sets[n.kname] = &kset{spec: n.spec, elements: len(n.add)}
	}
	if k := f.k.sets[n.over]; k != nil {
		k.spec, k.altered = n.spec, false
	}
	if n.s != nil {
		for _, e := range n.add {
			n.s.see(e)
		}
		n.s.seenAll()
	}
	return nil
}

// count reads back how many elements the sets have that were changed.
func (p *plan) count() error {
	if len(p.newSets)+len(p.inPlace) == 0 {
		return nil
	}
	have, err := p.f.sock.list()
	if err != nil {
		return err
	}
	check := func(kname string, want int) error {
		if have[kname] == nil || have[kname].elements != want {
			return fmt.Errorf("ipset %s: reads back other than written", kname)
		}
		return nil
	}
	for _, n := range p.newSets {
		kname := n.kname
		if n.over != "" {
			kname = n.over
		}
		if err := check(kname, len(n.add)); err != nil {
			return err
		}
	}
	for _, c := range p.inPlace {
		if err := check(c.kname, c.s.haves); err != nil {
			return err
		}
	}
	for kname, k := range p.f.k.sets {
		if have[kname] != nil {
			k.elements = have[kname].elements
		}
	}
	return nil
}

// restore makes one table as wanted, in one transaction, and reads it back.
func (p *plan) restore(ctx context.Context, at place) error {
	f := p.f
	k := f.k.tables[at]
	text, lines, err := p.script(at, k)
	if text == "" || err != nil {
		return err
	}
	wait := fmt.Sprint(max(1, int(f.cfg.LockWait/time.Second)))
	_, err = f.cfg.Run.Run(ctx, host.Cmd{
		Path: f.prog.restore[at.family], Args: []string{"--noflush", "--wait", wait}, Stdin: []byte(text),
	})
	if err != nil {
		return asRefusal(at, lines, err)
	}
	return f.verify(ctx, at, p.tables[at])
}

// Exit codes of iptables-restore (XTF_…): RESOURCE_PROBLEM is also what it
// ends with when the lock was not to be had in time.
const exitResource = 4

func asRefusal(at place, lines []string, err error) error {
	r := &refusal{at: at, lines: lines, err: err}
	var exit *host.ExitError
	if !errors.As(err, &exit) {
		return fmt.Errorf("table %s: %w", at, err)
	}
	if exit.Code == exitResource && strings.Contains(exit.Stderr, "xtables lock") {
		r.locked = true
		r.err = fmt.Errorf("another program holds the lock of xtables (/run/xtables.lock): %w", err)
	}
	return r
}

// script is the input of iptables-restore that makes a table as wanted; empty:
// it is so already. lines are the rules in it.
func (p *plan) script(at place, k *ktable) (text string, lines []string, err error) {
	w := p.tables[at]
	if k == nil {
		if len(w.chains) == 0 {
			return "", nil, nil
		}
		k = &ktable{}
	}
	var head, rules, tail strings.Builder
	changed := false
	for _, name := range slices.Sorted(maps.Keys(w.chains)) {
		have, there := k.chains[name]
		if there && p.f.sameRules(have, w.chains[name]) {
			continue
		}
		changed = true
		fmt.Fprintf(&head, ":%s - [0:0]\n", name)
		for _, l := range w.chains[name] {
			rules.WriteString("-A " + name + " " + l + "\n")
			lines = append(lines, l)
		}
	}
	var called []string
	for _, hook := range slices.Sorted(maps.Values(hookNames)) {
		changed = p.jump(&rules, hook, w.jumps[hook], k.hooks[hook]) || changed
		if _, there := k.chains[prefixOurs+hook]; !there && w.jumps[hook] != "" {
			called = append(called, hook)
		}
	}
	if len(called) > 0 {
		notes, err := p.f.madeFor(at, k, called)
		if err != nil {
			return "", nil, err
		}
		for _, name := range notes {
			fmt.Fprintf(&head, ":%s - [0:0]\n", name)
		}
	}
	kept := map[string]bool{} // by rules of others
	for _, chain := range slices.Sorted(maps.Keys(k.others)) {
		for _, l := range k.others[chain] {
			if p.evict {
				changed = true
				fmt.Fprintf(&rules, "-D %s %s\n", chain, l)
			} else {
				kept[targetOf(l)] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(k.chains)) {
		if _, wanted := w.chains[name]; wanted || kept[name] || isMade(name) && !p.evict {
			continue
		}
		changed = true
		fmt.Fprintf(&head, ":%s - [0:0]\n", name)
		fmt.Fprintf(&tail, "-X %s\n", name)
	}
	if !changed {
		return "", nil, nil
	}
	return fmt.Sprintf("*%s\n%s%s%sCOMMIT\n", at.table, &head, &rules, &tail), lines, nil
}

// jump writes what makes the rule that calls our wrapper stand where it shall
// in one of the kernel's chains, once. A rule is deleted by what it says, not
// by its number, which another program may have changed meanwhile.
func (p *plan) jump(b *strings.Builder, hook, want string, have []string) (changed bool) {
	var mine []int
	for i, l := range have {
		if ours(targetOf(l)) {
			mine = append(mine, i)
		}
	}
	first, option := 0, fmt.Sprintf("-I %s 1", hook)
	if p.f.cfg.Append {
		first, option = len(have)-1, "-A "+hook
	}
	if want == "" && len(mine) == 0 || len(mine) == 1 && mine[0] == first && p.f.sameRule(have[first], want) {
		return false
	}
	for _, i := range mine {
		fmt.Fprintf(b, "-D %s %s\n", hook, have[i])
	}
	if want != "" {
		fmt.Fprintf(b, "%s %s\n", option, want)
	}
	return true
}

// sameRule and sameRules compare rules that were read with rules as we send
// them.
func (f *Filter) sameRule(have, want string) bool {
	if have == want {
		return true
	}
	spelt, ok := f.spelt[want]
	return ok && spelt == have
}

func (f *Filter) sameRules(have, want []string) bool {
	return slices.EqualFunc(have, want, f.sameRule)
}

// verify reads a table back.
func (f *Filter) verify(ctx context.Context, at place, w *wanted) error {
	seen, err := f.eyes.lookAt(f.sock, at)
	if err != nil {
		return err
	}
	tables, err := f.save(ctx, at.family, "-t", at.table.String())
	if err != nil {
		return err
	}
	k := tables[at.table]
	if k == nil {
		return fmt.Errorf("table %s: is not there after writing it", at)
	}
	f.learn(k, w)
	for name, want := range w.chains {
		if have, there := k.chains[name]; !there || !f.sameRules(have, want) {
			return fmt.Errorf("table %s: chain %s reads back other than written: %s", at, name, diffRules(want, have))
		}
	}
	f.k.tables[at] = k
	f.stamp.note(seen, at)
	return nil
}

// save runs iptables-save for a family.
func (f *Filter) save(ctx context.Context, fam ruleset.Family, args ...string) (map[table]*ktable, error) {
	path := f.prog.save[fam]
	out, err := f.cfg.Run.Run(ctx, host.Cmd{Path: path, Args: args})
	if err != nil {
		return nil, err
	}
	tables, err := parseSave(out)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return tables, nil
}

// learn notes how this iptables prints rules otherwise than we send them. A
// chain that was just written and has as many rules as were sent, each with
// the comment that it was sent with, is what we sent in other words; it must
// read so twice, between two writes, before that is believed.
func (f *Filter) learn(k *ktable, w *wanted) {
	for name, want := range w.chains {
		have := k.chains[name]
		if len(have) != len(want) {
			continue
		}
		for i := range want {
			if f.sameRule(have[i], want[i]) || hashOf(have[i]) != hashOf(want[i]) || hashOf(want[i]) == "" {
				continue
			}
			if key := "?" + want[i]; f.spelt[key] == have[i] {
				f.spelt[want[i]] = have[i]
				f.log.Warn("This iptables prints a rule otherwise than it was sent", "sent", want[i], "printed", have[i])
			} else {
				f.spelt[key] = have[i]
			}
		}
	}
}

// hashOf is the hash in our comment.
func hashOf(body string) string {
	_, rest, ok := strings.Cut(body, `--comment "rs:`)
	if !ok || len(rest) < 16 {
		return ""
	}
	return rest[:16]
}

func (p *plan) clean() error {
	f := p.f
	for _, c := range p.inPlace {
		if err := f.sock.del(c.kname, c.del); err != nil {
			return ipsetError(c.kname, err)
		}
		c.s.settle(nil, c.del)
	}
	for _, s := range f.sets {
		if s.want != nil && s.kname != "" {
			p.usedSets[s.kname] = true
		}
	}
	for _, kname := range slices.Sorted(maps.Keys(f.k.sets)) {
		if p.usedSets[kname] || !f.k.sets[kname].made() {
			continue
		}
		err := f.sock.destroy(kname)
		switch {
		case errors.Is(err, errBusy):
			// Rules that nf_tables has deleted give up their sets some time
			// later; those of others may keep it for good.
			p.later = true
			continue
		case err != nil:
			return ipsetError(kname, err)
		}
		delete(f.k.sets, kname)
		delete(f.consts, kname)
	}
	s, err := f.eyes.lookSets(f.sock)
	if err != nil {
		return err
	}
	f.stamp.sets = s
	return nil
}

// makeRoom destroys sets that no rule of ours in the kernel looks into. What is
// believed of the kernel is not right then.
func (f *Filter) makeRoom() error {
	used := f.k.used()
	for _, kname := range slices.Sorted(maps.Keys(f.k.sets)) {
		if used[kname] || !f.k.sets[kname].made() {
			continue
		}
		if err := f.sock.destroy(kname); err != nil && !errors.Is(err, errBusy) {
			return ipsetError(kname, err)
		}
	}
	f.k = nil
	return nil
}

// done marks what was planned as done.
func (p *plan) done() {
	f := p.f
	f.dirtyChains, f.unclean = p.keep, p.later
	for s := range f.dirtySets {
		if s.want == nil {
			if s.wants == 0 && len(s.loose) == 0 {
				delete(f.sets, s.name)
			}
			s.lose()
			s.over = false
			delete(f.dirtySets, s)
		} else if len(s.loose) == 0 && s.refused == nil {
			delete(f.dirtySets, s)
		}
	}
	for name, m := range f.maps {
		if !m.want && len(m.entries) == 0 {
			delete(f.maps, name)
		}
	}
}

// softErrors are what stands in the way of single objects.
func (f *Filter) softErrors() error {
	var errs []error
	for _, what := range slices.Sorted(maps.Keys(f.soft)) {
		errs = append(errs, f.soft[what])
	}
	return errors.Join(errs...)
}
