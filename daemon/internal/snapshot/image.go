// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/ripstop/ripstop/daemon/api"
)

// An image is a picture of the store as a file has it and as a Writer keeps
// it: records sorted by key, packed in blocks. A fleet's objects are much
// alike, so packed they take up a tenth; and a change costs the blocks that it
// touches, not the whole.
type image []block

// block is some records, one after the other, as a DEFLATE stream (RFC 1951).
// In a file three numbers come before it, uint32 each: the length of the
// stream, that of the records, and how many they are.
//
// A record is a uint32 length of the rest, int64 revision, a byte that is 1 for
// a value that cannot be understood and else 0, kind, namespace, name (each
// uint16 length and bytes), then the object's JSON as the store holds it.
type block struct {
	first  api.Key
	bytes  int // unpacked
	count  int
	packed []byte
}

// blockBytes is about how long the records of a block are: long enough to be
// packed well, short enough to be packed again for one change.
const blockBytes = 128 << 10

// record is one object.
type record struct {
	key        api.Key
	revision   api.Revision
	unreadable bool
	raw        []byte
}

// object is the record's object; *api.Unreadable if this version cannot
// understand it, as from a store.
func (r record) object(d *api.StoredDecoder) api.Object { return d.Decode(r.key, r.raw, r.revision) }

// append appends the record as a block has it.
func (r record) append(b []byte) ([]byte, error) {
	texts := [...]string{string(r.key.Kind), r.key.Namespace, r.key.Name}
	n := 8 + 1 + len(r.raw)
	for _, s := range texts {
		if len(s) > math.MaxUint16 {
			return b, fmt.Errorf("%s: name is too long", r.key)
		}
		n += 2 + len(s)
	}
	if n > math.MaxInt32 {
		return b, fmt.Errorf("%s: object is too large", r.key)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = binary.BigEndian.AppendUint64(b, uint64(r.revision))
	flag := byte(0)
	if r.unreadable {
		flag = 1
	}
	b = append(b, flag)
	for _, s := range texts {
		b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return append(b, r.raw...), nil
}

func (b block) appendHead(to []byte) []byte {
	for _, n := range []int{len(b.packed), b.bytes, b.count} {
		to = binary.BigEndian.AppendUint32(to, uint32(n))
	}
	return to
}

// parseImage reads blocks to the end and looks into each.
func parseImage(c *cursor) (image, error) {
	var im image
	var last api.Key
	var u unpacker
	for len(c.b) > 0 {
		b := block{}
		packed := int(c.uint32())
		b.bytes, b.count = int(c.uint32()), int(c.uint32())
		b.packed = c.take(packed)
		if c.bad || b.bytes > maxBytes {
			return nil, fmt.Errorf("block %d", len(im))
		}
		n := 0
		err := u.each(b, func(r record) error {
			if n == 0 {
				b.first = r.key
			}
			if n++; r.key.Compare(last) < 0 {
				return fmt.Errorf("%s is out of order", r.key)
			}
			last = r.key
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("block %d: %w", len(im), err)
		}
		im = append(im, b)
	}
	return im, nil
}

// count is the number of records.
func (im image) count() (n int) {
	for _, b := range im {
		n += b.count
	}
	return n
}

// unpacker unpacks one block after the other with one buffer.
type unpacker struct {
	in    bytes.Reader
	flate io.ReadCloser
	buf   []byte
}

// each visits the records of a block. raw of a record is good during the visit.
func (u *unpacker) each(b block, visit func(record) error) error {
	u.in.Reset(b.packed)
	if u.flate == nil {
		u.flate = flate.NewReader(&u.in)
	} else if err := u.flate.(flate.Resetter).Reset(&u.in, nil); err != nil {
		return err
	}
	u.buf = slices.Grow(u.buf[:0], min(b.bytes, 1024*len(b.packed)+64))[:0] // DEFLATE makes no more of it
	for {
		if len(u.buf) == cap(u.buf) {
			u.buf = slices.Grow(u.buf, 512)
		}
		n, err := u.flate.Read(u.buf[len(u.buf):min(cap(u.buf), b.bytes+1)])
		u.buf = u.buf[:len(u.buf)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("unpacking: %w", err)
		}
		if len(u.buf) > b.bytes {
			break
		}
	}
	if len(u.buf) != b.bytes {
		return fmt.Errorf("unpacks to another length than %d", b.bytes)
	}
	c := cursor{b: u.buf}
	n := 0
	for ; len(c.b) > 0; n++ {
		r := cursor{b: c.take(int(c.uint32()))}
		rec := record{revision: api.Revision(r.uint64())}
		flag := r.byte()
		rec.unreadable = flag == 1
		rec.key = r.key()
		rec.raw = r.b
		if c.bad || r.bad || rec.key.Name == "" || flag > 1 {
			return fmt.Errorf("record %d", n)
		}
		if err := visit(rec); err != nil {
			return err
		}
	}
	if n != b.count {
		return fmt.Errorf("%d records, its head says %d", n, b.count)
	}
	return nil
}

// packer makes an image of records that come sorted, and of blocks that are
// kept as they are.
type packer struct {
	im    image
	open  block // being filled
	buf   []byte
	flate *flate.Writer
}

// add puts a record behind the last.
func (p *packer) add(r record) error {
	if p.open.count == 0 {
		p.open.first = r.key
	}
	var err error
	if p.buf, err = r.append(p.buf); err != nil {
		return err
	}
	if p.open.count++; len(p.buf) >= blockBytes {
		p.close()
	}
	return nil
}

// keep puts a block behind the last record.
func (p *packer) keep(b block) {
	p.close()
	p.im = append(p.im, b)
}

// close packs what is open.
func (p *packer) close() {
	if p.open.count == 0 {
		return
	}
	var out bytes.Buffer
	if p.flate == nil {
		p.flate, _ = flate.NewWriter(&out, flate.BestSpeed) // the level is one that there is
	} else {
		p.flate.Reset(&out)
	}
	p.flate.Write(p.buf) // a Buffer takes everything
	p.flate.Close()
	p.open.bytes, p.open.packed = len(p.buf), bytes.Clone(out.Bytes())
	p.im = append(p.im, p.open)
	p.open, p.buf = block{}, p.buf[:0]
}

func (p *packer) done() image {
	p.close()
	return p.im
}
