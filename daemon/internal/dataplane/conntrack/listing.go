// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// ahead is how many datagrams are read ahead of who judges them.
const ahead = 4

// errNotYet: the next entries have not been found yet.
var errNotYet = errors.New("the next entries have not been read yet")

// listing is the table being read, datagram by datagram, by a goroutine of its
// own. To find the next entries the kernel goes through the whole of its hash
// table, which is one for all namespaces: 9 ms for 262,144 buckets, were they
// all empty. The lane has other work meanwhile.
type listing struct {
	c      *conn
	family byte
	seq    uint32
	reader sync.WaitGroup
	stop   chan struct{} // closed to end the reader early
	pieces chan piece    // closed by the reader behind the last one
	free   chan []byte   // buffers to read into
	e      entry
}

// piece is a datagram, or the error that ended the listing.
type piece struct {
	b   []byte
	buf []byte // that b is a part of
	err error
}

// list begins to list the table, of one family or of all (AF_UNSPEC), on a
// socket of its own that is in the network namespace of the calling thread: a
// listing that is given up ends with its socket.
func list(family byte) (*listing, error) {
	c, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	l := &listing{c: c, family: family, stop: make(chan struct{}), pieces: make(chan piece, ahead), free: make(chan []byte, ahead)}
	l.free <- c.buf
	for range ahead - 1 {
		l.free <- nil
	}
	l.reader.Go(l.read)
	return l, nil
}

// read asks for the table and hands on what comes. There are as many buffers
// as places for pieces, so that only the wait for a buffer can last.
func (l *listing) read() {
	defer close(l.pieces)
	var ask []byte
	ask, l.seq = l.c.append(nil, msgGet, unix.NLM_F_DUMP, []byte{l.family, 0, 0, 0})
	if err := l.c.send(ask); err != nil {
		l.pieces <- piece{err: err}
		return
	}
	for done := false; !done; {
		var p piece
		select {
		case <-l.stop:
			return
		case p.buf = <-l.free:
		}
		if p.buf == nil {
			p.buf = make([]byte, datagram)
		}
		l.c.buf = p.buf
		if p.b, p.err = l.c.recv(); p.err == nil {
			done, p.err = l.ends(p.b)
		}
		done = done || p.err != nil
		l.pieces <- p
	}
}

// ends tells whether a datagram is the last of the listing, or why there are
// no more.
func (l *listing) ends(b []byte) (done bool, err error) {
	err = messages(b, func(m message) error {
		if m.seq != l.seq || m.typ != unix.NLMSG_DONE && m.typ != unix.NLMSG_ERROR {
			return nil
		}
		done = true
		return m.errno()
	})
	return done, err
}

// next visits the entries of the next datagram, if it has been read: otherwise
// the error is errNotYet. An entry is valid during the call. done: there are no
// more.
func (l *listing) next(visit func(*entry) error) (done bool, err error) {
	var p piece
	var more bool
	select {
	case p, more = <-l.pieces:
	default:
		return false, errNotYet
	}
	if !more {
		return true, nil
	}
	if p.err != nil {
		return false, fmt.Errorf("listing connections: %w", p.err)
	}
	err = messages(p.b, func(m message) error {
		if m.seq != l.seq || m.typ == unix.NLMSG_DONE || !l.e.read(m.body) {
			return nil
		}
		return visit(&l.e)
	})
	l.free <- p.buf
	return false, err
}

// close ends the listing. It waits for the reader, which is in the kernel for
// some milliseconds at the most.
func (l *listing) close() {
	close(l.stop)
	l.reader.Wait()
	l.c.close()
}
