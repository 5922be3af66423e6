// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/host"
)

const chainProbe = prefixOurs + "PROBE"

// setAside finds the rules for which a transaction was refused and bans them
// for a while. The kernel, asked by way of iptables-restore, says only that
// something is wrong; so rules are put into a chain that nothing calls, half
// of them at a time. It reports whether it has found any.
func (f *Filter) setAside(ctx context.Context, r *refusal) bool {
	var lines []string
	for _, l := range r.lines {
		lines = append(lines, essence(l))
	}
	slices.Sort(lines)
	lines = slices.Compact(lines)
	bad, err := f.suspects(ctx, r.at, lines)
	if err != nil || len(bad) == 0 {
		return false
	}
	if f.banned[r.at] == nil {
		f.banned[r.at] = map[string]bool{}
	}
	for _, l := range bad {
		f.banned[r.at][l] = true
		f.log.Warn("Rule refused, what it would decide is denied", "table", r.at.String(), "rule", l, "err", r.err)
	}
	f.retry = time.Now().Add(refusedAgain)
	return true
}

func (f *Filter) suspects(ctx context.Context, at place, lines []string) ([]string, error) {
	ok, err := f.probe(ctx, at, lines)
	switch {
	case err != nil || ok:
		return nil, err
	case len(lines) == 1:
		return lines, nil
	}
	half := len(lines) / 2
	a, err := f.suspects(ctx, at, lines[:half])
	if err != nil {
		return nil, err
	}
	b, err := f.suspects(ctx, at, lines[half:])
	return append(a, b...), err
}

// probe puts rules into a chain that nothing calls; the next plan takes it
// away, since nobody wants it.
func (f *Filter) probe(ctx context.Context, at place, lines []string) (ok bool, err error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%s\n:%s - [0:0]\n", at.table, chainProbe)
	for _, l := range lines {
		if t := targetOf(l); ours(t) {
			l = strings.NewReplacer("-g "+t, "-j RETURN", "-j "+t, "-j RETURN").Replace(l)
		}
		b.WriteString("-A " + chainProbe + " " + l + "\n")
	}
	b.WriteString("COMMIT\n")
	_, err = f.cfg.Run.Run(ctx, host.Cmd{
		Path: f.prog.restore[at.family], Args: []string{"--noflush", "--wait", "5"}, Stdin: []byte(b.String()),
	})
	var r *refusal
	if err = asRefusalOrNil(at, err); errors.As(err, &r) && !r.locked {
		return false, nil
	}
	return err == nil, err
}

func asRefusalOrNil(at place, err error) error {
	if err == nil {
		return nil
	}
	return asRefusal(at, nil, err)
}

// essence is a rule without our comment.
func essence(l string) string {
	const begin = `-m comment --comment "rs:`
	i := strings.Index(l, begin)
	if i < 0 {
		return l
	}
	rest := l[i+len(begin):]
	_, action, _ := strings.Cut(rest, `" `)
	return l[:i] + action
}

// forgive lets everything that was refused be tried again.
func (f *Filter) forgive() {
	f.retry = time.Time{}
	clear(f.banned)
	clear(f.barred)
	for _, s := range f.sets {
		if s.refused != nil {
			s.refused = nil
			f.dirtySets[s] = struct{}{}
		}
	}
	for _, c := range f.chains {
		f.dirtyChains[c] = struct{}{}
	}
}
