// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is a program that we started and that runs beside us until it ends
// or Stop ends it. All methods may be called from many goroutines.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // valid once done is closed
}

// ProcessConfig says what StartProcess starts.
type ProcessConfig struct {
	// Path is the program, Args what follows its name.
	Path string
	Args []string
	// Env is the whole environment, "key=value" each; nil: ours.
	Env []string
	// Stdout and Stderr get what the program prints; nil: nowhere. They are
	// written to from one goroutine each, and not after Done.
	Stdout, Stderr io.Writer
}

// outputDelay is how long a process that has ended is waited for when
// something it started still holds its output open.
const outputDelay = time.Second

// StartProcess starts a program. The kernel kills it (SIGKILL) when we die,
// however that happens. It gets a process group of its own, so that a Ctrl-C
// at the terminal reaches us only: it is stopped when we say so.
func StartProcess(c ProcessConfig) (*Process, error) {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.Env, c.Stdout, c.Stderr
	cmd.WaitDelay = outputDelay
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The parent-death signal comes when the thread that started the
		// child ends (prctl(2), PR_SET_PDEATHSIG), not when the process does,
		// so this thread is kept until the child has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		if errors.Is(p.err, exec.ErrWaitDelay) {
			p.err = nil
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.Path, err)
	}
	return p, nil
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended and its output has been read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err tells how the process ended: nil if with status 0, else an error such as
// "exit status 1" or "signal: killed". It is nil before Done is closed.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Signal sends a signal; after the process has ended: os.ErrProcessDone.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Stop asks the process to end (SIGTERM), kills it if it has not within grace,
// and returns when it has ended. It reports whether it ended by itself.
func (p *Process) Stop(grace time.Duration) (gracefully bool) {
	p.Signal(syscall.SIGTERM)
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-p.done:
		return true
	case <-t.C:
	}
	p.Signal(syscall.SIGKILL)
	<-p.done
	return false
}
