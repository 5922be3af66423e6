// SPDX-License-Identifier: Apache-2.0

// Package server builds ripstop-server out of its parts: the REST API on a
// unix socket, and with TLS on TCP if it is told to, in front of etcd, which it runs as a child process of its own
// unless it is told of another. It is used by cmd/ripstop-server only.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/change"
	"github.com/ripstop/ripstop/daemon/internal/auditlog"
	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd/embedded"
	"github.com/ripstop/ripstop/daemon/store"
	"github.com/ripstop/ripstop/web/apiserver"
	"github.com/ripstop/ripstop/web/apiserver/authn"
	"github.com/ripstop/ripstop/web/apiserver/authz"
)

// Names inside of the run and state directories.
const (
	apiSocket  = "api.sock"
	etcdSocket = "etcd.sock"
	etcdDir    = "etcd"
	auditDir   = "audit"
)

const usage = `ripstop-server serves Ripstop's REST API on a unix socket, and on TCP with TLS
if --listen is given, and keeps the resources in etcd: in one of its own, run
beside it, or in an external one.

Usage:
  ripstop-server [flags]

Flags:
`

// Main runs the program and returns its exit status: 0 after a clean stop, 1
// on an error, 2 on a wrong command line or configuration.
func Main(args, environ []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "store" {
		return storeMain(args[1:], stdout, stderr)
	}
	flags := pflag.NewFlagSet("ripstop-server", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stdout, usage+flags.FlagUsages()) }
	version := flags.Bool("version", false, "Print the version and end")
	config.AddFlags(flags, config.ServerKeys())
	if err := flags.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return 0
	} else if err != nil {
		fmt.Fprintf(stderr, "ripstop-server: %v; see ripstop-server --help\n", err)
		return 2
	}
	if *version {
		fmt.Fprintln(stdout, "ripstop-server", api.Version)
		return 0
	}
	cfg, err := config.LoadServer(flags, environ)
	if err != nil {
		fmt.Fprintf(stderr, "ripstop-server: the configuration cannot be used:\n%v\n", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log := config.NewLogger(cfg.Log, stderr)
	if err := run(ctx, cfg, log); err != nil {
		fmt.Fprintf(stderr, "ripstop-server: %v\n", err)
		return 1
	}
	return 0
}

// run runs all parts until ctx ends or one fails.
func run(ctx context.Context, cfg config.ServerConfig, log *slog.Logger) error {
	listener, err := apiserver.Listen(filepath.Join(cfg.RunDir, apiSocket))
	if err != nil {
		return err
	}
	defer listener.Close()
	listeners := []net.Listener{listener}
	served := apiserver.Config{Log: log.With("part", "api"), Rights: authz.New()}
	if cfg.Listen != "" {
		if served.PKI, served.Address, err = openPKI(cfg, log.With("part", "pki")); err != nil {
			return err
		}
		l, err := apiserver.ListenTLS(cfg.Listen, served.PKI)
		if err != nil {
			return err
		}
		defer l.Close()
		listeners = append(listeners, l)
	}

	oidc, err := openOIDC(cfg.OIDC, log.With("part", "oidc"))
	if err != nil {
		return err
	}
	served.Authn = authn.New(oidc, nil)
	record, err := auditlog.Open(auditlog.Config{
		Dir: filepath.Join(cfg.StateDir, auditDir), MaxBytes: cfg.AuditFileBytes, Keep: cfg.AuditFiles,
		Program: "ripstop-server " + api.Version, Journal: auditlog.ToJournald("ripstop-audit"), Log: log.With("part", "audit"),
	})
	if err != nil {
		return err
	}
	defer func() {
		if err := record.Close(); err != nil {
			log.Error("Audit log not closed in order", "err", err)
		}
	}()
	served.Audit = record

	etcdConfig := etcd.Config{
		Endpoints: cfg.Etcd.Endpoints, CAFile: cfg.Etcd.CAFile, CertFile: cfg.Etcd.CertFile, KeyFile: cfg.Etcd.KeyFile,
		Username: cfg.Etcd.Username, Log: log.With("part", "etcd"),
	}
	password, err := cfg.Etcd.Password()
	if err != nil {
		return err
	}
	etcdConfig.Password = etcd.Secret(password)

	group, ctx := errgroup.WithContext(ctx)
	// The API drains before the store it stands on is stopped.
	storeCtx, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	defer stopStore()
	if len(etcdConfig.Endpoints) == 0 {
		socket := filepath.Join(cfg.RunDir, etcdSocket)
		etcdConfig.Endpoints = []string{"unix://" + socket}
		etcdConfig.Checksums = true
		supervisor, err := newSupervisor(cfg, socket, log)
		if err != nil {
			return err
		}
		group.Go(func() error { return supervisor.Run(storeCtx) })
	}
	s, err := etcd.Open(etcdConfig)
	if err != nil {
		return err
	}
	defer s.Close()
	served.Store = s
	group.Go(func() error { initialise(ctx, s, log); return nil })
	group.Go(func() error { served.Authn.Run(ctx, s, log.With("part", "authn")); return nil })
	group.Go(func() error { served.Rights.Run(ctx, s, log.With("part", "authz")); return nil })
	keeper := &change.Keeper{Store: apiserver.Restoring(s, served.Audit, log.With("part", "change")), Log: log.With("part", "change"), Now: time.Now, Over: func(ctx context.Context, c *api.Change) {
		if err := change.SetOutcome(ctx, s, c.Name, change.OutcomeOf(c)); err != nil && ctx.Err() == nil {
			log.Warn("History not written", "change", c.Name, "err", err)
		}
	}}
	group.Go(func() error { keeper.Run(ctx); return nil })
	if served.PKI != nil {
		group.Go(func() error { served.PKI.Run(ctx); return nil })
	}
	group.Go(func() error {
		defer stopStore()
		return apiserver.New(served).Serve(ctx, listeners...)
	})
	return group.Wait()
}

// notReadyEvery is the least time between two lines about a datastore that
// does not answer.
const notReadyEvery = 30 * time.Second

// initialise fills an empty store with what every cluster has, as soon as it
// answers.
func initialise(ctx context.Context, s store.Store, log *slog.Logger) {
	var said time.Time
	for wait := 50 * time.Millisecond; ctx.Err() == nil; wait = min(2*wait, 5*time.Second) {
		err := store.Initialise(ctx, s)
		if err == nil {
			log.Info("Datastore ready")
			return
		}
		if ctx.Err() == nil && (said.IsZero() || time.Since(said) > notReadyEvery) {
			said = time.Now()
			log.Warn("Datastore not ready, it is tried again", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

func newSupervisor(cfg config.ServerConfig, socket string, log *slog.Logger) (*embedded.Supervisor, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cfg.StateDir, etcdDir)
	log = log.With("part", "store")
	return embedded.NewSupervisor(embedded.SupervisorConfig{
		Command: []string{self, "store", "--data-dir", dir, "--socket", socket, "--quota-bytes", strconv.FormatInt(cfg.QuotaBytes, 10)},
		DataDir: dir, ClientSocket: socket, Log: log,
	}), nil
}

const storeUsage = `ripstop-server store is the datastore alone, on a unix socket. ripstop-server
runs it by itself; by hand it is for a datastore that is damaged, while
ripstop-server is stopped.

Usage:
  ripstop-server store [flags]

Flags:
`

// storeMain is the hidden command that the supervisor starts: etcd, alone in
// its process.
func storeMain(args []string, stdout, stderr io.Writer) int {
	flags := pflag.NewFlagSet("ripstop-server store", pflag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() { fmt.Fprint(stdout, storeUsage+flags.FlagUsages()) }
	dir := flags.String("data-dir", "/var/lib/ripstop/etcd", "Directory of the data")
	socket := flags.String("socket", "/run/ripstop/etcd.sock", "Unix socket to listen on")
	quota := flags.Int64("quota-bytes", 0, "The most that may be held on disk")
	accept := flags.Bool("accept-damage", false, "Serve a database that does not match its seal, and seal it as it is")
	if err := flags.Parse(args); errors.Is(err, pflag.ErrHelp) {
		return 0
	} else if err != nil {
		fmt.Fprintf(stderr, "ripstop-server store: %v; see ripstop-server store --help\n", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	err := embedded.Run(ctx, embedded.Config{
		DataDir: *dir, ClientSocket: *socket, QuotaBytes: *quota, AcceptDamage: *accept,
		Log: slog.New(slog.NewJSONHandler(stderr, nil)),
	})
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}
