// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
)

func (a *app) replaceCommand() *cobra.Command {
	var in input
	var w writeFlags
	cmd := &cobra.Command{
		Use:   "replace -f FILE",
		Short: "Write over resources that are there",
		Long: `replace makes resources be as files say, and refuses those that are not there.
A document that carries metadata.resourceVersion, as get prints it, is written
only over exactly that version. As with apply, everything is read and checked
before anything is written.

With --confirm TIME all of it is one change, of which nothing is written with a
fault in any, and everything goes back after that time unless ripstop confirm is
given before.`,
		Example: `  ripstop replace -f allow-ssh.yaml
  ripstop get gnp allow-ssh -o yaml | sed s/2222/22/ | ripstop replace -f -`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := in.given(cmd, "replace"); err != nil {
				return err
			}
			if err := w.check(cmd); err != nil {
				return err
			}
			return a.replace(cmd, &in, w)
		},
	}
	addInput(cmd, &in)
	addWrite(cmd, &w)
	addConfirm(cmd, &w.confirmFlags)
	return cmd
}

func (a *app) replace(cmd *cobra.Command, in *input, w writeFlags) error {
	docs, err := in.read(a)
	if err != nil {
		return fmt.Errorf("replace: nothing was written:\n%w", err)
	}
	c, err := a.connect(cmd, false)
	if err != nil {
		return err
	}
	defer c.Close()
	inOrder(docs)
	return a.write(cmd, c, w, func(c *client.Client) error { return a.replaceAll(cmd, c, docs, w) })
}

func (a *app) replaceAll(cmd *cobra.Command, c *client.Client, docs []api.Document, w writeFlags) error {
	return a.each("replace", docs, w.suffix(), func(d api.Document) (string, api.Key, error) {
		var err error
		if w.client() {
			_, err = c.Get(cmd.Context(), d.Object.Key())
		} else {
			_, err = c.Replace(cmd.Context(), d.Object, w.options())
		}
		return "replaced", d.Object.Key(), err
	})
}
