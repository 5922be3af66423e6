// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/doctor"
	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// Numbers of linux/inet_diag.h and include/net/tcp_states.h.
const (
	diagV6Only  = 11 // INET_DIAG_SKV6ONLY
	stateClosed = 7  // of UDP: not connected
	stateListen = 10
	messageSize = 72 // struct inet_diag_msg
)

// request is struct inet_diag_req_v2: sockets of a family and protocol in one
// state, all of them.
type request struct{ family, protocol, state uint8 }

// Len is the size in bytes.
func (r request) Len() int { return 56 }

// Serialize is the request as the kernel wants it.
func (r request) Serialize() []byte {
	b := make([]byte, r.Len())
	b[0], b[1] = r.family, r.protocol
	binary.NativeEndian.PutUint32(b[4:], 1<<r.state)
	return b
}

// sockets lists TCP sockets that listen and UDP sockets that take packets from
// anybody, and the processes that hold them.
func (l *looker) sockets() {
	inodes := map[uint32][]int{} // places in facts.Sockets
	for _, protocol := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			state := uint8(stateListen)
			if protocol == unix.IPPROTO_UDP {
				state = stateClosed
			}
			req := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
			req.AddData(request{family, protocol, state})
			messages, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
			if err != nil {
				l.unseen("%s sockets of IPv%d: %v", doctor.ProtocolName(protocol), map[uint8]int{unix.AF_INET: 4, unix.AF_INET6: 6}[family], err)
				continue
			}
			for _, m := range messages {
				s, inode, ok := socketOf(m, protocol)
				if !ok || s.Address.Port() == 0 {
					continue
				}
				inodes[inode] = append(inodes[inode], len(l.facts.Sockets))
				l.facts.Sockets = append(l.facts.Sockets, s)
			}
		}
	}
	l.processes(inodes)
	slices.SortStableFunc(l.facts.Sockets, func(a, b doctor.Socket) int {
		if a.Protocol != b.Protocol {
			return int(a.Protocol) - int(b.Protocol)
		}
		if a.Address.Port() != b.Address.Port() {
			return int(a.Address.Port()) - int(b.Address.Port())
		}
		return a.Address.Compare(b.Address)
	})
}

// socketOf reads struct inet_diag_msg.
func socketOf(b []byte, protocol uint8) (s doctor.Socket, inode uint32, ok bool) {
	if len(b) < messageSize {
		return s, 0, false
	}
	s.Protocol = protocol
	port := binary.BigEndian.Uint16(b[4:])
	a := netip.AddrFrom4([4]byte(b[8:12]))
	if b[0] == unix.AF_INET6 {
		a = netip.AddrFrom16([16]byte(b[8:24]))
		s.Dual = a.IsUnspecified()
		nlattr.Each(b[messageSize:], func(typ uint16, v []byte) {
			if typ == diagV6Only && len(v) > 0 && v[0] != 0 {
				s.Dual = false
			}
		})
	}
	s.Address = netip.AddrPortFrom(a.Unmap(), port)
	if i := binary.NativeEndian.Uint32(b[40:]); i != 0 {
		if iface, err := net.InterfaceByIndex(int(i)); err == nil {
			s.Interface = iface.Name
		}
	}
	return s, binary.NativeEndian.Uint32(b[68:]), true
}

// processes finds who holds the sockets, by the inodes of open files. A socket
// that several hold is said to be of the first.
func (l *looker) processes(inodes map[uint32][]int) {
	dirs, _ := filepath.Glob(filepath.Join(l.Root, "proc/[0-9]*"))
	hidden := false
	var pids []int
	for _, d := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(d)); err == nil {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	for _, pid := range pids {
		dir := filepath.Join(l.Root, "proc", strconv.Itoa(pid))
		files, err := os.ReadDir(filepath.Join(dir, "fd"))
		if os.IsPermission(err) {
			hidden = true
		}
		for _, f := range files {
			link, err := os.Readlink(filepath.Join(dir, "fd", f.Name()))
			text, isSocket := strings.CutPrefix(link, "socket:[")
			if err != nil || !isSocket {
				continue
			}
			inode, err := strconv.ParseUint(strings.TrimSuffix(text, "]"), 10, 32)
			if err != nil {
				continue
			}
			for _, i := range inodes[uint32(inode)] {
				if s := &l.facts.Sockets[i]; s.PID == 0 {
					s.PID, s.Process, s.Unit = pid, comm(dir), unit(dir)
				}
			}
		}
	}
	if hidden && slices.ContainsFunc(l.facts.Sockets, func(s doctor.Socket) bool { return s.PID == 0 }) {
		l.unseen("processes of some sockets: the kernel shows them to root only; run it as root")
	}
}

func comm(dir string) string {
	b, _ := os.ReadFile(filepath.Join(dir, "comm"))
	return strings.TrimSpace(string(b))
}

// unit is the systemd unit of a process by its control group; empty: none.
func unit(dir string) string {
	b, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
	for line := range strings.Lines(string(b)) {
		for part := range strings.SplitSeq(strings.TrimSpace(line), "/") {
			if strings.HasSuffix(part, ".service") || strings.HasSuffix(part, ".scope") && !strings.HasPrefix(part, "session-") {
				return part
			}
		}
	}
	return ""
}
