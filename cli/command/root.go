// SPDX-License-Identifier: Apache-2.0

// Package command is the command line of ripstop: one file per command, with
// its summary, flags and output, and one transcript of it in testdata. It
// talks to ripstop-server through package client and to the agent on this
// machine through its socket; it holds no policy semantics and never touches
// the kernel.
//
// Results go to standard output, everything else to standard error. Exit
// codes: 0 done; 1 not, or not all of it; 2 the command line makes no sense;
// 3 explain --fail-on found what it was to fail on, or doctor something to
// worry about. Of diff: 0 no difference, 1 a difference, 2 an error.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/client"
)

// Exit codes.
const (
	exitOK      = 0
	exitError   = 1
	exitUsage   = 2
	exitVerdict = 3
	// exitDifference is diff's alone.
	exitDifference = 1
)

// Streams are what a command reads and writes.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Main runs the command line args (without the program's name) until it is
// done or interrupted, and returns the exit code.
func Main(args []string, s Streams) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{Streams: s, now: time.Now}
	defer a.end()
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	a.explainError(err)
	var x *exit
	if errors.As(err, &x) {
		return x.code
	}
	return exitError
}

// app is one run of the program: what all commands share.
type app struct {
	Streams
	cfg config
	now func() time.Time
	// contextPath is the file of contexts; writesContexts is set where that
	// itself is worked on, whatever context is chosen.
	contextPath    string
	writesContexts bool
	// started: a server was started for this command.
	started bool
	// ends is what is to be undone when the command is done, the last first.
	ends []func()
	// elsewhere: the agent that was asked last is in another network
	// namespace.
	elsewhere bool
}

// atEnd has something done when the command is done.
func (a *app) atEnd(do func()) { a.ends = append(a.ends, do) }

// end does what is to be done at the end.
func (a *app) end() {
	for len(a.ends) > 0 {
		last := len(a.ends) - 1
		do := a.ends[last]
		a.ends = a.ends[:last]
		do()
	}
}

// exit is an error with an exit code of its own. Without err there is nothing
// to say.
type exit struct {
	code int
	err  error
}

// Error is the text of the error inside.
func (e *exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

// Unwrap is the error inside.
func (e *exit) Unwrap() error { return e.err }

// usage is an error of the command line itself.
func usage(cmd *cobra.Command, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &exit{exitUsage, fmt.Errorf("%w\n  try: %s --help", err, cmd.CommandPath())}
}

// root is the tree of all commands.
func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "ripstop COMMAND",
		Short: "Policy for the network interfaces of this and other hosts",
		Long: `ripstop manages the policies that protect the network interfaces of hosts.

Resources (tiers, policies, host endpoints, network sets ...) are kept by
ripstop-server; the agent ripstopd on each host enforces them. ripstop reads and
writes resources through the server, and asks the agent on this machine how it
stands.

The exit code is 0 if everything was done, 1 if something was not, 2 if the
command line makes no sense. explain --fail-on and doctor have a 3 of their own,
and diff means 1 by a difference and 2 by an error.

Settings come from flags, then from the environment (RIPSTOP_SERVER for --server
and so on), then from the context (ripstop config). Where ETCD_ENDPOINTS is set
and no server is named, the datastore is used directly, as calicoctl does, with
DATASTORE_TYPE, ETCD_CA_CERT_FILE, ETCD_CERT_FILE, ETCD_KEY_FILE, ETCD_USERNAME
and ETCD_PASSWORD, each also with CALICO_ in front. Colours are for terminals,
unless NO_COLOR is set.

What to do in an emergency: man 7 ripstop-emergency.`,
		Example: `  ripstop apply -f policies/          write what the files say
  ripstop get hostendpoints -o wide   list resources
  ripstop status                      what is enforced on this machine
  ripstop explain tcp from 10.0.0.2 to host/h1:8080`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Args:                       noSuchCommand,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE:          func(cmd *cobra.Command, _ []string) error { return a.loadConfig(cmd) },
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, "%w", err) })
	configFlags(root.PersistentFlags())
	_ = root.RegisterFlagCompletionFunc("namespace", a.completeNamespace)
	_ = root.RegisterFlagCompletionFunc("context", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.contextNames(cmd), cobra.ShellCompDirectiveNoFileComp
	})
	for _, f := range []string{"server", "agent", "tls-server-name"} {
		_ = root.RegisterFlagCompletionFunc(f, cobra.NoFileCompletions)
	}
	root.AddCommand(
		a.getCommand(),
		a.applyCommand(),
		a.confirmCommand(),
		a.rollbackCommand(),
		a.historyCommand(),
		a.createCommand(),
		a.replaceCommand(),
		a.deleteCommand(),
		a.patchCommand(),
		a.labelCommand(),
		a.annotateCommand(),
		a.describeCommand(),
		a.editCommand(),
		a.diffCommand(),
		a.validateCommand(),
		a.convertCommand(),
		a.statusCommand(),
		a.whyDownCommand(),
		a.pauseCommand(),
		a.resumeCommand(),
		a.explainCommand(),
		a.testCommand(),
		a.doctorCommand(),
		a.exposureCommand(),
		a.nodeCommand(),
		a.datastoreCommand(),
		a.storeCommand(),
		a.tokenCommand(),
		a.kubeconfigCommand(),
		a.configCommand(),
		a.auditCommand(),
		a.versionCommand(),
		a.completionCommand(),
	)
	return root
}

