// SPDX-License-Identifier: Apache-2.0

// Package client is a store.Store over Ripstop's REST API, for the CLI, for
// agents whose upstream is the API and for other people's programs.
//
//	c, err := client.New(client.Config{Server: "unix:///run/ripstop/api.sock"})
//	objs, rev, err := c.List(ctx, api.KindTier, store.ListOptions{})
//
// It speaks Kubernetes' URLs and JSON and knows nothing of what the resources
// mean. Unlike other Stores, Put defaults, validates and checks: the server
// does, before it writes, and refuses what is wrong with a *StatusError that
// has all faults.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// DefaultServer is where ripstop-server listens unless told otherwise.
const DefaultServer = "unix:///run/ripstop/api.sock"

// Config says how to reach a server.
type Config struct {
	// Server is unix:///path/to/socket, http://host:port or
	// https://host:port; default DefaultServer.
	Server string
	// Timeout bounds a request, except a running watch; default 30 s.
	Timeout time.Duration
	// UserAgent names the program; default "ripstop/VERSION".
	UserAgent string
	// Command is the command line's command, for the history: "ripstop apply".
	Command string
	// Builtins shows also what is built in and never stored, such as the
	// profile projectcalico-default-allow, as the API shows it to people.
	// A Store that is synchronised from must leave it off.
	Builtins bool
	// OnWarning, if set, is told the warnings of the server.
	OnWarning func(text string)
	// Credentials are how the server knows the program; of no use on a Unix
	// socket that the program's user may use.
	Credentials Credentials
}

// Client is a store.Store over the REST API. Its methods may be called from
// many goroutines.
type Client struct {
	cfg  Config
	base *url.URL
	http *http.Client
	// kept, if not nil, takes the writes, which are then not done: see Collect.
	kept *[]api.ChangeWrite
}

var _ store.Store = (*Client)(nil)

// maxAnswer is the largest answer that is read.
const maxAnswer = 1 << 30

// New is a Client. It does not connect yet; an error is a Config that makes
// no sense.
func New(cfg Config) (*Client, error) {
	if cfg.Server == "" {
		cfg.Server = DefaultServer
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "ripstop/" + api.Version
	}
	u, err := url.Parse(cfg.Server)
	if err != nil {
		return nil, fmt.Errorf("server %q: %w", cfg.Server, err)
	}
	t := &http.Transport{MaxIdleConnsPerHost: 8, IdleConnTimeout: 50 * time.Second, ResponseHeaderTimeout: cfg.Timeout}
	switch u.Scheme {
	case "unix":
		path := u.Path
		if u.Host != "" || path == "" {
			return nil, fmt.Errorf("server %q: want unix:///path/to/socket, with three slashes", cfg.Server)
		}
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}
		u = &url.URL{Scheme: "http", Host: "localhost"}
	case "http", "https":
		if u.Host == "" {
			return nil, fmt.Errorf("server %q: the host is missing", cfg.Server)
		}
		u = &url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimRight(u.Path, "/")}
	default:
		return nil, fmt.Errorf("server %q: want unix:///path/to/socket, http://host:port or https://host:port", cfg.Server)
	}
	if t.TLSClientConfig, err = cfg.Credentials.tls(cfg.Server, u); err != nil {
		return nil, err
	}
	// Redirects are never followed: the API has none.
	noRedirect := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{cfg: cfg, base: u, http: &http.Client{Transport: t, CheckRedirect: noRedirect}}, nil
}

// Close gives back idle connections. The Client can still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Server is what the Client was told to talk to.
func (c *Client) Server() string { return c.cfg.Server }

// ServerVersion asks the server for its version. It is also the cheapest way
// to find out whether it answers.
func (c *Client) ServerVersion(ctx context.Context) (string, error) {
	var v struct {
		GitVersion string `json:"gitVersion"`
	}
	data, err := c.do(ctx, http.MethodGet, "/version", nil, nil)
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(data, &v); err != nil {
		return "", fmt.Errorf("%s: version: %w", c.cfg.Server, err)
	}
	_, version, found := strings.Cut(v.GitVersion, "+ripstop.")
	if !found {
		return "", fmt.Errorf("%s: version %q is not one of Ripstop's", c.cfg.Server, v.GitVersion)
	}
	return version, nil
}

// StatusError is an answer of the server that is not what was asked for. It
// reads as the server's message; errors.Is finds the store's error that it
// stands for.
type StatusError struct {
	Status *api.Status
	kind   error // of package store, or nil
}

