// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/client"
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

// TestDocs_HowToAnsibleIsTrue types the page on Ansible.
func TestDocs_HowToAnsibleIsTrue(t *testing.T) {
	collections := kubetest.AnsibleCollections(t)
	d := readDocument(t, "docs/how-to/ansible.md")
	srv := startServer(t)
	dir, home := clone(t), t.TempDir()
	config := filepath.Join(home, "kubeconfig")
	if err := os.WriteFile(config, []byte(kubetest.Config(proxyTo(t, srv.dir+"/run/api.sock"))), 0o600); err != nil {
		t.Fatal(err)
	}
	bash(t, nil, dir, script(d, d.blocksOf(t, "")), "HOME="+home, "KUBECONFIG="+config, "K8S_AUTH_KUBECONFIG="+config,
		"ANSIBLE_COLLECTIONS_PATH="+collections, "ANSIBLE_LOCALHOST_WARNING=false", "ANSIBLE_PYTHON_INTERPRETER=/usr/bin/python3",
		"RIPSTOP_SERVER="+srv.socket(), "PATH="+dir+"/bin:"+os.Getenv("PATH"))
}

// TestDocs_HowToGitOpsIsTrue types the page on git.
func TestDocs_HowToGitOpsIsTrue(t *testing.T) {
	d := readDocument(t, "docs/how-to/gitops.md")
	srv := startServer(t)
	dir := clone(t)
	bash(t, nil, dir, script(d, d.blocksOf(t, "")), "HOME="+t.TempDir(), "RIPSTOP_SERVER="+srv.socket(), "PATH="+dir+"/bin:"+os.Getenv("PATH"))
}

// TestDocs_HowToConfirmIsTrue types the page on changes that go back.
func TestDocs_HowToConfirmIsTrue(t *testing.T) {
	d := readDocument(t, "docs/how-to/confirm.md")
	srv := startServer(t)
	dir := clone(t)
	out := bash(t, nil, dir, script(d, d.blocksOf(t, "")), "HOME="+t.TempDir(), "RIPSTOP_SERVER="+srv.socket(), "PATH="+dir+"/bin:"+os.Getenv("PATH"))
	if !strings.Contains(out, "rolled back: by user root") {
		t.Errorf("the history does not say that the change was rolled back:\n%s", out)
	}
}

// TestDocs_HowToPolicyTestsIsTrue types the page on policy tests.
func TestDocs_HowToPolicyTestsIsTrue(t *testing.T) {
	d := readDocument(t, "docs/how-to/policy-tests.md")
	srv := startServer(t)
	dir := clone(t)
	out := bash(t, nil, dir, script(d, d.blocksOf(t, "")), "HOME="+t.TempDir(), "RIPSTOP_SERVER="+srv.socket(), "PATH="+dir+"/bin:"+os.Getenv("PATH"))
	for _, b := range d.blocks {
		if b.language == "text" && !strings.Contains(out, b.text) {
			t.Errorf("it does not print what line %d says:\n%s\nbut:\n%s", b.line, b.text, out)
		}
	}
}

// TestDocs_HowToRolesIsTrue types the page on roles.
func TestDocs_HowToRolesIsTrue(t *testing.T) {
	d := readDocument(t, "docs/how-to/roles.md")
	srv := startServer(t)
	dir := clone(t)
	bash(t, nil, dir, script(d, d.blocksOf(t, "")), "HOME="+t.TempDir(), "RIPSTOP_SERVER="+srv.socket(), "PATH="+dir+"/bin:"+os.Getenv("PATH"))
}

// TestDocs_HowToCertificatesIsTrue types the page on certificates and tokens.
func TestDocs_HowToCertificatesIsTrue(t *testing.T) {
	kubectl := kubetest.Program(t, "kubectl")
	d := readDocument(t, "docs/how-to/certificates.md")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	srv := &server{dir: shortDir(t)}
	srv.process = start(t, nil, "ripstop-server", "--run-dir", srv.dir+"/run", "--state-dir", srv.dir+"/state", "--listen", address)
	if srv.store, err = client.New(client.Config{Server: srv.socket()}); err != nil {
		t.Fatal(err)
	}
	srv.ready(t)
	dir, home := clone(t), t.TempDir()
	if err := os.Symlink(kubectl, filepath.Join(home, "kubectl")); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("127.0.0.1:8443", address, "/var/lib/ripstop/pki", srv.dir+"/state/pki").Replace(script(d, d.blocksOf(t, "")))
	// The server of the environment would go before a context.
	text = strings.ReplaceAll(text, "ripstop version --context", "env -u RIPSTOP_SERVER ripstop version --context")
	bash(t, nil, dir, text, "HOME="+home, "RIPSTOP_SERVER="+srv.socket(), "PATH="+home+":"+dir+"/bin:"+os.Getenv("PATH"))
}

// TestDocs_TerraformIsWellFormed: the example is as terraform fmt writes it.
// To plan it takes a provider that only Terraform's registry has.
func TestDocs_TerraformIsWellFormed(t *testing.T) {
	terraform, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("terraform is not installed")
	}
	cmd := exec.Command(terraform, "fmt", "-check", "-diff", filepath.Join(top, "docs/how-to/terraform"))
	cmd.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE=/dev/null", "CHECKPOINT_DISABLE=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("terraform fmt: %v\n%s", err, out)
	}
}
