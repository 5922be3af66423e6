// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// lockedBy names the file that a copy of this test program is to lock.
const lockedBy = "RIPSTOP_TEST_LOCK"

// TestLockFile_IsFreeAfterTheHolderWasKilled: the holder starts programs all
// the time. A child that it has just forked has the lock, too, until it
// becomes another program or dies of its parent's death.
func TestLockFile_IsFreeAfterTheHolderWasKilled(t *testing.T) {
	if path := os.Getenv(lockedBy); path != "" {
		holdLock(t, path)
	}
	path := filepath.Join(t.TempDir(), "lock")
	waited := 0
	for range 100 {
		cmd := exec.Command(os.Args[0], "-test.run", "^"+t.Name()+"$", "-test.timeout", "1m")
		cmd.Env = append(os.Environ(), lockedBy+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(out).ReadString('\n')
		if line != "locked\n" {
			t.Errorf("the holder printed %q, %v", line, err)
		}
		time.Sleep(20 * time.Millisecond)
		cmd.Process.Kill()
		cmd.Wait()
		if f, err := tryLock(path); err == nil {
			f.Close()
		} else {
			waited++
		}
		f, err := LockFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	t.Logf("%d of 100 times a child had the lock for a moment", waited)
}

// holdLock locks a file and starts programs until it is killed.
func holdLock(t *testing.T, path string) {
	if _, err := LockFile(path); err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString("locked\n")
	for range 4 {
		go func() {
			for {
				RealRunner{}.Run(t.Context(), Cmd{Path: "/bin/true"})
			}
		}()
	}
	select {}
}
