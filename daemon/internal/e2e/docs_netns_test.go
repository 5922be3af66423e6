// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ripstop/ripstop/daemon/internal/netnstest"
)

// clone is a folder that looks like a user's clone with the programs built:
// links to the project's files, bin/ with the programs of this test run.
func clone(t *testing.T) string {
	t.Helper()
	dir := shortDir(t)
	abs, err := filepath.Abs(top)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"docs", "vagrant"} {
		if err := os.Symlink(filepath.Join(abs, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Dir(binary(t, "ripstop")), filepath.Join(dir, "bin")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// hereDocument is what a line ends with that one begins on.
var hereDocument = regexp.MustCompile(`<<'?([A-Z]+)'?$`)

// script makes one bash script of a document's sh blocks. Every line is a
// command that must succeed, or fail if it begins with "!". Rules are in the
// kernel a moment after they are written: a person is slower than that, a
// script is not, so lines that try a connection have five attempts.
func script(d document, blocks []block) string {
	var s strings.Builder
	s.WriteString("try() { for _ in 1 2 3 4 5; do \"$@\" && return; sleep 0.2; done; return 1; }\n")
	s.WriteString("not() { if \"$@\"; then return 1; fi; }\n")
	for _, b := range blocks {
		end := "" // of a here-document, which goes on until then
		for i, line := range strings.Split(strings.TrimSuffix(b.text, "\n"), "\n") {
			if end != "" {
				s.WriteString(line + "\n")
				if line == end {
					end = ""
				}
				continue
			}
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			if m := hereDocument.FindStringSubmatch(line); m != nil {
				end = m[1]
			}
			command, denied := strings.CutPrefix(line, "! ")
			if denied {
				command = "not " + command
			}
			if strings.Contains(command, " nc ") {
				command = "try " + command
			}
			place := fmt.Sprintf("%s:%d", d.path, b.line+1+i)
			fmt.Fprintf(&s, "echo '+ %s'\n%s || { echo '%s: not as the document says' >&2; exit 1; }\n", strings.ReplaceAll(line, "'", `'\''`), command, place)
		}
	}
	return s.String()
}

// blocksOf are a document's sh blocks under a heading ("": all).
func (d document) blocksOf(t *testing.T, heading string) []block {
	t.Helper()
	var out []block
	for _, b := range d.blocks {
		if b.language == "sh" && (heading == "" || b.heading == heading) {
			out = append(out, b)
		}
	}
	if len(out) == 0 {
		t.Fatalf("%s has no sh block under %q", d.path, heading)
	}
	return out
}

// bash runs a script in dir.
func bash(t *testing.T, ns *netnstest.NS, dir, text string, env ...string) string {
	t.Helper()
	cmd := exec.Command("bash", "-c", text)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	cmd.Env = append(cmd.Env, "PWD="+dir)
	out := &logBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	var err error
	if ns != nil {
		err = ns.Start(cmd)
	} else {
		err = cmd.Start()
	}
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return out.String()
}

// TestNetnsDocs_TutorialIsTrue types the tutorial, in a laboratory of its own.
func TestNetnsDocs_TutorialIsTrue(t *testing.T) {
	netnstest.New(t) // skips where no namespace can be made
	d := readDocument(t, "docs/tutorial/README.md")
	dir := clone(t)
	lab, prefix := filepath.Join(dir, "lab"), "rst"+filepath.Base(dir)[2:]
	abs, err := filepath.Abs(top)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(
		"make build", "make -s -C "+abs+" build BIN="+filepath.Join(dir, "built"),
		"/run/ripstop-lab", lab, "rslab-", prefix+"-",
	).Replace(script(d, d.blocksOf(t, "")))
	env := []string{"LAB=" + lab, "LAB_PREFIX=" + prefix}
	t.Cleanup(func() {
		bash(t, nil, dir, "vagrant/lab.sh down", env...)
		leftNothing(t, lab, prefix)
	})
	out := bash(t, nil, dir, text, env...)
	for _, want := range []string{"answer: denied", "InSync", "The laboratory is gone."} {
		if !strings.Contains(out, want) {
			t.Errorf("the tutorial prints no %q:\n%s", want, out)
		}
	}
}

// leftNothing checks that a laboratory has left no trace.
func leftNothing(t *testing.T, lab, prefix string) {
	t.Helper()
	if _, err := os.Stat(lab); err == nil {
		t.Errorf("%s is still there", lab)
	}
	if left, _ := filepath.Glob("/run/netns/" + prefix + "-*"); len(left) > 0 {
		t.Errorf("namespaces are still there: %v", left)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands {
		if b, err := os.ReadFile(c); err == nil && (strings.Contains(string(b), lab+"/") || strings.Contains(string(b), prefix+"-")) {
			t.Errorf("a process is still there: %s", strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
}

// TestNetnsDocs_LaboratoryDemoIsTrueAndLeavesNothing is what make lab and
// make lab-down do.
func TestNetnsDocs_LaboratoryDemoIsTrueAndLeavesNothing(t *testing.T) {
	netnstest.New(t)
	dir := clone(t)
	lab, prefix := filepath.Join(dir, "lab"), "rsd"+filepath.Base(dir)[2:]
	env := []string{"LAB=" + lab, "LAB_PREFIX=" + prefix}
	t.Cleanup(func() {
		bash(t, nil, dir, "vagrant/lab.sh down", env...)
		leftNothing(t, lab, prefix)
	})
	out := bash(t, nil, dir, "vagrant/lab.sh up && vagrant/lab.sh demo", env...)
	if !strings.Contains(out, "All as it should be") {
		t.Errorf("the demonstration ends otherwise:\n%s", out)
	}
}

// TestNetnsDocs_LaboratoryThatCannotBeBuiltLeavesNothing: a failure in the
// middle is told, with the log, and cleaned up.
func TestNetnsDocs_LaboratoryThatCannotBeBuiltLeavesNothing(t *testing.T) {
	netnstest.New(t)
	dir := clone(t)
	broken := filepath.Join(dir, "broken")
	if err := os.Mkdir(broken, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"ripstop": binary(t, "ripstop"), "ripstop-server": binary(t, "ripstop-server"), "ripstopd": "/bin/false"} {
		if err := os.Symlink(target, filepath.Join(broken, name)); err != nil {
			t.Fatal(err)
		}
	}
	lab, prefix := filepath.Join(dir, "lab"), "rsf"+filepath.Base(dir)[2:]
	cmd := exec.Command("vagrant/lab.sh", "up")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LAB="+lab, "LAB_PREFIX="+prefix, "RIPSTOP_BIN="+broken)
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "ripstopd on web ended") {
		t.Errorf("lab.sh up with a broken ripstopd: %v, want an error that tells it\n%s", err, out)
	}
	leftNothing(t, lab, prefix)
}

// TestNetnsDocs_READMEIsTrue types what the README says to do beside a
// running ripstopd, in a host of its own.
func TestNetnsDocs_READMEIsTrue(t *testing.T) {
	d := readDocument(t, "README.md")
	begin := d.blocksOf(t, "Start")
	if strings.TrimSpace(begin[0].text) != "make run" {
		t.Fatalf("README.md begins with %q, want make run", begin[0].text)
	}
	dir := clone(t)
	ns, peer := netnstest.New(t), netnstest.New(t)
	netnstest.Veth(ns, peer, "eth0", "eth0", []string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"192.0.2.7/24", "2001:db8::7/64"})
	args := []string{"--node", here, "--run-dir", dir + "/run", "--state-dir", dir + "/state", "--metrics-address", ""}
	p := start(t, ns, "ripstopd", args...)
	env := []string{"RIPSTOP_SERVER=unix://" + dir + "/run/api.sock", "RIPSTOP_AGENT=unix://" + dir + "/run/agent.sock"}
	eventually(t, "ripstopd is in sync", func() error {
		cmd := exec.Command(binary(t, "ripstop"), "status", "-o", "json")
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err == nil && !strings.Contains(string(out), `"InSync"`) {
			err = fmt.Errorf("not in sync: %s", out)
		}
		return err
	})
	first := d.blocksOf(t, "The first 15 minutes")
	last := len(first) - 1 // takes the policy away again
	beside := begin[1:2]   // what is after it is make test
	type15 := func(blocks []block) string {
		return bash(t, ns, dir, strings.ReplaceAll(script(d, append(slices.Clone(beside), blocks...)), "$(hostname)", here), env...)
	}
	out := type15(first[:last])
	for _, want := range []string{"answer: denied", "confirmed", "globalnetworkpolicy/web deleted", "Policy is in force again"} {
		if !strings.Contains(out, want) {
			t.Errorf("what the README says to type prints no %q:\n%s", want, out)
		}
	}
	eventually(t, "the first policy is in the kernel", func() error {
		if rules := ns.Run("nft", "list", "table", "inet", "ripstop"); !strings.Contains(rules, "443") {
			return fmt.Errorf("%s", rules)
		}
		return nil
	})
	type15(first[last:])
	eventually(t, "the first policy is gone from the kernel", func() error {
		if rules := ns.Run("nft", "list", "table", "inet", "ripstop"); strings.Contains(rules, "443") {
			return fmt.Errorf("%s", rules)
		}
		return nil
	})
	p.stop()
	ns.Run("nft", "list", "table", "inet", "ripstop") // the rules stay
	if !strings.Contains(p.log.String(), "ripstopd --cleanup") {
		t.Errorf("ripstopd does not tell at its end how to remove the rules:\n%s", p.log.String())
	}
	ns.Run(binary(t, "ripstopd"), append(args, "--cleanup")...)
	if rules := ns.Run("nft", "list", "ruleset"); strings.TrimSpace(rules) != "" {
		t.Errorf("ripstopd --cleanup leaves\n%s", rules)
	}
}

// TestNetnsDocs_HowTosAreTrue types the how-to pages beside a running ripstopd,
// in a host of its own.
func TestNetnsDocs_HowTosAreTrue(t *testing.T) {
	ns, dir := netnstest.New(t), clone(t)
	load(t, ns, foreignRules)
	env := []string{"PATH=" + dir + "/bin:" + os.Getenv("PATH"), "RIPSTOP_NODE=" + here, "RIPSTOP_RUN_DIR=" + dir + "/run", "RIPSTOP_STATE_DIR=" + dir + "/state",
		"RIPSTOP_METRICS_ADDRESS=", "RIPSTOP_SERVER=unix://" + dir + "/run/api.sock", "RIPSTOP_AGENT=unix://" + dir + "/run/agent.sock"}
	start(t, ns, "ripstopd", "--node", here, "--run-dir", dir+"/run", "--state-dir", dir+"/state", "--metrics-address", "")
	eventually(t, "ripstopd answers", func() error {
		cmd := exec.Command(binary(t, "ripstop"), "status")
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err == nil && !strings.Contains(string(out), "InSync, since") {
			err = fmt.Errorf("not in sync: %s", out)
		}
		return err
	})
	for page, want := range map[string]string{"docs/how-to/doctor.md": "table: theirs", "docs/how-to/exposure.md": "No socket listens",
		"docs/how-to/before-you-apply.md": "would cut: no connection of this host"} {
		d := readDocument(t, page)
		if out := bash(t, ns, dir, script(d, d.blocksOf(t, "")), env...); !strings.Contains(out, want) {
			t.Errorf("%s: what it says to do prints no %q:\n%s", page, want, out)
		} else {
			for _, b := range d.blocks { // what is shown is what is printed
				for line := range strings.Lines(b.text) {
					if b.language == "text" && !strings.Contains(out, line) {
						t.Errorf("%s: what it says to do prints no %q:\n%s", page, line, out)
					}
				}
			}
		}
	}
}
