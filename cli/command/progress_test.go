// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pty is the two ends of a terminal.
func pty(t *testing.T) (far, terminal *os.File) {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal to be had: %v", err)
	}
	t.Cleanup(func() { far.Close() })
	n, err := unix.IoctlGetInt(int(far.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(far.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Skipf("no terminal to be had: %v", err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal to be had: %v", err)
	}
	t.Cleanup(func() { terminal.Close() })
	return far, terminal
}

// seen is what a terminal was sent.
func seen(t *testing.T, far *os.File) string {
	t.Helper()
	fd := int(far.Fd()) // asked once: asking makes it block
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	// The kernel hands on what was written a moment later, and in pieces.
	var all []byte
	buf := make([]byte, 4096)
	for quiet := 0; quiet < 5; {
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EAGAIN:
			quiet++
			time.Sleep(10 * time.Millisecond)
		case err != nil:
			t.Fatal(err)
		default:
			all, quiet = append(all, buf[:n]...), 0
		}
	}
	return string(all)
}

func TestProgress_IsToldOnTerminalsAndOnlyOfLongWork(t *testing.T) {
	far, term := pty(t)
	now := time.Unix(0, 0)
	work := func(a *app, pause time.Duration) {
		p := a.progress("import", 3)
		for i := range 3 {
			p.step(i)
			now = now.Add(pause)
		}
		p.end()
	}
	a := &app{Streams: Streams{Err: term}, now: func() time.Time { return now }}
	work(a, 10*time.Millisecond)
	if got := seen(t, far); got != "" {
		t.Errorf("of short work it is said %q", got)
	}
	work(a, 2*time.Second)
	got := seen(t, far)
	if !strings.Contains(got, "import: 2 of 3") || !strings.HasSuffix(got, "\r\x1b[K") {
		t.Errorf("of long work it is said %q; want how far it is, and the line taken away at the end", got)
	}
	var b bytes.Buffer
	work(&app{Streams: Streams{Err: &b}, now: a.now}, 2*time.Second)
	if b.Len() > 0 {
		t.Errorf("where nobody looks it is said %q", b.String())
	}
}

func TestPaint_OnTerminalsUnlessAskedNotTo(t *testing.T) {
	_, term := pty(t)
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	if got := paint(term, red, "x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("on a terminal: %q", got)
	}
	if got := paint(&bytes.Buffer{}, red, "x"); got != "x" {
		t.Errorf("elsewhere: %q", got)
	}
	t.Setenv("TERM", "dumb")
	if got := paint(term, red, "x"); got != "x" {
		t.Errorf("on a terminal that has none: %q", got)
	}
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "1")
	if got := paint(term, red, "x"); got != "x" {
		t.Errorf("with NO_COLOR: %q", got)
	}
}
