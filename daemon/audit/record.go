// SPDX-License-Identifier: Apache-2.0

// Package audit is the record of who did what through the API, as words: what
// a line of the audit log says, how each line is chained to the one before,
// and how a reader finds out whether a line was altered, removed or put in.
//
//	line 1  {"seq":1,"prev":"000…","stage":"opened", …}
//	line 2  {"seq":2,"prev":"SHA-256 of line 1","stage":"intent", …}
//	line 3  {"seq":3,"prev":"SHA-256 of line 2","stage":"done", …}
//
// It does no I/O. The assembly's internal/auditlog writes the log for the API
// server; `ripstop audit` reads it.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Stage is what a line tells of.
type Stage string

// The stages. A write is an intent for each object, which is on disk before
// the store is asked, and one line at its end. An intent without an end was
// cut off by a crash: whether it was done, the store tells.
const (
	// Opened: a server began to write the log.
	Opened Stage = "opened"
	// Intent: an object is about to be written.
	Intent Stage = "intent"
	// Done: a write was answered with success.
	Done Stage = "done"
	// Failed: a write was answered with an error, after it was allowed.
	Failed Stage = "failed"
	// Refused: a request was not allowed, or nobody knows who made it.
	Refused Stage = "refused"
	// Repaired: bytes that are no lines stand before this one, left by a
	// crash. Torn says which.
	Repaired Stage = "repaired"
)

