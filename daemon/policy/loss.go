// SPDX-License-Identifier: Apache-2.0

package policy

// Loss is a flow that would no longer pass.
type Loss struct {
	Flow Flow `json:"flow"`
	// Decision is the one that denies it.
	Decision Decision `json:"decision"`
}

// Losses are those of the flows that pass by the resources before and are
// denied by those after, in the order of flows. A flow that was denied before
// is none: nothing is taken from it. Each flow is judged as a new connection,
// whatever its State is: so an agent judges established flows when policy
// changes, and cuts those that are denied.
func Losses(before, after *World, flows []Flow) []Loss {
	var losses []Loss
	for _, f := range flows {
		f.State = New
		if !before.Evaluate(f).Verdict.Passes() {
			continue
		}
		if d := after.Evaluate(f); !d.Verdict.Passes() {
			losses = append(losses, Loss{f, d})
		}
	}
	return losses
}
