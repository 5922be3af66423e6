// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

// labelFlags are the flags of label and annotate.
type labelFlags struct {
	writeFlags
	overwrite, remove, all, allNamespaces bool
	selector                              string

	field string // of metadata
	noun  string
}

func (a *app) labelCommand() *cobra.Command {
	return a.metadataCommand(&labelFlags{field: "labels", noun: "label"}, `label sets labels of resources, and removes those that are written with a minus
behind them. Labels of endpoints and sets are what selectors of policies look
at: a label that is changed changes what policies apply.

A label that is there with another value is changed only with --overwrite. With
several resources, nothing is written unless it can be for all of them.`, `  ripstop label hep h1-eth0 role=web
  ripstop label hep h1-eth0 role=db zone- --overwrite
  ripstop label networksets -A -l team=blue team=green --overwrite --dry-run=server`)
}

func (a *app) annotateCommand() *cobra.Command {
	return a.metadataCommand(&labelFlags{field: "annotations", noun: "annotation"}, `annotate sets annotations of resources, and removes those that are written with
a minus behind them. Selectors do not look at annotations.

An annotation that is there with another value is changed only with
--overwrite. With several resources, nothing is written unless it can be for all
of them.`, `  ripstop annotate gnp allow-ssh owner=alice
  ripstop annotate gnp allow-ssh ripstop.io/established-flows=Keep
  ripstop annotate gnp allow-ssh owner-`)
}

func (a *app) metadataCommand(f *labelFlags, long, example string) *cobra.Command {
	name := map[string]string{"label": "label", "annotation": "annotate"}[f.noun]
	cmd := &cobra.Command{
		Use:     name + " KIND NAME... KEY=VALUE... KEY-...",
		Short:   "Set and remove " + f.field + " of resources",
		Long:    long,
		Example: example,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usage(cmd, "%s: want KIND NAME KEY=VALUE, or KEY- to remove one", name)
			}
			return f.check(cmd)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.setMetadata(cmd, f, args)
		},
		ValidArgsFunction: a.completeKindAndName,
	}
	addWrite(cmd, &f.writeFlags)
	addConfirm(cmd, &f.confirmFlags)
	cmd.Flags().BoolVar(&f.overwrite, "overwrite", false, "change what is there with another value")
	cmd.Flags().BoolVar(&f.remove, "remove", false, "remove the keys that are named without value, as calicoctl does")
	cmd.Flags().BoolVar(&f.all, "all", false, "all resources of the kind")
	cmd.Flags().StringVarP(&f.selector, "selector", "l", "", "the resources of the kind that have these labels")
	cmd.Flags().BoolVarP(&f.allNamespaces, "all-namespaces", "A", false, "with --all or -l: look in all namespaces")
	_ = cmd.RegisterFlagCompletionFunc("selector", a.completeLabels)
	return cmd
}

// edits are the values to set; nil removes.
type edits map[string]*string

// parseEdits takes KEY=VALUE and KEY- from the end of args and returns what is
// before them.
func (f *labelFlags) parseEdits(cmd *cobra.Command, args []string) (rest []string, e edits, err error) {
	e = edits{}
	i := len(args)
	for ; i > 1; i-- {
		arg := args[i-1]
		key, value, sets := strings.Cut(arg, "=")
		switch {
		case sets:
		case strings.HasSuffix(arg, "-") && !strings.HasPrefix(arg, "-"):
			key = strings.TrimSuffix(arg, "-")
		case f.remove && i == len(args):
			key = arg
		default:
			return args[:i], e, f.checkEdits(cmd, e)
		}
		if _, twice := e[key]; twice || key == "" {
			return nil, nil, usage(cmd, "%s: %q: the key is missing or given twice", cmd.Name(), arg)
		}
		e[key] = nil
		if sets {
			e[key] = &value
		}
	}
	return args[:i], e, f.checkEdits(cmd, e)
}

func (f *labelFlags) checkEdits(cmd *cobra.Command, e edits) error {
	if len(e) == 0 {
		return usage(cmd, "%s: what to set is not said: KEY=VALUE, or KEY- to remove one", cmd.Name())
	}
	return nil
}

