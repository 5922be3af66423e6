// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"bufio"
	"os"
	"strings"
	"sync"
)

// protocols are the names of protocols that iptables prints instead of
// numbers: its own, and those of /etc/protocols, from where it takes the
// others.
var protocols = sync.OnceValue(func() map[string]uint8 {
	names := map[string]uint8{}
	if f, err := os.Open("/etc/protocols"); err == nil {
		defer f.Close()
		for s := bufio.NewScanner(f); s.Scan(); {
			line, _, _ := strings.Cut(s.Text(), "#")
			if w := strings.Fields(line); len(w) > 1 {
				if n, ok := atoi(w[1]); ok {
					names[w[0]] = n
				}
			}
		}
	}
	for name, n := range map[string]uint8{
		"tcp": 6, "sctp": 132, "udp": 17, "udplite": 136, "icmp": 1, "icmpv6": 58, "ipv6-icmp": 58, "esp": 50, "ah": 51, "ipv6-mh": 135, "mh": 135,
	} {
		names[name] = n
	}
	return names
})
