// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// An element of a hash map can be exchanged for one with the same key in one
// transaction. A packet that began its look-up before the kernel's switch to
// the new generation, and ends it behind the removal of the old element, finds
// neither. Linux 6.18 looks again when nothing was found and the generation
// has changed meanwhile (net/netfilter/nft_lookup.c, nft_set_do_lookup). Older
// kernels may not, so there such a map is made anew beside the old one.

// looksAgain reports whether the kernel that runs looks again.
func looksAgain() bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false
	}
	return releaseLooksAgain(unix.ByteSliceToString(u.Release[:]))
}

func releaseLooksAgain(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major > 6 || major == 6 && minor >= 18
}