func (a *app) setMetadata(cmd *cobra.Command, f *labelFlags, args []string) error {
	picked := f.all || f.selector != ""
	rest, e, err := f.parseEdits(cmd, args)
	switch {
	case err != nil:
		return err
	case f.all && f.selector != "":
		return usage(cmd, "%s: give --all or -l, not both", cmd.Name())
	case picked && (len(rest) != 1 || strings.Contains(rest[0], "/")):
		return usage(cmd, "%s: --all and -l go with a kind alone", cmd.Name())
	case f.allNamespaces && !picked:
		return usage(cmd, "%s: -A goes with --all or -l", cmd.Name())
	case !picked && len(rest) < 2 && !strings.Contains(rest[0], "/"):
		return usage(cmd, "%s: the name of a resource is missing", cmd.Name())
	}
	c, err := a.connect(cmd, false)
	if err != nil {
		return err
	}
	defer c.Close()
	keys, err := a.labelled(cmd, c, f, rest)
	if err != nil {
		return err
	}
	// First everything is looked at, then written.
	var errs []error
	olds := make([]api.Object, len(keys))
	for i, k := range keys {
		if olds[i], err = a.editable(cmd, c, f, k, e); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%s: nothing was written:\n%w", cmd.Name(), err)
	}
	return a.write(cmd, c, f.writeFlags, func(c *client.Client) error { return a.writeAllMetadata(cmd, c, f, keys, olds, e) })
}

func (a *app) writeAllMetadata(cmd *cobra.Command, c *client.Client, f *labelFlags, keys []api.Key, olds []api.Object, e edits) error {
	var errs []error
	for i, k := range keys {
		done, err := a.writeMetadata(cmd, c, f, olds[i], e)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", nameOf(k), err))
			if gone(err) {
				break
			}
			continue
		}
		fmt.Fprintf(a.Out, "%s %s%s\n", nameOf(k), done, f.suffix())
	}
	return errors.Join(errs...)
}

// labelled are the resources that the command line names.
func (a *app) labelled(cmd *cobra.Command, c *client.Client, f *labelFlags, rest []string) ([]api.Key, error) {
	if !f.all && f.selector == "" {
		return a.keysNamed(cmd, rest)
	}
	d, err := kindNamed(cmd, rest[0])
	if err != nil {
		return nil, err
	}
	m := client.Match{Labels: f.selector}
	if d.Namespaced && !f.allNamespaces {
		m.Namespace = a.cfg.namespace()
	}
	objs, _, err := c.ListMatching(cmd.Context(), d.Kind, m)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", cmd.Name(), d.Plural, err)
	}
	if len(objs) == 0 {
		a.sayNone(d, m.Namespace)
	}
	var keys []api.Key
	for _, o := range objs {
		keys = append(keys, o.Key())
	}
	return keys, nil
}

// values are the labels or annotations of an object.
func (f *labelFlags) values(o api.Object) map[string]string {
	if f.field == "labels" {
		return o.Metadata().Labels
	}
	return o.Metadata().Annotations
}

// editable reads an object and refuses what would change a value without
// --overwrite.
func (a *app) editable(cmd *cobra.Command, c *client.Client, f *labelFlags, k api.Key, e edits) (api.Object, error) {
	o, err := c.Get(cmd.Context(), k)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", nameOf(k), err)
	}
	if u, bad := o.(*api.Unreadable); bad {
		return nil, fmt.Errorf("%s cannot be read: %w", nameOf(k), u.Err)
	}
	var errs []error
	have := f.values(o)
	for _, key := range e.keys() {
		old, there := have[key]
		value := e[key]
		if value != nil && there && old != *value && !f.overwrite {
			errs = append(errs, fmt.Errorf("%s: %s %s is already %q; --overwrite changes it", nameOf(k), f.noun, key, old))
		}
		if value == nil && !there && f.remove {
			errs = append(errs, fmt.Errorf("%s: there is no %s %s to remove", nameOf(k), f.noun, key))
		}
	}
	return o, errors.Join(errs...)
}

func (e edits) keys() []string {
	var keys []string
	for k := range e {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// writeMetadata changes one object, over exactly what was looked at; if
// somebody else came before, it looks again.
func (a *app) writeMetadata(cmd *cobra.Command, c *client.Client, f *labelFlags, old api.Object, e edits) (string, error) {
	for try := 1; ; try++ {
		changes := map[string]any{}
		for key, value := range e {
			have, there := f.values(old)[key]
			switch {
			case value == nil && there:
				changes[key] = nil
			case value != nil && (!there || have != *value):
				changes[key] = *value
			}
		}
		if len(changes) == 0 {
			return "unchanged", nil
		}
		done := map[string]string{"labels": "labelled", "annotations": "annotated"}[f.field]
		if f.client() {
			return done, nil
		}
		body, err := json.Marshal(map[string]any{"metadata": map[string]any{
			f.field: changes, "resourceVersion": old.Metadata().ResourceVersion,
		}})
		if err != nil {
			return "", err
		}
		_, err = c.Patch(cmd.Context(), old.Key(), client.MergePatch, body, f.options())
		if !errors.Is(err, store.ErrConflict) || try == applyTries {
			return done, err
		}
		if old, err = a.editable(cmd, c, f, old.Key(), e); err != nil {
			return "", err
		}
	}
}
