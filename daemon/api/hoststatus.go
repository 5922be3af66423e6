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
	Role      string `json:"role,omitempty"`
	Version   string `json:"version,omitempty"`
	StartedAt Time   `json:"startedAt,omitzero"`
	// ReportedAt is when the agent last wrote this object.
	ReportedAt Time `json:"reportedAt,omitzero"`
	// Datastore says where the agent reads from and how it stands.
	Datastore DatastoreStatus `json:"datastore"`
	// Dataplane says what the kernel holds.
	Dataplane DataplaneStatus `json:"dataplane"`
	// Flows says what is known of the connections that the kernel tracks.
	Flows     FlowsStatus     `json:"flows,omitzero"`
	Endpoints []EndpointState `json:"endpoints,omitempty"`
	// FailsafesInbound and FailsafesOutbound are "tcp:22" or
	// "tcp:10.0.0.0/8:22", of IPv6 nets "tcp:[fd00::/8]:22".
	FailsafesInbound  []string `json:"failsafesInbound,omitempty"`
	FailsafesOutbound []string `json:"failsafesOutbound,omitempty"`
	// NoEffect lists FelixConfiguration parameters that are set and that
	// Ripstop accepts without acting on them.
	NoEffect []string `json:"noEffect,omitempty"`
	// Faults are objects that cannot be enforced as written, and why.
	Faults     []Fault     `json:"faults,omitempty"`
	Drift      []Drift     `json:"drift,omitempty"`
	DriftTotal int64       `json:"driftTotal,omitempty"`
	Conditions []Condition `json:"conditions,omitempty"`
}

// DatastoreStatus says where the agent reads from and how it stands.
type DatastoreStatus struct {
	Type      string   `json:"type,omitempty"`
	Endpoints []string `json:"endpoints,omitempty"`
	// Phase is Waiting, Resyncing or InSync; Source is live or snapshot.
	Phase  string `json:"phase,omitempty"`
	Source string `json:"source,omitempty"`
	// SeenRevision is the newest revision received.
	SeenRevision Revision `json:"seenRevision,omitempty"`
	// Held tells why a received picture is not applied; empty: it is.
	Held  string `json:"held,omitempty"`
	Error string `json:"error,omitempty"`
	Since Time   `json:"since,omitzero"`
}

// DataplaneStatus says what the kernel holds, as read back from it.
type DataplaneStatus struct {
	Backend string `json:"backend,omitempty"`
	// Why tells how the back end was chosen.
	Why string `json:"why,omitempty"`
	// OwnerFlag tells whether the kernel keeps other tools off our table.
	OwnerFlag bool `json:"ownerFlag"`
	// AppliedRevision is the newest store revision whose rules were read
	// back from the kernel.
	AppliedRevision Revision `json:"appliedRevision,omitempty"`
	Chains          int      `json:"chains"`
	Rules           int      `json:"rules"`
	Sets            int      `json:"sets"`
	Members         int      `json:"members"`
	// VerdictElements are those of maps that lead from a peer or a port to
	// what is decided.
	VerdictElements int    `json:"verdictElements"`
	LastApplied     Time   `json:"lastApplied,omitzero"`
	LastVerified    Time   `json:"lastVerified,omitzero"`
	Error           string `json:"error,omitempty"`
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
	Name       string   `json:"name"`
	Interfaces []string `json:"interfaces,omitempty"`
	// Status is up, down or error, as in Calico's status keys.
	Status   string   `json:"status"`
	Policies []string `json:"policies,omitempty"` // "tier/Kind(name)", in order
	Profiles []string `json:"profiles,omitempty"`
	Message  string   `json:"message,omitempty"`
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
	Why     string `json:"why,omitempty"`
	Rules   int    `json:"rules"`
	// Classes of peers, the addresses and prefixes that lead to them, lists
	// of several rules, and elements of the maps of ports.
	Classes int `json:"classes,omitempty"`
	Peers   int `json:"peers,omitempty"`
	Lists   int `json:"lists,omitempty"`
	Entries int `json:"entries,omitempty"`
	// Bytes is about how much memory of the kernel the program takes.
	Bytes int `json:"bytes,omitempty"`
}

// Fault is an object that cannot be enforced as written.
type Fault struct {
	Object  string `json:"object"`
	Message string `json:"message"`
	// Effect tells what is enforced instead.
	Effect string `json:"effect,omitempty"`
}

// Drift is a change of our rules that somebody else made and we undid.
type Drift struct {
	Time Time   `json:"time,omitzero"`
	What string `json:"what"`
	// By is the process that did it, as far as the kernel told: "nft[1234]".
	By       string `json:"by,omitempty"`
	Repaired bool   `json:"repaired"`
}

// Condition follows the Kubernetes API conventions.
type Condition struct {
	Type               string `json:"type"`
	Status             string `json:"status"` // True, False, Unknown
	Reason             string `json:"reason"`
	Message            string `json:"message,omitempty"`
	LastTransitionTime Time   `json:"lastTransitionTime,omitzero"`
}

// Key names the status by its host.
func (h *HostStatus) Key() Key { return Key{Kind: KindHostStatus, Name: h.Name} }
