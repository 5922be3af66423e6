// SPDX-License-Identifier: Apache-2.0

package agent

import "github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"

// stage holds back what the planner says until a plan is whole, so that a
// planner that fails half-way leaves the parts with the plan of before and not
// with half of a new one: half a plan may lack the rule that denies. The
// planner remembers what it has said, so what is held is kept, and goes on
// with what its next attempt adds.
type stage struct {
	said []saying
}

// saying is a wish, or, without an object, the end of one.
type saying struct {
	id ruleset.ID
	o  ruleset.Object
}

// Want and Unwant make a stage a dataplane.Out.
func (s *stage) Want(id ruleset.ID, o ruleset.Object) { s.said = append(s.said, saying{id, o}) }

// Unwant holds that an object shall not be.
func (s *stage) Unwant(id ruleset.ID) { s.said = append(s.said, saying{id: id}) }

// release passes everything on, in the order in which it was said.
func (s *stage) release(to interface {
	Want(ruleset.ID, ruleset.Object)
	Unwant(ruleset.ID)
}) {
	for _, x := range s.said {
		if x.o == nil {
			to.Unwant(x.id)
		} else {
			to.Want(x.id, x.o)
		}
	}
	s.said = s.said[:0]
	if cap(s.said) > 1024 {
		s.said = nil // give the memory of a burst back
	}
}
