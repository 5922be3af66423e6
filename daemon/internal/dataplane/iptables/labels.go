// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"context"
	"fmt"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// Labels tells whether rules with Cut are in the kernel as they are meant:
// whether iptables and the kernel have the match connlabel. It is for the
// goroutine of Reconcile, and false before the first.
func (f *Filter) Labels() bool { return f.labels }

// askLabels finds out, by a rule in a chain that nothing calls: iptables has
// no other way to ask the kernel.
func (f *Filter) askLabels(ctx context.Context) error {
	all := true
	for _, family := range f.prog.families {
		ok, err := f.probe(ctx, place{family, mangle}, []string{fmt.Sprintf("-m connlabel --label \"%d\" -j RETURN", ruleset.CutLabel)})
		if err != nil {
			return err
		}
		all = all && ok
	}
	f.labels, f.asked = all, true
	f.k = nil // the chain is to be seen, and goes
	if !all {
		f.log.Warn("This iptables has no match connlabel: a forwarded connection that was cut may be taken up again by its other end")
	}
	return nil
}
