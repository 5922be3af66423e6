// SPDX-License-Identifier: Apache-2.0

package api

// HostStatus is what the agent of one host says of itself. Its name is the
// host's. Group ripstop.io/v1; written by agents only.
type HostStatus struct {
	TypeMeta
	Meta   `json:"metadata"`
	Status HostStatusStatus `json:"status"`
}

// HostStatusStatus is the status of a HostStatus.
type HostStatusStatus struct {
	// Role is the agent's role: agent or standalone.
	Role string `json:"role,omitempty"`
	// Version is the agent's version.
	Version string `json:"version,omitempty"`
	// StartedAt is when the agent was started.
	StartedAt Time `json:"startedAt,omitzero"`
	// ReportedAt is when the agent last wrote this object.
	ReportedAt Time `json:"reportedAt,omitzero"`
	// Datastore says where the agent reads from and how it stands.
	Datastore DatastoreStatus `json:"datastore"`
	// Dataplane says what the kernel holds.
	Dataplane DataplaneStatus `json:"dataplane"`
	// Paused tells that policy is out of force, and until when.
	Paused *Pause `json:"paused,omitempty"`
	// Changes are those that go back unless they are confirmed, or that have
	// gone back on this host before the datastore has.
	Changes []OpenChange `json:"changes,omitempty"`
	// SteppedBack tells that this host enforces earlier values of some
	// resources, at the will of its operator.
	SteppedBack *SteppedBack `json:"steppedBack,omitempty"`
	// Flows says what is known of the connections that the kernel tracks.
	Flows FlowsStatus `json:"flows,omitzero"`
	// Endpoints are the endpoints of the host with what judges them.
	Endpoints []EndpointState `json:"endpoints,omitempty"`
	// FailsafesInbound and FailsafesOutbound are "tcp:22" or
	// "tcp:10.0.0.0/8:22", of IPv6 nets "tcp:[fd00::/8]:22".
	FailsafesInbound  []string `json:"failsafesInbound,omitempty"`
	FailsafesOutbound []string `json:"failsafesOutbound,omitempty"`
	// NoEffect lists FelixConfiguration parameters that are set and that
	// Ripstop accepts without acting on them.
	NoEffect []string `json:"noEffect,omitempty"`
	// Faults are objects that cannot be enforced as written, and why.
	Faults []Fault `json:"faults,omitempty"`
	// Drift are the last changes of our rules that somebody else made and the
	// agent undid.
	Drift []Drift `json:"drift,omitempty"`
	// DriftTotal counts such changes since the agent was started.
	DriftTotal int64 `json:"driftTotal,omitempty"`
	// Conditions say in short how the agent stands.
	Conditions []Condition `json:"conditions,omitempty"`
}

// DatastoreStatus says where the agent reads from and how it stands.
type DatastoreStatus struct {
	// Type is what the agent reads from: etcd or api.
	Type string `json:"type,omitempty"`
	// Endpoints are the addresses of the datastore.
	Endpoints []string `json:"endpoints,omitempty"`
	// Phase is Waiting, Resyncing or InSync; Source is live or snapshot.
	Phase  string `json:"phase,omitempty"`
	Source string `json:"source,omitempty"`
	// SeenRevision is the newest revision received.
	SeenRevision Revision `json:"seenRevision,omitempty"`
	// Held tells why a received picture is not applied; empty: it is.
	Held string `json:"held,omitempty"`
	// Error is why the datastore cannot be read; empty: it can.
	Error string `json:"error,omitempty"`
	// Since is when the agent came into this phase.
	Since Time `json:"since,omitzero"`
}

// DataplaneStatus says what the kernel holds, as read back from it.
type DataplaneStatus struct {
	// Backend is the packet filter in use: nftables.
	Backend string `json:"backend,omitempty"`
	// Why tells how the back end was chosen.
	Why string `json:"why,omitempty"`
	// OwnerFlag tells whether the kernel keeps other tools off our table.
	OwnerFlag bool `json:"ownerFlag"`
	// AppliedRevision is the newest store revision whose rules were read
	// back from the kernel.
	AppliedRevision Revision `json:"appliedRevision,omitempty"`
	// Chains counts the chains in the kernel.
	Chains int `json:"chains"`
	// Rules counts the rules in the kernel.
	Rules int `json:"rules"`
	// Sets counts the sets in the kernel.
	Sets int `json:"sets"`
	// Members counts the members of all sets.
	Members int `json:"members"`
	// VerdictElements counts those of maps that lead from a peer or a port to
	// what is decided.
	VerdictElements int `json:"verdictElements"`
	// LastApplied is when the kernel last took a change.
	LastApplied Time `json:"lastApplied,omitzero"`
	// LastVerified is when the kernel was last read back and was as wanted.
	LastVerified Time `json:"lastVerified,omitzero"`
	// Error is why the kernel is not as wanted; empty: it is.
	Error string `json:"error,omitempty"`
}