// Error is the server's message.
func (e *StatusError) Error() string { return e.Status.Error() }

// Unwrap is what the error stands for: an error of package store, if there is
// one, and the *api.Status.
func (e *StatusError) Unwrap() []error {
	if e.kind == nil {
		return []error{e.Status}
	}
	return []error{e.kind, e.Status}
}

// statusError turns a Status into an error.
func statusError(st *api.Status) error {
	e := &StatusError{Status: st}
	switch {
	case st.Code == http.StatusNotFound && st.Details != nil && st.Details.Name != "":
		e.kind = store.ErrNotFound
	case st.Reason == api.ReasonAlreadyExists:
		e.kind = store.ErrExists
	case st.Code == http.StatusConflict:
		e.kind = store.ErrConflict
	case st.Code == http.StatusGone:
		e.kind = store.ErrCompacted
	case st.Code == http.StatusInsufficientStorage:
		e.kind = store.ErrNoSpace
	case st.Code == http.StatusServiceUnavailable, st.Code == http.StatusGatewayTimeout, st.Code == http.StatusTooManyRequests:
		e.kind = store.ErrUnavailable
	}
	return e
}

// ConnError says that the server could not be asked, or did not answer to the
// end. errors.Is finds store.ErrUnavailable in it, and what the system said.
type ConnError struct {
	// Server is as it was given in Config.
	Server string
	Err    error
}

// Error is "SERVER: no answer: what the system said".
func (e *ConnError) Error() string { return e.Server + ": no answer: " + e.Err.Error() }

// Unwrap is store.ErrUnavailable and what the system said.
func (e *ConnError) Unwrap() []error { return []error{store.ErrUnavailable, e.Err} }

// unreachable is the error for a server that could not be asked.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // the URL says nothing to people
	}
	return &ConnError{Server: c.cfg.Server, Err: err}
}

// request makes a request; path is already escaped.
func (c *Client) request(ctx context.Context, method, path string, q url.Values, body any) (*http.Request, error) {
	var r io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(data)
	}
	target := c.base.String() + path
	if len(q) > 0 {
		target += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, r)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	if c.cfg.Command != "" {
		req.Header.Set("Kubectl-Command", c.cfg.Command) // as kubectl names itself
	}
	req.Header.Set("Accept", "application/json")
	if c.cfg.Credentials.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Credentials.Token)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req, nil
}

// do makes a request and returns the body of a good answer.
func (c *Client) do(ctx context.Context, method, path string, q url.Values, body any) ([]byte, error) {
	return c.send(ctx, method, path, q, body, "application/json")
}

// send is do with a body of another type of JSON.
func (c *Client) send(ctx context.Context, method, path string, q url.Values, body any, contentType string) ([]byte, error) {
	tctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	req, err := c.request(tctx, method, path, q, body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if len(data) > maxAnswer {
		return nil, fmt.Errorf("%s: %s: the answer is larger than %d bytes", c.cfg.Server, path, maxAnswer)
	}
	if resp.StatusCode >= 300 {
		return nil, c.refusal(resp, data)
	}
	c.warn(resp)
	return data, nil
}

// refusal is the error in an answer that is not a good one.
func (c *Client) refusal(resp *http.Response, data []byte) error {
	var st api.Status
	if err := json.Unmarshal(data, &st); err != nil || st.Kind != "Status" {
		st = *api.Failure(resp.StatusCode, "", fmt.Sprintf("%s: answers %s and no reason: is this a ripstop-server?", c.cfg.Server, resp.Status))
	}
	if st.Code == 0 {
		st.Code = resp.StatusCode
	}
	return statusError(&st)
}

// warn hands the server's warnings on.
func (c *Client) warn(resp *http.Response) {
	if c.cfg.OnWarning == nil {
		return
	}
	for _, w := range resp.Header.Values("Warning") {
		// 299 - "text"
		var text string
		if i := strings.IndexByte(w, '"'); i >= 0 && json.Unmarshal([]byte(w[i:]), &text) == nil {
			c.cfg.OnWarning(text)
		}
	}
}

// path is the URL of a kind or, with a name, of one object.
func path(d api.Descriptor, namespace, name string) string {
	p := d.Path(url.PathEscape(namespace))
	if name != "" {
		p += "/" + url.PathEscape(name)
	}
	return p
}
