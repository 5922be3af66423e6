// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

// applyFlags are the flags of apply.
type applyFlags struct {
	writeFlags
	serverSide, force bool
	pruneFlags
	// tiers are those among the documents: a dry run makes none.
	tiers map[string]bool
}

func (a *app) applyCommand() *cobra.Command {
	var in input
	var f applyFlags
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

With --server-side a document says only what its manager (--field-manager)
wants: fields that others set stay, fields that the manager no longer names go,
and a field that another manager holds is a conflict, which --force-conflicts
takes over.

With --prune, what was applied before and is no longer in the files is deleted:
of a set (--set NAME, which is kept in the label ripstop.io/set), or of all
resources that a label selector finds (-l), in all namespaces unless -n names
one. Nothing is deleted unless everything was written.

With --dry-run=server it says who would gain and who would lose access, which
connections of this machine the agent here would cut, and which of the policies
select nothing; and it warns if the SSH session that you work in on this machine
would be denied, and by which rule. See ripstop diff.

With --confirm TIME all of it is one change, of which nothing is written with a
fault in any, and everything goes back after that time unless ripstop confirm is
given before.

What would shut a way into a host is asked about on a terminal, and elsewhere
refused unless --confirm or --yes is given: SSH to any host that has an
endpoint, and the TCP ports that its failsafes hold open, from this machine and
from where the user's SSH session comes; and the session itself.

With --test the server first judges all policy tests, those on it and those in
the files, as everything would be afterwards; if a case fails, nothing is
written. With --confirm that and the writes are one step. Without it what others
write in between is not judged.

A line for each resource says what was done: created, configured (changed),
unchanged, applied (--server-side) or pruned.`,
		Example: `  ripstop apply -f allow-ssh.yaml
  ripstop apply -R -f policies/
  generate-policy | ripstop apply -f -
  ripstop apply -R -f policies/ --test --confirm 2m
  ripstop apply --server-side --field-manager=ci -f policies/
  ripstop apply -R -f policies/ --prune --set=office --dry-run=server`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := in.given(cmd, "apply"); err != nil {
				return err
			}
			if err := errors.Join(f.check(cmd), f.checkPrune(cmd)); err != nil {
				return err
			}
			if f.force && !f.serverSide {
				return usage(cmd, "apply: --force-conflicts goes with --server-side; without it there are no conflicts of fields")
			}
			if f.test && f.client() {
				return usage(cmd, "apply: --dry-run=client asks no server to judge policy tests; use --dry-run=server, or ripstop test")
			}
			if f.serverSide && f.client() {
				return usage(cmd, "apply: --dry-run=client cannot tell what --server-side would do; use --dry-run=server")
			}
			return a.apply(cmd, &in, f)
		},
	}
	addInput(cmd, &in)
	addWrite(cmd, &f.writeFlags)
	addConfirm(cmd, &f.confirmFlags)
	cmd.Flags().BoolVar(&f.test, "test", false, "write nothing if a case of a policy test would fail")
	cmd.Flags().BoolVar(&f.serverSide, "server-side", false, "set only the fields that the files name, and keep those of other managers")
	cmd.Flags().BoolVar(&f.force, "force-conflicts", false, "with --server-side: take over fields that other managers hold")
	f.add(cmd)
	return cmd
}

func (a *app) apply(cmd *cobra.Command, in *input, f applyFlags) error {
	docs, err := in.read(a)
	if err != nil {
		return fmt.Errorf("apply: nothing was written:\n%w", err)
	}
	f.mark(docs)
	f.tiers = tiersIn(docs)
	c, err := a.connect(cmd, false)
	if err != nil {
		return err
	}
	defer c.Close()
	inOrder(docs)
	return a.write(cmd, c, f.writeFlags, func(c *client.Client) error { return a.applyAll(cmd, c, docs, f) })
}

// applyAll writes the documents, and prunes.
func (a *app) applyAll(cmd *cobra.Command, c *client.Client, docs []api.Document, f applyFlags) error {
	var changed []api.Object
	err := a.each("apply", docs, f.suffix(), func(d api.Document) (string, api.Key, error) {
		done, o, err := applyOne(cmd.Context(), c, d, f)
		if err != nil || o == nil {
			return done, d.Object.Key(), err
		}
		if done != "unchanged" {
			changed = append(changed, o)
		}
		return done, o.Key(), nil
	})
	if err != nil {
		return err
	}
	var gone []api.Key
	if f.prune {
		gone, err = a.prune(cmd, c, docs, f)
	}
	if err == nil && f.options().DryRun && !f.client() {
		a.tellImpact(cmd.Context(), c, changed, gone)
	}
	return err
}

// tiersIn are the names of the tiers among documents.
func tiersIn(docs []api.Document) map[string]bool {
	tiers := map[string]bool{}
	for _, d := range docs {
		if k := d.Object.Key(); k.Kind == api.KindTier {
			tiers[k.Name] = true
		}
	}
	return tiers
}

// applyOne makes one resource be as wanted and says what was done, or would
// be. In a dry run a policy may be in a tier that would be there by then: it is
// shown to the server in one that is.
func applyOne(ctx context.Context, c *client.Client, d api.Document, f applyFlags) (done string, written api.Object, err error) {
	done, written, err = applyOnce(ctx, c, d, f)
	spec := api.PolicySpecOf(d.Object)
	if err == nil || !f.options().DryRun || spec == nil || !f.tiers[spec.Tier] || !lacksTier(err) {
		return done, written, err
	}
	tier := spec.Tier
	d.Object = api.Clone(d.Object)
	api.PolicySpecOf(d.Object).Tier = api.DefaultTier
	done, written, err = applyOnce(ctx, c, d, f)
	if spec := api.PolicySpecOf(written); err == nil && spec != nil {
		spec.Tier = tier
		if m := written.Metadata(); m.Labels[api.LabelTier] != "" {
			m.Labels[api.LabelTier] = tier
		}
	}
	return done, written, err
}

// lacksTier reports whether the server refused a policy for its tier.
func lacksTier(err error) bool {
	var st *client.StatusError
	return errors.As(err, &st) && st.Status.Code == 422 && st.Status.Details != nil &&
		len(st.Status.Details.Causes) == 1 && st.Status.Details.Causes[0].Field == "spec.tier"
}

// applyOnce is applyOne as the server sees it.
func applyOnce(ctx context.Context, c *client.Client, d api.Document, f applyFlags) (done string, written api.Object, err error) {
	o := d.Object
	opt := f.options()
	m := o.Metadata()
	if m.Name == "" {
		return "", nil, errors.New("metadata.name: apply needs it; create is for metadata.generateName")
	}
	if f.serverSide {
		return serverApply(ctx, c, d, f)
	}
	// Somebody may make or delete it in between: then it is tried again.
	for try := 1; ; try++ {
		old, err := c.Get(ctx, o.Key())
		switch {
		case errors.Is(err, store.ErrNotFound) && m.ResourceVersion != "":
			return "", nil, err
		case errors.Is(err, store.ErrNotFound) && f.client():
			return "created", o, nil
		case errors.Is(err, store.ErrNotFound):
			written, err = c.Create(ctx, o, opt)
			if errors.Is(err, store.ErrExists) && try < applyTries {
				continue
			}
			return "created", written, err
		case err != nil && !unreadableThere(err):
			return "", nil, err
		}
		if f.client() {
			if old != nil && sameDocument(old, o) {
				return "unchanged", o, nil
			}
			return "configured", o, nil
		}
		written, err = c.Replace(ctx, o, opt)
		if errors.Is(err, store.ErrNotFound) && m.ResourceVersion == "" && try < applyTries {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		if old == nil {
			return "configured", written, nil
		}
		return changed(old, written), written, nil
	}
}

// applyTries is how often apply begins anew when a resource comes and goes
// under it.
const applyTries = 5

// unreadableThere reports whether the server said that it has the object and
// cannot read it: then it is written over.
func unreadableThere(err error) bool {
	var st *client.StatusError
	return errors.As(err, &st) && st.Status.Code == 500 && st.Status.Reason == api.ReasonInternalError
}

// serverApply applies one document on the server's side.
func serverApply(ctx context.Context, c *client.Client, d api.Document, f applyFlags) (string, api.Object, error) {
	body, err := wantedJSON(d)
	if err != nil {
		return "", nil, err
	}
	opt := f.options()
	opt.Force = f.force
	written, err := c.Patch(ctx, d.Object.Key(), client.ApplyPatch, body, opt)
	return "applied", written, err
}

// wantedJSON is a document as it was written, with what it leaves to the
// command line and to the list it stands in.
func wantedJSON(d api.Document) ([]byte, error) {
	dec := json.NewDecoder(bytes.NewReader(d.JSON()))
	dec.UseNumber()
	var tree map[string]any
	if err := dec.Decode(&tree); err != nil {
		return nil, err
	}
	desc, _ := api.DescriptorOf(d.Object.Key().Kind)
	tree["kind"], tree["apiVersion"] = string(desc.Kind), desc.APIVersion()
	meta, _ := tree["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
		tree["metadata"] = meta
	}
	m := d.Object.Metadata()
	meta["name"] = m.Name
	if m.Namespace != "" {
		meta["namespace"] = m.Namespace
	}
	if len(m.Labels) > 0 {
		meta["labels"] = m.Labels
	}
	if spec := api.PolicySpecOf(d.Object); spec != nil {
		if s, ok := tree["spec"].(map[string]any); ok && s["tier"] != nil {
			s["tier"] = spec.Tier // which a dry run may have changed
		}
	}
	for _, servers := range []string{"uid", "creationTimestamp", "generation", "managedFields", "selfLink"} {
		delete(meta, servers)
	}
	delete(tree, "status")
	return json.Marshal(tree)
}

// sameDocument reports whether two objects say the same, but for what is the
// server's to give.
func sameDocument(x, y api.Object) bool {
	a, errA := plainJSON(x)
	b, errB := plainJSON(y)
	return errA == nil && errB == nil && bytes.Equal(a, b)
}

// plainJSON is an object with its defaults and without what is the server's to
// give.
func plainJSON(o api.Object) ([]byte, error) {
	if _, bad := o.(*api.Unreadable); bad {
		return nil, fmt.Errorf("%s cannot be read", o.Key())
	}
	o = api.Clone(o)
	o.Default()
	m := o.Metadata()
	m.UID, m.CreationTimestamp, m.ResourceVersion, m.Generation, m.ManagedFields = "", api.Time{}, "", 0, nil
	return json.Marshal(o)
}
