// SPDX-License-Identifier: Apache-2.0

package test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var abortStep = flag.Int("abort-step", 11, "after each how many lines of a maintainer script it is killed; 1: after every line")

// abortScript kills a maintainer script of an installed or unpacked package
// after one of its lines, with no chance to tidy up, while dpkg runs it:
//
//	abort PACKAGE SCRIPT LINE COMMAND...
//
// It prints whether COMMAND failed, and the script is whole again afterwards.
const abortScript = `#!/bin/sh
set -eu
script=/var/lib/dpkg/info/$1.$2 line=$3
shift 3
cp -p "$script" /var/tmp/whole
sed -i "${line}a kill -KILL \$\$" "$script"
sh -n "$script"
rc=0
"$@" >/var/tmp/abort.log 2>&1 || rc=$?
[ ! -e "$script" ] || cp -p /var/tmp/whole "$script"
if [ $rc -ne 0 ] || grep -q 'Killed\|signal' /var/tmp/abort.log; then echo aborted; else echo whole; fi
`

// abort lets dpkg run into a script that dies after a line, and reports
// whether it came so far.
func (m *machine) abort(pkg, script string, line int, command ...string) bool {
	m.t.Helper()
	out := m.run(append([]string{"sh", "/root/abort.sh", pkg, script, fmt.Sprint(line)}, command...)...)
	return strings.Contains(out, "aborted")
}

// lines is how many lines a package's maintainer script has.
func lines(t testing.TB, pkg, script string) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("%s/packaging/scripts/%s.%s.deb", root, pkg, script))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "\n")
}

// wantOn checks that the host is protected, now and at its next start.
func (m *machine) wantOn(when string) {
	m.t.Helper()
	m.settled()
	m.want(when, map[int]bool{80: true, 81: false})
	if out, err := m.try("exec", "systemctl", "is-enabled", "ripstop-boot", "ripstopd", "ripstop-server"); err != nil {
		m.t.Errorf("%s: units are not all enabled: %v\n%s", when, err, out)
	}
	if out := m.run("dpkg", "--audit"); out != "" {
		m.t.Errorf("%s: dpkg finds packages that are not whole:\n%s", when, out)
	}
}

// TestDeb_AbortedScriptsLeaveProtectionOn: the maintainer scripts of both
// packages are killed after their lines, one after the other, in an upgrade and
// in a removal. In the upgrade no packet that policy denies is let in and no
// flow is cut, before and after dpkg --configure -a, which succeeds; a removal
// that was aborted leaves the host protected, or can be finished.
func TestDeb_AbortedScriptsLeaveProtectionOn(t *testing.T) {
	dir := built(t, "1.0.0")
	m := boot(t)
	m.listen(22, 80, 81)
	m.install(dir)
	m.pushText(policy, "/root/policy.yaml")
	m.pushText(abortScript, "/root/abort.sh")
	m.run("ripstop", "apply", "-f", "/root/policy.yaml")
	m.wantOn("policy applied")

	deb := func(pkg string) string {
		return "/var/tmp/" + filepath.Base(files(t, dir, pkg+"_*.deb")[0])
	}
	packages, reached, tried := []string{"ripstop", "ripstop-server"}, 0, 0
	each := func(pkg, script string, do func(line int) bool) {
		n := lines(t, pkg, script)
		for line := n; line > 0; line -= *abortStep {
			tried++
			if do(line) {
				reached++
			}
			if t.Failed() {
				t.Fatalf("%s.%s killed after line %d", pkg, script, line)
			}
		}
	}

	end := m.watch(80, 81)
	for _, pkg := range packages {
		for _, script := range []string{"prerm", "postrm"} { // of the old version
			each(pkg, script, func(line int) bool {
				died := m.abort(pkg, script, line, "dpkg", "--force-unsafe-io", "--unpack", deb(pkg))
				m.run("dpkg", "--configure", "-a")
				return died
			})
		}
		each(pkg, "postinst", func(line int) bool {
			m.run("dpkg", "--force-unsafe-io", "--unpack", deb(pkg))
			died := m.abort(pkg, "postinst", line, "dpkg", "--configure", pkg)
			m.want("postinst killed", map[int]bool{80: true, 81: false})
			m.run("dpkg", "--configure", "-a")
			return died
		})
		m.wantOn("upgrade of " + pkg)
	}
	end("upgrades with scripts that were killed")
	if reached == 0 {
		t.Error("no script was killed in an upgrade")
	}

	before := reached
	for _, pkg := range packages {
		each(pkg, "prerm", func(line int) bool {
			died := m.abort(pkg, "prerm", line, "dpkg", "--remove", pkg)
			if !died { // the line was not reached: the package is gone
				m.run("dpkg", "--force-unsafe-io", "-i", deb(pkg))
			}
			m.wantOn(fmt.Sprintf("removal of %s, prerm killed after line %d", pkg, line))
			return died
		})
		each(pkg, "postrm", func(line int) bool {
			died := m.abort(pkg, "postrm", line, "dpkg", "--remove", pkg)
			m.run("dpkg", "--remove", pkg)
			m.run("dpkg", "--force-unsafe-io", "-i", deb(pkg))
			m.wantOn(fmt.Sprintf("removal of %s, postrm killed after line %d", pkg, line))
			return died
		})
	}
	if reached == before {
		t.Error("no script was killed in a removal")
	}
	t.Logf("killed %d times in %d tries, after each %d lines", reached, tried, *abortStep)
}
