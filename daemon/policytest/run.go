// SPDX-License-Identifier: Apache-2.0

package policytest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policy"
)

// MaxOfCase is the most questions to the World that one case asks. Where it has
// more pairs of ends, those that are asked are spread so that each end comes in,
// as far as there are no more ends than questions.
const MaxOfCase = 1024

// Result is what came of one case.
type Result struct {
	// Test is the PolicyTest's name, Case the case's and Index its place in the
	// spec, from 0.
	Test  string `json:"test"`
	Case  string `json:"case"`
	Index int    `json:"index"`
	// Expect is what has to become of the flows.
	Expect api.Action `json:"expect"`
	Passed bool       `json:"passed"`
	// Flows counts what was judged: pairs of ends, in each IP version and by each
	// interface they may use. A case that fails ends with its first flow that is
	// not as expected.
	Flows int `json:"flows"`
	// Unjudged counts pairs of ends that were left out, beyond the bounds.
	Unjudged int `json:"unjudged,omitempty"`
	// Assumed are what was assumed of what the resources do not say.
	Assumed []string `json:"assumed,omitempty"`
	// Fault says why the case could not be judged. It fails then.
	Fault string `json:"fault,omitempty"`
	// Flow is the first flow that is not as expected, as ripstop explain takes
	// it, and Decided what decided each hop of it.
	Flow    string   `json:"flow,omitempty"`
	Decided []string `json:"decided,omitempty"`
	// Why is the case's.
	Why string `json:"why,omitempty"`
}

// String is what is wrong with a case that failed, on one line; of one that
// passed it is "passed".
func (r Result) String() string {
	head := "PolicyTest(" + r.Test + "): case " + fmt.Sprintf("%q", r.Case) + ": "
	switch {
	case r.Passed:
		return head + "passed"
	case r.Fault != "":
		return head + r.Fault
	}
	return head + "expected " + string(r.Expect) + ": " + r.Flow + ": " + strings.Join(r.Decided, "; then ")
}

// Run judges all cases of the tests, in the order of the tests and of their
// cases. All together they ask the World no more than most questions, each of
// which takes a time that grows with the number of policies: about 2 ms where
// 1,000 of them look at the packet (2026-11, one core). Each case has its share
// of those that are left. Cases without one fail.
// A test whose spec is not valid may have any result.
func Run(tests []*api.PolicyTest, w *policy.World, most int) []Result {
	var results []Result
	left, cases := most, 0
	for _, t := range tests {
		cases += len(t.Spec.Cases)
	}
	for _, t := range tests {
		for i := range t.Spec.Cases {
			c := &t.Spec.Cases[i]
			j := judge{w: w, c: c, r: Result{Test: t.Name, Case: c.Name, Index: i, Expect: c.Expect, Why: c.Why}, most: min(MaxOfCase, (left+cases-1)/cases)}
			j.run()
			if j.most == 0 && j.r.Unjudged > 0 {
				j.r.Passed, j.r.Fault = false, fmt.Sprintf("not judged: the cases before it have used up all of %d questions", most)
			}
			left, cases = left-j.asked, cases-1
			results = append(results, j.r)
		}
	}
	return results
}

// judge is the work on one case.
type judge struct {
	w *policy.World
	c *api.PolicyTestCase
	r Result
	// most is how many questions may be asked, asked how many have been.
	most, asked int
}

// run judges the case.
func (j *judge) run() {
	questions, err := Questions(j.c, j.w)
	if err != nil {
		j.r.Fault = err.Error()
		return
	}
	none := true
	for q := range questions {
		none = false
		if j.asked == j.most {
			j.r.Unjudged++
			continue
		}
		if !j.ask(q) {
			return
		}
	}
	if none {
		j.r.Fault = "no two ends of it can send each other anything over a network: they are one and the same, or of different IP versions"
		return
	}
	j.r.Passed = true
}

// ask judges one pair of ends, and reports whether all flows between them are
// as expected.
func (j *judge) ask(q policy.Query) bool {
	j.asked++
	answer, err := j.w.Explain(q, policy.Known{})
	if err != nil {
		j.r.Fault = q.String() + ": " + err.Error()
		return false
	}
	j.r.Unjudged += answer.Omitted
	for _, c := range answer.Cases {
		j.r.Flows++
		if c.Verdict.Passes() != (j.c.Expect == api.Allow) {
			j.r.Flow, j.r.Decided, j.r.Assumed = answer.Query, decided(c), c.Assumed
			return false
		}
		j.assume(c.Assumed)
	}
	return true
}

// maxAssumed is the most different assumptions that a result tells.
const maxAssumed = 8

// assume notes what was assumed of flows that are as expected.
func (j *judge) assume(notes []string) {
	for _, n := range notes {
		if len(j.r.Assumed) < maxAssumed && !slices.Contains(j.r.Assumed, n) {
			j.r.Assumed = append(j.r.Assumed, n)
		}
	}
}

// decided are the hops that made a case's verdict, in words: the one that
// denies, or all that let it pass.
func decided(c policy.Case) []string {
	var list []string
	for _, h := range c.Hops {
		text := h.Flow.String() + ": " + strings.TrimPrefix(h.Decision.String(), "verdict: ")
		if !h.Decision.Verdict.Passes() {
			return []string{text}
		}
		list = append(list, text)
	}
	return list
}