// OpenChange is how a host stands to a Change.
type OpenChange struct {
	// Name is the change's, User who made it.
	Name string `json:"name"`
	User string `json:"user,omitempty"`
	// Until is when this host goes back from it by itself.
	Until Time `json:"until"`
	// WentBack: this host enforces what was before the change, for the Reason.
	WentBack bool   `json:"wentBack,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// MustReach are what this host must reach meanwhile.
	MustReach []string `json:"mustReach,omitempty"`
}

// Pause is a time in which a host's policy is out of force.
type Pause struct {
	// Since and Until are its bounds.
	Since Time `json:"since"`
	Until Time `json:"until"`
	// By says who asked for it.
	By string `json:"by"`
}

// FlowsStatus says what is known of the connections that the kernel tracks.
type FlowsStatus struct {
	// Tracked is how many there are, Most how many there can be. They may be
	// some seconds old.
	Tracked int `json:"tracked"`
	Most    int `json:"most"`
	// CutTotal counts the connections that were cut since the agent's start,
	// because a change no longer allowed them; LastCut is how many the last
	// change cut, and LastChange when that was done.
	CutTotal   int64 `json:"cutTotal"`
	LastCut    int   `json:"lastCut"`
	LastChange Time  `json:"lastChange,omitzero"`
}

// EndpointState is one endpoint of this host with what judges it.
type EndpointState struct {
	// Name is the endpoint's name.
	Name string `json:"name"`
	// Interfaces are the interfaces it guards.
	Interfaces []string `json:"interfaces,omitempty"`
	// Status is up, down or error, as in Calico's status keys.
	Status   string   `json:"status"`
	Policies []string `json:"policies,omitempty"` // "tier/Kind(name)", in order
	// Profiles are the endpoint's profiles, in order.
	Profiles []string `json:"profiles,omitempty"`
	// Message says what is wrong with it; empty: nothing.
	Message string `json:"message,omitempty"`
	// Enforced tells how, for each place where the endpoint judges packets.
	Enforced []Enforced `json:"enforced,omitempty"`
}

// Enforced is how an endpoint's rules are enforced at one place.
type Enforced struct {
	// Chain is the endpoint's chain there.
	Chain string `json:"chain"`
	// Program is what the rules were compiled to, named for the chain of an
	// endpoint that shares it; empty: they are gone through one by one, for
	// the reason Why.
	Program string `json:"program,omitempty"`
	// Why is empty if there is a program.
	Why string `json:"why,omitempty"`
	// Rules counts the rules that were compiled, or that are gone through.
	Rules int `json:"rules"`
	// Classes counts the classes of peers.
	Classes int `json:"classes,omitempty"`
	// Peers counts the addresses and prefixes that lead to classes.
	Peers int `json:"peers,omitempty"`
	// Lists counts the chains of several rules.
	Lists int `json:"lists,omitempty"`
	// Entries counts the elements of the maps of ports.
	Entries int `json:"entries,omitempty"`
	// Bytes is about how much memory of the kernel the program takes.
	Bytes int `json:"bytes,omitempty"`
}

// Fault is an object that cannot be enforced as written.
type Fault struct {
	// Object is the object, as "Kind(name)".
	Object string `json:"object"`
	// Message says what is wrong with it.
	Message string `json:"message"`
	// Effect tells what is enforced instead.
	Effect string `json:"effect,omitempty"`
}

// Drift is a change of our rules that somebody else made and we undid.
type Drift struct {
	// Time is when it was found.
	Time Time `json:"time,omitzero"`
	// What is what was changed.
	What string `json:"what"`
	// By is the process that did it, as far as the kernel told: "nft[1234]".
	By string `json:"by,omitempty"`
	// Repaired tells whether it is undone.
	Repaired bool `json:"repaired"`
}

// Condition follows the Kubernetes API conventions.
type Condition struct {
	// Type is what the condition is about.
	Type   string `json:"type"`
	Status string `json:"status"` // True, False, Unknown
	// Reason is one word for why.
	Reason string `json:"reason"`
	// Message is why, for people.
	Message string `json:"message,omitempty"`
	// LastTransitionTime is when Status last changed.
	LastTransitionTime Time `json:"lastTransitionTime,omitzero"`
}

// Key names the status by its host.
func (h *HostStatus) Key() Key { return Key{Kind: KindHostStatus, Name: h.Name} }
