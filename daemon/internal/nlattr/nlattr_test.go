// SPDX-License-Identifier: Apache-2.0

package nlattr_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/nlattr"
)

// read is what Walk visits, as text.
func read(b []byte) (string, error) {
	var out []string
	err := nlattr.Walk(b, func(typ uint16, v []byte) error {
		out = append(out, fmt.Sprintf("%d:%q", typ, v))
		return nil
	})
	return strings.Join(out, " "), err
}

func TestWalk_ReadsWhatAppendWrites(t *testing.T) {
	inner := nlattr.Append(nlattr.Append(nil, 1, []byte("a")), 2, nil)
	b := nlattr.Append(nil, 7|nlattr.NetByteOrder, []byte{1, 2, 3, 4})
	b = nlattr.Append(b, 8|nlattr.Nested, inner)
	b = nlattr.Append(b, 9, []byte("text\x00"))
	if len(b)%4 != 0 {
		t.Fatalf("%d bytes, want a multiple of four", len(b))
	}
	want := `7:"\x01\x02\x03\x04" 8:` + fmt.Sprintf("%q", inner) + ` 9:"text\x00"`
	if got, err := read(b); err != nil || got != want {
		t.Errorf("Walk: %s, %v, want %s", got, err, want)
	}
	if got, err := read(nlattr.Find(b, 8)); err != nil || got != `1:"a" 2:""` {
		t.Errorf("nested: %s, %v", got, err)
	}
	if got := nlattr.Text(nlattr.Find(b, 9)); got != "text" {
		t.Errorf("Text = %q, want text", got)
	}
	if got := nlattr.Find(b, 10); got != nil {
		t.Errorf("Find of what is not there = %q", got)
	}
	// The kernel leaves out what fills the last one up.
	short := nlattr.Append(nil, 5, []byte("abc"))[:7]
	if got, err := read(short); err != nil || got != `5:"abc"` {
		t.Errorf("without the filling: %s, %v", got, err)
	}
}

func TestWalk_StopsAtAnErrorAndAtWhatIsMalformed(t *testing.T) {
	good := nlattr.Append(nil, 1, []byte("abcd"))
	for _, bad := range [][]byte{{1}, {3, 0, 1, 0}, {9, 0, 1, 0, 1, 2, 3, 4}} {
		got, err := read(append(bytes.Clone(good), bad...))
		if got != `1:"abcd"` || !errors.Is(err, nlattr.ErrMalformed) {
			t.Errorf("before % x: %s, %v, want what is good and ErrMalformed", bad, got, err)
		}
		n := 0
		nlattr.Each(append(bytes.Clone(good), bad...), func(uint16, []byte) { n++ })
		if n != 1 {
			t.Errorf("Each before % x: %d attributes, want 1", bad, n)
		}
	}
	stop := errors.New("stop")
	n := 0
	err := nlattr.Walk(append(bytes.Clone(good), good...), func(uint16, []byte) error { n++; return stop })
	if n != 1 || !errors.Is(err, stop) {
		t.Errorf("Walk after an error: %d visits, %v", n, err)
	}
}

// FuzzWalk: whatever comes, it ends within the bytes, and Each sees the same.
func FuzzWalk(f *testing.F) {
	f.Add(nlattr.Append(nlattr.Append(nil, 1, []byte("abc")), 2|nlattr.Nested, nil))
	f.Add([]byte{4, 0, 0, 0, 0xff, 0xff, 1, 2})
	f.Fuzz(func(t *testing.T, b []byte) {
		var walked, each int
		_ = nlattr.Walk(b, func(_ uint16, v []byte) error { walked += 1 + len(v); return nil })
		nlattr.Each(b, func(_ uint16, v []byte) { each += 1 + len(v) })
		if walked != each || walked > len(b) {
			t.Errorf("Walk visits %d, Each %d, of %d bytes", walked, each, len(b))
		}
	})
}
