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
	"time"

	"github.com/ripstop/ripstop/daemon/api"
)

// The file, all numbers big-endian:
//
//	magic     16 bytes
//	header    uint32 length, JSON of Header
//	blocks    until Header.Count records are there: see block
//	trailer   SHA-256 of everything before
//
// The sum covers every byte, so that any single flipped bit and any
// truncation is found before anything is believed. Format 1, which did not pack
// its records, is read (format1.go) and no longer written.
const (
	magic         = "RIPSTOP-SNAPSHOT"
	formatVersion = 2
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

// Errors of the reader, all of which are ErrDamaged too but the last.
var (
	errShort  = fmt.Errorf("%w: too short", ErrDamaged)
	errMagic  = fmt.Errorf("%w: not a snapshot", ErrDamaged)
	errSum    = fmt.Errorf("%w: checksum does not match", ErrDamaged)
	errFormat = errors.New("snapshot has a format that this version cannot read")
)

// parse reads a whole file. The image shares memory with b.
func parse(b []byte) (Header, image, error) {
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
	var im image
	var err error
	switch h.Format {
	case formatVersion:
		im, err = parseImage(&c)
	case 1:
		im, err = parseFormat1(&c)
	default:
		return h, nil, fmt.Errorf("%w: format %d, known are 1 and %d", errFormat, h.Format, formatVersion)
	}
	if err != nil {
		return h, nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if n := im.count(); n != h.Count {
		return h, nil, fmt.Errorf("%w: %d records, the header says %d", ErrDamaged, n, h.Count)
	}
	return h, im, nil
}

// encode writes a whole file.
func encode(w io.Writer, h Header, im image) error {
	h.Format, h.Count = formatVersion, im.count()
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
	for _, b := range im {
		if _, err := out.Write(b.appendHead(buf[:0])); err != nil {
			return err
		}
		if _, err := out.Write(b.packed); err != nil {
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

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
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

func (c *cursor) text() []byte { return c.take(int(c.uint16())) }

// key reads kind, namespace and name.
func (c *cursor) key() api.Key {
	var k api.Key
	kind := c.text()
	if d, ok := api.DescriptorOf(api.Kind(kind)); ok {
		k.Kind = d.Kind // one string for all
	} else {
		k.Kind = api.Kind(kind)
	}
	k.Namespace, k.Name = string(c.text()), string(c.text())
	return k
}
