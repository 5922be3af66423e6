// SPDX-License-Identifier: Apache-2.0

package authn

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// stamp tells one state of a file from another.
type stamp struct {
	inode uint64
	size  int64
	time  time.Time
}

// stampOf is the state of a file; a symbolic link is followed.
func stampOf(path string) (stamp, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return stamp{}, err
	}
	s := stamp{size: fi.Size(), time: fi.ModTime()}
	if st, is := fi.Sys().(*syscall.Stat_t); is {
		s.inode = st.Ino
	}
	return s, nil
}

// readKey reads a file with a private key, and refuses one that group or
// others may read.
func readKey(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s: mode %v: a private key must be a file that nobody else may read: run chmod 600 %s", path, fi.Mode().Perm(), path)
	}
	data := make([]byte, min(fi.Size(), 1<<20))
	n, err := f.Read(data)
	return data[:n], err
}

// writeFile puts a file in its place, whole or not at all.
func writeFile(path string, data []byte, mode fs.FileMode) (err error) {
	tmp := path + ".new"
	if err := os.Remove(tmp); err != nil && !os.IsNotExist(err) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
