// SPDX-License-Identifier: Apache-2.0

package api

// KindDoctorReport is the kind of a DoctorReport. It is not a resource: it is
// never stored, and no Descriptor is of it.
const KindDoctorReport Kind = "DoctorReport"

// DoctorReport is what ripstop doctor found on one host at one moment: every
// packet filter, whose it is, the order in which a packet meets them, and what
// to worry about. Group ripstop.io/v1.
type DoctorReport struct {
	TypeMeta
	Host    string `json:"host"`
	Version string `json:"version,omitempty"`
	At      Time   `json:"at,omitzero"`
	// Findings are sorted: the gravest first.
	Findings []Finding      `json:"findings"`
	Filters  []PacketFilter `json:"filters"`
	// Order is, for each hook, the base chains in the order in which a packet
	// meets them.
	Order []HookOrder  `json:"order"`
	Sets  []SetSummary `json:"sets,omitempty"`
	// Unseen says what could not be read, and why.
	Unseen []string `json:"unseen,omitempty"`
}

// Severity is how much a Finding matters.
type Severity string

// Severities. Critical: traffic is lost or let in now. Warning: something
// works against Ripstop, or could not be looked at. Advice: could be better.
const (
	SeverityCritical Severity = "Critical"
	SeverityWarning  Severity = "Warning"
	SeverityAdvice   Severity = "Advice"
)

// Finding is one thing to worry about.
type Finding struct {
	Severity Severity `json:"severity"`
	// Code names the sort of finding; it does not change between versions.
	Code string `json:"code"`
	// Title says what is so, Detail what follows from it, Do what to do.
	Title    string   `json:"title"`
	Detail   string   `json:"detail,omitempty"`
	Do       string   `json:"do,omitempty"`
	Evidence []string `json:"evidence,omitempty"`
}

// PacketFilter is one table of a packet filter.
type PacketFilter struct {
	// Facility is nf_tables, or xtables for what iptables-legacy makes.
	Facility string `json:"facility"`
	// Family is inet, ip, ip6, arp, bridge or netdev.
	Family string `json:"family"`
	Table  string `json:"table"`
	// Owners are whose it likely is, best guess first, each with why.
	Owners []LikelyOwner `json:"owners"`
	Ours   bool          `json:"ours,omitempty"`
	// Flags are owner, persist and dormant.
	Flags  []string      `json:"flags,omitempty"`
	Sets   int           `json:"sets,omitempty"`
	Chains []FilterChain `json:"chains"`
	// Unread: the table is there, its chains could not be read.
	Unread bool `json:"unread,omitempty"`
}

// LikelyOwner is a program that a table, chain or set likely belongs to.
type LikelyOwner struct {
	Name     string `json:"name"`
	Evidence string `json:"evidence,omitempty"`
}

// FilterChain is one chain. What hook is empty for is entered from other
// chains only.
type FilterChain struct {
	Name     string `json:"name"`
	Type     string `json:"type,omitempty"` // filter, nat or route
	Hook     string `json:"hook,omitempty"`
	Device   string `json:"device,omitempty"`
	Priority *int   `json:"priority,omitempty"`
	Policy   string `json:"policy,omitempty"` // accept or drop
	Rules    int    `json:"rules"`
	// Drops counts the rules that drop or reject.
	Drops int `json:"drops,omitempty"`
}

// HookOrder is what a packet meets at one hook, first to last. At one
// priority the order is that of making, which the kernel does not tell.
type HookOrder struct {
	Hook     string    `json:"hook"` // of arp and bridge: "arp input", "bridge forward"
	Stations []Station `json:"stations"`
}

// Station is one base chain on a packet's way.
type Station struct {
	Priority int    `json:"priority"`
	Facility string `json:"facility"`
	Family   string `json:"family"`
	Table    string `json:"table"`
	Chain    string `json:"chain"`
	Type     string `json:"type"`
	Device   string `json:"device,omitempty"`
	Policy   string `json:"policy"`
	Owner    string `json:"owner"`
}

// SetSummary is one ipset.
type SetSummary struct {
	Name    string `json:"name"`
	Type    string `json:"type"`
	Members int    `json:"members"`
	// References counts the rules and sets that use it.
	References int    `json:"references"`
	Owner      string `json:"owner"`
}

// Worry tells whether there is a finding that is more than advice.
func (r *DoctorReport) Worry() bool {
	for _, f := range r.Findings {
		if f.Severity != SeverityAdvice {
			return true
		}
	}
	return false
}
