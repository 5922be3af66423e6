// SPDX-License-Identifier: Apache-2.0

// Package assembly holds the tests of how the house is built: which packages
// may import which, what each binary links, and that every package says what
// it is. The binaries are put together in the packages below it: agent for
// ripstopd, server for ripstop-server. They are two because one would make
// the agent link etcd's server.
package assembly
