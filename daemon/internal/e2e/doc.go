// SPDX-License-Identifier: Apache-2.0

// Package e2e is a test room: the pieces together. It compares the three
// accounts of what policy means (package policy, the planned ruleset's
// interpreter, the kernel) over generated resources and packets, and runs the
// binaries against real namespaces, a real etcd and real connections. Nothing
// imports it.
package e2e
