// SPDX-License-Identifier: Apache-2.0

// Command ripstopd is the agent of a host; see package agent under
// daemon/internal/assembly.
package main

import (
	"os"

	"github.com/ripstop/ripstop/daemon/internal/assembly/agent"
)

func main() { os.Exit(agent.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) }
