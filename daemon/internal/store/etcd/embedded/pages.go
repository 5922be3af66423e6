// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"os"
	"slices"
	"syscall"
	"time"
)

// bbolt maps its file and follows what stands in it: a page number or a
// length with a flipped bit leads it outside of the page, and what it finds
// there it quotes in its complaint. One bit in the length of a key cost 15 GB
// and the process. So the file is walked before bbolt opens it, with reads
// only, and memory that does not depend on what is read:
//
//	page 0, 1   meta: magic, version, page size, root, free list, high water, checksum
//	              └─ the newer one that is whole
//	branch      header, table of (position, key length, page)      keys
//	leaf        header, table of (flags, position, lengths)        keys and values
//	              └─ a value may be a bucket: a page, or a small leaf in place
//
// The walk says that every page that can be reached is one, is reached once,
// that it is filled without gaps, and that keys are in order. The order
// is checked here because bbolt, when it has complained of it once, goes on
// looking on a goroutine that nobody waits for, while the file is closed under
// it. Whether keys and values are the ones that were written is for the seal.
//
// The layout is that of bbolt's file version 2, in the byte order of the
// machine, the same since its first release.

// errPages: the file cannot be opened, not even as it is.
var errPages = fmt.Errorf("%w: its pages cannot be followed", ErrDamaged)

const (
	fileMagic   = 0xED0CDAED
	fileVersion = 2

	headerBytes  = 16 // of a page: number 8, flags 2, count 2, overflow 4
	elementBytes = 16 // of a branch: position 4, key 4, page 8; of a leaf: flags, position, key, value, 4 each
	bucketBytes  = 16 // root page 8, sequence 8
	metaBytes    = 64

	flagBranch   = 0x01
	flagLeaf     = 0x02
	flagMeta     = 0x04
	flagFreelist = 0x10
	// flagBucket says of an element of a leaf that its value is a bucket.
	flagBucket = 0x01

	// noFreelist is the page of a free list that is not kept in the file.
	noFreelist = math.MaxUint64

	minPageBytes, maxPageBytes = 1 << 10, 1 << 24
	maxKeyBytes                = 1 << 15
)

// pages walks the pages of a file.
type pages struct {
	file io.ReaderAt
	size int64 // of the file, in bytes
	page int64 // size of one, in bytes
	high uint64

	// seen are pages that something has led to, todo those of them that have
	// not been looked at.
	seen bitmap
	todo []subtree
	// window is the page of the file that was read last, and windowAt where
	// it stands.
	window   []byte
	windowAt int64
	// table is a page's table of elements, at most 1 MiB; the others are
	// keys.
	table, key, before, bound []byte
	// filled is where the last element of the page ends.
	filled int64
}

// subtree is a page and the keys that it may hold.
type subtree struct {
	id          uint64
	first, next keyAt // the first key at the least; below the next one
}

// keyAt is where in the file a key stands. The zero value is none.
type keyAt struct {
	at int64
	n  uint32
}

// bitmap is a set of pages.
type bitmap []uint64

// add reports whether the page is new in the set.
func (b bitmap) add(id uint64) bool {
	w, bit := &b[id/64], uint64(1)<<(id%64)
	if *w&bit != 0 {
		return false
	}
	*w |= bit
	return true
}

// checkPages walks the file of that size.
func checkPages(file io.ReaderAt, size int64) error {
	p := pages{file: file, size: size}
	m, err := p.meta()
	if err != nil {
		return err
	}
	p.seen = make(bitmap, p.high/64+1)
	p.seen.add(0)
	p.seen.add(1)
	if err := p.lead(subtree{id: m.root}, m.at+16); err != nil {
		return err
	}
	for len(p.todo) > 0 {
		next := p.todo[len(p.todo)-1]
		p.todo = p.todo[:len(p.todo)-1]
		if err := p.visit(next); err != nil {
			return err
		}
	}
	if m.freelist != noFreelist {
		if err := p.lead(subtree{id: m.freelist}, m.at+32); err != nil {
			return err
		}
		return p.freelist(m.freelist)
	}
	return nil
}

// fault is what is wrong at a byte of the file.
func (p *pages) fault(at int64, format string, args ...any) error {
	page := int64(0)
	if p.page > 0 {
		page = at / p.page
	}
	return fmt.Errorf("%w: page %d, byte %d: %s", errPages, page, at, fmt.Sprintf(format, args...))
}

// read fills b from the file, of which it reads whole pages.
func (p *pages) read(b []byte, at int64) error {
	for len(b) > 0 {
		from := at - at%p.page
		if p.window == nil || p.windowAt != from {
			if p.window == nil {
				p.window = make([]byte, p.page)
			}
			p.windowAt = from
			if _, err := p.file.ReadAt(p.window, from); err != nil {
				p.windowAt = -1
				return p.fault(from, "reading it: %v", err)
			}
		}
		n := copy(b, p.window[at-from:])
		b, at = b[n:], at+int64(n)
	}
	return nil
}

// grow makes room for n bytes in a buffer.
func grow(b *[]byte, n int) []byte {
	*b = slices.Grow((*b)[:0], n)[:n]
	return *b
}

