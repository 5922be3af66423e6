// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// More numbers of <linux/netfilter/nfnetlink_conntrack.h>.
const (
	msgStatsCPU = subsystem | 4
	msgStats    = subsystem | 5
)

// look notes how full the table is.
func (p *Part) look() error {
	p.looked = time.Now()
	u, err := p.c.usage()
	if err != nil {
		return err
	}
	before := p.summary
	s := &p.summary
	s.Entries, s.Most = u.entries, u.most
	// The kernel counts other packets here too; in a table with room they
	// say nothing.
	s.Full = u.most > 0 && (u.entries >= u.most || s.NearlyFull() && u.refused > p.refused)
	p.refused = u.refused
	switch {
	case s.Full && !before.Full:
		p.log.Warn("The connection tracking table is full", "entries", u.entries, "most", u.most)
	case s.NearlyFull() && !before.NearlyFull():
		p.log.Warn("The connection tracking table is nearly full", "entries", u.entries, "most", u.most)
	case !s.NearlyFull() && before.NearlyFull():
		p.log.Info("The connection tracking table has room again", "entries", u.entries, "most", u.most)
	}
	return nil
}

// usage is how full the table is.
type usage struct {
	entries, most int
	// refused counts the packets for which there was no room, since the
	// namespace was made.
	refused uint64
}

// usage asks the kernel (4.18 for most) how full the table is.
func (c *conn) usage() (u usage, err error) {
	err = c.ask(msgStats, 0, func(body []byte) {
		nlattr.Each(body, func(typ uint16, v []byte) {
			switch typ {
			case 1: // CTA_STATS_GLOBAL_ENTRIES
				u.entries = int(bigU32(v))
			case 2: // CTA_STATS_GLOBAL_MAX_ENTRIES
				u.most = int(bigU32(v))
			}
		})
	})
	if err == nil {
		err = c.ask(msgStatsCPU, unix.NLM_F_DUMP, func(body []byte) {
			nlattr.Each(body, func(typ uint16, v []byte) {
				if typ == 10 { // CTA_STATS_DROP
					u.refused += uint64(bigU32(v))
				}
			})
		})
	}
	if err != nil {
		return u, fmt.Errorf("asking how full the table is: %w", err)
	}
	return u, nil
}

// ask sends one request without arguments and visits the answers, from behind
// the netfilter header on.
func (c *conn) ask(typ, flags uint16, visit func(body []byte)) error {
	b, seq := c.append(nil, typ, flags|unix.NLM_F_ACK, make([]byte, 4))
	if err := c.send(b); err != nil {
		return err
	}
	for done := false; !done; {
		b, err := c.recv()
		if err != nil {
			return err
		}
		err = messages(b, func(m message) error {
			switch {
			case m.seq != seq:
			case m.typ == unix.NLMSG_DONE, m.typ == unix.NLMSG_ERROR:
				done = true
				return m.errno()
			case len(m.body) >= 4:
				visit(m.body[4:])
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
