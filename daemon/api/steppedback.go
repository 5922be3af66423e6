// SPDX-License-Identifier: Apache-2.0

package api

// SteppedBack says that a host enforces earlier values of some resources than
// the datastore has, because its operator asked for it on the host. Each holds
// until the resource is written anew, or the operator undoes it.
type SteppedBack struct {
	// Since is when it was asked for last, and By who did.
	Since Time   `json:"since"`
	By    string `json:"by"`
	// Before is when the earliest of the changes that are left out reached the
	// host.
	Before Time `json:"before"`
	// Resources names the resources, as KIND(NAME) or KIND(NAMESPACE/NAME), up to
	// MaxSteppedBack; Count is how many they are.
	Resources []string `json:"resources"`
	Count     int      `json:"count"`
	// Left is by how many more changes the host can go back.
	Left int `json:"left"`
}

// MaxSteppedBack is how many resources SteppedBack names.
const MaxSteppedBack = 20
