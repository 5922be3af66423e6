// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"
)

func TestProcess_OutputAndStatus(t *testing.T) {
	var out, errs bytes.Buffer
	p, err := StartProcess(ProcessConfig{
		Path: "/bin/sh", Args: []string{"-c", `echo "$X"; echo bad >&2; exit 3`}, Env: []string{"X=hello"}, Stdout: &out, Stderr: &errs,
	})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if p.Err() == nil || p.Err().Error() != "exit status 3" || out.String() != "hello\n" || errs.String() != "bad\n" {
		t.Errorf("ended with %v, printed %q and %q; want exit status 3, hello, bad", p.Err(), out.String(), errs.String())
	}
	if err := p.Signal(os.Interrupt); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("Signal after the end: %v, want %v", err, os.ErrProcessDone)
	}
}

func TestProcess_MissingProgram(t *testing.T) {
	_, err := StartProcess(ProcessConfig{Path: "/does/not/exist"})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("StartProcess: error %v, want one that names the program", err)
	}
}

func TestProcess_Stop(t *testing.T) {
	for _, c := range []struct {
		name, script string
		grace        time.Duration
		gracefully   bool
	}{
		{"that obeys", `trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done`, time.Minute, true},
		{"that does not", `trap '' TERM; echo ready; while :; do sleep 0.01; done`, 50 * time.Millisecond, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			ready := make(readyWriter, 1)
			p, err := StartProcess(ProcessConfig{Path: "/bin/sh", Args: []string{"-c", c.script}, Stdout: ready})
			if err != nil {
				t.Fatal(err)
			}
			<-ready
			if p.Err() != nil {
				t.Errorf("Err while it runs = %v", p.Err())
			}
			if got := p.Stop(c.grace); got != c.gracefully {
				t.Errorf("Stop() = %v, want %v", got, c.gracefully)
			}
			if err := p.Err(); (err == nil) != c.gracefully {
				t.Errorf("Err after Stop = %v", err)
			}
		})
	}
}

// readyWriter tells of the first output.
type readyWriter chan struct{}

func (w readyWriter) Write(b []byte) (int, error) {
	select {
	case w <- struct{}{}:
	default:
	}
	return len(b), nil
}
