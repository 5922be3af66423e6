// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"github.com/ripstop/ripstop/daemon/internal/host"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
)

// etcd's database file has no checksums on its pages: of 20 flipped bits, 14
// were served as if nothing were wrong. Its write-ahead log has them. So a
// seal is kept beside the database: the digest of all records up to a
// revision. The digest is a sum of the records' hashes, so that it is brought
// forward by adding the new ones, at the cost of the new ones only.
//
// Before the database is served, it is walked and compared with its seal. What
// is newer than the seal (the last seconds before a crash) is not covered by
// it; the checksums beside the values (package etcd) cover that but for
// missing keys. After a clean stop everything is covered.

// ErrDamaged is why a database is not served.
var ErrDamaged = errors.New("database is damaged")

// sealVersion changes with the meaning of seal's fields.
const sealVersion = 1

// seal is what is known of the database at a revision.
type seal struct {
	Version int `json:"version"`
	// Revision is the newest one that the digest covers, Records the number
	// of records up to it.
	Revision int64  `json:"revision"`
	Records  int64  `json:"records"`
	Digest   digest `json:"digest"`
	// Compacted is the revision of the last finished compaction.
	Compacted int64 `json:"compacted"`
	// Compacting is not zero while a compaction is under way, during which
	// records vanish and the digest says nothing.
	Compacting int64 `json:"compacting,omitempty"`
	// Index is the position in the write-ahead log up to which the database
	// has been written; exact if Clean, else a lower bound.
	Index uint64 `json:"index"`
	// LogIndex is the position of the last entry of the log, if Clean.
	LogIndex uint64 `json:"logIndex,omitempty"`
	// Clean: nothing was written after this.
	Clean bool `json:"clean,omitempty"`
}

// digest is the sum of the hashes of records, in any order.
type digest [4]uint64

// add takes one record into the digest.
func (d *digest) add(k, v []byte) {
	h := sha256.New()
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(k)))
	h.Write(n[:])
	h.Write(k)
	h.Write(v)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	for i := range d {
		d[i] += binary.BigEndian.Uint64(sum[8*i:])
	}
}

// MarshalText is 64 hexadecimal digits.
func (d digest) MarshalText() ([]byte, error) {
	var b [32]byte
	for i, w := range d {
		binary.BigEndian.PutUint64(b[8*i:], w)
	}
	return hex.AppendEncode(nil, b[:]), nil
}

// UnmarshalText reads what MarshalText writes.
func (d *digest) UnmarshalText(t []byte) error {
	b, err := hex.DecodeString(string(t))
	if err != nil || len(b) != 32 {
		return fmt.Errorf("digest %q: want 64 hexadecimal digits", t)
	}
	for i := range d {
		d[i] = binary.BigEndian.Uint64(b[8*i:])
	}
	return nil
}

func sealPath(cfg Config) string { return filepath.Join(cfg.DataDir, "seal.json") }

func databasePath(cfg Config) string { return filepath.Join(cfg.DataDir, "member", "snap", "db") }

// writeSeal replaces the seal file. Its first line is the seal, its second
// the hash of the first.
func writeSeal(cfg Config, s seal) error {
	s.Version = sealVersion
	line, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return host.WriteFileAtomic(sealPath(cfg), 0o600, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s\n%x\n", line, sha256.Sum256(line))
		return err
	})
}

// errNoSeal: there is nothing to compare with, and why.
var errNoSeal = errors.New("no seal")

func readSeal(cfg Config) (seal, error) {
	var s seal
	b, err := os.ReadFile(sealPath(cfg))
	if errors.Is(err, fs.ErrNotExist) {
		return s, errNoSeal
	}
	if err != nil {
		return s, err
	}
	line, sum, _ := strings.Cut(string(b), "\n")
	if strings.TrimSuffix(sum, "\n") != fmt.Sprintf("%x", sha256.Sum256([]byte(line))) {
		return s, fmt.Errorf("%w that can be used: %s is damaged itself", errNoSeal, sealPath(cfg))
	}
	if err := json.Unmarshal([]byte(line), &s); err != nil {
		return s, fmt.Errorf("%s: %w", sealPath(cfg), err)
	}
	if s.Version != sealVersion {
		return s, fmt.Errorf("%w that can be used: version %d is not %d", errNoSeal, s.Version, sealVersion)
	}
	return s, nil
}

// database is etcd's file, opened for reading while etcd does not run.
type database struct{ tx *bolt.Tx }

// withDatabase opens the file and calls f. Faults that bbolt does not guard
// against (a wild page number leads outside of the mapped file) come back as
// errors, as long as f stays on its goroutine.
func withDatabase(cfg Config, f func(d database) error) (err error) {
	file, err := openPages(databasePath(cfg))
	if err != nil {
		return fmt.Errorf("%s: %w", databasePath(cfg), err)
	}
	defer file.Close()
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: reading %s: %v", ErrDamaged, databasePath(cfg), r)
		}
	}()
	db, err := bolt.Open(databasePath(cfg), 0o600, &bolt.Options{ReadOnly: true, Timeout: time.Second})
	if err != nil {
		return fmt.Errorf("%w: opening %s: %w", ErrDamaged, databasePath(cfg), err)
	}
	defer db.Close()
	tx, err := db.Begin(false)
	if err != nil {
		return fmt.Errorf("%w: reading %s: %w", ErrDamaged, databasePath(cfg), err)
	}
	defer tx.Rollback()
	return f(database{tx})
}

