// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
)

func (a *app) editCommand() *cobra.Command {
	var w writeFlags
	cmd := &cobra.Command{
		Use:   "edit KIND NAME...",
		Short: "Change resources in an editor",
		Long: `edit opens resources as YAML in an editor ($RIPSTOP_EDITOR, $VISUAL or $EDITOR,
else vi) and writes what was changed in them. The server goes through all of it
before anything is written; if something is wrong, the editor opens again with
the faults on top. Nothing is written if the text is left as it is or emptied,
or if a resource has meanwhile been changed by somebody else; then the edited
text stays in a file that is named.

With --confirm TIME all of it is one change, of which nothing is written with a
fault in any, and everything goes back after that time unless ripstop confirm is
given before.`,
		Example: `  ripstop edit gnp allow-ssh
  EDITOR='code --wait' ripstop edit tier/security gnp/allow-ssh`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) == 1 && !strings.Contains(args[0], "/") {
				return usage(cmd, "edit: what to edit is not said: KIND NAME")
			}
			return w.checkConfirm(cmd)
		},
		RunE:              func(cmd *cobra.Command, args []string) error { return a.edit(cmd, w, args) },
		ValidArgsFunction: a.completeKindAndNames,
	}
	cmd.Flags().StringVar(&w.manager, "field-manager", "ripstop", "name under which the server remembers who set which field")
	addConfirm(cmd, &w.confirmFlags)
	return cmd
}

// editHead stands on top of what is edited.
const editHead = `# Edit what is below. Nothing is changed if you leave it as it is, or empty it.
# If something is wrong with it, the editor opens again and it is said here.
`

// editing is one run of edit.
type editing struct {
	*app
	cmd  *cobra.Command
	c    *client.Client
	w    writeFlags
	path string
	olds map[api.Key]api.Object
}

func (a *app) edit(cmd *cobra.Command, w writeFlags, args []string) error {
	keys, err := a.keysNamed(cmd, args)
	if err != nil {
		return err
	}
	c, err := a.connect(cmd, true)
	if err != nil {
		return err
	}
	defer c.Close()
	e := &editing{app: a, cmd: cmd, c: c, w: w, olds: map[api.Key]api.Object{}}
	var text bytes.Buffer
	for i, k := range keys {
		o, err := c.Get(cmd.Context(), k)
		if err != nil {
			return fmt.Errorf("edit %s: %w", nameOf(k), err)
		}
		e.olds[k] = o
		if i > 0 {
			text.WriteString("---\n")
		}
		if err := writeDocument(&text, "yaml", o); err != nil {
			return err
		}
	}
	f, err := os.CreateTemp("", "ripstop-edit-*.yaml") // mode 0600
	if err != nil {
		return fmt.Errorf("edit: %w", err)
	}
	e.path = f.Name()
	if err := f.Close(); err != nil {
		return fmt.Errorf("edit: %w", err)
	}
	docs, err := e.loop(text.Bytes())
	if err == nil && docs != nil {
		err = a.write(cmd, c, w, func(c *client.Client) error { return e.writeOver(c, docs) })
	}
	if err != nil {
		return fmt.Errorf("edit: %w\n  what you edited is in %s", err, e.path)
	}
	return os.Remove(e.path)
}

// loop opens the editor until what is edited can be written. Without error and
// documents, nothing is to be.
func (e *editing) loop(text []byte) ([]api.Document, error) {
	original, faults := text, error(nil)
	for {
		if err := os.WriteFile(e.path, slices.Concat([]byte(editHead), asComments(faults), text), 0o600); err != nil {
			return nil, err
		}
		if err := e.openEditor(e.cmd.Context(), e.path); err != nil {
			return nil, err
		}
		data, err := readInput(e.path, nil)
		if err != nil {
			return nil, err
		}
		edited := withoutComments(data)
		switch {
		case len(bytes.TrimSpace(edited)) == 0 || bytes.Equal(edited, original):
			fmt.Fprintln(e.Err, "nothing was changed")
			return nil, nil
		case faults != nil && bytes.Equal(edited, text):
			return nil, fmt.Errorf("nothing was written:\n%w", faults)
		}
		text = edited
		docs, err := e.checked(edited)
		var conn *client.ConnError
		if err == nil || errors.As(err, &conn) || e.cmd.Context().Err() != nil || conflict(err) {
			return docs, err
		}
		faults = err
	}
}

// conflict reports whether somebody else was faster: no edit mends that.
func conflict(err error) bool {
	var st *client.StatusError
	return errors.As(err, &st) && st.Status.Code == 409
}

// asComments is an error as lines that YAML ignores.
func asComments(err error) []byte {
	if err == nil {
		return []byte("#\n")
	}
	var b bytes.Buffer
	b.WriteString("#\n")
	for line := range strings.Lines(err.Error()) {
		b.WriteString("# " + strings.TrimRight(line, "\n") + "\n")
	}
	b.WriteString("#\n")
	return b.Bytes()
}

// withoutComments is text without the comments at its top.
func withoutComments(text []byte) []byte {
	for len(text) > 0 && text[0] == '#' {
		_, rest, _ := bytes.Cut(text, []byte("\n"))
		text = rest
	}
	return text
}

// checked reads what was edited and lets the server go through it.
func (e *editing) checked(text []byte) ([]api.Document, error) {
	docs, err := api.DecodeAll(text, "the text below")
	faults := []error{err}
	seen := map[api.Key]bool{}
	for _, d := range docs {
		faults = append(faults, e.check(d))
		k := d.Object.Key()
		switch {
		case e.olds[k] == nil:
			faults = append(faults, d.Locate(fmt.Errorf("this is not what is edited: kind, name and namespace cannot be changed; use create")))
		case seen[k]:
			faults = append(faults, d.Locate(errors.New("is there twice")))
		}
		seen[k] = true
	}
	if err := errors.Join(faults...); err != nil {
		return nil, errors.Join(byLine(err)...)
	}
	dry := e.w
	dry.dryRun = "server"
	for _, d := range docs {
		_, err := e.c.Replace(e.cmd.Context(), d.Object, dry.options())
		if err != nil {
			faults = append(faults, d.Locate(err))
		}
	}
	return docs, errors.Join(faults...)
}

// writeOver writes what was changed, over exactly what was read.
func (e *editing) writeOver(c *client.Client, docs []api.Document) error {
	inOrder(docs)
	for _, d := range docs {
		k := d.Object.Key()
		d.Object.Metadata().ResourceVersion = e.olds[k].Metadata().ResourceVersion
		written, err := c.Replace(e.cmd.Context(), d.Object, e.w.options())
		if err != nil {
			return fmt.Errorf("%s: %w", nameOf(k), err)
		}
		done := "edited"
		if changed(e.olds[k], written) == "unchanged" {
			done = "unchanged"
		}
		fmt.Fprintf(e.Out, "%s %s\n", nameOf(k), done)
	}
	return nil
}
