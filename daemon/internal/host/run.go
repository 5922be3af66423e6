// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// Cmd is a program to run to its end.
type Cmd struct {
	// Path is the program's path or a name to look up in PATH; Args is what
	// follows it.
	Path string
	Args []string
	// Stdin is what the program reads.
	Stdin []byte
}

// Runner runs programs. It may be called from many goroutines; a program runs
// in the network namespace of the calling thread.
type Runner interface {
	// Run runs a program to its end and returns what it printed. If it ran
	// and failed, the error is an *ExitError; if there is no such program,
	// it wraps exec.ErrNotFound. When ctx ends the program is killed.
	Run(ctx context.Context, c Cmd) (stdout []byte, err error)
}

// ExitError is a program that ran and failed.
type ExitError struct {
	// Path is the program, Code its exit code; -1: a signal ended it.
	Path string
	Code int
	// Stderr is what it printed to standard error.
	Stderr string
}

// Error is "PROGRAM: exit code N: LAST WORDS".
func (e *ExitError) Error() string {
	s := fmt.Sprintf("%s: exit code %d", e.Path, e.Code)
	if t := strings.TrimSpace(e.Stderr); t != "" {
		s += ": " + t
	}
	return s
}

// RealRunner runs programs on this machine. They die with us (SIGKILL), so
// that what they had begun is not finished behind the back of our successor.
type RealRunner struct{}

// Run implements Runner.
func (RealRunner) Run(ctx context.Context, c Cmd) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.Path, c.Args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(c.Stdin), &stdout, &stderr
	cmd.WaitDelay = outputDelay
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return stdout.Bytes(), nil
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", c.Path, ctx.Err())
	case errors.As(err, &exit):
		return nil, &ExitError{Path: c.Path, Code: exit.ExitCode(), Stderr: stderr.String()}
	}
	return nil, fmt.Errorf("%s: %w", c.Path, err)
}
