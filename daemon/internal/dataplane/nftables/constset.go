// SPDX-License-Identifier: Apache-2.0

package nftables

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
)

// setSpec is what a kernel set is, apart from its elements.
type setSpec struct {
	flags, keyType, keyLen, dataType uint32
}

// Key types are nft's own numbers; the kernel keeps them for other readers.
const (
	typeIPv4    = 7
	typeIPv6    = 8
	typeProto   = 12
	typeService = 13
	typeIfname  = 41
	typeVerdict = 0xffffff00 // NFT_DATA_VERDICT
)

func (s setSpec) interval() bool { return s.flags&unix.NFT_SET_INTERVAL != 0 }

func netType(f ruleset.Family) uint32 {
	if f == ruleset.IPv4 {
		return typeIPv4
	}
	return typeIPv6
}

// netSpec is the set for ranges of addresses.
func netSpec(f ruleset.Family, ranges []krange) setSpec {
	return setSpec{flags: flagsFor(ranges), keyType: netType(f), keyLen: addrLen(f)}
}

func portSpec(ranges []krange) setSpec {
	return setSpec{flags: flagsFor(ranges), keyType: typeService, keyLen: 2}
}

// addrPortSpec is the set of address . protocol . port.
func addrPortSpec(f ruleset.Family) setSpec {
	return setSpec{keyType: netType(f)<<12 | typeProto<<6 | typeService, keyLen: addrLen(f) + 8}
}

var dispatchSpec = setSpec{flags: unix.NFT_SET_MAP, keyType: typeIfname, keyLen: 16, dataType: typeVerdict}

// protoRanges are the protocols that have ports.
var (
	protoSpec   = setSpec{keyType: typeProto, keyLen: 1}
	protoRanges = []krange{{"\x06", "\x06"}, {"\x11", "\x11"}, {"\x84", "\x84"}, {"\x88", "\x88"}}
)

// flagsFor: ranges need an interval set, single values a hash set.
func flagsFor(ranges []krange) uint32 {
	for _, r := range ranges {
		if r.lo != r.hi {
			return unix.NFT_SET_INTERVAL
		}
	}
	return 0
}

// constSet is a set whose elements are part of a rule. It is named for its
// content, shared by all rules that need it, and gone with the last.
type constSet struct {
	spec   setSpec
	ranges []krange
}

func (l *lowerer) constant(spec setSpec, ranges []krange) string {
	h := sha256.New()
	fmt.Fprintf(h, "%v", spec)
	for _, r := range ranges {
		h.Write([]byte(r.lo))
		h.Write([]byte(r.hi))
	}
	name := l.constName(prefixConst+hex.EncodeToString(h.Sum(nil)[:12]), spec)
	l.consts[name] = &constSet{spec, ranges}
	return name
}

// krange is keys from lo to hi, both included, as the kernel's bytes.
type krange struct{ lo, hi string }

// succ is the key after k; false: there is none.
func succ(k string) (string, bool) {
	b := []byte(k)
	for i := len(b) - 1; i >= 0; i-- {
		b[i]++
		if b[i] != 0 {
			return string(b), true
		}
	}
	return "", false
}

// prefix is the length of the prefix that is the range, if one is.
func (r krange) prefix() (int, bool) {
	n := 0
	for i := range len(r.lo) {
		if x := r.lo[i] ^ r.hi[i]; x != 0 {
			n += bits.LeadingZeros8(x)
			break
		}
		n += 8
	}
	for i := n; i < 8*len(r.lo); i++ {
		m := byte(0x80) >> (i % 8)
		if r.lo[i/8]&m != 0 || r.hi[i/8]&m == 0 {
			return 0, false
		}
	}
	return n, true
}

func prefixRanges(nets []netip.Prefix) []krange {
	out := make([]krange, 0, len(nets))
	for _, n := range nets {
		lo := n.Masked().Addr().AsSlice()
		hi := slices.Clone(lo)
		for i := n.Bits(); i < 8*len(hi); i++ {
			hi[i/8] |= 0x80 >> (i % 8)
		}
		out = append(out, krange{string(lo), string(hi)})
	}
	return out
}

// merge sorts ranges and joins those that overlap or touch.
func merge(list []krange) []krange {
	slices.SortFunc(list, func(a, b krange) int { return strings.Compare(a.lo, b.lo) })
	var out []krange
	for _, r := range list {
		if n := len(out); n > 0 {
			next, more := succ(out[n-1].hi)
			if !more || r.lo <= next {
				out[n-1].hi = max(out[n-1].hi, r.hi)
				continue
			}
		}
		out = append(out, r)
	}
	return out
}

// element is one element as the kernel keeps it.
type element struct {
	key string
	end bool // first key behind an interval
}
