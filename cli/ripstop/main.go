// SPDX-License-Identifier: Apache-2.0

// Command ripstop manages the policies of hosts. See package command.
package main

import (
	"os"

	"github.com/ripstop/ripstop/cli/command"
)

func main() {
	os.Exit(command.Main(os.Args[1:], command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
