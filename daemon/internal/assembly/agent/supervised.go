// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"
)

// startMost is how long a start of the unit waits for rules. A host whose
// datastore is away, and which has no snapshot, is started all the same: a
// start that blocks keeps machines from booting and packages from installing.
const startMost = 20 * time.Second

// tellSystemd says to systemd when the rules are in force, what the agent
// waits for, and, as long as all that must live lives, that it does
// (sd_notify(3)). Without systemd it does nothing.
func tellSystemd(ctx context.Context, settled <-chan struct{}, live map[string]func() error, log *slog.Logger) error {
	say := func(state string) {
		if _, err := daemon.SdNotify(false, state); err != nil {
			log.Warn("systemd cannot be told", "state", state, "err", err)
		}
	}
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("environment WATCHDOG_USEC: %w", err)
	}
	say("STATUS=Waiting for the resources; the rules of before stay in force")
	late := time.NewTimer(startMost)
	defer late.Stop()
	var beat <-chan time.Time
	if every > 0 {
		t := time.NewTicker(every / 3)
		defer t.Stop()
		beat = t.C
	}
	for {
		select {
		case <-ctx.Done():
			if !errors.Is(context.Cause(ctx), errReload) {
				say(daemon.SdNotifyStopping)
			}
			return nil
		case <-settled:
			say(daemon.SdNotifyReady + "\nSTATUS=Policy is in force")
			settled = nil
			late.Stop()
		case <-late.C:
			say(daemon.SdNotifyReady + "\nSTATUS=The datastore has not answered yet, and there is no state on disk; the rules of before stay in force")
		case <-beat:
			if allLive(live) {
				say(daemon.SdNotifyWatchdog)
			}
		}
	}
}

func allLive(live map[string]func() error) bool {
	for _, check := range live {
		if check() != nil {
			return false
		}
	}
	return true
}

// errReload ends run so that the program begins anew with its new
// configuration.
var errReload = errors.New("configuration is to be read anew")

// awaitReload waits for SIGHUP and ends with errReload if reread finds the
// configuration good. If not, the one in force stays.
func awaitReload(ctx context.Context, reread func() error, log *slog.Logger) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
		}
		if err := reread(); err != nil {
			log.Error("The configuration cannot be used, the one in force stays", "err", err)
			continue
		}
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err == nil {
			_, _ = daemon.SdNotify(false, fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, now.Nano()/1000))
		}
		log.Info("The configuration is read anew")
		return errReload
	}
}
