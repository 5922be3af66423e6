// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/kernel"
)

// routeMessage is a netlink message about a route by interface 7.
func routeMessage(typ uint16, port uint32, protocol byte) []byte {
	b := make([]byte, headerLen+unix.SizeofRtMsg)
	b[headerLen], b[headerLen+5] = unix.AF_INET, protocol
	b = append(b, 8, 0, unix.RTA_OIF, 0)
	b = binary.NativeEndian.AppendUint32(b, 7)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], typ)
	binary.NativeEndian.PutUint32(b[12:], port)
	return b
}

func TestNotices_TellOfOthersAndOfTheKernel(t *testing.T) {
	const own, other = 4000000001, 4000000002
	route := func(itself bool) kernel.Notice {
		return kernel.Notice{Subject: kernel.RouteChanged, Index: 7, Protocol: 82, Itself: itself}
	}
	for _, c := range []struct {
		name string
		in   []byte
		want []kernel.Notice
	}{
		{"our own", routeMessage(unix.RTM_NEWROUTE, own, 82), nil},
		{"another's", routeMessage(unix.RTM_DELROUTE, other, 82), []kernel.Notice{route(false)}},
		{"the kernel's own removal", routeMessage(unix.RTM_DELROUTE, 0, 82), []kernel.Notice{route(true)}},
		{"two", append(routeMessage(unix.RTM_DELROUTE, 0, 82), routeMessage(unix.RTM_NEWROUTE, other, 82)...), []kernel.Notice{route(true), route(false)}},
		{"cut short", routeMessage(unix.RTM_NEWROUTE, other, 82)[:20], []kernel.Notice{{Subject: kernel.Lost}}},
		{"of another kind", routeMessage(unix.RTM_NEWRULE, other, 82), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := notices(slices.Clone(c.in), []uint32{own}); !slices.Equal(got, c.want) {
				t.Errorf("notices: %+v, want %+v", got, c.want)
			}
		})
	}
}

func FuzzNotices(f *testing.F) {
	for _, typ := range []uint16{unix.RTM_NEWROUTE, unix.RTM_NEWNEIGH, unix.RTM_NEWLINK, unix.RTM_NEWADDR, unix.RTM_NEWNETCONF} {
		f.Add(routeMessage(typ, 9, 82))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(notices(b, nil)); n > len(b)/headerLen+1 {
			t.Errorf("%d bytes told of %d changes", len(b), n)
		}
	})
}