// meta is what the meta page says.
type meta struct {
	at             int64 // where in the file it stands, behind the page's header
	page           int64
	root, freelist uint64
	high, txid     uint64
}

// metaAt reads the meta page that begins at a byte of the file; ok is false if
// there is none.
func (p *pages) metaAt(at int64) (m meta, ok bool) {
	var b [headerBytes + metaBytes]byte
	if _, err := p.file.ReadAt(b[:], at); err != nil {
		return meta{}, false
	}
	body := b[headerBytes:]
	if binary.NativeEndian.Uint32(body) != fileMagic || binary.NativeEndian.Uint32(body[4:]) != fileVersion ||
		binary.NativeEndian.Uint64(body[56:]) != sum64(body[:56]) {
		return meta{}, false
	}
	return meta{
		at: at + headerBytes, page: int64(binary.NativeEndian.Uint32(body[8:])),
		root: binary.NativeEndian.Uint64(body[16:]), freelist: binary.NativeEndian.Uint64(body[32:]),
		high: binary.NativeEndian.Uint64(body[40:]), txid: binary.NativeEndian.Uint64(body[48:]),
	}, true
}

// sum64 is the checksum of a meta page.
func sum64(b []byte) uint64 {
	h := fnv.New64a()
	h.Write(b)
	return h.Sum64()
}

// meta finds the meta page that counts: the newer of the two, or the one that
// is whole. The size of a page is known from the first, or found by looking
// for the second.
func (p *pages) meta() (meta, error) {
	m, ok := p.metaAt(0)
	if ok {
		if second, ok := p.metaAt(m.page); ok && second.txid > m.txid {
			m = second
		}
	}
	for at := int64(minPageBytes); at <= maxPageBytes && !ok; at *= 2 {
		m, ok = p.metaAt(at)
	}
	begin := m.at - headerBytes
	switch {
	case !ok:
		return m, p.fault(0, "neither meta page is whole")
	case m.page < minPageBytes, m.page > maxPageBytes, m.page&(m.page-1) != 0, begin != 0 && begin != m.page:
		return m, p.fault(m.at+8, "pages of %d bytes", m.page)
	case m.high > uint64(p.size/m.page):
		return m, p.fault(m.at+40, "%d pages of %d bytes are used, the file has %d bytes", m.high, m.page, p.size)
	}
	p.page, p.high = m.page, m.high
	return m, nil
}

// header is the beginning of a page.
type header struct {
	id       uint64
	flags    uint16
	count    uint16
	overflow uint32
}

func (p *pages) headerAt(at int64) (header, error) {
	var b [headerBytes]byte
	if err := p.read(b[:], at); err != nil {
		return header{}, err
	}
	return header{
		id: binary.NativeEndian.Uint64(b[:]), flags: binary.NativeEndian.Uint16(b[8:]),
		count: binary.NativeEndian.Uint16(b[10:]), overflow: binary.NativeEndian.Uint32(b[12:]),
	}, nil
}

// lead notes that the byte names a page, as nothing else may.
func (p *pages) lead(to subtree, at int64) error {
	if to.id < 2 || to.id >= p.high {
		return p.fault(at, "page %d is named, the pages are 2 to %d", to.id, p.high-1)
	}
	if !p.seen.add(to.id) {
		return p.fault(at, "page %d is named, which is used already", to.id)
	}
	p.todo = append(p.todo, to)
	return nil
}

// open reads the header of a page; end is the end of the pages that it goes on
// in, which nothing else may use.
func (p *pages) open(id uint64) (h header, at, end int64, err error) {
	at = int64(id) * p.page
	if h, err = p.headerAt(at); err != nil {
		return h, at, end, err
	}
	if h.id != id {
		return h, at, end, p.fault(at, "it says that it is page %d", h.id)
	}
	if uint64(h.overflow) >= p.high-id {
		return h, at, end, p.fault(at+12, "it goes on for %d pages, the last page is %d", h.overflow, p.high-1)
	}
	for n := range uint64(h.overflow) {
		if !p.seen.add(id + 1 + n) {
			return h, at, end, p.fault(at+12, "it goes on in page %d, which is used already", id+1+n)
		}
	}
	return h, at, at + (1+int64(h.overflow))*p.page, nil
}

// visit checks a page of a bucket and notes what it leads to.
func (p *pages) visit(to subtree) error {
	h, at, end, err := p.open(to.id)
	if err != nil {
		return err
	}
	switch h.flags {
	case flagBranch:
		return p.branch(h, at, end, to)
	case flagLeaf:
		return p.leaf(h, at, end, to)
	}
	return p.fault(at+8, "flags %#x, neither of a branch nor of a leaf", h.flags)
}

// openPages opens the file for reading, holds it against writers as bbolt
// does, and walks it. Whoever reads it by other means meanwhile reads what
// was walked.
func openPages(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	err = func() error {
		for end := time.Now().Add(time.Second); ; time.Sleep(20 * time.Millisecond) {
			err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
			if err == nil {
				break
			}
			if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
				return err
			}
			if time.Now().After(end) {
				return errors.New("another process has it open for writing")
			}
		}
		fi, err := f.Stat()
		if err != nil {
			return err
		}
		return checkPages(f, fi.Size())
	}()
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