// Record is one line. Its fields are in the order of the line.
type Record struct {
	// Seq counts lines from 1; it goes on in the next file.
	Seq uint64 `json:"seq"`
	// Prev is the SHA-256 of the line before, without its end of line, in
	// hexadecimal; of the first line, zeros.
	Prev  string    `json:"prev"`
	Time  time.Time `json:"time"`
	Stage Stage     `json:"stage"`
	// Request is the id that the client got in the header Audit-Id.
	Request string `json:"request,omitempty"`
	Who     *Who   `json:"who,omitempty"`
	// Verb is what was to be done: create, update, patch, delete,
	// deletecollection, get, list or watch.
	Verb string `json:"verb,omitempty"`
	// Resource, Namespace, Name and Subresource say to what.
	Resource    string `json:"resource,omitempty"` // tiers.projectcalico.org
	Namespace   string `json:"namespace,omitempty"`
	Name        string `json:"name,omitempty"`
	Subresource string `json:"subresource,omitempty"`
	// Path is that of a request that names no resource.
	Path string `json:"path,omitempty"`
	// Before and After are the object in the store and the one to be written,
	// without secrets; absent where there is none.
	Before json.RawMessage `json:"before,omitempty"`
	After  json.RawMessage `json:"after,omitempty"`
	// Code is the HTTP status of the answer; Reason and Message are its
	// Status' when it is an error.
	Code    int    `json:"code,omitempty"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	// Missing is how many refusals before this one have no line, because
	// there were too many at once.
	Missing int `json:"missing,omitempty"`
	// Torn says what stands before a line of stage Repaired.
	Torn *Torn `json:"torn,omitempty"`
	// Program is what writes the log, in a line of stage Opened.
	Program string `json:"program,omitempty"`
}

// Who made a request, and from where.
type Who struct {
	User   string   `json:"user,omitempty"`
	Groups []string `json:"groups,omitempty"`
	// Method is how the server knew: socket, certificate, token or oidc.
	Method string `json:"method,omitempty"`
	// Credential names what was shown, without giving it away.
	Credential string `json:"credential,omitempty"`
	// From is the address with the port, or "unix".
	From string `json:"from,omitempty"`
	// Agent and Command are what the client says of itself.
	Agent   string `json:"agent,omitempty"`
	Command string `json:"command,omitempty"`
}

// Torn are bytes between two lines that are no lines.
type Torn struct {
	Bytes  int    `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// First is the Prev of the first line.
var First = strings.Repeat("0", 2*sha256.Size)

// Hash is what the next line says of line, which has no end of line.
func Hash(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

// Line is a record as a line without its end.
func (r *Record) Line() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(r); err != nil {
		return nil, fmt.Errorf("audit: line %d: %w", r.Seq, err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// Parse reads a line, which has no end of line. Unknown fields are allowed:
// a later version may have written it.
func Parse(line []byte) (*Record, error) {
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, err
	}
	if r.Seq == 0 || len(r.Prev) != len(First) {
		return nil, errors.New("no record: seq or prev is missing")
	}
	return &r, nil
}

// MaxLine is the longest line that is written, in bytes: two objects of the
// size that the API takes, and what else a line has.
const MaxLine = 4 << 20

// Break says where a chain is broken.
type Break struct {
	// File and Line say where; lines count from 1.
	File string
	Line int
	// Seq is that of the line, or zero if it has none.
	Seq uint64
	// Why is one clause.
	Why string
}

// Error is file, line and reason.
func (b *Break) Error() string { return fmt.Sprintf("%s:%d: %s", b.File, b.Line, b.Why) }

// Reader goes through the files of a log in their order. It is not safe for
// concurrent use.
type Reader struct {
	// Lines, Bytes and Repairs count what was read; First and Last are the
	// first and the last line, nil before there is one.
	Lines, Repairs int
	First, Last    *Record
	// Head is the hash of the last line: what the next one will say.
	Head string
	// OnBreak is called for each break of the chain and returns the error
	// that ends the reading; nil: reading goes on behind it.
	OnBreak func(*Break) error
}

// Read reads one file, which is named name in errors, and calls each for every
// record, if it is not nil. Files must be given oldest first. A file that is
// still written to may end in a line without an end: it is not read. torn is
// the number of its bytes.
func (rd *Reader) Read(name string, r io.Reader, each func(*Record) error) (torn int, err error) {
	lines := newLines(r)
	var junk []byte // since the last good line, with ends of lines
	junkAt := 0
	for n := 1; ; n++ {
		line, whole, err := lines.next()
		if err != nil && err != io.EOF {
			return 0, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		if !whole {
			if len(junk) > 0 {
				if err := rd.broken(&Break{name, junkAt, 0, "is no record"}); err != nil {
					return 0, err
				}
			}
			return len(line), nil
		}
		rec, perr := Parse(line)
		if perr != nil {
			if len(junk) == 0 {
				junkAt = n
			}
			junk = append(append(junk, line...), '\n')
			continue
		}
		if b := rd.check(name, n, rec, junk, junkAt); b != nil {
			if err := rd.broken(b); err != nil {
				return 0, err
			}
		}
		junk = nil
		rd.Lines++
		if rec.Stage == Repaired {
			rd.Repairs++
		}
		if rd.First == nil {
			rd.First = rec
		}
		rd.Last, rd.Head = rec, Hash(line)
		if each != nil {
			if err := each(rec); err != nil {
				return 0, err
			}
		}
	}
}

func (rd *Reader) broken(b *Break) error {
	if rd.OnBreak == nil {
		return b
	}
	return rd.OnBreak(b)
}

// check says what is wrong with a record behind the last one, or nil.
func (rd *Reader) check(name string, n int, rec *Record, junk []byte, junkAt int) *Break {
	if len(junk) > 0 {
		if rec.Stage != Repaired || rec.Torn == nil || rec.Torn.Bytes != len(junk) || rec.Torn.SHA256 != Hash(junk) {
			return &Break{name, junkAt, 0, "is no record, and no repair tells of it"}
		}
	} else if rec.Torn != nil && rec.Torn.Bytes > 0 {
		return &Break{name, n, rec.Seq, fmt.Sprintf("tells of %d torn bytes that are not there", rec.Torn.Bytes)}
	}
	if rd.Last == nil {
		if rec.Seq == 1 && rec.Prev != First {
			return &Break{name, n, rec.Seq, "is the first line and names one before it"}
		}
		return nil // the files before were rotated away
	}
	if rec.Seq != rd.Last.Seq+1 {
		return &Break{name, n, rec.Seq, fmt.Sprintf("has number %d, the line before has %d: lines are missing, or were put in", rec.Seq, rd.Last.Seq)}
	}
	if rec.Prev != rd.Head {
		return &Break{name, n, rec.Seq, fmt.Sprintf("does not fit to line %d, which was altered after it was written", rd.Last.Seq)}
	}
	return nil
}
