// SPDX-License-Identifier: Apache-2.0

package mutation

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var (
	count = flag.Int("mutations", 4, "how many faults of the table are tried, others each day; -1: all")
	only  = flag.String("mutation", "", "a regular expression: try the faults whose file or damage it matches, all of them")
)

// top is the project's folder.
const top = "../../../.."

// enough is when a run of a few begins no further one.
const enough = 40 * time.Second

// mutation is one fault.
type mutation struct {
	file string // below top
	// old stands in the file exactly once; now is what stands there instead.
	old, now string
	damage   string // what is wrong with the program, in words
	// alike says why the damaged program does the same in every case, if it
	// does; then no test can notice, and the fault does not count.
	alike string
}

// table is all faults.
var table = slices.Concat(evaluatorFaults, calcFaults, plannerFaults, classifyFaults, nftablesFaults, iptablesFaults, flowFaults)

// unknown stands for the test that notices if the tests could not be run.
const unknown = "?"

// suite is one call of go test.
type suite []string

// suites are the tests whose business a file is, the quickest first.
func suites(file string) []suite {
	const e2e = "./daemon/internal/e2e"
	semantics := suite{e2e, "-run", "^(TestDifferential_PolicyAgreesWithPlan|TestNetnsScenario.*)$", "-skip", "OnIptables", "-short"}
	flows := suite{"./daemon/internal/dataplane/conntrack", "-skip", "FullTable|Tightening|Large"}
	own := func(packages ...string) suite { return append(suite(packages), "-short") }
	switch dir := filepath.ToSlash(filepath.Dir(file)); dir {
	case "daemon/policy":
		return []suite{own("./daemon/policy"), semantics}
	case "daemon/internal/calc":
		return []suite{own("./daemon/internal/calc"), semantics}
	case "daemon/internal/dataplane", "daemon/internal/dataplane/classify":
		return []suite{own("./daemon/internal/dataplane", "./daemon/internal/dataplane/classify"), semantics,
			{e2e, "-run", "^TestNetnsHostile|^TestNetnsNewInterface|^TestNetnsLoopback|^TestNetnsDifferential", "-args", "-packets", "40000"},
			{"./daemon/internal/dataplane/conntrack", "-run", "FarEndPushes"}}
	case "daemon/internal/dataplane/nftables":
		return []suite{{"./" + dir, "-run", "Lower|Digest|Members|Merge|Names|Trie|StandIn|Contract"}, semantics}
	case "daemon/internal/dataplane/iptables":
		return []suite{{"./" + dir, "-run", "Lower|Limit|ManyPorts|Marks|Yield|RulesAndSets|ContractLegacy"},
			{e2e, "-run", "^TestNetnsScenario", "-args", "-filter", "legacy"}}
	case "daemon/internal/dataplane/ruleset":
		return []suite{own("./daemon/internal/dataplane/ruleset"), flows, semantics}
	case "daemon/internal/dataplane/conntrack":
		return []suite{flows, semantics}
	}
	panic("mutation: no tests are known for " + file)
}

// TestTable_FitsTheCode: each fault's text stands in its file, once, and the
// damaged file can still be parsed.
func TestTable_FitsTheCode(t *testing.T) {
	if len(table) < 80 {
		t.Errorf("the table has %d faults, want 80 at least", len(table))
	}
	seen := map[string]bool{}
	for _, m := range table {
		suites(m.file)
		if m.damage == "" || seen[m.file+m.damage] {
			t.Errorf("%s: the damage %q is said twice, or not at all", m.file, m.damage)
		}
		seen[m.file+m.damage] = true
		damaged, err := m.apply()
		if err != nil {
			t.Error(err)
			continue
		}
		if _, err := parser.ParseFile(token.NewFileSet(), m.file, damaged, 0); err != nil {
			t.Errorf("%s: %s: %v", m.file, m.damage, err)
		}
	}
}

// apply is the damaged file.
func (m *mutation) apply() ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(top, m.file))
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(b, []byte(m.old)); n != 1 || m.old == m.now {
		return nil, fmt.Errorf("%s: %s: the text stands there %d times, want once: %q", m.file, m.damage, n, m.old)
	}
	return bytes.Replace(b, []byte(m.old), []byte(m.now), 1), nil
}

