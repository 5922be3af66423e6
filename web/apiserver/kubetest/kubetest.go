// SPDX-License-Identifier: Apache-2.0

// Package kubetest lends programs of Kubernetes to tests: it builds them once
// from their module and keeps them outside of the tree. It is imported by
// tests only, and the product requires nothing of what it builds.
package kubetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Release is the release of Kubernetes whose programs are built.
const Release = "v1.35.8"

// stagingModules are the modules that k8s.io/kubernetes is published with;
// its own go.mod names them in a way that only works in its own tree.
var stagingModules = strings.Fields(`api apiextensions-apiserver apimachinery apiserver cli-runtime client-go
	cloud-provider cluster-bootstrap code-generator component-base component-helpers controller-manager cri-api
	cri-client csi-translation-lib dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator
	kube-controller-manager kube-proxy kube-scheduler kubectl kubelet metrics mount-utils pod-security-admission
	sample-apiserver sample-cli-plugin sample-controller`)

// cacheDir is where programs that tests build are kept from run to run.
func cacheDir(t testing.TB) string {
	t.Helper()
	dir := "/var/cache/ripstop-test"
	if os.Geteuid() != 0 {
		user, err := os.UserCacheDir()
		if err != nil {
			t.Skipf("no folder to keep kubectl in: %v", err)
		}
		dir = filepath.Join(user, "ripstop-test")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Skipf("no folder to keep kubectl in: %v", err)
	}
	return dir
}

// building keeps two tests from building the same program.
var building sync.Mutex

// Program is a program of k8s.io/kubernetes, built if it is not in
// the cache: that takes some minutes once, in a module of its own, so that
// the product requires none of it.
func Program(t testing.TB, name string) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	path := filepath.Join(cacheDir(t), name+"-"+Release)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if testing.Short() {
		t.Skipf("%s is not built yet, which takes minutes; go test without -short builds it", path)
	}
	fmt.Fprintf(os.Stderr, "building %s from k8s.io/kubernetes %s, once, for %s\n", name, Release, path)
	dir := t.TempDir()
	mod := "module ripstop.test/kubernetes\n\ngo 1.25.0\n\nrequire k8s.io/kubernetes " + Release + "\n\n"
	staging := strings.Replace(Release, "v1.", "v0.", 1)
	for _, m := range stagingModules {
		mod += "replace k8s.io/" + m + " => k8s.io/" + m + " " + staging + "\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o644); err != nil {
		t.Fatal(err)
	}
	version := "k8s.io/component-base/version."
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags",
		"-s -w -X "+version+"gitVersion="+Release+" -X "+version+"gitMajor=1 -X "+version+"gitMinor="+strings.Split(Release, ".")[1],
		"-o", path+".new", "k8s.io/kubernetes/cmd/"+name)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-mod=mod")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// DebianKubectl is the kubectl of Debian's package, unpacked and not
// installed.
func DebianKubectl(t testing.TB) string {
	t.Helper()
	building.Lock()
	defer building.Unlock()
	path := filepath.Join(cacheDir(t), "kubectl-debian")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	dir := t.TempDir()
	for _, line := range []string{"apt-get download kubernetes-client", "dpkg -x kubernetes-client*.deb .", "mv usr/bin/kubectl " + path} {
		cmd := exec.Command("sh", "-c", line)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("no kubectl of Debian: %s: %v\n%s", line, err, out)
		}
	}
	return path
}

// Config is the file that kubectl needs to find a server that asks for nothing.
func Config(url string) string {
	return `apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "` + url + `"}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
users: [{name: u, user: {}}]
current-context: c
`
}
