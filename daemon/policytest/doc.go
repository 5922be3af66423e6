// SPDX-License-Identifier: Apache-2.0

// Package policytest judges PolicyTests: whether policy, as the resources of a
// World have it, allows and denies what the tests say it has to.
//
//	case ─► both ends: places ─► pairs ─► policy.Query ─► World.Explain ─► as expected?
//
// It has no opinion of its own on what policy means: policy.World decides, in
// the way in which ripstop explain shows it. The CLI's test and the server, for
// changes that ask for it, call Run. It does no I/O and needs no clock; it does
// not read files, and does not write results down.
package policytest
