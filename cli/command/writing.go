// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

// writeFlags are the flags of commands that write resources.
type writeFlags struct {
	dryRun  string
	manager string
	// test has policy tests judged before anything is written; of apply alone.
	test bool
	confirmFlags
}

// addWrite adds the flags of writing to a command.
func addWrite(cmd *cobra.Command, f *writeFlags) {
	cmd.Flags().StringVar(&f.dryRun, "dry-run", "none", "client: only say what would be done; server: let the server go through everything but the write; none")
	cmd.Flags().StringVar(&f.manager, "field-manager", "ripstop", "name under which the server remembers who set which field")
	_ = cmd.RegisterFlagCompletionFunc("dry-run", cobra.FixedCompletions([]string{"client", "server", "none"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("field-manager", cobra.NoFileCompletions)
}

// check refuses what makes no sense.
func (f writeFlags) check(cmd *cobra.Command) error {
	switch f.dryRun {
	case "none":
		return f.checkConfirm(cmd)
	case "client", "server":
		if cmd.Flags().Changed("confirm") {
			return usage(cmd, "%s: give --confirm or --dry-run, not both", cmd.Name())
		}
		return f.checkConfirm(cmd)
	}
	return usage(cmd, "%s: --dry-run %q is not known; it is client, server or none", cmd.Name(), f.dryRun)
}

// options are what the server is asked with.
func (f writeFlags) options() client.Options {
	return client.Options{DryRun: f.dryRun == "server", Manager: f.manager}
}

// client reports whether nothing at all may be asked to be written.
func (f writeFlags) client() bool { return f.dryRun == "client" }

// suffix is what is added to what was done, because it was not.
func (f writeFlags) suffix() string {
	switch f.dryRun {
	case "client":
		return " (dry run)"
	case "server":
		return " (server dry run)"
	}
	return ""
}

// each does something with every document in turn and says what was done. An
// error of one does not keep the others from being tried, unless it will meet
// them as well.
func (a *app) each(verb string, docs []api.Document, suffix string, do func(api.Document) (done string, key api.Key, err error)) error {
	p := a.progress(verb, len(docs))
	defer p.end()
	var errs []error
	for i, d := range docs {
		p.step(i)
		done, key, err := do(d)
		if err == nil {
			p.clear()
			fmt.Fprintf(a.Out, "%s %s%s\n", nameOf(key), done, suffix)
			continue
		}
		errs = append(errs, &api.DocumentError{Source: d.Source, Line: d.Line, Object: d.Object.Key().String(), Err: err})
		if gone(err) {
			errs = append(errs, fmt.Errorf("%d of %d resources were not tried", len(docs)-i-1, len(docs)))
			break
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("%s: not everything was written:\n%w", verb, errors.Join(errs...))
	}
	return nil
}

// gone reports whether an error will meet whatever is tried next as well.
func gone(err error) bool {
	var conn *client.ConnError
	return errors.As(err, &conn) || errors.Is(err, context.Canceled) || errors.Is(err, store.ErrNoSpace)
}

// changed says what a write over old did.
func changed(old, written api.Object) string {
	if written != nil && old.Metadata().ResourceVersion == written.Metadata().ResourceVersion && sameDocument(old, written) {
		return "unchanged"
	}
	return "configured"
}
