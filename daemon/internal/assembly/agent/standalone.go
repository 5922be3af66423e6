// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
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
// server's end is not the agent's: policy stays enforced while it is away.
func serve(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	path, err := serverPath()
	if err != nil {
		return err
	}
	args := []string{"--run-dir", cfg.RunDir, "--state-dir", cfg.StateDir, "--log-level", strings.ToLower(cfg.Log.Level.String())}
	if cfg.Log.JSON {
		args = append(args, "--log-format", "json")
	}
	args = append(args, cfg.Etcd.Flags()...)
	wait := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		began := time.Now()
		p, err := host.StartProcess(host.ProcessConfig{Path: path, Args: args, Stdout: os.Stderr, Stderr: os.Stderr})
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			p.Stop(serverGrace)
			return nil
		case <-p.Done():
		}
		log.Error("ripstop-server ended", "err", p.Err(), "ran", time.Since(began).Round(time.Millisecond))
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

// serverPath is the program beside our own.
func serverPath() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	path := filepath.Join(filepath.Dir(self), serverProgram)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("role standalone needs %s beside ripstopd: %w: install it, or use --role agent with --etcd-endpoints", serverProgram, err)
	}
	return path, nil
}
