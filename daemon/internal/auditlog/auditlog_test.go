// SPDX-License-Identifier: Apache-2.0

package auditlog

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/audit"
)

func open(t testing.TB, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return l
}

func closeLog(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

func commit(t testing.TB, l *Log, name string) {
	t.Helper()
	if err := l.Commit(audit.Record{Stage: audit.Intent, Name: name}); err != nil {
		t.Fatalf("Commit %s: %v", name, err)
	}
}

// verify reads the whole log and returns its reader and the names in it.
func verify(t testing.TB, dir string) (*audit.Reader, []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all, names []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	rd := &audit.Reader{}
	for _, n := range audit.Files(all) {
		f, err := os.Open(filepath.Join(dir, n))
		if err != nil {
			t.Fatal(err)
		}
		torn, err := rd.Read(n, f, func(r *audit.Record) error {
			if r.Name != "" {
				names = append(names, r.Name)
			}
			return nil
		})
		f.Close()
		if err != nil || torn != 0 {
			t.Fatalf("verifying: %v, %d bytes torn", err, torn)
		}
	}
	return rd, names
}

func TestLog_GoesOnAfterARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "audit")
	for i := range 3 {
		l := open(t, Config{Dir: dir, Program: "test"})
		commit(t, l, fmt.Sprintf("n%d", i))
		l.Append(audit.Record{Stage: audit.Done, Name: fmt.Sprintf("n%d", i), Code: 201})
		closeLog(t, l)
	}
	rd, names := verify(t, dir)
	if rd.Lines != 9 || strings.Join(names, " ") != "n0 n0 n1 n1 n2 n2" {
		t.Errorf("%d lines, names %v", rd.Lines, names)
	}
	for _, c := range []struct {
		path string
		want fs.FileMode
	}{{dir, fs.ModeDir | 0o700}, {filepath.Join(dir, audit.Current), 0o600}} {
		if fi, err := os.Stat(c.path); err != nil || fi.Mode() != c.want {
			t.Errorf("%s: mode %v, %v; want %v", c.path, fi.Mode(), err, c.want)
		}
	}
}

func TestLog_HasOneWriter(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir})
	if _, err := Open(Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "another ripstop-server") {
		t.Errorf("second Open: %v", err)
	}
	closeLog(t, l)
	closeLog(t, open(t, Config{Dir: dir}))
}

func TestLog_RotatesAndKeepsTheChain(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir, MaxBytes: 2000, Keep: 3})
	for i := range 100 {
		commit(t, l, fmt.Sprintf("n%d", i))
		if i == 50 {
			closeLog(t, l)
			l = open(t, Config{Dir: dir, MaxBytes: 2000, Keep: 3})
		}
	}
	closeLog(t, l)
	rd, names := verify(t, dir)
	if rd.Last.Seq != 102 || names[len(names)-1] != "n99" || rd.First.Seq < 40 {
		t.Errorf("lines %d to %d, want the last of 102", rd.First.Seq, rd.Last.Seq)
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 5 { // lock, current, three rotated
		t.Errorf("%d files, want 5: %v", len(entries), entries)
	}
	// A crash between the two renames of a rotation leaves no current file.
	if err := os.Rename(filepath.Join(dir, audit.Current), filepath.Join(dir, audit.Rotated(200))); err != nil {
		t.Fatal(err)
	}
	l = open(t, Config{Dir: dir})
	closeLog(t, l)
	if rd, _ := verify(t, dir); rd.Last.Seq != 103 {
		t.Errorf("last line %d, want 103", rd.Last.Seq)
	}
}

// TestLog_HealsAfterACrashAtEveryByte cuts the log after each byte of its last
// lines, as a crash can, also of the repair itself.
func TestLog_HealsAfterACrashAtEveryByte(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir})
	commit(t, l, "a")
	commit(t, l, "b")
	closeLog(t, l)
	path := filepath.Join(dir, audit.Current)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := 0; cut <= len(whole); cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		closeLog(t, open(t, Config{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil))}))
		rd, _ := verify(t, dir)
		torn := cut > 0 && whole[cut-1] != '\n' && whole[cut] != '\n'
		if (rd.Repairs == 1) != torn || strings.Contains(log.String(), "torn end") != torn {
			t.Fatalf("cut at %d of %d: %d repairs, torn %v, log %s", cut, len(whole), rd.Repairs, torn, log.String())
		}
		repaired, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(repaired, whole[:cut]) {
			t.Fatalf("cut at %d: bytes that were there are gone", cut)
		}
		if !torn || cut%151 != 0 { // one in each line will do
			continue
		}
		for again := cut; again < len(repaired); again++ { // a crash of the repair
			if err := os.WriteFile(path, repaired[:again], 0o600); err != nil {
				t.Fatal(err)
			}
			closeLog(t, open(t, Config{Dir: dir}))
			verify(t, dir)
		}
	}
}

