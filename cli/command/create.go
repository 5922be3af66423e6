// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

func (a *app) createCommand() *cobra.Command {
	var in input
	var w writeFlags
	var skip bool
	cmd := &cobra.Command{
		Use:   "create -f FILE",
		Short: "Create resources that are not there yet",
		Long: `create makes the resources of files, and refuses those that are there already;
with --skip-exists these are left as they are. As with apply, everything is
read and checked before anything is written.

With --confirm TIME all of it is one change, of which nothing is written with a
fault in any, and everything goes back after that time unless ripstop confirm is
given before.

A document without metadata.name and with metadata.generateName gets a name
that begins so.`,
		Example: `  ripstop create -f allow-ssh.yaml
  ripstop create -f policies/ --skip-exists
  ripstop create -f allow-ssh.yaml --dry-run=server`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := in.given(cmd, "create"); err != nil {
				return err
			}
			if err := w.check(cmd); err != nil {
				return err
			}
			return a.create(cmd, &in, w, skip)
		},
	}
	addInput(cmd, &in)
	addWrite(cmd, &w)
	addConfirm(cmd, &w.confirmFlags)
	cmd.Flags().BoolVar(&skip, "skip-exists", false, "a resource that is there already is left as it is, without error")
	return cmd
}

func (a *app) create(cmd *cobra.Command, in *input, w writeFlags, skip bool) error {
	docs, err := in.read(a)
	if err != nil {
		return fmt.Errorf("create: nothing was written:\n%w", err)
	}
	c, err := a.connect(cmd, false)
	if err != nil {
		return err
	}
	defer c.Close()
	inOrder(docs)
	return a.write(cmd, c, w, func(c *client.Client) error { return a.createAll(cmd, c, docs, w, skip) })
}

func (a *app) createAll(cmd *cobra.Command, c *client.Client, docs []api.Document, w writeFlags, skip bool) error {
	return a.each("create", docs, w.suffix(), func(d api.Document) (string, api.Key, error) {
		key := d.Object.Key()
		if d.Object.Metadata().ResourceVersion != "" {
			return "", key, errors.New("metadata.resourceVersion: what is created has none; leave it out, or use replace")
		}
		var err error
		if w.client() {
			err = a.absent(cmd, c, d.Object)
		} else {
			var written api.Object
			if written, err = c.Create(cmd.Context(), d.Object, w.options()); err == nil {
				key = written.Key()
			}
		}
		if skip && errors.Is(err, store.ErrExists) {
			return "is there already", key, nil
		}
		return "created", key, err
	})
}

// absent is store.ErrExists if there is such an object.
func (a *app) absent(cmd *cobra.Command, c store.Store, o api.Object) error {
	if o.Key().Name == "" {
		return nil // generateName
	}
	_, err := c.Get(cmd.Context(), o.Key())
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err == nil:
		return fmt.Errorf("%s: %w", nameOf(o.Key()), store.ErrExists)
	}
	return err
}
