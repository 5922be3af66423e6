// SPDX-License-Identifier: Apache-2.0

package embedded_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
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

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd"
	"github.com/ripstop/ripstop/daemon/internal/store/etcd/embedded"
	"github.com/ripstop/ripstop/daemon/store"
)

// file is a file without the zeros it ends in, and its size with them.
type file struct {
	data []byte
	size int
}

// files is the content of a directory of the server.
type files map[string]file

// with is a copy in which one file is another.
func (f files) with(path string, other file) files {
	c := maps.Clone(f)
	c[path] = other
	return c
}

func readFiles(t *testing.T, dir string) files {
	t.Helper()
	all := files{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "ballast" || d.Name() == "lock" {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = file{bytes.Clone(bytes.TrimRight(b, "\x00")), len(b)}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (f files) restore(t *testing.T, dir string) {
	t.Helper()
	if err := os.RemoveAll(filepath.Join(dir, "member")); err != nil {
		t.Fatal(err)
	}
	for path, c := range f {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, c.data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, int64(c.size)); err != nil {
			t.Fatal(err)
		}
	}
}

// content is all objects of a store, encoded; an Unreadable is just that.
func content(ctx context.Context, s *etcd.Store) (map[string]string, error) {
	all := map[string]string{}
	for _, k := range []api.Kind{api.KindGlobalNetworkSet, api.KindTier, api.KindGlobalNetworkPolicy} {
		objs, _, err := s.List(ctx, k, store.ListOptions{})
		if err != nil {
			return nil, err
		}
		for _, o := range objs {
			if _, bad := o.(*api.Unreadable); bad {
				all[o.Key().String()] = "unreadable"
				continue
			}
			b, err := api.EncodeStored(o)
			if err != nil {
				return nil, err
			}
			all[o.Key().String()] = string(b)
		}
	}
	return all, nil
}

// fill writes objects, some several times, and deletes some.
func fill(t *testing.T, s *etcd.Store) map[string]string {
	t.Helper()
	ctx := testContext(t)
	if err := store.Initialise(ctx, s); err != nil {
		t.Fatal(err)
	}
	for i := range 120 {
		for range 1 + i%3 {
			if _, err := s.Put(ctx, set(fmt.Sprintf("set-%03d", i), fmt.Sprintf("10.%d.0.0/16", i)), store.Always()); err != nil {
				t.Fatal(err)
			}
		}
		p := &api.GlobalNetworkPolicy{}
		p.Kind, p.APIVersion, p.Name = api.KindGlobalNetworkPolicy, api.VersionCalico, fmt.Sprintf("policy-%03d", i)
		p.Spec.Tier, p.Spec.Selector, p.Spec.Types = "default", fmt.Sprintf("app == 'a%d'", i), []api.PolicyType{api.Ingress}
		p.Spec.Ingress = []api.Rule{{Action: api.Allow}}
		if _, err := s.Put(ctx, p, store.Always()); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			if err := s.Delete(ctx, p.Key(), store.Always()); err != nil {
				t.Fatal(err)
			}
		}
	}
	all, err := content(testContext(t), s)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// outcome starts a server on damaged files and says what became of it:
// "refused", "right" or "unreadable"; anything else is an error of the test.
func outcome(t *testing.T, p place, want map[string]string, what string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = p.env()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	type result struct {
		all map[string]string
		err error
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	answered := make(chan result, 1)
	go func() {
		defer close(answered)
		s, err := etcd.Open(etcd.Config{Endpoints: []string{"unix://" + p.socket}, Checksums: true})
		if err != nil {
			answered <- result{nil, err}
			return
		}
		defer s.Close()
		all, err := content(ctx, s)
		answered <- result{all, err}
	}()
	defer func() {
		cancel()
		for range answered {
		}
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Fatalf("%s: server ended without an error: %s", what, out.String())
		}
		if !strings.Contains(out.String(), "damaged") {
			t.Logf("%s: refused by etcd itself: %.300s", what, out.String())
		}
		return "refused"
	case r := <-answered:
		cmd.Process.Signal(syscall.SIGTERM)
		<-ended
		if r.err != nil {
			return "refused"
		}
		verdict := "right"
		for k, v := range r.all {
			if v == "unreadable" && want[k] != "" {
				verdict = "unreadable"
				r.all[k] = want[k]
			}
		}
		if d := cmp.Diff(want, r.all); d != "" {
			t.Errorf("%s: served wrong data without a word: -want +got\n%s", what, d)
		}
		return verdict
	}
}

// TestRun_DamagedFiles flips bits and cuts files of a stopped server. Never is
// anything else served than what was stored.
func TestRun_DamagedFiles(t *testing.T) {
	for _, c := range []struct {
		name  string
		crash bool
	}{{"StoppedCleanly", false}, {"Killed", true}} {
		t.Run(c.name, func(t *testing.T) {
			rng := random(t)
			p := newPlace(t)
			r := supervise(t, p, nil)
			st := r.ready()
			s := r.open(t)
			want := fill(t, s)
			if c.crash {
				waitSealed(t, p, s)
				syscall.Kill(st.PID, syscall.SIGKILL)
			}
			r.stop()
			base := readFiles(t, p.data)
			base.restore(t, p.data)
			if got := outcome(t, p, want, "no damage"); got != "right" {
				t.Fatalf("server without damage: %s", got)
			}
			var names []string
			for path, c := range base {
				if len(c.data) > 0 {
					names = append(names, path)
				}
			}
			count := map[string]int{}
			for range *flipsFlag / 2 {
				path := pick(rng, names)
				flipped := file{bytes.Clone(base[path].data), base[path].size}
				bit := rng.IntN(8 * len(flipped.data))
				flipped.data[bit/8] ^= 1 << (bit % 8)
				base.with(path, flipped).restore(t, p.data)
				what := fmt.Sprintf("bit %d of %s", bit, strings.TrimPrefix(path, p.data))
				count[filepath.Ext(path)+" "+outcome(t, p, want, what)]++
			}
			for range *flipsFlag / 10 {
				path := pick(rng, names)
				n := rng.IntN(len(base[path].data))
				base.with(path, file{base[path].data[:n], n}).restore(t, p.data)
				what := fmt.Sprintf("%s cut to %d bytes", strings.TrimPrefix(path, p.data), n)
				count["cut "+filepath.Ext(path)+" "+outcome(t, p, want, what)]++
			}
			t.Logf("outcomes: %v", count)
		})
	}
}

// pick prefers the database, which has no checksums of its own.
func pick(rng *rand.Rand, names []string) string {
	for _, n := range names {
		if filepath.Base(n) == "db" && rng.IntN(2) == 0 {
			return n
		}
	}
	return names[rng.IntN(len(names))]
}

// waitSealed waits until the seal covers everything that was written.
func waitSealed(t *testing.T, p place, s *etcd.Store) {
	t.Helper()
	st, err := s.Status(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`"revision":%d,`, st.Revision)
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if b, _ := os.ReadFile(filepath.Join(p.data, "seal.json")); bytes.Contains(b, []byte(want)) {
			return
		}
	}
	b, _ := os.ReadFile(filepath.Join(p.data, "seal.json"))
	t.Fatalf("seal is %s, want one of revision %d", b, st.Revision)
}

// TestRun_FlippedWhileServing flips bits of the database under the running
// server, which maps the file: a read gives the right value or none.
func TestRun_FlippedWhileServing(t *testing.T) {
	rng := random(t)
	p := newPlace(t)
	r := supervise(t, p, nil)
	r.ready()
	s := r.open(t)
	want := fill(t, s)
	waitSealed(t, p, s)
	db := filepath.Join(p.data, "member", "snap", "db")
	b, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(db, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	count := map[string]int{}
	for range *flipsFlag {
		// Only inside of stored values: other bits may make the server end,
		// which other tests are for.
		i := rng.IntN(len(bytes.TrimRight(b, "\x00")))
		j := bytes.Index(b[i:], []byte(`"spec":{`))
		if j < 0 {
			continue
		}
		off, mask := i+j+rng.IntN(30), byte(1)<<rng.IntN(8)
		if _, err := f.WriteAt([]byte{b[off] ^ mask}, int64(off)); err != nil {
			t.Fatal(err)
		}
		all, err := content(testContext(t), s)
		if err != nil {
			t.Fatalf("byte %d: %v", off, err)
		}
		bad := 0
		for k, v := range all {
			if v == "unreadable" {
				bad++
				all[k] = want[k]
			}
		}
		if d := cmp.Diff(want, all); d != "" {
			t.Errorf("byte %d flipped by %x: -want +got\n%s", off, mask, d)
		}
		count[fmt.Sprint("unreadable ", bad)]++
		if _, err := f.WriteAt([]byte{b[off]}, int64(off)); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("outcomes: %v", count)
	if count["unreadable 1"] == 0 {
		t.Error("no flip was noticed: this test does not hit live values")
	}
}

// TestRun_DamageCanBeAccepted: the person in charge can have what is left.
func TestRun_DamageCanBeAccepted(t *testing.T) {
	p := newPlace(t)
	r := supervise(t, p, nil)
	r.ready()
	want := fill(t, r.open(t))
	r.stop()
	db := filepath.Join(p.data, "member", "snap", "db")
	b, err := os.ReadFile(db)
	if err != nil {
		t.Fatal(err)
	}
	// The newest value of set-007 is the last one in the file's key order.
	value := []byte("10.7.0.0/16")
	for i := 0; ; {
		j := bytes.Index(b[i:], value)
		if j < 0 {
			break
		}
		b[i+j] ^= 4
		i += j + 1
	}
	if err := os.WriteFile(db, b, 0o600); err != nil {
		t.Fatal(err)
	}
	refused := supervise(t, p, func(c *embedded.SupervisorConfig) { c.RestartAfter = time.Minute })
	st := refused.wait("refusing", func(st embedded.State) bool { return st.LastError != "" })
	refused.stop()
	for _, part := range []string{"damaged", p.data, "/globalnetworksets/set-007"} {
		if !strings.Contains(st.LastError, part) {
			t.Errorf("LastError = %q, want it to say %q", st.LastError, part)
		}
	}
	accepted := supervise(t, p, func(c *embedded.SupervisorConfig) { c.Env = p.env("TEST_ACCEPT=1") })
	accepted.ready()
	got, err := content(testContext(t), accepted.open(t))
	if err != nil {
		t.Fatal(err)
	}
	want["GlobalNetworkSet(set-007)"] = "unreadable"
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("content: -want +got\n%s", d)
	}
	accepted.stop()
	// It was sealed as it is, and starts again.
	supervise(t, p, nil).ready()
}
