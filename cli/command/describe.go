// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

func (a *app) describeCommand() *cobra.Command {
	var labels string
	var all bool
	cmd := &cobra.Command{
		Use:   "describe (KIND [NAME...] | KIND/NAME...)",
		Short: "Show a resource, and what hosts make of it",
		Long: `describe shows resources in full for people, and what hosts report of them: on
which endpoints a policy is enforced, how an endpoint stands and what judges it,
and faults, which are resources that cannot be enforced as written.`,
		Example: `  ripstop describe gnp allow-ssh
  ripstop describe hep
  ripstop describe networkpolicy/prod/db`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage(cmd, "describe: what to describe is not said: KIND NAME")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.describe(cmd, args, client.Match{Labels: labels}, all)
		},
		ValidArgsFunction: a.completeKindAndNames,
	}
	cmd.Flags().StringVarP(&labels, "selector", "l", "", "of a kind: only what has these labels")
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "of a kind: look in all namespaces")
	_ = cmd.RegisterFlagCompletionFunc("selector", a.completeLabels)
	return cmd
}

func (a *app) describe(cmd *cobra.Command, args []string, m client.Match, all bool) error {
	c, err := a.connect(cmd, true)
	if err != nil {
		return err
	}
	defer c.Close()
	var objs []api.Object
	var errs []error
	if len(args) == 1 && !strings.Contains(args[0], "/") {
		d, err := kindNamed(cmd, args[0])
		if err != nil {
			return err
		}
		if d.Namespaced && !all {
			m.Namespace = a.cfg.namespace()
		}
		if objs, _, err = c.ListMatching(cmd.Context(), d.Kind, m); err != nil {
			return fmt.Errorf("describe %s: %w", d.Plural, err)
		}
		if len(objs) == 0 {
			a.sayNone(d, m.Namespace)
		}
	} else {
		keys, err := a.keysNamed(cmd, args)
		if err != nil {
			return err
		}
		for _, k := range keys {
			o, err := c.Get(cmd.Context(), k)
			if err != nil {
				errs = append(errs, fmt.Errorf("describe %s: %w", nameOf(k), err))
				continue
			}
			objs = append(objs, o)
		}
	}
	var hosts []api.Object
	if len(objs) > 0 {
		if hosts, _, err = c.List(cmd.Context(), api.KindHostStatus, store.ListOptions{}); err != nil {
			errs = append(errs, fmt.Errorf("describe: what hosts report cannot be read: %w", err))
		}
	}
	for i, o := range objs {
		if i > 0 {
			fmt.Fprintln(a.Out)
		}
		text, err := description(o, hosts, a.now())
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprint(a.Out, text)
	}
	return errors.Join(errs...)
}

// description is an object as people read it.
func description(o api.Object, hosts []api.Object, now time.Time) (string, error) {
	s := &screen{now: now}
	k, m := o.Key(), o.Metadata()
	d, _ := api.DescriptorOf(k.Kind)
	s.line("Name", "%s", k.Name)
	if k.Namespace != "" {
		s.line("Namespace", "%s", k.Namespace)
	}
	s.line("Kind", "%s (%s)", k.Kind, d.APIVersion())
	s.pairs("Labels", m.Labels)
	s.pairs("Annotations", m.Annotations)
	if !m.CreationTimestamp.IsZero() {
		s.line("Created", "%s", s.since(m.CreationTimestamp))
	}
	s.line("Version", "%s", m.ResourceVersion)
	if u, bad := o.(*api.Unreadable); bad {
		s.line("Unreadable", "%v", u.Err)
		return s.String(), nil
	}
	if err := s.parts(o); err != nil {
		return "", fmt.Errorf("describe %s: %w", nameOf(k), err)
	}
	s.reported(k, hosts)
	return s.String(), nil
}

// pairs writes labels or annotations, one a line.
func (s *screen) pairs(word string, m map[string]string) {
	if len(m) == 0 {
		s.line(word, "none")
		return
	}
	for _, p := range strings.Split(pairs(m), ",") {
		s.line(word, "%s", p)
		word = ""
	}
}

// parts writes spec and status as YAML.
func (s *screen) parts(o api.Object) error {
	v, err := generic(o)
	if err != nil {
		return err
	}
	tree, _ := v.(map[string]any)
	for _, part := range []string{"spec", "status"} {
		content, has := tree[part]
		if nothing, _ := content.(map[string]any); !has || len(nothing) == 0 {
			continue
		}
		s.line(strings.ToUpper(part[:1])+part[1:], "")
		var b bytes.Buffer
		if err := writeDocument(&b, "yaml", content); err != nil {
			return err
		}
		for line := range strings.Lines(b.String()) {
			s.WriteString("  " + strings.TrimRight(line, "\n") + "\n")
		}
	}
	return nil
}

// reported writes what hosts report of an object.
func (s *screen) reported(k api.Key, hosts []api.Object) {
	var enforced, faults []string
	for _, obj := range hosts {
		h, ok := obj.(*api.HostStatus)
		if !ok {
			continue
		}
		for _, e := range h.Status.Endpoints {
			where := fmt.Sprintf("host %s, endpoint %s (%s)", h.Name, e.Name, orNone(strings.Join(e.Interfaces, ", "), "no interface"))
			switch {
			case slices.ContainsFunc(e.Policies, func(p string) bool { return strings.HasSuffix(p, "/"+k.String()) }):
				enforced = append(enforced, where)
			case k.Kind == api.KindProfile && slices.Contains(e.Profiles, k.Name):
				enforced = append(enforced, where)
			case isEndpoint(k, e.Name):
				s.endpoints([]api.EndpointState{e})
			}
		}
		for _, f := range h.Status.Faults {
			if f.Object == k.String() {
				text := "host " + h.Name + ": " + f.Message
				if f.Effect != "" {
					text += "; " + f.Effect
				}
				faults = append(faults, text)
			}
		}
	}
	switch {
	case len(enforced) > 0:
		s.line("Enforced on", "")
		for _, e := range enforced {
			s.item("%s", e)
		}
	case isPolicy(k.Kind):
		s.line("Enforced on", "no endpoint that a host reports")
	}
	if len(faults) > 0 {
		s.line("Faults", "")
		for _, f := range faults {
			s.item("%s", f)
		}
	}
}

// isEndpoint reports whether a host's report of an endpoint is about k.
func isEndpoint(k api.Key, name string) bool {
	switch k.Kind {
	case api.KindHostEndpoint:
		return name == k.Name
	case api.KindWorkloadEndpoint:
		return name == k.Namespace+"/"+k.Name
	}
	return false
}

// isPolicy reports whether resources of the kind are enforced on endpoints.
func isPolicy(kind api.Kind) bool {
	return kind == api.KindGlobalNetworkPolicy || kind == api.KindNetworkPolicy
}
