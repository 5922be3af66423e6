// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/policytest"
)

// testReport is what came of policy tests.
type testReport struct {
	Passed int          `json:"passed"`
	Failed int          `json:"failed"`
	Flows  int          `json:"flows"`
	Cases  []testedCase `json:"cases"`
}

// testedCase is what came of one case, with its place in a file if it is from
// one.
type testedCase struct {
	policytest.Result
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// newTestReport puts results beside the documents that the tests are from.
func newTestReport(results []policytest.Result, docs []api.Document) testReport {
	from := map[string]api.Document{}
	for _, d := range docs {
		if k := d.Object.Key(); k.Kind == api.KindPolicyTest {
			from[k.Name] = d
		}
	}
	report := testReport{Cases: []testedCase{}}
	for _, r := range results {
		c := testedCase{Result: r}
		if d, ok := from[r.Test]; ok {
			var at *api.DocumentError
			errors.As(d.Locate(&api.FieldError{Path: fmt.Sprintf("spec.cases[%d]", r.Index)}), &at)
			c.File, c.Line = at.Source, at.Line
		}
		report.Cases = append(report.Cases, c)
		report.Flows += r.Flows
		if r.Passed {
			report.Passed++
		} else {
			report.Failed++
		}
	}
	return report
}

// write writes the report as text, json or junit.
func (r testReport) write(w io.Writer, form string) error {
	switch form {
	case "json":
		return writeDocument(w, form, r)
	case "junit":
		return r.writeJUnit(w)
	}
	var b strings.Builder
	assumed := 0
	for _, c := range r.Cases {
		if !c.Passed {
			fmt.Fprintf(&b, "FAIL %s%s\n", c.place(), c.title())
			for _, line := range c.lines() {
				b.WriteString("  " + line + "\n")
			}
			continue
		}
		if c.Unjudged > 0 {
			fmt.Fprintf(&b, "warning: %s%s: %d more pairs of ends were not judged\n", c.place(), c.title(), c.Unjudged)
		}
		if len(c.Assumed) > 0 {
			assumed++
		}
	}
	if assumed > 0 {
		fmt.Fprintf(&b, "note: something was assumed in %d of the cases that passed; -o json says what\n", assumed)
	}
	fmt.Fprintf(&b, "%d cases, %d flows: %d passed, %d failed\n", len(r.Cases), r.Flows, r.Passed, r.Failed)
	_, err := io.WriteString(w, b.String())
	return err
}

// place is "file:line: ", of a test on the server empty.
func (c testedCase) place() string {
	if c.File == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d: ", c.File, c.Line)
}

// title names the case.
func (c testedCase) title() string {
	return fmt.Sprintf("%s: %s", api.Key{Kind: api.KindPolicyTest, Name: c.Test}, c.Case)
}

// lines say why the case failed.
func (c testedCase) lines() []string {
	var lines []string
	if c.Fault != "" {
		lines = append(lines, "cannot be judged: "+c.Fault)
	} else {
		lines = append(lines, fmt.Sprintf("expected %s: %s", c.Expect, c.Flow))
	}
	for _, d := range c.Decided {
		lines = append(lines, "decided: "+d)
	}
	for _, x := range c.Assumed {
		lines = append(lines, "assumed: "+x)
	}
	if c.Why != "" {
		lines = append(lines, "why: "+strings.Join(strings.Fields(c.Why), " "))
	}
	return lines
}

// What follows is the form of JUnit's reports, as far as the programs that show
// them agree on it.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Name    string        `xml:"name,attr"`
		Class   string        `xml:"classname,attr"`
		File    string        `xml:"file,attr,omitempty"`
		Line    int           `xml:"line,attr,omitempty"`
		Failure *junitFailure `xml:"failure"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// writeJUnit writes a suite for each test, in the order of the report.
func (r testReport) writeJUnit(w io.Writer) error {
	out := junitSuites{Name: "ripstop test", Tests: len(r.Cases), Failures: r.Failed}
	for _, c := range r.Cases {
		last := len(out.Suites) - 1
		if last < 0 || out.Suites[last].Name != c.Test {
			out.Suites, last = append(out.Suites, junitSuite{Name: c.Test}), last+1
		}
		s := &out.Suites[last]
		x := junitCase{Name: c.Case, Class: "PolicyTest." + c.Test, File: c.File, Line: c.Line}
		s.Tests++
		if !c.Passed {
			s.Failures++
			lines := c.lines()
			x.Failure = &junitFailure{Message: lines[0], Text: c.place() + strings.Join(lines, "\n")}
		}
		s.Cases = append(s.Cases, x)
	}
	data, err := xml.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, xml.Header+string(data)+"\n")
	return err
}
