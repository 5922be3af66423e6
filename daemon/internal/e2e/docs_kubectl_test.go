// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/web/apiserver/kubetest"
)

// TestDocs_HowToAutomateIsTrue types the page on curl and kubectl.
func TestDocs_HowToAutomateIsTrue(t *testing.T) {
	kubectl := kubetest.Program(t, "kubectl")
	d := readDocument(t, "docs/how-to/automation.md")
	srv := startServer(t)
	socket := srv.dir + "/run/api.sock"
	dir, home := clone(t), t.TempDir()
	if err := os.Symlink(kubectl, filepath.Join(home, "kubectl")); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(home, "kubeconfig")
	if err := os.WriteFile(config, []byte(kubetest.Config(proxyTo(t, socket))), 0o600); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(script(d, d.blocksOf(t, "")), "/run/ripstop/api.sock", socket)
	bash(t, nil, dir, text, "HOME="+home, "KUBECONFIG="+config, "PATH="+home+":"+os.Getenv("PATH"))
}
