// SPDX-License-Identifier: Apache-2.0

// Package agent builds ripstopd out of its parts: the stream of resources,
// calc, the planner, the packet filter with the loop that moves it, and
// status. It is used by cmd/ripstopd only.
package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/config"
)

const usage = `ripstopd enforces policy on this host. In role standalone it runs
ripstop-server, with a datastore of its own, beside itself.

Usage:
  ripstopd [flags]

Flags:
`

// Main runs the program and returns its exit status: 0 after a clean stop, 1
// on an error, 2 on a wrong command line or configuration, 3 if --doctor found
// something to worry about.
func Main(args, environ []string, stdout, stderr io.Writer) int {
	flags := pflag.NewFlagSet("ripstopd", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stdout, usage+flags.FlagUsages()) }
	version := flags.Bool("version", false, "Print the version and end")
	config.AddFlags(flags, config.AgentKeys())
	if err := flags.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return 0
	} else if err != nil {
		fmt.Fprintf(stderr, "ripstopd: %v; see ripstopd --help\n", err)
		return 2
	}
	if *version {
		fmt.Fprintln(stdout, "ripstopd", api.Version)
		return 0
	}
	cfg, err := config.LoadAgent(flags, environ)
	// In an emergency the rules must go, whatever the file says.
	emergency := cfg.Cleanup && !cfg.Check && flags.NArg() == 0
	if err != nil && !emergency {
		fmt.Fprintf(stderr, "ripstopd: the configuration cannot be used:\n%v\n", err)
		return 2
	}
	// A host's firewall shares its host: trade some processor time, which is
	// idle, for memory, which is not.
	debug.SetGCPercent(50)

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := config.NewLogger(cfg.Log, stderr)
	act := func(ctx context.Context, cfg config.Config, log *slog.Logger, stdout io.Writer) error {
		return run(ctx, cfg, log, stdout, func() error { _, err := config.LoadAgent(flags, environ); return err })
	}
	path, pathErr := ownPath()
	switch {
	case cfg.Boot:
		act = boot
	case cfg.Cleanup:
		act = cleanup
	case cfg.Check:
		act = check
	case cfg.Doctor:
		act = printDoctor
	case cfg.Exposure:
		act = printExposure
	}
	err = act(ctx, cfg, log, stdout)
	switch {
	case errors.Is(err, errWorry):
		return 3
	case errors.Is(err, errReload) && pathErr == nil:
		// The same process goes on, as whatever the file is by now: systemd
		// sees no end, and the kernel keeps the rules.
		err = syscall.Exec(path, append([]string{path}, args...), environ)
	}
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(stderr, "ripstopd: %v\n", err)
		if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
			fmt.Fprintln(stderr, "  fix: run it as root; it changes the packet filter of the kernel")
		}
		return 1
	}
	return 0
}
