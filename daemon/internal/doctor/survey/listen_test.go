// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"net"
	"testing"
)

// listenFor listens, on the calling thread, until the test ends.
func listenFor(t *testing.T, network, address string) error {
	if network[:3] == "udp" {
		c, err := net.ListenPacket(network, address)
		if err == nil {
			t.Cleanup(func() { c.Close() })
		}
		return err
	}
	l, err := net.Listen(network, address)
	if err == nil {
		t.Cleanup(func() { l.Close() })
	}
	return err
}

// dialFor connects, from the calling thread, until the test ends.
func dialFor(t *testing.T, address string) error {
	c, err := net.Dial("tcp4", address)
	if err == nil {
		t.Cleanup(func() { c.Close() })
	}
	return err
}
