// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrTooLarge is returned by ReadFileIn for a file above the given limit.
var ErrTooLarge = errors.New("file is too large")

// ErrLoose is returned by CheckPrivate for a file that others may read.
var ErrLoose = errors.New("file is readable by group or others")

// WriteFileAtomic gives path the content that write produces, with the given
// permissions, so that after a crash at any point path holds either the old
// or the new content in full: temporary file in the same directory, fsync,
// rename, fsync of the directory. If write fails, path is as it was.
func WriteFileAtomic(path string, perm fs.FileMode, write func(io.Writer) error) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("writing %s: %w", path, err)
		}
	}()
	if err := f.Chmod(perm); err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 64<<10)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// ErrLocked is returned by LockFile when another process holds the lock.
var ErrLocked = errors.New("file is locked by another process")

// LockFile makes path if it is missing (mode 0600) and locks it until the file
// is closed or the process ends, however it ends. Of a process that was killed
// while it started a program, the lock is held on by the child (fork(2) copies
// descriptors, and O_CLOEXEC closes them at execve(2) only) until that becomes
// the program or dies: a lock that is held is tried again for two seconds.
func LockFile(path string) (*os.File, error) {
	for deadline := time.Now().Add(lockPatience); ; time.Sleep(lockPause) {
		f, err := tryLock(path)
		if !errors.Is(err, ErrLocked) || time.Now().After(deadline) {
			return f, err
		}
	}
}

const (
	lockPatience = 2 * time.Second
	lockPause    = 5 * time.Millisecond
)

func tryLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = ErrLocked
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return f, nil
}

// SyncDir makes renames and removals in dir survive a crash.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) {
		return fmt.Errorf("syncing %s: %w", dir, err)
	}
	return nil
}

// ReadFileIn reads the regular file name in dir, without following a symbolic
// link and without leaving dir. It returns ErrTooLarge if the file holds more
// than maxBytes, and an error that is fs.ErrNotExist if there is none.
func ReadFileIn(dir, name string, maxBytes int64) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// os.Root keeps inside dir, but follows links there: look before and after.
	link, err := root.Lstat(name)
	if err != nil {
		return nil, err
	}
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || !os.SameFile(link, st) {
		return nil, fmt.Errorf("%s: not a regular file", filepath.Join(dir, name))
	}
	b, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > maxBytes {
		return nil, fmt.Errorf("%s: %w: more than %d bytes", filepath.Join(dir, name), ErrTooLarge, maxBytes)
	}
	return b, nil
}

// MkdirPrivate makes dir and sees to it that only its owner may enter it (mode
// 0700), whatever the umask and whatever it was before. Parents that are
// missing are made too, for all to enter (0755). A symbolic link in place of
// dir is refused.
func MkdirPrivate(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !st.IsDir() {
		return fmt.Errorf("%s: not a directory", dir)
	}
	if st.Mode().Perm() != 0o700 {
		return os.Chmod(dir, 0o700)
	}
	return nil
}

// CheckPrivate reports ErrLoose if group or others may read path, which is a
// file that holds a secret.
func CheckPrivate(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	if st.Mode().Perm()&0o044 != 0 {
		return fmt.Errorf("%s: %w (mode %04o)", path, ErrLoose, st.Mode().Perm())
	}
	return nil
}
