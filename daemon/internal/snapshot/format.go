// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/ripstop/ripstop/daemon/api"
)

// The file, all numbers big-endian:
//
//	magic     16 bytes
//	header    uint32 length, JSON of Header
//	records   Header.Count times: uint32 length of the rest, int64 revision,
//	          kind, namespace, name (each uint16 length and bytes), then the
//	          object's JSON as the store holds it
//	trailer   SHA-256 of everything before
//
// The sum covers every byte, so that any single flipped bit and any
// truncation is found before anything is believed.
const (
	magic         = "RIPSTOP-SNAPSHOT"
	formatVersion = 1
	sumBytes      = sha256.Size
	// maxBytes bounds what is read: far above any real fleet's state.
	maxBytes = 1 << 30
)

// Header is the head of a snapshot.
type Header struct {
	// Format is the version of the file's format.
	Format int `json:"format"`
	// Host is the host whose agent wrote it.
	Host string `json:"host"`
	// ClusterGUID and Revision are what the guard compares with.
	ClusterGUID string       `json:"clusterGUID"`
	Revision    api.Revision `json:"revision"`
	// Count is the number of records.
	Count int `json:"count"`
	// Created is for people; a snapshot does not expire.
	Created time.Time `json:"created"`
	// Version is the agent's that wrote it.
	Version string `json:"version"`
}

// record is one object as the file holds it.
type record struct {
	key      api.Key
	revision api.Revision
	raw      []byte
}

// Errors of the reader, all of which are ErrDamaged too but the last.
var (
	errShort  = fmt.Errorf("%w: too short", ErrDamaged)
	errMagic  = fmt.Errorf("%w: not a snapshot", ErrDamaged)
	errSum    = fmt.Errorf("%w: checksum does not match", ErrDamaged)
	errFormat = errors.New("snapshot has a format that this version cannot read")
)

// parse reads a whole file. The records share memory with b.
func parse(b []byte) (Header, []record, error) {
	var h Header
	if len(b) < len(magic)+4+sumBytes {
		return h, nil, errShort
	}
	if string(b[:len(magic)]) != magic {
		return h, nil, errMagic
	}
	body, sum := b[:len(b)-sumBytes], b[len(b)-sumBytes:]
	if want := sha256.Sum256(body); !bytes.Equal(want[:], sum) {
		return h, nil, errSum
	}
	c := cursor{b: body[len(magic):]}
	if err := json.Unmarshal(c.take(int(c.uint32())), &h); err != nil || c.bad {
		return h, nil, fmt.Errorf("%w: header: %v", ErrDamaged, err)
	}
	if h.Format != formatVersion {
		return h, nil, fmt.Errorf("%w: format %d, known is %d", errFormat, h.Format, formatVersion)
	}
	var records []record
	for i := 0; len(c.b) > 0; i++ {
		r := cursor{b: c.take(int(c.uint32()))}
		rec := record{revision: api.Revision(r.uint64())}
		rec.key = api.Key{Kind: api.Kind(r.text()), Namespace: r.text(), Name: r.text()}
		rec.raw = r.b
		if c.bad || r.bad || rec.key.Name == "" {
			return h, nil, fmt.Errorf("%w: record %d", ErrDamaged, i)
		}
		records = append(records, rec)
	}
	if len(records) != h.Count {
		return h, nil, fmt.Errorf("%w: %d records, the header says %d", ErrDamaged, len(records), h.Count)
	}
	return h, records, nil
}

// encode writes a whole file.
func encode(w io.Writer, h Header, records []record) error {
	h.Format, h.Count = formatVersion, len(records)
	head, err := json.Marshal(h)
	if err != nil {
		return err
	}
	sum := sha256.New()
	out := io.MultiWriter(w, sum)
	buf := append([]byte(magic), binary.BigEndian.AppendUint32(nil, uint32(len(head)))...)
	if _, err := out.Write(append(buf, head...)); err != nil {
		return err
	}
	for _, r := range records {
		texts := []string{string(r.key.Kind), r.key.Namespace, r.key.Name}
		n := 8 + len(r.raw)
		for _, s := range texts {
			if len(s) > math.MaxUint16 {
				return fmt.Errorf("%s: name is too long", r.key)
			}
			n += 2 + len(s)
		}
		if n > math.MaxInt32 {
			return fmt.Errorf("%s: object is too large", r.key)
		}
		buf = binary.BigEndian.AppendUint32(buf[:0], uint32(n))
		buf = binary.BigEndian.AppendUint64(buf, uint64(r.revision))
		for _, s := range texts {
			buf = binary.BigEndian.AppendUint16(buf, uint16(len(s)))
			buf = append(buf, s...)
		}
		if _, err := out.Write(buf); err != nil {
			return err
		}
		if _, err := out.Write(r.raw); err != nil {
			return err
		}
	}
	_, err = w.Write(sum.Sum(nil))
	return err
}

// cursor reads from the front of b; bad is set by a read past its end.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.bad, c.b = true, nil
		return nil
	}
	out := c.b[:n:n]
	c.b = c.b[n:]
	return out
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) uint64() uint64 {
	if b := c.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (c *cursor) text() string { return string(c.take(int(c.uint16()))) }

// object is the record's object; *api.Unreadable if this version cannot
// understand it, as from a store.
func (r record) object() api.Object { return api.DecodeStored(r.key, r.raw, r.revision) }

// encodeObject gives the JSON that a store holds for o. What cannot be
// understood is kept as it came.
func encodeObject(o api.Object) ([]byte, error) {
	if u, ok := o.(*api.Unreadable); ok {
		return append([]byte{}, u.Raw...), nil
	}
	return api.EncodeStored(o)
}
