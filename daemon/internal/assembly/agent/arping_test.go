// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// arping asks once on an interface for the link address of to, and returns an
// error if nobody answers within 200 ms. from 0.0.0.0 is a probe (RFC 5227).
func arping(iface string, from, to netip.Addr) error {
	i, err := net.InterfaceByName(iface)
	if err != nil {
		return err
	}
	const arp = unix.ETH_P_ARP>>8 | unix.ETH_P_ARP&0xff<<8 // network order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, arp)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	to4, from4 := to.As4(), from.As4()
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: arp, Ifindex: i.Index}); err != nil {
		return err
	}
	ask := []byte{0, 1, 8, 0, 6, 4, 0, 1} // Ethernet, IPv4, request
	ask = append(ask, i.HardwareAddr...)
	ask = append(ask, from4[:]...)
	ask = append(ask, 0, 0, 0, 0, 0, 0)
	ask = append(ask, to4[:]...)
	all := &unix.SockaddrLinklayer{Protocol: arp, Ifindex: i.Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
	if err := unix.Sendto(fd, ask, 0, all); err != nil {
		return err
	}
	tv := unix.NsecToTimeval(int64(50 * time.Millisecond))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return err
	}
	b := make([]byte, 128)
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		n, _, err := unix.Recvfrom(fd, b, 0)
		if err != nil || n < 28 {
			continue
		}
		if binary.BigEndian.Uint16(b[6:]) == 2 && [4]byte(b[14:18]) == to4 {
			return nil
		}
	}
	return fmt.Errorf("%s: no answer", to)
}
