// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"net"
	"net/http"
	"sync"
)

// connections counts TCP connections and closes those that are too many,
// before anything is read from them. The Unix socket is not counted: its mode
// says who may use it.
type connections struct {
	limits Limits
	mu     sync.Mutex // guards what follows
	open   map[net.Conn]string
	from   map[string]int
}

func newConnections(l Limits) *connections {
	return &connections{limits: l, open: map[net.Conn]string{}, from: map[string]int{}}
}

// changed is the ConnState hook of an http.Server, which calls it with
// StateNew before it reads.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	if conn.RemoteAddr().Network() != "tcp" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		origin := originOf(conn.RemoteAddr().String())
		if len(c.open) >= c.limits.Connections || c.from[origin] >= c.limits.ConnectionsPerAddress {
			conn.Close()
			return
		}
		c.open[conn] = origin
		c.from[origin]++
	case http.StateClosed, http.StateHijacked:
		origin, counted := c.open[conn]
		if !counted {
			return
		}
		delete(c.open, conn)
		if c.from[origin]--; c.from[origin] == 0 {
			delete(c.from, origin)
		}
	case http.StateActive, http.StateIdle:
	}
}
