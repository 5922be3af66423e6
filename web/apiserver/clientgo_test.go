// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/store"
)

// TestClientGo runs the tests of the module in clientgo, client-go's dynamic
// informer and controller-runtime's cache, against a server. The first run
// builds those libraries, which takes minutes.
func TestClientGo(t *testing.T) {
	if testing.Short() {
		t.Skip("client-go takes minutes to build; go test without -short builds it")
	}
	k := newKubeServer(t)
	t.Cleanup(func() { k.close() })
	control := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		switch r.URL.Path {
		case "/restart":
			k.close()
			err = k.start()
		case "/compact":
			var rev api.Revision
			if _, rev, err = k.store.List(r.Context(), api.KindTier, listAll); err == nil {
				err = k.store.Compact(r.Context(), rev)
			}
		case "/delete": // while the server is away, so that no watch tells of it
			k.close()
			if err = k.store.Delete(r.Context(), api.Key{Kind: api.KindGlobalNetworkSet, Name: r.URL.Query().Get("name")}, store.Always()); err == nil {
				err = k.start()
			}
		default:
			err = fmt.Errorf("no such control")
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	}))
	t.Cleanup(control.Close)
	cmd := exec.CommandContext(t.Context(), "go", "test", "-vet=off", "-count=1", "-v", "./...")
	cmd.Dir = "clientgo"
	cmd.Env = append(os.Environ(), "RIPSTOP_TEST_SERVER="+k.url(), "RIPSTOP_TEST_CONTROL="+control.URL)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "--- ") {
			t.Log(strings.TrimSpace(line))
		}
	}
}
