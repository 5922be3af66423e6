// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/ripstop/ripstop/daemon/api"
)

// Collect is a Client that reads as c does and does no write: Create, Replace,
// Patch, Remove and Delete keep what they would have done, and Collected
// gives it. An object comes back from them as it was given, from Patch none. It
// is used by one goroutine.
func (c *Client) Collect() *Client {
	kept := *c
	kept.kept = &[]api.ChangeWrite{}
	return &kept
}

// Collected are the writes that a Client from Collect has kept, in their order.
func (c *Client) Collected() []api.ChangeWrite { return *c.kept }

// keep keeps a write.
func (c *Client) keep(w api.ChangeWrite, opt Options, body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	w.Manager, w.Force, w.Body = opt.Manager, opt.Force, data
	*c.kept = append(*c.kept, w)
	return nil
}

// RequestChange asks for writes that go together and go back unless they are
// confirmed, and returns what came of it. With a fault in any of them nothing
// is written.
func (c *Client) RequestChange(ctx context.Context, spec api.ChangeRequestSpec) (*api.ChangeRequestStatus, error) {
	req := api.ChangeRequest{TypeMeta: api.TypeMeta{Kind: api.KindChangeRequest, APIVersion: api.VersionOurs}, Spec: spec}
	data, err := c.do(ctx, http.MethodPost, api.ChangeRequestPath, nil, req)
	if err != nil {
		return nil, err
	}
	var done api.ChangeRequest
	if err := json.Unmarshal(data, &done); err != nil {
		return nil, fmt.Errorf("%s: change: %w", c.cfg.Server, err)
	}
	return &done.Status, nil
}

// Confirm lets a change stay. store.ErrNotFound: there is none of this name,
// perhaps because it was confirmed; store.ErrConflict: it was rolled back.
func (c *Client) Confirm(ctx context.Context, name string) (*api.Change, error) {
	return c.endChange(ctx, name, "confirm")
}

// RollBack undoes a change before its time. store.ErrNotFound: there is none of
// this name.
func (c *Client) RollBack(ctx context.Context, name string) (*api.Change, error) {
	return c.endChange(ctx, name, "rollback")
}

func (c *Client) endChange(ctx context.Context, name, what string) (*api.Change, error) {
	p, err := keyPath(api.Key{Kind: api.KindChange, Name: name})
	if err != nil {
		return nil, err
	}
	data, err := c.do(ctx, http.MethodPost, p+"/"+what, nil, struct{}{})
	if err != nil {
		return nil, err
	}
	o, err := decode(api.KindChange, data)
	if err != nil {
		return nil, err
	}
	ch, is := o.(*api.Change)
	if !is {
		return nil, fmt.Errorf("%s: change %s: the answer cannot be read", c.cfg.Server, name)
	}
	return ch, nil
}
