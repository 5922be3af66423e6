// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	bin "encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// witness sees every packet that has passed all rules of ours at the hooks
// input and forward: another program's table stands behind them there, and
// hands each packet to a netlink socket (NFLOG). It sees packets as the host
// acts on them, put together from their fragments.
type witness struct {
	t   testing.TB
	fd  int
	buf []byte
}

// admitted is a packet that a witness has seen.
type admitted struct {
	forwarded bool
	in, out   int // indices of interfaces
	packet    []byte
}

const witnessGroup = 77

// newWitness lets a witness look on in a namespace.
func newWitness(t testing.TB, ns *netnstest.NS) *witness {
	t.Helper()
	w := &witness{t: t, fd: -1, buf: make([]byte, 1<<17)}
	t.Cleanup(func() {
		if w.fd >= 0 {
			unix.Close(w.fd)
		}
	})
	ns.MustDo(func() (err error) {
		if w.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER); err != nil {
			return err
		}
		if err = unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
			return err
		}
		// <linux/netfilter/nfnetlink_log.h>: bind to the group; copy whole
		// packets; wait for no second packet.
		const bind, mode, threshold = 1, 2, 5
		if err := w.configure(bind, []byte{1}); err != nil {
			return fmt.Errorf("binding to the log group: %w", err)
		}
		if err := w.configure(mode, []byte{0, 0, 0xff, 0xff, 2, 0}); err != nil {
			return fmt.Errorf("asking for whole packets: %w", err)
		}
		if err := w.configure(threshold, []byte{0, 0, 0, 1}); err != nil {
			return fmt.Errorf("asking for packets at once: %w", err)
		}
		cmd := exec.Command("nft", "-f", "-")
		cmd.Stdin = strings.NewReader(fmt.Sprintf(`table inet witness {
	chain input { type filter hook input priority 1000; log group %[1]d queue-threshold 1; }
	chain forward { type filter hook forward priority 1000; log group %[1]d queue-threshold 1; }
}`, witnessGroup))
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	})
	return w
}

// configure sends one setting of the log group and awaits the kernel's word.
func (w *witness) configure(attr uint16, value []byte) error {
	const config = unix.NFNL_SUBSYS_ULOG<<8 | 1
	b := make([]byte, unix.SizeofNlMsghdr+4)
	b[unix.SizeofNlMsghdr+3] = witnessGroup // res_id, big endian
	b = bin.NativeEndian.AppendUint16(b, uint16(4+len(value)))
	b = bin.NativeEndian.AppendUint16(b, attr)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	bin.NativeEndian.PutUint32(b, uint32(len(b)))
	bin.NativeEndian.PutUint16(b[4:], config)
	bin.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	if err := unix.Sendto(w.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	n, err := unix.Read(w.fd, w.buf) // the kernel has answered within the call
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 {
		return fmt.Errorf("answer of %d bytes", n)
	}
	if e := int32(bin.NativeEndian.Uint32(w.buf[unix.SizeofNlMsghdr:])); e != 0 {
		return unix.Errno(-e)
	}
	return nil
}

// seen are the packets that have passed since it was last asked, for the time
// until it is asked again.
func (w *witness) seen(visit func(admitted)) {
	w.t.Helper()
	for {
		n, err := unix.Read(w.fd, w.buf)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return
		case err != nil:
			w.t.Fatalf("reading what has passed: %v", err)
		}
		for b := w.buf[:n]; len(b) >= unix.SizeofNlMsghdr; {
			size := int(bin.NativeEndian.Uint32(b))
			if size < unix.SizeofNlMsghdr || size > len(b) {
				w.t.Fatalf("message of %d bytes in %d", size, len(b))
			}
			if bin.NativeEndian.Uint16(b[4:]) == unix.NFNL_SUBSYS_ULOG<<8 {
				visit(readAdmitted(b[unix.SizeofNlMsghdr+4 : size]))
			}
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}

func readAdmitted(b []byte) (a admitted) {
	const header, inDev, outDev, payload = 1, 4, 5, 9 // NFULA_*
	for len(b) >= 4 {
		size := int(bin.NativeEndian.Uint16(b))
		if size < 4 || size > len(b) {
			break
		}
		v := b[4:size]
		switch bin.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER) {
		case header:
			a.forwarded = v[2] == unix.NF_INET_FORWARD
		case inDev:
			a.in = int(bin.BigEndian.Uint32(v))
		case outDev:
			a.out = int(bin.BigEndian.Uint32(v))
		case payload:
			a.packet = v
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return a
}
