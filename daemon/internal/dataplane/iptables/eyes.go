// SPDX-License-Identifier: Apache-2.0

package iptables

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/internal/dataplane/ruleset"
	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// eyes look at the kernel without running a program, to see whether anything
// has changed. The nf_tables variant has a number for that, the generation of
// all rules. The legacy one has nothing of the kind: its tables are fetched
// as the kernel keeps them (IPT_SO_GET_ENTRIES) and hashed without their
// counters, which costs 0.1 ms for 500 rules. ipset has nothing either: small
// sets are listed, of large ones the number of elements is looked at.
type eyes struct {
	legacy bool
	fds    map[ruleset.Family]int // to ask legacy tables by
	names  map[ruleset.Family]*os.File
	nft    *netfilter
}

// stamp is what eyes have seen; equal stamps: nothing has changed.
type stamp struct {
	tables map[place]uint64
	gen    uint32
	sets   uint64
}

func (s stamp) same(o stamp) bool {
	return s.gen == o.gen && s.sets == o.sets && maps.Equal(s.tables, o.tables)
}

// note takes over what was seen of one table right after it was written. The
// generation of nf_tables moves by one with our transaction; if it has moved
// further, somebody else was there as well, and the stamp stays wrong, so that
// the next look finds out.
func (s *stamp) note(seen stamp, at place) {
	if seen.tables == nil {
		if seen.gen == s.gen+1 {
			s.gen = seen.gen
		}
		return
	}
	if s.tables == nil { // nothing was looked at before, as by Cleanup
		s.tables = map[place]uint64{}
	}
	s.tables[at] = seen.tables[at]
}

var seed = maphash.MakeSeed()

// openEyes opens what eyes need in the namespace of the calling thread.
func openEyes(p programs) (*eyes, error) {
	e := &eyes{legacy: p.variant == Legacy, fds: map[ruleset.Family]int{}, names: map[ruleset.Family]*os.File{}}
	if !e.legacy {
		var err error
		e.nft, err = openNetfilter()
		return e, err
	}
	for _, f := range p.families {
		domain, list := unix.AF_INET, "ip_tables_names"
		if f == ruleset.IPv6 {
			domain, list = unix.AF_INET6, "ip6_tables_names"
		}
		fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
		if err != nil {
			e.close()
			return nil, fmt.Errorf("raw socket: %w", err)
		}
		e.fds[f] = fd
		// Without the file the kernel has not loaded the tables' code yet.
		if file, err := os.Open("/proc/thread-self/net/" + list); err == nil {
			e.names[f] = file
		}
	}
	return e, nil
}

func (e *eyes) close() {
	for _, fd := range e.fds {
		unix.Close(fd)
	}
	for _, f := range e.names {
		f.Close()
	}
	if e.nft != nil {
		e.nft.close()
	}
}

// look sees everything.
func (e *eyes) look(sets *ipsets) (s stamp, err error) {
	if s.sets, err = e.lookSets(sets); err != nil {
		return s, err
	}
	if !e.legacy {
		s.gen, err = e.generation()
		return s, err
	}
	s.tables = map[place]uint64{}
	for f := range e.fds {
		for _, t := range e.loaded(f) {
			at := place{f, t}
			if s.tables[at], err = e.table(at); err != nil {
				return s, err
			}
		}
	}
	return s, nil
}

// lookAt sees one table only.
func (e *eyes) lookAt(_ *ipsets, at place) (s stamp, err error) {
	if !e.legacy {
		s.gen, err = e.generation()
		return s, err
	}
	s.tables = map[place]uint64{}
	s.tables[at], err = e.table(at)
	return s, err
}

// generation is the number of the last transaction of nf_tables.
func (e *eyes) generation() (uint32, error) {
	gen := uint32(0)
	err := e.nft.do(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC, func(*message) {}, func(b []byte) {
		nlattr.Each(b, func(typ uint16, v []byte) {
			if typ == unix.NFTA_GEN_ID {
				gen = be32(v)
			}
		})
	})
	if err != nil {
		return 0, fmt.Errorf("generation of nf_tables: %w", err)
	}
	return gen, nil
}

// loaded are the tables of ours that the kernel has made; to ask for another
// would make it.
func (e *eyes) loaded(f ruleset.Family) []table {
	file := e.names[f]
	if file == nil {
		return []table{raw, mangle, filter}
	}
	b := make([]byte, 4096)
	n, err := file.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil
	}
	var out []table
	for _, t := range []table{raw, mangle, filter} {
		if slices.Contains(strings.Fields(string(b[:n])), t.String()) {
			out = append(out, t)
		}
	}
	return out
}

// Numbers of linux/netfilter_ipv4/ip_tables.h and ip6_tables.h, and where in
// an entry its length, hooks and counters are.
const (
	soGetInfo    = 64
	soGetEntries = 65
	infoSize     = 84
	headSize     = 40
	nameSize     = 32
)

var layouts = map[ruleset.Family]struct{ level, next, comefrom, counters, end int }{
	ruleset.IPv4: {unix.SOL_IP, 90, 92, 96, 112},
	ruleset.IPv6: {unix.SOL_IPV6, 142, 144, 152, 168},
}

// table hashes a legacy table.
func (e *eyes) table(at place) (uint64, error) {
	l := layouts[at.family]
	for range 10 {
		info := make([]byte, infoSize)
		copy(info, at.table.String())
		if err := getsockopt(e.fds[at.family], l.level, soGetInfo, info); err != nil {
			return 0, fmt.Errorf("table %s: %w", at, err)
		}
		size := binary.NativeEndian.Uint32(info[infoSize-4:])
		b := make([]byte, headSize+int(size))
		copy(b, at.table.String())
		binary.NativeEndian.PutUint32(b[nameSize:], size)
		err := getsockopt(e.fds[at.family], l.level, soGetEntries, b)
		if errors.Is(err, unix.EAGAIN) {
			continue // replaced between the two calls
		}
		if err != nil {
			return 0, fmt.Errorf("table %s: %w", at, err)
		}
		for rest := b[headSize:]; len(rest) >= l.end; {
			n := int(binary.NativeEndian.Uint16(rest[l.next:]))
			if n < l.end || n > len(rest) {
				break
			}
			clear(rest[l.comefrom:l.end])
			rest = rest[n:]
		}
		return maphash.Bytes(seed, b), nil
	}
	return 0, fmt.Errorf("table %s: %w", at, unix.EAGAIN)
}

func getsockopt(fd, level, name int, b []byte) error {
	n := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// listedElements is up to how many elements of all sets together, those of
// others included, are listed at each look.
const listedElements = 4000

func (e *eyes) lookSets(s *ipsets) (uint64, error) {
	sets, total, err := s.headers()
	if err != nil {
		return 0, err
	}
	var h maphash.Hash
	h.SetSeed(seed)
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		k := sets[name]
		fmt.Fprintln(&h, name, k.spec, k.elements)
	}
	if len(sets) == 0 || total > listedElements {
		return h.Sum64(), nil
	}
	// A set comes in one message or several, elements in any order.
	sums := map[string]uint64{}
	err = s.dump("", func(name string, element []byte) {
		if ours(name) {
			sums[name] += maphash.Bytes(seed, element)
		}
	})
	if err != nil {
		return 0, err
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		fmt.Fprintln(&h, name, sums[name])
	}
	return h.Sum64(), nil
}
