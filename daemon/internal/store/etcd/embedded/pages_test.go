// SPDX-License-Identifier: Apache-2.0

package embedded

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bolt "go.etcd.io/bbolt"

	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/store"
)

func check(file []byte) error { return checkPages(bytes.NewReader(file), int64(len(file))) }

// small is a database of bbolt with all that a file can have: branches, values
// over several pages, buckets in place, empty ones and ones within others.
func small(t testing.TB, o bolt.Options) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	db, err := bolt.Open(path, 0o600, &o)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{"empty", "in place", "large", "outer"} {
			b, err := tx.CreateBucket([]byte(name))
			if err != nil {
				return err
			}
			switch name {
			case "in place":
				err = b.Put([]byte("key"), []byte("value"))
			case "outer":
				if b, err = b.CreateBucket([]byte("inner")); err == nil {
					err = b.Put([]byte("deep"), bytes.Repeat([]byte("x"), 2*db.Info().PageSize))
				}
			case "large":
				for i := range 50 {
					if err == nil {
						err = b.Put(fmt.Appendf(nil, "key %02d", i), bytes.Repeat([]byte{byte(i)}, 10*i))
					}
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	// Once more, so that both meta pages lead to the same content.
	if err == nil {
		err = db.Update(func(*bolt.Tx) error { return nil })
	}
	if err == nil {
		err = db.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestPages_EveryGoodFileIsAccepted follows a file through random changes, with
// all that a crash can leave between them: pages of the next state, but not
// its meta page.
func TestPages_EveryGoodFileIsAccepted(t *testing.T) {
	for _, o := range []bolt.Options{
		{PageSize: 1024, NoFreelistSync: true, FreelistType: bolt.FreelistMapType},
		{PageSize: 1024, FreelistType: bolt.FreelistArrayType},
		{PageSize: 4096, NoFreelistSync: true},
		{PageSize: 16384},
	} {
		t.Run(fmt.Sprintf("PageSize%dNoFreelist%t", o.PageSize, o.NoFreelistSync), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			o.NoSync = true
			path := small(t, o)
			db, err := bolt.Open(path, 0o600, &o)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			read := func() []byte {
				b, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
			before, shapes := read(), map[string]int{}
			for step := range 150 {
				if err := db.Update(func(tx *bolt.Tx) error { return change(tx, rng, step) }); err != nil {
					t.Fatal(err)
				}
				after := read()
				if err := check(after); err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
				for range 3 {
					torn := bytes.Clone(after)
					for at := 0; at < len(before); at += o.PageSize {
						if at < 2*o.PageSize || rng.IntN(2) == 0 {
							copy(torn[at:at+o.PageSize], before[at:])
						}
					}
					if err := check(torn); err != nil {
						t.Fatalf("step %d, with the meta pages of before: %v", step, err)
					}
					// The meta page was being written: half of it is new.
					meta := 0
					if bytes.Equal(before[:o.PageSize], after[:o.PageSize]) {
						meta = o.PageSize
					}
					copy(torn[meta:], after[meta:meta+headerBytes+metaBytes/2])
					if err := check(torn); err != nil {
						t.Fatalf("step %d, with half a meta page: %v", step, err)
					}
				}
				for at := 2 * o.PageSize; at < len(after); at += o.PageSize {
					shapes[fmt.Sprint("flags ", after[at+8])]++
				}
				before = after
			}
			if shapes["flags 1"] == 0 || shapes["flags 2"] == 0 {
				t.Errorf("pages %v, want branches and leaves", shapes)
			}
		})
	}
}

// change makes a random change: more keys at first, fewer later.
func change(tx *bolt.Tx, rng *rand.Rand, step int) error {
	for range 1 + rng.IntN(20) {
		name := fmt.Appendf(nil, "bucket %d", rng.IntN(5))
		b, err := tx.CreateBucketIfNotExists(name)
		if err != nil {
			return err
		}
		if rng.IntN(3) == 0 {
			if b, err = b.CreateBucketIfNotExists([]byte("inner")); err != nil {
				return err
			}
		}
		key := fmt.Appendf(nil, "key %d", rng.IntN(300))
		if string(key) == "inner" {
			continue
		}
		switch {
		case rng.IntN(100) == 0:
			err = tx.DeleteBucket(name)
		case rng.IntN(150) < step:
			err = b.Delete(key)
		default:
			err = b.Put(key, make([]byte, rng.IntN(40)*rng.IntN(40)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// headers are where pages, their tables of elements and the values that are
// buckets stand in a file, found by looking at each page, used or not.
func headers(file []byte, page int) (bytes []int) {
	span := func(from, n int) {
		for i := from; i < min(from+n, len(file)); i++ {
			bytes = append(bytes, i)
		}
	}
	span(0, headerBytes+metaBytes)
	span(page, headerBytes+metaBytes)
	for at := 2 * page; at < len(file); at += page {
		if binary.NativeEndian.Uint64(file[at:]) != uint64(at/page) {
			continue // empty, or within a value
		}
		count := int(binary.NativeEndian.Uint16(file[at+10:]))
		span(at, headerBytes+count*elementBytes)
		for i := range count {
			e := at + headerBytes + i*elementBytes
			if file[at+8] == flagLeaf && binary.NativeEndian.Uint32(file[e:]) == flagBucket {
				pos, key := binary.NativeEndian.Uint32(file[e+4:]), binary.NativeEndian.Uint32(file[e+8:])
				span(e+int(pos+key), int(binary.NativeEndian.Uint32(file[e+12:])))
			}
		}
	}
	return bytes
}

// content is all that stands in a database.
func (d database) content() (map[string]string, error) {
	all := map[string]string{}
	var walk func(name string, b *bolt.Bucket) error
	walk = func(name string, b *bolt.Bucket) error {
		return b.ForEach(func(k, v []byte) error {
			key := name + "/" + string(k)
			if sub := b.Bucket(k); sub != nil {
				return walk(key, sub)
			}
			all[key] = string(v)
			return nil
		})
	}
	return all, d.tx.ForEach(func(name []byte, b *bolt.Bucket) error { return walk(string(name), b) })
}

// contentOf is the content of a database that can be read.
func contentOf(t *testing.T, cfg Config) (all map[string]string) {
	t.Helper()
	err := withDatabase(cfg, func(d database) (err error) {
		all, err = d.content()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// flipped is the part of the next test that runs in a process of its own.
const flipped = "RIPSTOP_TEST_FLIPPED"

// maxFlippedBytes is what looking at a file of some kilobytes may cost, with
// the race detector and all that the test itself keeps. Unguarded, one flip
// costs thirty times as much.
const maxFlippedBytes = 512 << 20

// TestPages_AnyFlippedBitOfAHeaderIsRefusedOrHarmless flips each bit of each
// header of a small file: opening it takes no more memory than ever, and gives
// what was written or an error.
func TestPages_AnyFlippedBitOfAHeaderIsRefusedOrHarmless(t *testing.T) {
	if os.Getenv(flipped) == "" {
		cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), flipped+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out[max(0, len(out)-4000):])
		}
		peak := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
		t.Logf("%d MiB at the most; %s", peak>>20, out)
		if peak > maxFlippedBytes {
			t.Errorf("opening damaged files took %d bytes, want at most %d", peak, maxFlippedBytes)
		}
		return
	}
	for _, o := range []bolt.Options{
		{PageSize: 1024, NoFreelistSync: true, FreelistType: bolt.FreelistMapType},
		{PageSize: 1024},
	} {
		cfg := Config{DataDir: t.TempDir()}
		if err := os.MkdirAll(filepath.Dir(databasePath(cfg)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(small(t, o), databasePath(cfg)); err != nil {
			t.Fatal(err)
		}
		want := contentOf(t, cfg)
		count := flipHeaders(t, cfg, o.PageSize, func(what string) string {
			var got map[string]string
			err := withDatabase(cfg, func(d database) (err error) {
				if err = d.structure(); err == nil {
					got, err = d.content()
				}
				return err
			})
			if err != nil {
				return refusal(t, what, err)
			}
			if !maps.Equal(got, want) {
				// A page less, or another end of the last value in one, is
				// nothing that the pages can say: the seal can.
				return "for the seal"
			}
			return "harmless"
		})
		t.Log(count)
	}
	cfg := etcdFile(t)
	want := contentOf(t, cfg)
	maps.DeleteFunc(want, func(k, _ string) bool { return !strings.HasPrefix(k, "key/") })
	count := flipHeaders(t, cfg, os.Getpagesize(), func(what string) string {
		if err := verifyDatabase(cfg); err != nil {
			return refusal(t, what, err)
		}
		got := contentOf(t, cfg)
		maps.DeleteFunc(got, func(k, _ string) bool { return !strings.HasPrefix(k, "key/") })
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: it would be served: -want +got\n%s", what, d)
		}
		return "harmless"
	})
	t.Log("etcd:", count)
}

// flipHeaders counts what becomes of each bit of each header, flipped.
func flipHeaders(t *testing.T, cfg Config, page int, look func(what string) string) map[string]int {
	t.Helper()
	good, err := os.ReadFile(databasePath(cfg))
	if err != nil {
		t.Fatal(err)
	}
	db, err := os.OpenFile(databasePath(cfg), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	count := map[string]int{}
	for _, at := range headers(good, page) {
		for bit := range 8 {
			if _, err := db.WriteAt([]byte{good[at] ^ 1<<bit}, int64(at)); err != nil {
				t.Fatal(err)
			}
			count[look(fmt.Sprintf("bit %d of byte %d", bit, at))]++
		}
		if _, err := db.WriteAt(good[at:at+1], int64(at)); err != nil {
			t.Fatal(err)
		}
	}
	return count
}

// refusal checks that an error can be read by a person.
func refusal(t *testing.T, what string, err error) string {
	if n := len(err.Error()); n > 1000 {
		t.Errorf("%s: a complaint of %d bytes: %.200s", what, n, err)
	}
	return "refused"
}

// etcdFile is the directory of a server of etcd that was stopped in good
// order, with few objects.
func etcdFile(t testing.TB) Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "rs")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := Config{DataDir: filepath.Join(dir, "data"), ClientSocket: filepath.Join(dir, "s"), Log: slog.New(slog.DiscardHandler)}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "RIPSTOP_TEST_CHILD=store", "TEST_DATA="+cfg.DataDir, "TEST_SOCKET="+cfg.ClientSocket)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s, err := etcd.Open(etcd.Config{Endpoints: []string{"unix://" + cfg.ClientSocket}, Checksums: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	err = store.Initialise(ctx, s)
	cmd.Process.Signal(syscall.SIGTERM)
	if waited := cmd.Wait(); err != nil || waited != nil {
		t.Fatalf("store: %v, %v", err, waited)
	}
	return cfg
}

// TestVerifyDatabase_KeyLengthWithAFlippedBitIsToldByItsPlace: one such bit
// made opening the file take 15 GB.
func TestVerifyDatabase_KeyLengthWithAFlippedBitIsToldByItsPlace(t *testing.T) {
	cfg := etcdFile(t)
	if err := verifyDatabase(cfg); err != nil {
		t.Fatalf("verifyDatabase of a good file: %v", err)
	}
	good, err := os.ReadFile(databasePath(cfg))
	if err != nil {
		t.Fatal(err)
	}
	page := os.Getpagesize()
	flips := 0
	for at := 2 * page; at < len(good); at += page {
		if binary.NativeEndian.Uint64(good[at:]) != uint64(at/page) || good[at+8] != flagLeaf || good[at+10] == 0 {
			continue
		}
		bad := bytes.Clone(good)
		element := at + headerBytes
		bad[element+11] ^= 4
		if check(bad) == nil {
			continue // a page that is free now
		}
		flips++
		if err := os.WriteFile(databasePath(cfg), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, accepted := range []bool{false, true} {
			cfg.AcceptDamage = accepted
			err := verifyDatabase(cfg)
			key := binary.NativeEndian.Uint32(bad[element+8:])
			for _, part := range []string{
				databasePath(cfg), "damaged", fmt.Sprintf("page %d, byte %d: element 0 of %d", at/page, element, good[at+10]),
				fmt.Sprintf("%d and %d bytes", key, binary.NativeEndian.Uint32(bad[element+12:])), "restore a snapshot",
			} {
				if err == nil || !strings.Contains(err.Error(), part) {
					t.Errorf("verifyDatabase with damage accepted %t: %v, want it to say %q", accepted, err, part)
				}
			}
		}
	}
	if flips == 0 {
		t.Fatal("the file has no leaf: the test knows another layout")
	}
}

// TestVerifyDatabase_AFileThatIsBeingWrittenIsNotDamaged: the person who reads the
// message must not reach for a backup.
func TestVerifyDatabase_AFileThatIsBeingWrittenIsNotDamaged(t *testing.T) {
	cfg := etcdFile(t)
	reader, err := bolt.Open(databasePath(cfg), 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := verifyDatabase(cfg); err != nil {
		t.Errorf("verifyDatabase of a file that somebody reads: %v", err)
	}
	reader.Close()
	writer, err := bolt.Open(databasePath(cfg), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	err = verifyDatabase(cfg)
	if want := databasePath(cfg) + ": another process has it open for writing"; err == nil || err.Error() != want {
		t.Errorf("verifyDatabase of a file that somebody writes: %v, want %s", err, want)
	}
}

// FuzzPages: no file makes the walk fail otherwise than with a short fault, or
// bbolt fail on a file that was accepted. The input is what is changed in a
// good file: where, two bytes, and the bits, one byte, again and again. The
// checksums of the meta pages are set right, since no fuzzer would guess them.
func FuzzPages(f *testing.F) {
	var good [][]byte
	for _, o := range []bolt.Options{{PageSize: 1024, NoFreelistSync: true}, {PageSize: 1024}} {
		b, err := os.ReadFile(small(f, o))
		if err != nil {
			f.Fatal(err)
		}
		good = append(good, b)
		for i, at := range headers(b, 1024) {
			if i%37 == 0 {
				f.Add(o.NoFreelistSync, []byte{byte(at >> 8), byte(at), 1 << (i % 8)})
			}
		}
	}
	cfg := Config{DataDir: f.TempDir()}
	if err := os.MkdirAll(filepath.Dir(databasePath(cfg)), 0o700); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, noFreelist bool, edits []byte) {
		file := bytes.Clone(good[0])
		if !noFreelist {
			file = bytes.Clone(good[1])
		}
		for ; len(edits) > 2; edits = edits[3:] {
			file[int(binary.BigEndian.Uint16(edits))%len(file)] ^= edits[2]
		}
		for _, at := range []int{0, 1024} {
			body := file[at+headerBytes:]
			binary.NativeEndian.PutUint64(body[56:], sum64(body[:56]))
		}
		err := check(file)
		if err != nil {
			if !strings.Contains(err.Error(), "byte ") || len(err.Error()) > 300 {
				t.Fatalf("checkPages = %v, want a short fault with its place", err)
			}
			return
		}
		if err := os.WriteFile(databasePath(cfg), file, 0o600); err != nil {
			t.Fatal(err)
		}
		// What bbolt still finds comes back as an error; what it cannot bear
		// ends this process.
		_ = withDatabase(cfg, func(d database) error {
			if err := d.structure(); err != nil {
				return err
			}
			_, err := d.content()
			return err
		})
	})
}
