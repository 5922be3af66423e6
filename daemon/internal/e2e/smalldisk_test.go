// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/internal/netnstest"
	"github.com/ripstop/ripstop/daemon/store"
)

// smallDisk is a server whose state is on a small file system of its own. It
// is mounted in a mount namespace that ends with the server.
type smallDisk struct{ *server }

const smallDiskBytes = 160 << 20

func newSmallDisk(t testing.TB) smallDisk {
	t.Helper()
	s := &server{dir: shortDir(t)}
	if err := os.Mkdir(s.dir+"/state", 0o755); err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("mount -t tmpfs -o size=%d,mode=0755 tmpfs %[2]s/state && exec %[3]s --run-dir %[2]s/run --state-dir %[2]s/state",
		smallDiskBytes, s.dir, binary(t, "ripstop-server"))
	s.process = startCommand(t, nil, exec.Command("unshare", "--mount", "--propagation", "private", "sh", "-c", script))
	c, err := client.New(client.Config{Server: s.socket()})
	if err != nil {
		t.Fatal(err)
	}
	s.store = c
	s.ready(t)
	return smallDisk{s}
}

// inside is the path of a file on the small disk, seen from here.
func (s smallDisk) inside(name string) string {
	return fmt.Sprintf("/proc/%d/root%s/state/%s", s.cmd.Process.Pid, s.dir, name)
}

// agentBeside starts an agent whose state is on the same disk.
func (s smallDisk) agentBeside(t testing.TB, ns *netnstest.NS) *agent {
	t.Helper()
	a := &agent{dir: s.dir + "/h", ns: ns, etcd: s.etcd()}
	a.process = startCommand(t, ns, exec.Command("nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", s.cmd.Process.Pid),
		binary(t, "ripstopd"), "--role", "agent", "--node", here, "--etcd-endpoints", a.etcd,
		"--run-dir", a.dir+"/run", "--state-dir", s.dir+"/state/h", "--metrics-address", ""))
	return a
}

// fill leaves so many bytes free.
func (s smallDisk) fill(t testing.TB, left int64) {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs(s.inside(""), &st); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(s.inside("filler"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	size, err := f.Seek(0, 2)
	if err != nil {
		t.Fatal(err)
	}
	more := int64(st.Bavail)*st.Bsize - left
	if more <= 0 {
		return
	}
	// The last bytes are taken one page at a time: others write meanwhile.
	if err := unix.Fallocate(int(f.Fd()), 0, size, more); err != nil && left > 0 {
		t.Fatalf("filling the disk: %v", err)
	}
	if left > 0 {
		return
	}
	page := make([]byte, st.Bsize)
	for f.Seek(0, 2); err == nil; {
		_, err = f.Write(page)
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
}

// room gives back what fill took.
func (s smallDisk) room(t testing.TB) {
	t.Helper()
	if err := os.Remove(s.inside("filler")); err != nil {
		t.Fatal(err)
	}
}

// tryPut writes an object through the REST API.
func (s smallDisk) tryPut(name string) (api.Revision, error) {
	docs, err := api.DecodeAll([]byte(fmt.Sprintf("apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: %s, annotations: {at: %q}}\nspec: {nets: [192.0.2.7/32]}\n", name, time.Now())), "test")
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience/2)
	defer cancel()
	return s.store.Put(ctx, docs[0].Object, store.Always())
}

// refuses checks that a write is answered with 507 and what to do about it.
func (s smallDisk) refuses(t testing.TB) {
	t.Helper()
	_, err := s.tryPut("refused")
	if !errors.Is(err, store.ErrNoSpace) || !strings.Contains(err.Error(), "make room") {
		t.Errorf("writing with a full disk: %v, want ErrNoSpace with what to do", err)
	}
	body := strings.NewReader(`{"apiVersion":"projectcalico.org/v3","kind":"GlobalNetworkSet","metadata":{"name":"raw"},"spec":{}}`)
	r, err := s.http().Post("http://api/apis/projectcalico.org/v3/globalnetworksets", "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusInsufficientStorage {
		t.Errorf("POST with a full disk answers %s, want 507", r.Status)
	}
}
