// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// tries is how often Put writes anew when objects come and go under it.
const tries = 5

// query begins the parameters of a read.
func (c *Client) query() url.Values {
	if c.cfg.Builtins {
		return url.Values{}
	}
	return url.Values{"stored": {"true"}}
}

// descriptor is the descriptor of a kind.
func descriptor(kind api.Kind) (api.Descriptor, error) {
	d, ok := api.DescriptorOf(kind)
	if !ok {
		return d, fmt.Errorf("%w: kind %q is unknown", store.ErrKey, kind)
	}
	return d, nil
}

// keyPath is the URL of one object.
func keyPath(k api.Key) (string, error) {
	if err := store.CheckKey(k); err != nil {
		return "", err
	}
	d, err := descriptor(k.Kind)
	if err != nil {
		return "", err
	}
	return path(d, k.Namespace, k.Name), nil
}

// Get reads one object.
func (c *Client) Get(ctx context.Context, k api.Key) (api.Object, error) {
	p, err := keyPath(k)
	if err != nil {
		return nil, err
	}
	data, err := c.do(ctx, http.MethodGet, p, c.query(), nil)
	if err != nil {
		return nil, err
	}
	return decode(k.Kind, data)
}

// List reads all objects of a kind.
func (c *Client) List(ctx context.Context, kind api.Kind, o store.ListOptions) ([]api.Object, api.Revision, error) {
	return c.list(ctx, kind, o, Match{Namespace: o.Namespace})
}

// Match narrows what is listed or watched, by the server. The zero value is
// everything of a kind.
type Match struct {
	// Namespace keeps to one namespace; empty means all.
	Namespace string
	// Labels is a label selector of Kubernetes: "team=blue,env in (a,b)".
	Labels string
	// Fields is a field selector: "metadata.name=web".
	Fields string
}

// narrow adds the selectors to the parameters of a read.
func (m Match) narrow(q url.Values) url.Values {
	if m.Labels != "" {
		q.Set("labelSelector", m.Labels)
	}
	if m.Fields != "" {
		q.Set("fieldSelector", m.Fields)
	}
	return q
}

// ListMatching reads the objects of a kind that match.
func (c *Client) ListMatching(ctx context.Context, kind api.Kind, m Match) ([]api.Object, api.Revision, error) {
	return c.list(ctx, kind, store.ListOptions{}, m)
}

func (c *Client) list(ctx context.Context, kind api.Kind, o store.ListOptions, m Match) ([]api.Object, api.Revision, error) {
	d, err := descriptor(kind)
	if err != nil {
		return nil, 0, fmt.Errorf("list: %w", err)
	}
	q := m.narrow(c.query())
	if o.Limit > 0 {
		q.Set("limit", strconv.Itoa(o.Limit))
	}
	if o.Revision != 0 {
		q.Set("resourceVersion", strconv.FormatInt(int64(o.Revision), 10))
		q.Set("resourceVersionMatch", "Exact")
	}
	if o.After.Name != "" {
		q.Set("stored", "true")
		q.Set("after", o.After.Namespace+"/"+o.After.Name)
	}
	data, err := c.do(ctx, http.MethodGet, path(d, m.Namespace, ""), q, nil)
	if err != nil {
		return nil, 0, err
	}
	var l api.List[json.RawMessage]
	if err := json.Unmarshal(data, &l); err != nil {
		return nil, 0, fmt.Errorf("%s: list of %s: %w", c.cfg.Server, kind, err)
	}
	rev, err := parseRevision(l.Metadata.ResourceVersion)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: list of %s: %w", c.cfg.Server, kind, err)
	}
	objs := make([]api.Object, 0, len(l.Items))
	for _, item := range l.Items {
		obj, err := decode(kind, item)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: list of %s: %w", c.cfg.Server, kind, err)
		}
		objs = append(objs, obj)
	}
	return objs, rev, nil
}

// Put writes an object: a create, or an update of what is there. The server
// defaults, validates and checks it first. A uid or creation time in o is
// left aside: they are the server's to give.
func (c *Client) Put(ctx context.Context, o api.Object, cond store.If) (api.Revision, error) {
	written, err := c.Write(ctx, o, cond)
	if err != nil {
		return 0, err
	}
	return parseRevision(written.Metadata().ResourceVersion)
}

