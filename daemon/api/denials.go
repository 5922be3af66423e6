// SPDX-License-Identifier: Apache-2.0

package api

// Denials is what the rules of one host have denied lately. It is asked for on
// the agent's socket, and never stored.
type Denials struct {
	// Host is the host's name.
	Host string `json:"host"`
	// Since is from when on is told; not earlier than the agent's start.
	Since Time `json:"since"`
	// Rules are those that have denied something, the last one first.
	Rules []Denial `json:"rules"`
}

// Denial is what one rule has denied.
type Denial struct {
	// Rule is as in RuleCount, "no policy or profile allows it" at the end of
	// them all, or what else denies.
	Rule string `json:"rule"`
	// Packets and Bytes are what it has denied.
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	// First and Last are when, to within 15 seconds later.
	First Time `json:"first"`
	Last  Time `json:"last"`
}
