// SPDX-License-Identifier: Apache-2.0

package api

import "encoding/json"

// ChangeRequest asks the server for a Change: for writes that go together, and
// go back unless they are confirmed. It is not stored. POST it to
// ChangeRequestPath; the answer is the request with its status.
type ChangeRequest struct {
	TypeMeta
	Spec   ChangeRequestSpec   `json:"spec"`
	Status ChangeRequestStatus `json:"status,omitzero"`
}

// KindChangeRequest is the kind of a ChangeRequest, which is none of Kinds.
const KindChangeRequest Kind = "ChangeRequest"

// ChangeRequestPath is where a ChangeRequest is posted.
const ChangeRequestPath = "/apis/" + VersionOurs + "/changerequests"

// ChangeRequestSpec is what is asked for.
type ChangeRequestSpec struct {
	// Timeout, MustReach and Operator become those of the Change. One that would
	// shut Operator's connection is refused.
	Timeout   Duration  `json:"timeout,omitzero"`
	MustReach []string  `json:"mustReach,omitempty"`
	Operator  *Operator `json:"operator,omitempty"`
	// ManagedFrom are the addresses from which somebody works on the hosts. If
	// they or Operator are given, the answer says which ways into hosts would be
	// shut.
	ManagedFrom []string `json:"managedFrom,omitempty"`
	// DryRun goes through everything but the writes: then no Timeout is needed.
	DryRun bool `json:"dryRun,omitempty"`
	// Test has all PolicyTests judged, as they and everything else would be after
	// the writes. If a case fails nothing is written. Whoever asks for it must be
	// allowed to read all that is judged.
	Test bool `json:"test,omitempty"`
	// How says what makes the change, for people: "apply --confirm".
	How string `json:"how,omitempty"`
	// Writes are done in an order in which each finds what it needs.
	Writes []ChangeWrite `json:"writes"`
}

// ChangeWrite is one write, as the REST API has it by itself.
type ChangeWrite struct {
	// Verb is create, update, patch or delete.
	Verb string `json:"verb"`
	// Kind, Namespace and Name say to what. Of a create the name may be empty
	// where the body has it, or its metadata.generateName.
	Kind      Kind   `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// MediaType is the kind of a patch.
	MediaType string `json:"mediaType,omitempty"`
	// Manager and Force are the parameters fieldManager and force.
	Manager string `json:"manager,omitempty"`
	Force   bool   `json:"force,omitempty"`
	// Body is the object, the patch or the DeleteOptions.
	Body json.RawMessage `json:"body,omitempty"`
}

// ChangeRequestStatus is what came of it.
type ChangeRequestStatus struct {
	// Change names the Change; empty if nothing was to be changed, or in a dry
	// run.
	Change string `json:"change,omitempty"`
	// Until is when it goes back unless it is confirmed.
	Until Time `json:"until,omitzero"`
	// Writes say what was done, in the order of the request.
	Writes []ChangeWritten `json:"writes,omitempty"`
	// Tested is how many cases of PolicyTests were judged, if Test asked for it.
	Tested int `json:"tested,omitempty"`
	// Unjudged is how many pairs of ends of those cases were left out, since
	// there are too many.
	Unjudged int `json:"unjudged,omitempty"`
	// LostWays are the ways into hosts that are open now and would be shut, up to
	// MaxLostWays; LostHosts is into how many hosts one would be. UnseenHosts is
	// how many hosts were not looked at because it took too long.
	LostWays    []LostWay `json:"lostWays,omitempty"`
	LostHosts   int       `json:"lostHosts,omitempty"`
	UnseenHosts int       `json:"unseenHosts,omitempty"`
}

// MaxLostWays bounds the ways that an answer names.
const MaxLostWays = 20

// LostWay is a way into a host that would be shut.
type LostWay struct {
	// Host is the host, From and To are the ends of a new TCP connection to it:
	// an address, and ADDRESS:PORT, or :PORT where none of its addresses is
	// known.
	Host string `json:"host"`
	From string `json:"from"`
	To   string `json:"to"`
	// Why says what denies it.
	Why string `json:"why"`
}

// ChangeWritten says what one write did.
type ChangeWritten struct {
	Kind      Kind   `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
	// Done is created, configured, unchanged or deleted.
	Done string `json:"done"`
	// Object is the object as all the writes leave it; null: it is gone.
	Object json.RawMessage `json:"object,omitempty"`
}

// What a write did, as ChangeWritten says it.
const (
	DoneCreated    = "created"
	DoneConfigured = "configured"
	DoneUnchanged  = "unchanged"
	DoneDeleted    = "deleted"
)

// Key names the resource.
func (w ChangeWritten) Key() Key { return Key{w.Kind, w.Namespace, w.Name} }
