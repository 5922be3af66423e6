// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long work may take before it is said how far it is.
const patience = time.Second

// progress tells on a terminal how far long work is: one line on standard
// error that is written over and at the end is gone. Elsewhere, and of work
// that is soon done, it says nothing.
type progress struct {
	a       *app
	what    string
	total   int
	started time.Time
	said    time.Time
	shown   bool
	on      bool
}

// progress begins to tell of work in total steps.
func (a *app) progress(what string, total int) *progress {
	now := a.now()
	return &progress{a: a, what: what, total: total, started: now, said: now, on: terminal(a.Err)}
}

// step says that done of all steps are done.
func (p *progress) step(done int) {
	now := p.a.now()
	if !p.on || now.Sub(p.started) < patience || now.Sub(p.said) < patience/5 {
		return
	}
	p.said, p.shown = now, true
	fmt.Fprintf(p.a.Err, "\r%s: %d of %d\x1b[K", p.what, done, p.total)
}

// clear takes the line away, so that something else can be written.
func (p *progress) clear() {
	if p.shown {
		p.shown = false
		fmt.Fprint(p.a.Err, "\r\x1b[K")
	}
}

// end is the end of the work.
func (p *progress) end() { p.clear() }

// terminal reports whether a stream is a terminal.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// colour is one of a terminal's colours.
type colour string

const (
	red   colour = "31"
	green colour = "32"
	cyan  colour = "36"
)

// paint is s in a colour if w is a terminal that shows colours and the user has
// not set NO_COLOR (https://no-color.org).
func paint(w io.Writer, c colour, s string) string {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || !terminal(w) {
		return s
	}
	return "\x1b[" + string(c) + "m" + s + "\x1b[0m"
}