// TestMutation_TestsNoticeDamage: each fault of the table that is tried makes
// a test fail.
func TestMutation_TestsNoticeDamage(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("most of the tests it runs need root")
	}
	todo, all := chosen(t)
	began := time.Now()
	tried, noticed, same := 0, 0, 0
	for i := range todo {
		m := &todo[i]
		if !all && tried > 0 && time.Since(began) > enough {
			break
		}
		tried++
		at := time.Now()
		by := m.try(t)
		took := time.Since(at).Round(100 * time.Millisecond)
		switch {
		case by == unknown: // said already
			tried--
		case by != "" && m.alike != "":
			t.Errorf("%s: %s: is said to do the same in every case, but %s", m.file, m.damage, by)
		case by != "":
			noticed++
			t.Logf("noticed after %s by %s: %s: %s", took, by, m.file, m.damage)
		case m.alike != "":
			same++
			t.Logf("does the same: %s: %s: %s", m.file, m.damage, m.alike)
		default:
			t.Errorf("SURVIVED after %s: %s: %s", took, m.file, m.damage)
		}
	}
	if n := tried - same; n > 0 {
		t.Logf("%d faults tried of %d, %d noticed: %.1f %%; %d do the same in every case", tried, len(table), noticed, 100*float64(noticed)/float64(n), same)
	}
}

// chosen are the faults to try; all: however long it takes.
func chosen(t *testing.T) (todo []mutation, all bool) {
	if *only != "" {
		re := regexp.MustCompile(*only)
		for _, m := range table {
			if re.MatchString(m.file) || re.MatchString(m.damage) {
				todo = append(todo, m)
			}
		}
		return todo, true
	}
	if *count < 0 || *count >= len(table) {
		return table, true
	}
	// A stride that has no divisor in common with most lengths, so that one
	// day's faults are of different packages.
	day := int(time.Now().Unix() / 86400)
	for i := range *count {
		todo = append(todo, table[(day**count+i)*37%len(table)])
	}
	t.Logf("the faults of day %d", day)
	return todo, false
}

// try damages the program and returns what notices; empty: nothing does.
func (m *mutation) try(t *testing.T) string {
	t.Helper()
	damaged, err := m.apply()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	copied := filepath.Join(dir, filepath.Base(m.file))
	if err := os.WriteFile(copied, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(top)
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(root, m.file): copied}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, s := range suites(m.file) {
		by := s.run(t, m, root, filepath.Join(dir, "overlay"))
		if by != "" && by != unknown && !s.passes(t, root, by) {
			t.Errorf("%s: %s: %s fails, and it does so without the damage", m.file, m.damage, by)
			return unknown
		}
		if by != "" {
			return by
		}
	}
	return ""
}

// passes tells whether a test of the suite passes where nothing is damaged.
func (s suite) passes(t *testing.T, root, test string) bool {
	t.Helper()
	name, _, _ := strings.Cut(test, "/")
	if !strings.HasPrefix(name, "Test") || sound[name] {
		return true
	}
	args := []string{"test", "-vet=off", "-count=1", "-timeout", "4m", "-run", "^" + name + "$"}
	for i, a := range s {
		if strings.HasPrefix(a, "./") || a == "-short" {
			args = append(args, a)
		}
		if a == "-args" {
			args = append(args, s[i:]...)
			break
		}
	}
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	sound[name] = cmd.Run() == nil
	return sound[name]
}

// sound are tests that were seen to pass where nothing is damaged.
var sound = map[string]bool{}

var (
	failed  = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)
	paniced = regexp.MustCompile(`(?m)^panic: .*`)
)

// run runs the tests on the damaged program and returns the first that fails.
func (s suite) run(t *testing.T, m *mutation, root, overlay string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	args := append([]string{"test", "-overlay", overlay, "-vet=off", "-count=1", "-failfast", "-timeout", "4m"}, s...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return ""
	case !errors.As(err, &exit), bytes.Contains(out, []byte("[build failed]")), bytes.Contains(out, []byte("[setup failed]")):
		t.Errorf("%s: %s: go %s: %v\n%s", m.file, m.damage, strings.Join(args, " "), err, out)
		return unknown
	}
	if f := failed.FindSubmatch(out); f != nil {
		return string(f[1])
	}
	if p := paniced.Find(out); p != nil {
		return string(p)
	}
	t.Errorf("%s: %s: go %s: %v, and no test has failed\n%s", m.file, m.damage, strings.Join(args, " "), err, out)
	return unknown
}