// structure checks the shape of the file: every page reachable once, every
// key in order, every value readable.
func (d database) structure() error {
	// This walk comes before bbolt's own check, which runs on a goroutine of
	// its own, where a fault would end the process.
	var walk func(b *bolt.Bucket) error
	walk = func(b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			if v == nil {
				if sub := b.Bucket(k); sub != nil {
					return walk(sub)
				}
			}
			return nil
		})
	}
	if err := d.tx.ForEach(func(_ []byte, b *bolt.Bucket) error { return walk(b) }); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	var first error
	n := 0
	for err := range d.tx.Check(bolt.WithKVStringer(unsaid{})) {
		if n++; first == nil {
			first = err
		}
	}
	if n > 0 {
		return fmt.Errorf("%w: %d faults in its structure, the first is: %w", ErrDamaged, n, first)
	}
	return nil
}

// recordBytes is the length of the revision that a record's key begins with:
// main revision, '_', sub revision.
const recordBytes = 8 + 1 + 8

// recordRevision is the main revision of a record.
func recordRevision(k []byte) (int64, error) {
	if (len(k) != recordBytes && len(k) != recordBytes+1) || k[8] != '_' || k[0]&0x80 != 0 {
		return 0, fmt.Errorf("%w: %x is no record key", ErrDamaged, k[:min(len(k), 2*recordBytes)])
	}
	return int64(binary.BigEndian.Uint64(k)), nil
}

// summary reads the digest of all records up to a revision and the rest of a
// seal.
func (d database) summary(upTo int64) (seal, error) {
	var s seal
	keys, meta := d.tx.Bucket([]byte("key")), d.tx.Bucket([]byte("meta"))
	if keys == nil || meta == nil {
		return s, errEmpty
	}
	c := keys.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		rev, err := recordRevision(k)
		if err != nil {
			return s, err
		}
		if rev > upTo {
			break
		}
		s.Digest.add(k, v)
		s.Records++
		s.Revision = rev
	}
	if b := meta.Get([]byte("consistent_index")); len(b) == 8 {
		s.Index = binary.BigEndian.Uint64(b)
	}
	finished := meta.Get([]byte("finishedCompactRev"))
	scheduled := meta.Get([]byte("scheduledCompactRev"))
	if len(finished) >= 8 {
		s.Compacted = int64(binary.BigEndian.Uint64(finished))
	}
	if len(scheduled) >= 8 && string(scheduled) != string(finished) {
		s.Compacting = int64(binary.BigEndian.Uint64(scheduled))
	}
	return s, nil
}

// maxIndexAhead is how many log entries may have been written to the database
// between a seal and a crash. More than that is a flipped bit, with which etcd
// would skip acknowledged writes when it replays its log.
const maxIndexAhead = 1 << 20

// upTo is the revision up to which a database has to match the seal.
func (s seal) upTo() int64 {
	if s.Clean {
		return math.MaxInt64
	}
	return s.Revision
}

// compare tells how the database, of which have is the summary, differs from
// its seal. ok is false if the seal says nothing about it.
func (d database) compare(s, have seal) (ok bool, err error) {
	if s.Compacting != 0 || have.Compacting != 0 || have.Compacted != s.Compacted {
		return false, nil
	}
	switch {
	case have.Revision != s.Revision || have.Records != s.Records:
		err = fmt.Errorf("%w: it has %d records up to revision %d, sealed were %d up to %d", ErrDamaged, have.Records, have.Revision, s.Records, s.Revision)
	case have.Digest != s.Digest:
		err = fmt.Errorf("%w: its %d records up to revision %d are not the ones that were sealed", ErrDamaged, s.Records, s.Revision)
	case s.Clean && have.Index != s.Index, have.Index < s.Index, have.Index > s.Index+maxIndexAhead:
		err = fmt.Errorf("%w: its log position is %d, sealed was %d", ErrDamaged, have.Index, s.Index)
	default:
		return true, nil
	}
	if names := d.damagedValues(); len(names) > 0 {
		err = fmt.Errorf("%w; values that do not match their checksums: %s", err, strings.Join(names, ", "))
	}
	return true, err
}

// damagedValues are the keys whose newest value does not match the checksum
// written with it, at most ten.
func (d database) damagedValues() []string {
	live := map[string]*mvccpb.KeyValue{}
	c := d.tx.Bucket([]byte("key")).Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		kv := &mvccpb.KeyValue{}
		if proto.Unmarshal(v, kv) != nil {
			continue
		}
		if len(k) > recordBytes {
			delete(live, string(kv.Key))
			continue
		}
		live[string(kv.Key)] = kv
	}
	var names []string
	for key, kv := range live {
		if etcd.CheckSum(kv, live[etcd.SumKey(key)]) != nil {
			names = append(names, key)
		}
	}
	slices.Sort(names)
	return names[:min(len(names), 10)]
}

// unsaid keeps keys and values out of what is said of a damaged database: by
// their lengths as they stand in one they can be larger than it.
type unsaid struct{}

// KeyToString and ValueToString make it a bolt.KVStringer.
func (unsaid) KeyToString([]byte) string { return "not shown" }

// ValueToString says nothing of a value.
func (unsaid) ValueToString([]byte) string { return "not shown" }
