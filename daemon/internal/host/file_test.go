// SPDX-License-Identifier: Apache-2.0

package host

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestLockFile_IsHeldByOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	f, err := LockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want 0600", st.Mode(), err)
	}
	if _, err := LockFile(path); !errors.Is(err, ErrLocked) {
		t.Errorf("LockFile of a locked file: %v, want ErrLocked", err)
	}
	f.Close()
	f, err = LockFile(path)
	if err != nil {
		t.Fatalf("LockFile after the lock was given back: %v", err)
	}
	f.Close()
}

func TestWriteFileAtomic_ReplacesTheWholeOrNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	text := func(s string) func(io.Writer) error {
		return func(w io.Writer) error { _, err := io.WriteString(w, s); return err }
	}
	if err := WriteFileAtomic(path, 0o640, text("one")); err != nil {
		t.Fatal(err)
	}
	want := errors.New("half way")
	err := WriteFileAtomic(path, 0o600, func(w io.Writer) error { io.WriteString(w, "tw"); return want })
	if !errors.Is(err, want) {
		t.Errorf("WriteFileAtomic with a failing writer = %v, want its error", err)
	}
	b, _ := os.ReadFile(path)
	st, _ := os.Stat(path)
	if string(b) != "one" || st.Mode().Perm() != 0o640 {
		t.Errorf("after a failed write: %q with mode %v, want the old content and mode", b, st.Mode())
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("a temporary file was left: %v", left)
	}
	if err := WriteFileAtomic(filepath.Join(path, "x"), 0o600, text("")); err == nil {
		t.Error("writing below a file is no error")
	}
}

func TestReadFileIn_RefusesWhatIsNoPlainFileOfTheDirectory(t *testing.T) {
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	for _, err := range []error{
		os.Mkdir(in, 0o700), os.WriteFile(filepath.Join(dir, "secret"), []byte("s"), 0o600),
		os.WriteFile(filepath.Join(in, "plain"), []byte("12345"), 0o600),
		os.Symlink("../secret", filepath.Join(in, "out")), os.Symlink("plain", filepath.Join(in, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if b, err := ReadFileIn(in, "plain", 5); string(b) != "12345" || err != nil {
		t.Errorf("ReadFileIn(plain) = %q, %v", b, err)
	}
	if _, err := ReadFileIn(in, "plain", 4); !errors.Is(err, ErrTooLarge) {
		t.Errorf("ReadFileIn of 5 bytes with a limit of 4 = %v, want ErrTooLarge", err)
	}
	if _, err := ReadFileIn(in, "nobody", 4); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("ReadFileIn(nobody) = %v, want fs.ErrNotExist", err)
	}
	for _, name := range []string{"out", "link", ".", "../secret"} {
		if b, err := ReadFileIn(in, name, 100); err == nil {
			t.Errorf("ReadFileIn(%s) = %q, want an error", name, b)
		}
	}
}

func TestMkdirPrivate_ShutsADirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := MkdirPrivate(dir); err != nil {
		t.Fatal(err)
	}
	if st, _ := os.Stat(dir); st.Mode().Perm() != 0o700 {
		t.Errorf("mode = %v, want 0700", st.Mode())
	}
	link := dir + "-link"
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := MkdirPrivate(link); err == nil {
		t.Error("a symbolic link is taken for a directory")
	}
}

func TestCheckPrivate_TellsLooseFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for mode, loose := range map[fs.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o644: true} {
		if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Chmod(path, mode)); err != nil {
			t.Fatal(err)
		}
		if err := CheckPrivate(path); errors.Is(err, ErrLoose) != loose {
			t.Errorf("CheckPrivate of a file with mode %04o = %v, want loose %v", mode, err, loose)
		}
	}
}

func TestLegacyFirewalls_ListsLoadedTables(t *testing.T) {
	proc := t.TempDir()
	if got, err := LegacyFirewalls(proc); len(got) != 0 || err != nil {
		t.Errorf("LegacyFirewalls with nothing there = %v, %v", got, err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(proc, "net"), 0o700),
		os.WriteFile(filepath.Join(proc, "net/ip_tables_names"), []byte("nat\nfilter\n"), 0o600),
		os.WriteFile(filepath.Join(proc, "net/ip6_tables_names"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	got, err := LegacyFirewalls(proc)
	if err != nil || len(got) != 1 || got[0].Kind != "iptables" || len(got[0].Tables) != 2 || got[0].Tables[0] != "filter" {
		t.Errorf("LegacyFirewalls = %v, %v; want iptables with filter and nat", got, err)
	}
}

func TestName_IsLowerCaseAndNotEmpty(t *testing.T) {
	n, err := Name()
	if err != nil || n == "" {
		t.Fatalf("Name = %q, %v", n, err)
	}
	for _, r := range n {
		if r >= 'A' && r <= 'Z' || r == ' ' {
			t.Errorf("Name = %q has %q in it", n, r)
		}
	}
}
