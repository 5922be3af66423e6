// SPDX-License-Identifier: Apache-2.0

// Command ripstop-server serves the REST API and keeps the datastore; see
// package server under daemon/internal/assembly.
package main

import (
	"os"

	"github.com/ripstop/ripstop/daemon/internal/assembly/server"
)

func main() { os.Exit(server.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) }
