// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/internal/config"
	"github.com/ripstop/ripstop/daemon/internal/status"
)

// top is the project's folder.
const top = "../../.."

// document is one Markdown file.
type document struct {
	path   string // below top
	text   string
	blocks []block
}

// block is a fenced block of code, with the heading that it stands under.
type block struct {
	language, heading, text string
	line                    int // of the fence, from 1
}

// documents reads the README, the changelog and all of docs/.
func documents(t *testing.T) []document {
	t.Helper()
	paths := []string{"README.md", "CHANGELOG.md"}
	err := filepath.WalkDir(filepath.Join(top, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			path, err = filepath.Rel(top, path)
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var out []document
	for _, p := range paths {
		out = append(out, readDocument(t, p))
	}
	return out
}

func readDocument(t *testing.T, path string) document {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(top, path))
	if err != nil {
		t.Fatal(err)
	}
	d := document{path: path, text: string(b)}
	heading, open := "", -1
	for i, line := range strings.Split(d.text, "\n") {
		switch fence, is := strings.CutPrefix(line, "```"); {
		case is && open < 0:
			d.blocks = append(d.blocks, block{language: fence, heading: heading, line: i + 1})
			open = len(d.blocks) - 1
		case is:
			open = -1
		case open >= 0:
			d.blocks[open].text += line + "\n"
		case strings.HasPrefix(line, "#"):
			heading = strings.TrimSpace(strings.TrimLeft(line, "#"))
		}
	}
	if open >= 0 {
		t.Fatalf("%s:%d: the block has no end", path, d.blocks[open].line)
	}
	return d
}

// prose is the document without its blocks: their lines are empty.
func (d document) prose() []string {
	lines := strings.Split(d.text, "\n")
	for _, b := range d.blocks {
		for i := range strings.Count(b.text, "\n") + 2 {
			lines[b.line-1+i] = ""
		}
	}
	return lines
}

// anchors are the names that headings can be linked by.
func (d document) anchors() []string {
	var out []string
	for _, line := range d.prose() {
		if !strings.HasPrefix(line, "#") {
			continue
		}
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(strings.TrimLeft(line, "#")))
		out = append(out, name)
	}
	return out
}

var (
	linkPattern = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	spanPattern = regexp.MustCompile("`([^`]+)`")
)

// TestDocs_LinksResolve: every relative link leads to a file of the project
// and, if it has an anchor, to a heading in it.
func TestDocs_LinksResolve(t *testing.T) {
	links := 0
	for _, d := range documents(t) {
		for i, line := range d.prose() {
			for _, m := range linkPattern.FindAllStringSubmatch(line, -1) {
				file, anchor, _ := strings.Cut(m[1], "#")
				if strings.Contains(file, "://") {
					continue
				}
				links++
				target := d.path
				if file != "" {
					target = filepath.Join(filepath.Dir(d.path), file)
				}
				if _, err := os.Stat(filepath.Join(top, target)); err != nil {
					t.Errorf("%s:%d: the link %s leads nowhere: %v", d.path, i+1, m[1], err)
					continue
				}
				if anchor != "" && !slices.Contains(readDocument(t, target).anchors(), anchor) {
					t.Errorf("%s:%d: %s has no heading for #%s", d.path, i+1, target, anchor)
				}
			}
		}
	}
	if links < 10 {
		t.Errorf("%d relative links in all documents, want 10 at least: are they still found?", links)
	}
}

// TestDocs_LinkedTestsExist: a link whose text is the name of a test leads to
// the file with that test.
func TestDocs_LinkedTestsExist(t *testing.T) {
	link := regexp.MustCompile(`\[(Test\w+)\]\(([^)\s]+)\)`)
	found := 0
	for _, d := range documents(t) {
		for i, line := range d.prose() {
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				found++
				b, err := os.ReadFile(filepath.Join(top, filepath.Dir(d.path), m[2]))
				if err != nil || !strings.Contains(string(b), "func "+m[1]+"(t *testing.T)") {
					t.Errorf("%s:%d: %s has no test %s", d.path, i+1, m[2], m[1])
				}
			}
		}
	}
	if found < 20 {
		t.Errorf("%d tests are linked in all documents, want 20 at least: are they still found?", found)
	}
}

