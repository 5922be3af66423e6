// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/dataplane"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/conntrack"
	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// both tells two parts of the same plan.
type both struct{ first, second dataplane.Out }

// Want and Unwant make both a dataplane.Out.
func (b both) Want(id ruleset.ID, o ruleset.Object) {
	b.first.Want(id, o)
	b.second.Want(id, o)
}

// Unwant says to both that an object shall not be.
func (b both) Unwant(id ruleset.ID) {
	b.first.Unwant(id)
	b.second.Unwant(id)
}

// reportFlows tells the board of the flows that were cut, and raises the alarm
// when the kernel has no room for new ones, or soon will not.
func (l *lane) reportFlows() {
	s := l.flows.Summary()
	f := api.FlowsStatus{Tracked: s.Entries, Most: s.Most, CutTotal: int64(s.Cut), LastCut: s.LastCut}
	if !s.LastTime.IsZero() {
		f.LastChange = api.Time{Time: s.LastTime.UTC()}
	}
	l.board.SetFlows(f)
	l.board.SetFaults("conntrack", flowFaults(s))
}

// flowFaults are the alarms about the table of connections.
func flowFaults(s conntrack.Summary) []api.Fault {
	const object = "connection tracking"
	switch {
	case s.Full:
		return []api.Fault{{
			Object: object, Message: fmt.Sprintf("the kernel's table of %d connections is full", s.Most),
			Effect: "new connections are dropped, allowed ones too; what is denied stays denied; raise the sysctl net.netfilter.nf_conntrack_max",
		}}
	case s.NearlyFull():
		return []api.Fault{{
			Object: object, Message: fmt.Sprintf("more than four fifths of the kernel's table of %d connections are in use", s.Most),
			Effect: "when it is full, new connections are dropped; raise the sysctl net.netfilter.nf_conntrack_max",
		}}
	}
	return nil
}
