// SPDX-License-Identifier: Apache-2.0

package conntrack

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestNetnsListing_IsReadAheadAndNoFurther: the table is read while nobody
// asks, up to the few datagrams that there is room for; who asks early is told
// so; and who gives up is not waited for.
func TestNetnsListing_IsReadAheadAndNoFurther(t *testing.T) {
	b := newBed(t)
	const n = 20_000
	b.host.MustDo(func() error { return put(b.part.c, many(n)) })
	open := func() (l *listing) {
		b.host.MustDo(func() (err error) { l, err = list(unix.AF_UNSPEC); return err })
		return l
	}
	l := open()
	for deadline := time.Now().Add(time.Minute); len(l.pieces) < ahead; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d datagrams read after a minute, want %d", len(l.pieces), ahead)
		}
	}
	l.close()
	if _, more := <-l.pieces; !more {
		t.Error("what was read before the listing was given up is gone")
	}

	l, got := open(), 0
	defer l.close()
	for done := false; !done; {
		var err error
		done, err = l.next(func(e *entry) error {
			if e.orig.protocol == 17 {
				got++
			}
			return nil
		})
		if errors.Is(err, errNotYet) {
			time.Sleep(100 * time.Microsecond)
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if got < n {
		t.Errorf("%d entries listed, want the %d that were made", got, n)
	}
}