// TestDocs_YAMLIsValid: resources shown in documents, and the tutorial's
// files, decode and are valid; settings shown are settings of ripstopd.
func TestDocs_YAMLIsValid(t *testing.T) {
	resources, settings := 0, 0
	check := func(data []byte, name string) {
		docs, err := api.DecodeAll(data, name)
		if err != nil {
			t.Errorf("%v", err)
		}
		for _, d := range docs {
			resources++
			if err := d.Check(); err != nil {
				t.Errorf("%v", err)
			}
		}
	}
	for _, d := range documents(t) {
		for _, b := range d.blocks {
			name := fmt.Sprintf("%s, block in line %d", d.path, b.line)
			switch {
			case b.language != "yaml":
			case strings.Contains(b.text, "apiVersion:"):
				check([]byte(b.text), name)
			default:
				settings++
				checkSettings(t, b.text, name)
			}
		}
	}
	files, err := filepath.Glob(filepath.Join(top, "docs/tutorial/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("docs/tutorial has %d YAML files (%v), want some", len(files), err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		check(data, f)
	}
	t.Logf("%d resources and %d files of settings are valid", resources, settings)
}

// checkSettings loads text as the configuration of ripstopd.
func checkSettings(t *testing.T, text, name string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ripstopd.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := pflag.NewFlagSet("docs", pflag.ContinueOnError)
	config.AddFlags(flags, config.AgentKeys())
	if err := flags.Parse([]string{"--config", path}); err != nil {
		t.Fatal(err)
	}
	if _, err := config.LoadAgent(flags, nil); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// words is what a document may name.
type words struct {
	keys    map[string]bool // settings of ripstopd and ripstop-server
	fields  map[string]bool // fields of resources, parameters of FelixConfiguration among them
	metrics map[string]bool
	targets string            // what make help prints
	help    map[string]string // of each program, by its words: "ripstop get"
}

func newWords(t *testing.T) *words {
	w := &words{keys: map[string]bool{}, fields: map[string]bool{}, metrics: map[string]bool{}, help: map[string]string{}}
	for _, k := range slices.Concat(config.AgentKeys(), config.ServerKeys()) {
		w.keys[k.Name] = true
	}
	for _, d := range api.Kinds() {
		w.fieldsOf(reflect.TypeOf(d.New()), map[reflect.Type]bool{})
	}
	descs := make(chan *prometheus.Desc)
	go func() {
		status.NewCollector(status.NewBoard(status.Config{Host: here})).Describe(descs)
		status.NewRuleCounts(nil).Describe(descs)
		close(descs)
	}()
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	for d := range descs {
		w.metrics[name.FindStringSubmatch(d.String())[1]] = true
	}
	w.targets = run(t, "make", "-s", "-C", top, "help")
	return w
}

func (w *words) fieldsOf(t reflect.Type, seen map[reflect.Type]bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || seen[t] {
		return
	}
	seen[t] = true
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		w.fields[name] = true
		w.fieldsOf(t.Field(i).Type, seen)
	}
}

// helpOf is what a program says of its command. Words that are arguments end
// the command.
func (w *words) helpOf(t *testing.T, call []string) (command string, help string) {
	t.Helper()
	said := call
	use := call[:1:1]
	if use[0] != "ripstop" { // the daemons have flags only, but for one
		call = use
		if use[0] == "ripstop-server" && slices.Contains(said, "store") {
			call = []string{use[0], "store"}
		}
	}
	for _, word := range call[1:] {
		if !regexp.MustCompile(`^[a-z][a-z-]*$`).MatchString(word) {
			break
		}
		// Every command has a page, so a word without one is an argument.
		page := filepath.Join(top, "docs/man", strings.Join(append(slices.Clone(use), word), "-")+".1")
		if _, err := os.Stat(page); err != nil && len(use) > 1 {
			break
		}
		use = append(use, word)
	}
	command = strings.Join(use, " ")
	if _, ok := w.help[command]; !ok {
		out, err := exec.Command(binary(t, use[0]), append(slices.Clone(use[1:]), "--help")...).CombinedOutput()
		if err != nil || len(use) > 1 && !bytes.Contains(out, []byte("\n  "+command)) {
			t.Errorf("%s --help: %v\n%s", command, err, out)
		}
		w.help[command] = string(out)
	}
	return command, w.help[command]
}

// checkCall checks a command line: the command exists and has these flags.
func (w *words) checkCall(t *testing.T, place string, call []string) {
	t.Helper()
	switch call[0] {
	case "ripstop", "ripstopd", "ripstop-server":
		command, help := w.helpOf(t, call)
		for _, word := range call[1:] {
			if name, _, _ := strings.Cut(word, "="); strings.HasPrefix(name, "-") && name != "-" && !hasFlag(help, name) {
				t.Errorf("%s: %s has no flag %s", place, command, name)
			}
		}
	case "make":
		for _, word := range call[1:] {
			if !strings.Contains(word, "=") && !strings.Contains(w.targets, "  make "+word+" ") {
				t.Errorf("%s: make help does not list %s", place, word)
			}
		}
	}
}

func hasFlag(help, name string) bool {
	return regexp.MustCompile(`(?m)^ .*` + regexp.QuoteMeta(name) + `\b`).MatchString(help)
}

var (
	flagSpan   = regexp.MustCompile(`^--[a-z][a-z-]*(=\S*)?$`)
	keySpan    = regexp.MustCompile(`^([a-z]+(?:-[a-z]+)*): \S.*$|^([a-z]+(?:-[a-z]+)+)$`)
	fieldSpan  = regexp.MustCompile(`^([a-z]+(?:[A-Z][a-zA-Z]*)+)(: .*)?$`)
	metricSpan = regexp.MustCompile(`^((?:ripstop|felix)_[a-z_]+)(\{.*)?$`)
	pathSpan   = regexp.MustCompile(`^(daemon|cli|web|docs|etc|vagrant|packaging|\.ci)/\S*$`)
)

// dashed are dashed words in documents that are no settings: base chains of
// the kernel's table, and a profile that every datastore has.
var dashed = []string{"output-nat", "forward-in", "forward-out", "projectcalico-default-allow", "raw-in", "raw-out", "pre-dnat", "allow-untracked", "allow-pre-dnat", "workload-to-host"}

// TestDocs_NamesExist: every command, flag, setting, field, metric, target of
// make and path that a document names in backticks exists.
func TestDocs_NamesExist(t *testing.T) {
	w := newWords(t)
	all := ""
	for _, program := range []string{"ripstop", "ripstopd", "ripstop-server"} {
		_, help := w.helpOf(t, []string{program})
		all += help
	}
	pages, err := filepath.Glob(filepath.Join(top, "docs/man/*.1"))
	if err != nil || len(pages) == 0 {
		t.Fatalf("docs/man has %d pages (%v), want some", len(pages), err)
	}
	for _, p := range pages {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		all += strings.NewReplacer(".B ", "  ", `\-`, "-").Replace(string(text))
	}
	checked := 0
	for _, d := range documents(t) {
		for _, b := range d.blocks {
			if b.language != "sh" {
				continue
			}
			for i, line := range strings.Split(strings.TrimSuffix(b.text, "\n"), "\n") {
				if call := strings.Fields(strings.TrimPrefix(line, "! ")); len(call) > 0 {
					w.checkCall(t, fmt.Sprintf("%s:%d", d.path, b.line+1+i), call)
					checked++
				}
			}
		}
		for i, line := range d.prose() {
			for _, m := range spanPattern.FindAllStringSubmatch(line, -1) {
				place, span := fmt.Sprintf("%s:%d", d.path, i+1), m[1]
				checked++
				switch {
				case flagSpan.MatchString(span):
					if name, _, _ := strings.Cut(span, "="); !hasFlag(all, name) {
						t.Errorf("%s: no program has the flag %s", place, name)
					}
				case metricSpan.MatchString(span):
					if name := metricSpan.FindStringSubmatch(span)[1]; !w.metrics[name] {
						t.Errorf("%s: there is no metric %s", place, name)
					}
				case pathSpan.MatchString(span):
					if _, err := os.Stat(filepath.Join(top, strings.TrimSuffix(span, "…"))); err != nil && !strings.ContainsAny(span, "{*…") {
						t.Errorf("%s: there is no %s", place, span)
					}
				case span == "ripstop-server":
				case strings.HasPrefix(span, "-bench-"):
					if flag.Lookup(span[1:]) == nil {
						t.Errorf("%s: the tests have no flag %s", place, span)
					}
				case keySpan.MatchString(span):
					k := keySpan.FindStringSubmatch(span)
					if name := k[1] + k[2]; !w.keys[name] && !w.fields[name] && !slices.Contains(dashed, name) {
						t.Errorf("%s: there is no setting %s", place, name)
					}
				case fieldSpan.MatchString(span):
					if name := fieldSpan.FindStringSubmatch(span)[1]; !w.fields[name] && d.path != "docs/walkthrough.md" {
						t.Errorf("%s: no resource has a field %s", place, name)
					}
				default:
					w.checkCall(t, place, strings.Fields(span))
				}
			}
		}
	}
	if checked < 50 {
		t.Errorf("%d names in all documents, want 50 at least: are they still found?", checked)
	}
}

// TestDocs_WalkthroughNamesWhatIsThere: where the walkthrough names a file
// and words of code beside it, the file has these words.
func TestDocs_WalkthroughNamesWhatIsThere(t *testing.T) {
	identifier := regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9]*)?$`)
	names := 0
	for i, line := range readDocument(t, "docs/walkthrough.md").prose() {
		var source string
		var want []string
		for _, m := range spanPattern.FindAllStringSubmatch(line, -1) {
			switch {
			case strings.HasSuffix(m[1], ".go"):
				b, err := os.ReadFile(filepath.Join(top, m[1]))
				if err != nil {
					t.Errorf("docs/walkthrough.md:%d: %v", i+1, err)
				}
				source += string(b)
			case identifier.MatchString(m[1]):
				want = append(want, m[1][strings.LastIndex(m[1], ".")+1:])
			}
		}
		if source == "" {
			continue
		}
		for _, name := range want {
			names++
			if !regexp.MustCompile(`\b` + name + `\b`).MatchString(source) {
				t.Errorf("docs/walkthrough.md:%d: the files named there do not have %s", i+1, name)
			}
		}
	}
	if names < 15 {
		t.Errorf("the walkthrough names %d words of code, want 15 at least: are they still found?", names)
	}
}

// TestDocs_BlocksSayWhatTheyAre: a block without a language is neither
// checked nor run, so each has one.
func TestDocs_BlocksSayWhatTheyAre(t *testing.T) {
	known := []string{"sh", "yaml", "text"}
	for _, d := range documents(t) {
		for _, b := range d.blocks {
			if !slices.Contains(known, b.language) {
				t.Errorf("%s:%d: block of language %q, want one of %v", d.path, b.line, b.language, known)
			}
		}
	}
}
