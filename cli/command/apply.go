// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

func (a *app) applyCommand() *cobra.Command {
	var in input
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or change resources as files say",
		Long: `apply makes resources be as files say: it creates those that are not there and
changes those that are different. YAML (several documents in a file) and JSON
are read, from files, directories and standard input.

Every document of every file is read and checked before anything is written;
with a fault in any of them nothing is. Labels, annotations and spec of a
resource are replaced as a whole. A document that carries
metadata.resourceVersion is written only over exactly that version. Kinds are
written in the order in which they need each other, tiers before policies.

A line for each resource says what was done: created, configured (changed) or
unchanged.`,
		Example: `  ripstop apply -f allow-ssh.yaml
  ripstop apply -R -f policies/
  generate-policy | ripstop apply -f -`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(in.files) == 0 {
				return usage(cmd, "apply: what to apply is not said: -f FILE")
			}
			return a.apply(cmd, &in)
		},
	}
	addInput(cmd, &in)
	return cmd
}

func (a *app) apply(cmd *cobra.Command, in *input) error {
	docs, err := in.read(a)
	if err != nil {
		return fmt.Errorf("apply: nothing was written:\n%w", err)
	}
	c, err := a.connect(cmd, false)
	if err != nil {
		return err
	}
	defer c.Close()
	inOrder(docs)
	var errs []error
	for i, d := range docs {
		done, o, err := applyOne(cmd.Context(), c, d.Object)
		if err == nil {
			fmt.Fprintf(a.Out, "%s %s\n", nameOf(o.Key()), done)
			continue
		}
		errs = append(errs, &api.DocumentError{Source: d.Source, Line: d.Line, Object: d.Object.Key().String(), Err: err})
		if gone(err) {
			errs = append(errs, fmt.Errorf("%d of %d resources were not tried", len(docs)-i-1, len(docs)))
			break
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("apply: not everything was written:\n%w", errors.Join(errs...))
	}
	return nil
}

// gone reports whether an error will meet whatever is tried next as well.
func gone(err error) bool {
	var conn *client.ConnError
	return errors.As(err, &conn) || errors.Is(err, context.Canceled) || errors.Is(err, store.ErrNoSpace)
}

// applyOne makes one resource be as wanted and says what was done.
func applyOne(ctx context.Context, c *client.Client, o api.Object) (done string, written api.Object, err error) {
	m := o.Metadata()
	if m.ResourceVersion != "" {
		return applyAt(ctx, c, o)
	}
	if m.Name == "" {
		written, err = c.Write(ctx, o, store.Absent())
		return "created", written, err
	}
	old, err := c.Get(ctx, o.Key())
	if errors.Is(err, store.ErrNotFound) {
		written, err = c.Write(ctx, o, store.Absent())
		if !errors.Is(err, store.ErrExists) {
			return "created", written, err
		}
		old, err = c.Get(ctx, o.Key()) // somebody was faster
	}
	if err != nil {
		return "", nil, err
	}
	written, err = c.Write(ctx, o, store.Always())
	return changed(old, written), written, err
}

// applyAt writes a resource over exactly the version it names.
func applyAt(ctx context.Context, c *client.Client, o api.Object) (string, api.Object, error) {
	n, err := strconv.ParseInt(o.Metadata().ResourceVersion, 10, 64)
	if err != nil {
		return "", nil, fmt.Errorf("metadata.resourceVersion: %q is not a number; leave it out to write over any version", o.Metadata().ResourceVersion)
	}
	written, err := c.Write(ctx, o, store.At(api.Revision(n)))
	if err != nil {
		return "", nil, err
	}
	return changed(o, written), written, nil
}

// changed says what a write over old did.
func changed(old, written api.Object) string {
	if written != nil && old.Metadata().ResourceVersion == written.Metadata().ResourceVersion {
		return "unchanged"
	}
	return "configured"
}
