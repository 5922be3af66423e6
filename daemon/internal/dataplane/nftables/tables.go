// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// families are the names of nfgenmsg's families (linux/netfilter.h).
var families = map[byte]string{1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}

// Tables lists all nftables tables of the network namespace of the calling
// thread, everybody's, as "inet filter". It changes nothing.
func Tables() ([]string, error) {
	w, err := openSocket()
	if err != nil {
		return nil, fmt.Errorf("nftables: %w", err)
	}
	defer w.close()
	c := newConn(w)
	var out []string
	for range 10 {
		out = nil
		err = c.get(unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP, func(e *enc) { e.b[nlmsgHeaderLen] = unix.NFPROTO_UNSPEC }, func(m message) error {
			if m.typ != subsystem|unix.NFT_MSG_NEWTABLE || len(m.data) == 0 {
				return nil
			}
			family := families[m.data[0]]
			return m.attrs(func(typ uint16, v []byte) error {
				if typ == unix.NFTA_TABLE_NAME {
					out = append(out, family+" "+toStr(v))
				}
				return nil
			})
		})
		if !errors.Is(err, errInterrupted) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("nftables: listing tables: %w", err)
	}
	return out, nil
}

// nlmsgHeaderLen is the length of struct nlmsghdr; nfgenmsg's family follows.
const nlmsgHeaderLen = 16