// noSuchCommand refuses words that are no command.
func noSuchCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	group := ""
	if cmd.HasParent() {
		group = cmd.Name() + ": "
	}
	return usage(cmd, "%sthere is no command %q%s", group, args[0], hint)
}

// noArgs refuses arguments.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage(cmd, "%s: takes no arguments, has %q", cmd.Name(), args[0])
	}
	return nil
}

// connect is a client of the server. It does not dial yet.
func (a *app) connect(cmd *cobra.Command, builtins bool) (*client.Client, error) {
	creds, err := a.cfg.credentials()
	if err != nil {
		return nil, err
	}
	if a.cfg.Etcd.used() && !a.started {
		if a.cfg.Server, err = a.direct(cmd); err != nil {
			return nil, err
		}
		a.started = true
	}
	c, err := client.New(client.Config{
		Server:      a.cfg.Server,
		Command:     cmd.CommandPath(),
		Credentials: creds,
		Builtins:    builtins,
		OnWarning: func(text string) {
			if !strings.Contains(text, ": the stored value cannot be read: ") { // commands say it themselves
				fmt.Fprintf(a.Err, "warning: %s\n", text)
			}
		},
	})
	if err != nil {
		return nil, usage(cmd, "--server: %w", err)
	}
	return c, nil
}

// explainError tells an error, and what to do about it where that is known.
func (a *app) explainError(err error) {
	var x *exit
	if errors.As(err, &x) && x.err == nil {
		return
	}
	fmt.Fprintf(a.Err, "ripstop: %v\n", err)
	if fix := a.fixFor(err); fix != "" {
		fmt.Fprintf(a.Err, "  fix: %s\n", fix)
	}
}

// fixFor is what to do about an error, or "".
func (a *app) fixFor(err error) string {
	var agent *agentError
	if errors.As(err, &agent) {
		return agent.fix()
	}
	var conn *client.ConnError
	var status *client.StatusError
	switch {
	case errors.As(err, &conn) && errors.Is(err, os.ErrPermission):
		return "run the command as root, or become a member of the group: usermod -aG ripstop " + userName()
	case errors.As(err, &conn):
		return "is ripstop-server running there? ripstopd in role standalone runs it; another address is given by --server or RIPSTOP_SERVER"
	case errors.As(err, &status) && status.Status.Code == 401:
		return "the server does not know you: --token-file or --client-certificate with --client-key, or a context that has them (ripstop config)"
	case errors.As(err, &status) && status.Status.Code == 403 && !strings.HasPrefix(a.cfg.Server, "unix:"):
		return "somebody who may write Roles and RoleBindings has to let you: see ripstop get rolebindings"
	case errors.As(err, &status) && status.Status.Code == 403:
		return "run the command as root, or become a member of the group: usermod -aG ripstop " + userName()
	case errors.Is(err, context.Canceled):
		return "it was interrupted; what was done until then stays"
	default:
		return ""
	}
}

// userName is the user's name as the environment has it.
func userName() string {
	if u := os.Getenv("USER"); u != "" {
		return u
	}
	return "USER"
}