// Write is Put that returns the object as it is now stored.
func (c *Client) Write(ctx context.Context, o api.Object, cond store.If) (api.Object, error) {
	if err := alone(o.Key(), cond); err != nil {
		return nil, err
	}
	if c.kept != nil { // nobody could tell which of its requests it would be
		return nil, fmt.Errorf("%s: Put: %w where writes are collected", o.Key(), errors.ErrUnsupported)
	}
	o, err := bare(o)
	if err != nil {
		return nil, err
	}
	m := o.Metadata()
	create := func() (api.Object, error) { return c.Create(ctx, o, Options{}) }
	if cond.IsAbsent() && m.Name == "" {
		return create() // the server gives it one
	}
	item, err := keyPath(o.Key())
	if err != nil {
		return nil, err
	}
	if cond.IsAbsent() {
		return create()
	}
	if cond.Revision() != 0 {
		m.ResourceVersion = strconv.FormatInt(int64(cond.Revision()), 10)
		return c.write(ctx, http.MethodPut, item, Options{}, o)
	}
	for attempt := 1; ; attempt++ {
		written, err := c.write(ctx, http.MethodPut, item, Options{}, o)
		if !errors.Is(err, store.ErrNotFound) {
			return written, err
		}
		if written, err = create(); !errors.Is(err, store.ErrExists) || attempt == tries {
			return written, err
		}
	}
}

// alone refuses a condition on another resource, which the REST API has no
// words for.
func alone(k api.Key, cond store.If) error {
	if other, _ := cond.Other(); other != (api.Key{}) {
		return fmt.Errorf("%s: a write while %s is at a revision: %w by the REST API", k, other, errors.ErrUnsupported)
	}
	return nil
}

// deleteOptions is the body of a DELETE.
type deleteOptions struct {
	Kind          string        `json:"kind"`
	APIVersion    string        `json:"apiVersion"`
	Preconditions preconditions `json:"preconditions"`
}

type preconditions struct {
	ResourceVersion string `json:"resourceVersion,omitempty"`
}

// Delete removes an object.
func (c *Client) Delete(ctx context.Context, k api.Key, cond store.If) error {
	return c.Remove(ctx, k, cond, Options{})
}

// item is what of an object is needed before it is decoded.
type item struct {
	Kind     api.Kind `json:"kind"`
	Metadata api.Meta `json:"metadata"`
	Raw      []byte   `json:"raw"`
}

// decode reads an object that the server sent. What the server could not
// understand, and what this program does not understand because the server
// is newer, becomes an *api.Unreadable.
func decode(kind api.Kind, data []byte) (api.Object, error) {
	o, strict := api.Decode(data)
	if strict == nil {
		if o.Key().Kind != kind {
			return nil, fmt.Errorf("asked for %s, got %s", kind, o.Key())
		}
		if _, marked := o.Metadata().Annotations[api.AnnotationUnreadable]; !marked {
			// Who set what is the server's business, which keeps it through a
			// write that does not bring it; nobody here reads it.
			o.Metadata().ManagedFields = nil
			return o, nil
		}
	}
	var it item
	if err := json.Unmarshal(data, &it); err != nil {
		return nil, err
	}
	if it.Kind != kind || it.Metadata.Name == "" {
		return nil, fmt.Errorf("asked for %s, got %s %q", kind, it.Kind, it.Metadata.Name)
	}
	k := api.Key{Kind: kind, Namespace: it.Metadata.Namespace, Name: it.Metadata.Name}
	rev, err := parseRevision(it.Metadata.ResourceVersion)
	if err != nil {
		return nil, err
	}
	why, marked := it.Metadata.Annotations[api.AnnotationUnreadable]
	switch {
	case marked && it.Raw != nil:
		return api.DecodeStored(k, it.Raw, rev), nil
	case marked:
		delete(it.Metadata.Annotations, api.AnnotationUnreadable)
		return &api.Unreadable{K: k, Meta: it.Metadata, Err: errors.New(why)}, nil
	default:
		u := &api.Unreadable{K: k, Meta: it.Metadata, Raw: data, Err: strict}
		if s, bad := api.DecodeStored(k, named(data, k.Name), rev).(*api.Unreadable); bad {
			u.Salvaged = s.Salvaged
		}
		return u, nil
	}
}

// named is an object's JSON with its name in the annotation in which stores
// keep it, so that no old way of naming is seen in it.
func named(data []byte, name string) []byte {
	var tree map[string]any
	if json.Unmarshal(data, &tree) != nil {
		return data
	}
	meta, ok := tree["metadata"].(map[string]any)
	if !ok {
		return data
	}
	notes, ok := meta["annotations"].(map[string]any)
	if !ok {
		notes = map[string]any{}
	}
	text, err := json.Marshal(map[string]string{"name": name})
	if err != nil {
		return data
	}
	notes[api.AnnotationMetadata] = string(text)
	meta["annotations"] = notes
	out, err := json.Marshal(tree)
	if err != nil {
		return data
	}
	return out
}

func parseRevision(s string) (api.Revision, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("resourceVersion %q is not a number", s)
	}
	return api.Revision(n), nil
}
