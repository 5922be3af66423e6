// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// Options say how people's writes are done, which can do more than a
// store.Store: Create, Replace, Patch and Remove take them. The zero value is
// a plain write.
type Options struct {
	// DryRun goes through everything but the write.
	DryRun bool
	// Manager is the name under which the server remembers who set which
	// field; empty: the server takes it from the user agent. An ApplyPatch
	// needs it.
	Manager string
	// Force takes fields over that other managers hold; for an ApplyPatch.
	Force bool
}

// query are the parameters that Options stand for.
func (o Options) query() url.Values {
	q := url.Values{}
	if o.DryRun {
		q.Set("dryRun", "All")
	}
	if o.Manager != "" {
		q.Set("fieldManager", o.Manager)
	}
	if o.Force {
		q.Set("force", "true")
	}
	return q
}

// PatchType is how a patch says what to change, as its media type.
type PatchType string

// The kinds of patch that the server knows.
const (
	// JSONPatch is a list of operations (RFC 6902).
	JSONPatch PatchType = "application/json-patch+json"
	// MergePatch is a document of what becomes otherwise (RFC 7396); null
	// removes, lists are replaced as a whole.
	MergePatch PatchType = "application/merge-patch+json"
	// ApplyPatch is all that one manager wants of an object (server-side
	// apply); it makes the object if it is not there.
	ApplyPatch PatchType = "application/apply-patch+yaml"
)

// bare is o without what is the server's to give. It is a copy.
func bare(o api.Object) (api.Object, error) {
	if _, bad := o.(*api.Unreadable); bad {
		return nil, fmt.Errorf("%s: a value that cannot be understood cannot be written", o.Key())
	}
	o = api.Clone(o)
	m := o.Metadata()
	m.UID, m.CreationTimestamp, m.ResourceVersion, m.ManagedFields = "", api.Time{}, "", nil
	return o, nil
}

// Create makes an object; store.ErrExists if it is there. An object without
// name and with metadata.generateName gets a name. The object is returned as
// it is stored, or would be.
func (c *Client) Create(ctx context.Context, o api.Object, opt Options) (api.Object, error) {
	o, err := bare(o)
	if err != nil {
		return nil, err
	}
	d, err := descriptor(o.Key().Kind)
	if err != nil {
		return nil, err
	}
	if c.kept != nil {
		return o, c.keep(api.ChangeWrite{Verb: "create", Kind: d.Kind, Namespace: o.Key().Namespace}, opt, o)
	}
	return c.write(ctx, http.MethodPost, path(d, o.Key().Namespace, ""), opt, o)
}

// Replace writes over an object that is there (else store.ErrNotFound), and
// over exactly the version in its metadata.resourceVersion if it has one (else
// store.ErrConflict).
func (c *Client) Replace(ctx context.Context, o api.Object, opt Options) (api.Object, error) {
	version := o.Metadata().ResourceVersion
	o, err := bare(o)
	if err != nil {
		return nil, err
	}
	o.Metadata().ResourceVersion = version
	item, err := keyPath(o.Key())
	if err != nil {
		return nil, err
	}
	if k := o.Key(); c.kept != nil {
		return o, c.keep(api.ChangeWrite{Verb: "update", Kind: k.Kind, Namespace: k.Namespace, Name: k.Name}, opt, o)
	}
	return c.write(ctx, http.MethodPut, item, opt, o)
}

// Patch changes parts of an object. The body is JSON.
func (c *Client) Patch(ctx context.Context, k api.Key, typ PatchType, body []byte, opt Options) (api.Object, error) {
	item, err := keyPath(k)
	if err != nil {
		return nil, err
	}
	if c.kept != nil {
		w := api.ChangeWrite{Verb: "patch", Kind: k.Kind, Namespace: k.Namespace, Name: k.Name, MediaType: string(typ)}
		return nil, c.keep(w, opt, json.RawMessage(body))
	}
	data, err := c.send(ctx, http.MethodPatch, item, opt.query(), json.RawMessage(body), string(typ))
	if err != nil {
		return nil, err
	}
	return decode(k.Kind, data)
}

// Remove deletes an object, with cond as in Delete.
func (c *Client) Remove(ctx context.Context, k api.Key, cond store.If, opt Options) error {
	p, err := keyPath(k)
	if err != nil {
		return err
	}
	if err := alone(k, cond); err != nil {
		return err
	}
	o := deleteOptions{Kind: "DeleteOptions", APIVersion: "v1"}
	switch {
	case cond.IsAbsent():
		if _, err := c.Get(ctx, k); err != nil {
			return err
		}
		return fmt.Errorf("%s: %w", k, store.ErrConflict)
	case cond.Revision() != 0:
		o.Preconditions.ResourceVersion = strconv.FormatInt(int64(cond.Revision()), 10)
	}
	if c.kept != nil {
		return c.keep(api.ChangeWrite{Verb: "delete", Kind: k.Kind, Namespace: k.Namespace, Name: k.Name}, opt, o)
	}
	_, err = c.do(ctx, http.MethodDelete, p, opt.query(), o)
	return err
}

// write sends an object and returns it as the server answers it.
func (c *Client) write(ctx context.Context, method, p string, opt Options, o api.Object) (api.Object, error) {
	data, err := c.do(ctx, method, p, opt.query(), o)
	if err != nil {
		return nil, err
	}
	return decode(o.Key().Kind, data)
}
