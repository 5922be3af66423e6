// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/web/apiserver/authn"
)

// DefaultAdminGroup is the Unix group whose members may use the socket.
const DefaultAdminGroup = "ripstop"

// Listen opens the API's Unix socket at path, mode 0660 and, when run as root
// on a machine that has the group, owned by root:ripstop. A missing directory
// is made with mode 0750. A lock file beside the socket (path + ".lock", held
// until the listener is closed) keeps two servers from fighting over it; a
// socket that a dead server left behind is replaced. Closing the listener
// removes the socket.
func Listen(path string) (net.Listener, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("api socket: %w", err)
	}
	gid := adminGID(DefaultAdminGroup)
	if err := socketDir(filepath.Dir(path), gid); err != nil {
		return nil, fmt.Errorf("api socket %s: %w", path, err)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("api socket %s: %w", path, err)
	}
	l, err := bind(path, gid)
	if err != nil {
		lock.Close()
		return nil, fmt.Errorf("api socket %s: %w", path, err)
	}
	return &socket{Listener: l, path: path, lock: lock}, nil
}

// ListenTLS opens a TCP listener at an address given as a number, such as
// 10.0.0.1:8443 or [::]:8443, with the certificates of a PKI.
func ListenTLS(addr string, pki *authn.PKI) (net.Listener, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("listen %q: want ADDRESS:PORT, with the address as a number: %w", addr, err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return tls.NewListener(l, pki.TLS()), nil
}

// socket is a Unix listener that cleans up after itself.
type socket struct {
	net.Listener
	path string
	lock *os.File
	once sync.Once
}

// Addr is the socket at the path that clients use.
func (s *socket) Addr() net.Addr { return &net.UnixAddr{Name: s.path, Net: "unix"} }

// Close stops listening, removes the socket and releases the lock.
func (s *socket) Close() error {
	err := net.ErrClosed
	s.once.Do(func() {
		err = errors.Join(s.Listener.Close(), ignoreMissing(os.Remove(s.path)))
		s.lock.Close()
	})
	return err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// socketDir makes the socket's directory if it is missing, and refuses one in
// which strangers could replace the socket.
func socketDir(dir string, gid int) error {
	fi, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o750); err != nil {
			return err
		}
		return own(dir, gid, 0o750)
	}
	if err != nil {
		return err
	}
	if !fi.IsDir() {
		return fmt.Errorf("%s is not a directory", dir)
	}
	if fi.Mode().Perm()&0o002 != 0 && fi.Mode()&fs.ModeSticky == 0 {
		return fmt.Errorf("directory %s is writable by everybody (mode %v): anyone could replace the socket; make it 0750", dir, fi.Mode().Perm())
	}
	return nil
}

// own sets mode and, as root, owner root and the admin group.
func own(path string, gid int, mode fs.FileMode) error {
	if os.Geteuid() == 0 && gid >= 0 {
		if err := os.Lchown(path, 0, gid); err != nil {
			return err
		}
	}
	return os.Chmod(path, mode)
}

// adminGID is the id of a group by name, or -1 if the machine has no such
// group.
func adminGID(name string) int {
	g, err := user.LookupGroup(name)
	if err != nil {
		return -1
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1
	}
	return gid
}

// lockFile opens and locks a file. The lock goes with the process, so a dead
// server never blocks the next one; the empty file stays behind.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("another ripstop-server is running here (it holds %s): stop it, or choose another --run-dir", path)
		}
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return f, nil
}

// bind listens on a neighbouring name, sets owner and mode, and only then
// moves the socket to its place: nobody ever meets it with another mode.
func bind(path string, gid int) (*net.UnixListener, error) {
	fi, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case fi.Mode()&fs.ModeSocket == 0:
		return nil, fmt.Errorf("a file that is not a socket is in the way: move it")
	default:
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, errors.New("another program answers on it: stop it, or choose another --run-dir")
		}
	}
	tmp := path + ".new"
	if err := ignoreMissing(os.Remove(tmp)); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: tmp, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(own(tmp, gid, 0o660), os.Rename(tmp, path)); err != nil {
		l.Close()
		return nil, errors.Join(err, ignoreMissing(os.Remove(tmp)))
	}
	return l, nil
}
