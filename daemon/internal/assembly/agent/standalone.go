// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/host"
)

const (
	serverProgram = "ripstop-server"
	serverGrace   = 20 * time.Second
	// A server that ran this long and then died is started again at once.
	serverSteady  = 10 * time.Second
	serverBackoff = time.Second
	serverMost    = 30 * time.Second
)

// serve keeps ripstop-server running beside the agent until ctx ends. The
// server's end is not the agent's: policy stays enforced while it is away, and
// while it cannot be started. find gives its path.
func serve(ctx context.Context, cfg config.Config, log *slog.Logger, find func() (string, error)) {
	args := []string{"--run-dir", cfg.RunDir, "--state-dir", cfg.StateDir, "--log-level", strings.ToLower(cfg.Log.Level.String())}
	if cfg.Log.JSON {
		args = append(args, "--log-format", "json")
	}
	args = append(args, cfg.Etcd.Flags()...)
	wait := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		began := time.Now()
		path, err := find()
		var p *host.Process
		if err == nil {
			p, err = host.StartProcess(host.ProcessConfig{Path: path, Args: args, Stdout: os.Stderr, Stderr: os.Stderr})
		}
		if err != nil {
			log.Error("Server not started, it is tried again", "err", err)
		} else {
			select {
			case <-ctx.Done():
				p.Stop(serverGrace)
				return
			case <-p.Done():
			}
			log.Error("Server ended, it is started again", "err", p.Err(), "ran", time.Since(began).Round(time.Millisecond))
		}
		switch {
		case time.Since(began) > serverSteady:
			wait = 0
		case wait == 0:
			wait = serverBackoff
		default:
			wait = min(2*wait, serverMost)
		}
	}
}

// ownPath is this program's file, as it was when it was started: the kernel's
// answer changes when the file is replaced.
var ownPath = sync.OnceValues(os.Executable)

// serverPath is the program beside our own.
func serverPath() (string, error) {
	own, err := ownPath()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(own), serverProgram)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("role standalone needs %s beside ripstopd: %w: install it, or use --role agent with --etcd-endpoints", serverProgram, err)
	}
	return path, nil
}
