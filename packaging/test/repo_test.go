// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// repository makes repositories of version 1.0.0 at /srv/ripstop of a root,
// signed with a key that is thrown away.
func repository(t *testing.T, root string) (path string) {
	t.Helper()
	path = root + "/srv/ripstop"
	from, err := filepath.Abs(built(t, "1.0.0"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("../repo.sh")
	cmd.Env = append(os.Environ(), "FROM="+from, "REPO="+path, "REPO_URL=file:///srv/ripstop", "SIGNING_KEY=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("packaging/repo.sh: %v\n%s", err, out)
	}
	return path
}

// damage changes a byte in the middle of each file that matches and gives back
// how they were; their lengths stay.
func damage(t *testing.T, pattern string) (undo func()) {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("no %s to damage: %v", pattern, err)
	}
	before := map[string][]byte{}
	for _, f := range found {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		before[f] = bytes.Clone(b)
		b[len(b)/2] ^= 1
		write(t, f, b)
	}
	return func() {
		for f, b := range before {
			write(t, f, b)
		}
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRepo_AptInstallsOnlyWhatIsSigned: with the key in place apt installs
// both packages; it takes neither lists signed with another key, nor lists or
// packages that were changed.
func TestRepo_AptInstallsOnlyWhatIsSigned(t *testing.T) {
	root := ownRoot(t)
	repo := repository(t, root)
	stranger := read(t, repository(t, t.TempDir())+"/ripstop.asc")
	write(t, root+"/etc/apt/sources.list.d/ripstop.sources", read(t, repo+"/ripstop.sources"))
	write(t, root+"/etc/apt/sources.list", nil) // the repository and no other

	apt := func(args ...string) (string, error) {
		// In a network namespace of its own: removal cleans up the rules.
		cmd := exec.Command("unshare", append([]string{"-n", "chroot", root, "env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get", "-y", "--no-install-recommends"}, args...)...)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	forget := func() {
		t.Helper()
		if err := os.RemoveAll(root + "/var/lib/apt/lists"); err != nil {
			t.Fatal(err)
		}
		if out, err := apt("clean"); err != nil {
			t.Fatalf("apt-get clean: %v\n%s", err, out)
		}
	}
	refused := func(when, why string) {
		t.Helper()
		forget()
		told, _ := apt("update")
		out, err := apt("install", "ripstop", "ripstop-server")
		if err == nil || !strings.Contains(told+out, why) {
			t.Errorf("%s: apt-get install: %v, want it refused with %q:\n%s%s", when, err, why, told, out)
		}
		if _, err := os.Stat(root + "/usr/sbin/ripstopd"); err == nil {
			t.Fatalf("%s: ripstopd is installed", when)
		}
	}
	refused("without a key", "is not signed")
	write(t, root+"/etc/apt/keyrings/ripstop.asc", stranger)
	refused("signed with another key", "NO_PUBKEY")
	write(t, root+"/etc/apt/keyrings/ripstop.asc", read(t, repo+"/ripstop.asc"))

	undo := damage(t, repo+"/apt/dists/stable/main/binary-*/Packages*")
	undoHashed := damage(t, repo+"/apt/dists/stable/main/binary-*/by-hash/SHA256/*")
	refused("lists changed", "Hash Sum mismatch")
	undo()
	undoHashed()
	undo = damage(t, repo+"/apt/dists/stable/InRelease")
	refused("signed text changed", "BADSIG")
	undo()
	undo = damage(t, repo+"/apt/pool/ripstop_*.deb")
	refused("package changed", "Hash Sum mismatch")
	undo()

	forget()
	if out, err := apt("update"); err != nil || strings.Contains(out, "W:") {
		t.Fatalf("apt-get update: %v\n%s", err, out)
	}
	if out, err := apt("install", "ripstop", "ripstop-server"); err != nil {
		t.Fatalf("apt-get install: %v\n%s", err, out)
	}
	out, err := exec.Command("chroot", root, "ripstop", "version").CombinedOutput()
	if !strings.Contains(string(out), "1.0.0") {
		t.Errorf("ripstop version after apt-get install: %v\n%s", err, out)
	}
}

// standIn is what a machine that is made of rpms has, as far as ours ask.
const standIn = `
name: systemd
arch: all
version: "252"
release: "1"
maintainer: The Ripstop authors <packages@ripstop.io>
license: none
description: stands for the systemd of a distribution
provides: [/bin/sh]
`

// TestRepo_DnfInstallsOnlyWhatIsSigned: dnf fetches the key that the
// repository's file names and installs both packages; it takes neither
// metadata signed with another key, nor metadata or packages that were changed.
func TestRepo_DnfInstallsOnlyWhatIsSigned(t *testing.T) {
	root := ownRoot(t)
	repo := repository(t, root)
	stranger := read(t, repository(t, t.TempDir())+"/ripstop.asc")
	own := read(t, repo+"/ripstop.asc")

	dir := t.TempDir()
	write(t, dir+"/systemd.yaml", []byte(standIn))
	if out, err := exec.Command(nfpm(t), "package", "--config", dir+"/systemd.yaml", "--packager", "rpm", "--target", dir).CombinedOutput(); err != nil {
		t.Fatalf("nfpm: %v\n%s", err, out)
	}
	if out, err := exec.Command("createrepo_c", "--quiet", dir).CombinedOutput(); err != nil {
		t.Fatalf("createrepo_c: %v\n%s", err, out)
	}
	// Paths of a repository are those of this machine, not of the root.
	given := strings.ReplaceAll(string(read(t, repo+"/ripstop.repo")), "file:///srv", "file://"+root+"/srv")
	write(t, dir+"/repos/ripstop.repo", []byte(given+"\n[stand-in]\nname=stand-in\nbaseurl=file://"+dir+"\ngpgcheck=0\n"))

	dnf := func() (string, error) {
		cmd := exec.Command("unshare", "-n", "dnf", "-y", "--installroot="+root, "--releasever=1", "--setopt=reposdir="+dir+"/repos",
			"--setopt=install_weak_deps=False", "install", "ripstop", "ripstop-server")
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	forget := func() {
		t.Helper()
		for _, d := range []string{"/var/cache/dnf", "/var/lib/dnf", "/var/lib/rpm"} {
			if err := os.RemoveAll(root + d); err != nil {
				t.Fatal(err)
			}
		}
	}
	refused := func(when, why string) {
		t.Helper()
		forget()
		out, err := dnf()
		if err == nil || !strings.Contains(out, why) {
			t.Errorf("%s: dnf install: %v, want it refused with %q:\n%s", when, err, why, out)
		}
		if _, err := os.Stat(root + "/usr/sbin/ripstopd"); err == nil {
			t.Fatalf("%s: ripstopd is installed", when)
		}
	}
	write(t, repo+"/ripstop.asc", stranger)
	refused("signed with another key", "Bad GPG signature")
	write(t, repo+"/ripstop.asc", own)
	undo := damage(t, repo+"/dnf/*/repodata/repomd.xml")
	refused("signed text changed", "Bad GPG signature")
	undo()
	undo = damage(t, repo+"/dnf/*/repodata/*-primary.xml.gz")
	refused("lists changed", "hecksum")
	undo()
	undo = damage(t, repo+"/dnf/*/ripstop-1*.rpm")
	refused("package changed", "hecksum")
	undo()

	forget()
	if out, err := dnf(); err != nil {
		t.Fatalf("dnf install: %v\n%s", err, out)
	}
	out, err := exec.Command("chroot", root, "ripstop", "version").CombinedOutput()
	if !strings.Contains(string(out), "1.0.0") {
		t.Errorf("ripstop version after dnf install: %v\n%s", err, out)
	}
}
