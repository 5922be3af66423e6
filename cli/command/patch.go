// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
)

// patchFlags are the flags of patch.
type patchFlags struct {
	writeFlags
	typ, patch, file string
	force            bool
}

func (a *app) patchCommand() *cobra.Command {
	var f patchFlags
	cmd := &cobra.Command{
		Use:   "patch KIND NAME -p PATCH",
		Short: "Change parts of a resource",
		Long: `patch changes what a patch names of one resource. The patch is JSON or YAML, on
the command line (-p) or in a file (--patch-file). Its type is

  merge   what is named becomes as the patch says, null removes, lists are
          replaced as a whole (RFC 7396); the default
  json    a list of operations: add, remove, replace, move, copy, test
          (RFC 6902)
  apply   all that the manager --field-manager wants of the resource; see
          ripstop apply --server-side

A strategic merge patch is refused: it merges lists by keys that the lists of
these kinds, whose order counts, do not have.

With --confirm TIME the change goes back after that time unless ripstop confirm
is given before.`,
		Example: `  ripstop patch gnp allow-ssh -p '{"spec":{"order":10}}'
  ripstop patch gnp/allow-ssh --type=json -p '[{"op":"remove","path":"/spec/ingress/0"}]'
  ripstop patch felixconfiguration default --patch-file=felix.yaml --dry-run=server`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := f.checkPatch(cmd); err != nil {
				return err
			}
			if len(args) != 2 && !(len(args) == 1 && strings.Contains(args[0], "/")) {
				return usage(cmd, "patch: want one resource: KIND NAME")
			}
			return nil
		},
		RunE:              func(cmd *cobra.Command, args []string) error { return a.patch(cmd, f, args) },
		ValidArgsFunction: a.completeKindAndName,
	}
	addWrite(cmd, &f.writeFlags)
	addConfirm(cmd, &f.confirmFlags)
	cmd.Flags().StringVarP(&f.typ, "type", "t", "merge", "merge, json or apply")
	cmd.Flags().StringVarP(&f.patch, "patch", "p", "", "the patch, as JSON or YAML")
	cmd.Flags().StringVar(&f.file, "patch-file", "", "file with the patch, - for standard input")
	cmd.Flags().BoolVar(&f.force, "force-conflicts", false, "with --type=apply: take over fields that other managers hold")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions([]string{"merge", "json", "apply"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.MarkFlagFilename("patch-file", "yaml", "yml", "json")
	return cmd
}

func (f *patchFlags) checkPatch(cmd *cobra.Command) error {
	switch {
	case f.typ == "strategic":
		return usage(cmd, "patch: a strategic merge patch merges lists by a key of their elements; rules, nets and ports have none, and the order of rules counts. Use --type=merge, which replaces lists as a whole, or --type=json, which changes single elements")
	case f.typ != "merge" && f.typ != "json" && f.typ != "apply":
		return usage(cmd, "patch: --type %q is not known; it is merge, json or apply", f.typ)
	case (f.patch == "") == (f.file == ""):
		return usage(cmd, "patch: what to change is not said: -p PATCH or --patch-file FILE, one of them")
	case f.client():
		return usage(cmd, "patch: --dry-run=client cannot tell whether a patch fits; use --dry-run=server")
	case f.force && f.typ != "apply":
		return usage(cmd, "patch: --force-conflicts goes with --type=apply")
	}
	return f.check(cmd)
}

func (a *app) patch(cmd *cobra.Command, f patchFlags, args []string) error {
	keys, err := a.keysNamed(cmd, args)
	if err != nil {
		return err
	}
	k := keys[0]
	text, source := []byte(f.patch), "-p"
	if f.file != "" {
		source = f.file
		if text, err = readInput(f.file, a.In); err != nil {
			return fmt.Errorf("patch: %w", err)
		}
	}
	body, err := api.ToJSON(text)
	if err != nil {
		return fmt.Errorf("patch: %s: %w", source, err)
	}
	if list := body[0] == '['; list != (f.typ == "json") {
		want := map[bool]string{true: "a list of operations", false: "a document"}[f.typ == "json"]
		return fmt.Errorf("patch: %s: a patch of type %s is %s", source, f.typ, want)
	}
	c, err := a.connect(cmd, true)
	if err != nil {
		return err
	}
	defer c.Close()
	return a.write(cmd, c, f.writeFlags, func(c *client.Client) error { return a.patchOne(cmd, c, k, body, f) })
}

func (a *app) patchOne(cmd *cobra.Command, c *client.Client, k api.Key, body []byte, f patchFlags) error {
	typ := map[string]client.PatchType{"merge": client.MergePatch, "json": client.JSONPatch, "apply": client.ApplyPatch}[f.typ]
	old, err := c.Get(cmd.Context(), k)
	if err != nil && f.typ != "apply" {
		return fmt.Errorf("patch %s: %w", nameOf(k), err)
	}
	opt := f.options()
	opt.Force = f.force
	written, err := c.Patch(cmd.Context(), k, typ, body, opt)
	if err != nil {
		return fmt.Errorf("patch %s: %w", nameOf(k), err)
	}
	done := "patched"
	if old != nil && changed(old, written) == "unchanged" {
		done = "patched (no change)"
	}
	fmt.Fprintf(a.Out, "%s %s%s\n", nameOf(k), done, f.suffix())
	return nil
}
