// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
)

// agentTime bounds one question to the agent.
const agentTime = 10 * time.Second

// agentError says that the agent on this machine could not be asked.
type agentError struct {
	server string
	err    error
	// instead is a command line that does without the agent; empty: none.
	instead string
}

// Error is "agent ADDRESS: what happened".
func (e *agentError) Error() string { return "agent " + e.server + ": " + e.err.Error() }

// Unwrap is what happened.
func (e *agentError) Unwrap() error { return e.err }

// fix is what to do about it.
func (e *agentError) fix() string {
	if errors.Is(e.err, os.ErrPermission) {
		return "run the command as root, or become a member of the group: usermod -aG ripstop " + userName()
	}
	if e.instead != "" {
		return "is ripstopd running on this machine? without it: " + e.instead
	}
	return "is ripstopd running on this machine? another address is given by --agent or RIPSTOP_AGENT"
}

// askAgent makes a request to the agent's socket and returns the answer.
func (a *app) askAgent(ctx context.Context, method, path string) ([]byte, error) {
	u, err := url.Parse(a.cfg.Agent)
	if err != nil || u.Scheme != "unix" || u.Host != "" || u.Path == "" {
		return nil, &exit{exitUsage, fmt.Errorf("--agent %q: want unix:///path/to/socket, with three slashes", a.cfg.Agent)}
	}
	socket := u.Path
	t := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
		if err == nil {
			a.elsewhere = otherNetwork(c)
		}
		return c, err
	}}
	defer t.CloseIdleConnections()
	tctx, cancel := context.WithTimeout(ctx, agentTime)
	defer cancel()
	req, err := http.NewRequestWithContext(tctx, method, "http://agent"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, &agentError{server: a.cfg.Agent, err: err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, &agentError{server: a.cfg.Agent, err: err}
	}
	if resp.StatusCode/100 != 2 {
		return nil, refusedByAgent(a.cfg.Agent, resp.Status, data)
	}
	return data, nil
}

// otherNetwork reports whether the process at the other end of a unix socket
// is in another network namespace, as far as the kernel tells: then the
// interfaces seen here are not its.
func otherNetwork(c net.Conn) bool {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return false
	}
	var peer *syscall.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		peer, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); err != nil || credErr != nil {
		return false
	}
	own, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return false
	}
	other, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", peer.Pid))
	return err == nil && own != other
}

// refusedByAgent is the error for an answer that is not a good one.
func refusedByAgent(server, status string, data []byte) error {
	var st api.Status
	if json.Unmarshal(data, &st) == nil && st.Kind == "Status" && st.Message != "" {
		return fmt.Errorf("agent %s: %s", server, st.Message)
	}
	text := strings.TrimSpace(oneLine(string(data[:min(len(data), 500)])))
	return fmt.Errorf("agent %s: answers %s: %s", server, status, text)
}

// agentStatus is the status of this machine, with the bytes it came in.
func (a *app) agentStatus(ctx context.Context) (*api.HostStatus, []byte, error) {
	data, err := a.askAgent(ctx, http.MethodGet, "/status")
	if err != nil {
		return nil, nil, err
	}
	var h api.HostStatus
	if err := json.Unmarshal(data, &h); err != nil {
		return nil, nil, fmt.Errorf("agent %s: status: %w", a.cfg.Agent, err)
	}
	return &h, data, nil
}