func TestLog_ZerosOfALostWriteAreTold(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir})
	commit(t, l, "a")
	closeLog(t, l)
	f, err := os.OpenFile(filepath.Join(dir, audit.Current), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	closeLog(t, open(t, Config{Dir: dir}))
	if rd, _ := verify(t, dir); rd.Repairs != 1 || rd.Last.Torn.Bytes != 4097 {
		t.Errorf("repairs %d, last %+v", rd.Repairs, rd.Last)
	}
}

// TestLog_ManyWritersLoseNothing commits from many goroutines while files
// rotate.
func TestLog_ManyWritersLoseNothing(t *testing.T) {
	dir := t.TempDir()
	l := open(t, Config{Dir: dir, MaxBytes: 5000, Keep: 1000})
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 50 {
				commit(t, l, fmt.Sprintf("w%d-%d", w, i))
				l.Append(audit.Record{Stage: audit.Done})
			}
		})
	}
	wg.Wait()
	closeLog(t, l)
	rd, names := verify(t, dir)
	if len(names) != 800 || rd.Lines != 1601 {
		t.Errorf("%d names, %d lines; want 800, 1601", len(names), rd.Lines)
	}
}

// TestLog_OnAFullDiskRefusesAndGoesOnAfterwards runs on a file system of 256
// KiB.
func TestLog_OnAFullDiskRefusesAndGoesOnAfterwards(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=262144,mode=0700"); err != nil {
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(disk, unix.MNT_DETACH) })
	dir := filepath.Join(disk, "audit")
	l := open(t, Config{Dir: dir})
	ballast := filepath.Join(disk, "ballast")
	commit(t, l, "a")
	r := rand.New(rand.NewPCG(1, 2))
	fill := func() {
		f, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for err == nil {
			_, err = f.Write(make([]byte, 512))
		}
	}
	written := 1
	for round := range 5 {
		fill()
		var err error
		for range 1000 { // what is left of the last page
			if err = l.Commit(audit.Record{Stage: audit.Intent, Name: "x", Message: strings.Repeat("m", r.IntN(3000))}); err != nil {
				break
			}
			written++
		}
		if !errors.Is(err, audit.ErrUnwritable) || !errors.Is(err, unix.ENOSPC) || strings.Contains(err.Error(), dir) {
			t.Fatalf("round %d: Commit on a full disk: %v, want ErrUnwritable and ENOSPC without a path", round, err)
		}
		l.Append(audit.Record{Stage: audit.Done, Name: fmt.Sprintf("waits%d", round), Message: strings.Repeat("m", 5000)})
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
		if round == 3 { // and a restart in between
			closeLog(t, l)
			l = open(t, Config{Dir: dir})
		}
		commit(t, l, "after")
		written++
	}
	closeLog(t, l)
	_, names := verify(t, dir)
	waits := 0
	for _, n := range names {
		if strings.HasPrefix(n, "waits") {
			waits++
		}
	}
	// One that waits when the process ends in order is written if there is room.
	if len(names)-waits != written || waits != 5 {
		t.Errorf("%d lines and %d that waited, want %d and 5", len(names)-waits, waits, written)
	}
}

func TestLog_OpenSaysWhyADirectoryCannotBeHad(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: file}); err == nil {
		t.Error("Open of a file: no error")
	}
}

func TestJournal_GetsEachLineAndSlowOnesAreCounted(t *testing.T) {
	var mu sync.Mutex
	var hashes []string
	hold := make(chan struct{})
	var log bytes.Buffer
	dir := t.TempDir()
	l := open(t, Config{Dir: dir, Log: slog.New(slog.NewTextHandler(&log, nil)), Journal: func(_ *audit.Record, line []byte) error {
		<-hold
		mu.Lock()
		defer mu.Unlock()
		hashes = append(hashes, audit.Hash(line))
		return nil
	}})
	for range 3000 {
		l.Append(audit.Record{Stage: audit.Done, Time: time.Unix(1, 0)})
	}
	close(hold)
	closeLog(t, l)
	rd, _ := verify(t, dir)
	if len(hashes) < 1000 || len(hashes) >= rd.Lines {
		t.Errorf("the journal got %d of %d lines", len(hashes), rd.Lines)
	}
	if !strings.Contains(log.String(), "missing in the journal") {
		t.Errorf("log:\n%s", log.String())
	}
	if s := sentence(&audit.Record{Seq: 7, Stage: audit.Done, Verb: "delete", Resource: "tiers.projectcalico.org", Name: "a\nb", Code: 200, Who: &audit.Who{User: "eve\n", From: "unix"}}); !strings.Contains(s, `"eve\n"`) {
		t.Errorf("sentence %q", s)
	}
}

func BenchmarkCommit(b *testing.B) {
	l := open(b, Config{Dir: b.TempDir()})
	for b.Loop() {
		commit(b, l, "a")
	}
	closeLog(b, l)
}
