// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

const (
	protoICMP   = 1
	protoTCP    = 6
	protoICMPv6 = 58

	sockGet     = 20 // SOCK_DIAG_BY_FAMILY
	sockDestroy = 21 // SOCK_DESTROY, kernel 4.5
	noCookie    = 0xffffffff_ffffffff
	stateListen = 10 // TCP_LISTEN
)

// end is a TCP socket of this host.
type end struct {
	local, remote netip.AddrPort
}

// ends are the sockets of this host at which a TCP connection ends.
func ends(f *ruleset.Flow, e *entry) []end {
	if f.Protocol != protoTCP {
		return nil
	}
	begins := end{netip.AddrPortFrom(e.orig.src, e.orig.srcPort), netip.AddrPortFrom(e.orig.dst, e.orig.dstPort)}
	listens := end{netip.AddrPortFrom(e.reply.src, e.reply.srcPort), netip.AddrPortFrom(e.reply.dst, e.reply.dstPort)}
	switch f.Way {
	case ruleset.FromHost:
		return []end{begins}
	case ruleset.ToHost:
		return []end{listens}
	case ruleset.Looped:
		return []end{begins, listens}
	}
	return nil
}

// allowed tells whether a flow would be let in if it began now, by any of the
// interfaces that are possible.
func allowed(s *ruleset.State, f *ruleset.Flow) bool {
	ins, outs := f.In, f.Out
	if f.Way != ruleset.ToHost && f.Way != ruleset.Forwarded {
		ins = []string{""}
	}
	if f.Way != ruleset.FromHost && f.Way != ruleset.Forwarded {
		outs = []string{""}
	}
	for _, in := range ins {
		for _, out := range outs {
			if v, _ := s.Judge(f, in, out); v == ruleset.Accepted {
				return true
			}
		}
	}
	return false
}

// shut closes a socket: its program gets an error (ECONNABORTED). Of a socket
// that is not there: no error.
//
// Asked for a connection that is gone, the kernel finds the socket that listens
// at its address. So the socket is looked at first, and closed by its cookie.
func (c *conn) shut(s end) error {
	err := func() error {
		found, err := c.diag(sockGet, 0, s, noCookie)
		// struct inet_diag_msg: the state, the cookie.
		if err != nil || len(found) < 52 || found[1] == stateListen {
			return err
		}
		_, err = c.diag(sockDestroy, unix.NLM_F_ACK, s, binary.NativeEndian.Uint64(found[44:]))
		return err
	}()
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return fmt.Errorf("closing socket %s to %s: %w", s.local, s.remote, err)
}

// diag sends one request about a socket and returns the answer, if there is
// one beside the outcome.
func (c *conn) diag(typ, flags uint16, s end, cookie uint64) ([]byte, error) {
	body := make([]byte, 56) // struct inet_diag_req_v2
	body[0] = unix.AF_INET
	if s.local.Addr().Is6() {
		body[0] = unix.AF_INET6
	}
	body[1] = protoTCP
	binary.NativeEndian.PutUint32(body[4:], 0xffffffff) // in any state
	binary.BigEndian.PutUint16(body[8:], s.local.Port())
	binary.BigEndian.PutUint16(body[10:], s.remote.Port())
	copy(body[12:28], s.local.Addr().AsSlice())
	copy(body[28:44], s.remote.Addr().AsSlice())
	binary.NativeEndian.PutUint64(body[48:], cookie)
	b, seq := c.append(nil, typ, flags, body)
	if err := c.send(b); err != nil {
		return nil, err
	}
	for {
		b, err := c.recv()
		if err != nil {
			return nil, err
		}
		var answer []byte
		answered := false
		err = messages(b, func(m message) error {
			if m.seq != seq {
				return nil
			}
			answered = true
			if m.typ == unix.NLMSG_ERROR {
				return m.errno()
			}
			answer = append(answer, m.body...)
			return nil
		})
		if err != nil || answered {
			return answer, err
		}
	}
}
