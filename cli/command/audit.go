// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/audit"
)

// auditDir is where ripstop-server keeps the log if it is not told otherwise.
const auditDir = "/var/lib/ripstop/audit"

// auditFilter says which lines are shown.
type auditFilter struct {
	dir, user, kind, name, since string
	output                       string
}

func (a *app) auditCommand() *cobra.Command {
	var f auditFilter
	cmd := &cobra.Command{
		Use:   "audit [COMMAND]",
		Short: "Read the record of who changed what, and verify it",
		Long: `audit reads the log that ripstop-server keeps of every write through the API, of
every one that was refused, and of logins that failed: on the server's own
machine, as root, in the state directory.

A table has one row for each request that has ended. A write that did not end,
because the server was cut off, is shown as "intent": the store tells whether
it was done. -o json prints the lines as they are in the log, with the object
before and after.

The lines are chained by hash. What is broken in the chain is told at the end,
with exit code 1; audit verify looks at nothing else.`,
		Example: `  ripstop audit --since 24h
  ripstop audit --user alice --kind globalnetworkpolicy
  ripstop audit -o json | jq 'select(.stage == "refused")'
  ripstop audit verify`,
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(noSuchCommand(cmd, args), checkOutput(cmd, f.output, "", "table", "json"))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return a.showAudit(cmd, f) },
	}
	cmd.PersistentFlags().StringVar(&f.dir, "dir", auditDir, "Directory of the log")
	fl := cmd.Flags()
	fl.StringVar(&f.user, "user", "", "Only what this user did")
	fl.StringVar(&f.kind, "kind", "", "Only what was done to this kind")
	fl.StringVar(&f.name, "name", "", "Only what was done to the resource of this name, or NAMESPACE/NAME")
	fl.StringVar(&f.since, "since", "", "Only what is newer: a time (2026-01-31T12:00:00Z) or how long ago (90m, 24h)")
	addOutput(cmd, &f.output, "table", "json")
	cmd.AddCommand(a.auditVerifyCommand(&f))
	return cmd
}

func (a *app) auditVerifyCommand(f *auditFilter) *cobra.Command {
	return &cobra.Command{
		Use:   "verify",
		Short: "Verify that no line of the record was altered, removed or put in",
		Long: `verify reads the whole log and follows the chain of hashes. It names the first
line that does not fit, with exit code 1; whatever was written before that line
is as it was written.

The hash of the last line, which it prints, is that of the whole log: kept
elsewhere (the journal has one for each line), it shows later that nothing was
cut off at the end, or written anew.`,
		Example: `  ripstop audit verify`,
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rd := &audit.Reader{}
			files, torn, err := readAudit(f.dir, rd, nil)
			var broken *audit.Break
			if errors.As(err, &broken) {
				return fmt.Errorf("the record is broken: %w; %s", broken, upTo(rd))
			}
			if err != nil {
				return err
			}
			if rd.Last == nil {
				fmt.Fprintf(a.Out, "the record is empty (%s)\n", f.dir)
				return nil
			}
			fmt.Fprintf(a.Out, "the record is whole: lines %d to %d, files %d, from %s to %s\n", rd.First.Seq, rd.Last.Seq, files,
				rd.First.Time.Format(time.RFC3339), rd.Last.Time.Format(time.RFC3339))
			if rd.First.Seq > 1 {
				fmt.Fprintf(a.Out, "lines 1 to %d were rotated away\n", rd.First.Seq-1)
			}
			if rd.Repairs > 0 {
				fmt.Fprintf(a.Out, "torn lines, each left by a crash and told of: %d\n", rd.Repairs)
			}
			if torn > 0 {
				fmt.Fprintf(a.Out, "%d bytes at the end are no line yet: it is being written, or was when the server was cut off\n", torn)
			}
			fmt.Fprintf(a.Out, "hash of the last line: %s\n", rd.Head)
			return nil
		},
	}
}

// upTo says how far a log is good.
func upTo(rd *audit.Reader) string {
	if rd.Last == nil {
		return "no line before it"
	}
	return fmt.Sprintf("good up to line %d of %s", rd.Last.Seq, rd.Last.Time.Format(time.RFC3339))
}

// readAudit reads the log in dir and calls each for every record.
func readAudit(dir string, rd *audit.Reader, each func(*audit.Record) error) (files, torn int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, fmt.Errorf("audit: %w", err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	for _, n := range audit.Files(names) {
		f, err := os.Open(filepath.Join(dir, n))
		if errors.Is(err, os.ErrNotExist) {
			continue // rotated away meanwhile
		}
		if err != nil {
			return files, 0, fmt.Errorf("audit: %w", err)
		}
		torn, err = rd.Read(f.Name(), f, each)
		f.Close()
		if err != nil {
			return files, 0, err
		}
		files++
	}
	return files, torn, nil
}

// showAudit prints the lines that f keeps.
func (a *app) showAudit(cmd *cobra.Command, f auditFilter) error {
	keep, err := a.auditKeep(cmd, f)
	if err != nil {
		return err
	}
	var first *audit.Break
	rd := &audit.Reader{OnBreak: func(b *audit.Break) error { // what follows is shown all the same
		if first == nil {
			first = b
		}
		return nil
	}}
	var rows []*audit.Record
	ended := map[string]bool{}
	_, _, err = readAudit(f.dir, rd, func(r *audit.Record) error {
		if !keep(r) {
			return nil
		}
		if f.output == "json" {
			line, err := r.Line()
			if err == nil {
				_, err = fmt.Fprintf(a.Out, "%s\n", line)
			}
			return err
		}
		if r.Stage == audit.Done || r.Stage == audit.Failed {
			ended[r.Request] = true
		}
		r.Before, r.After = nil, nil
		rows = append(rows, r)
		return nil
	})
	if err != nil {
		return err
	}
	if f.output != "json" {
		rows = slices.DeleteFunc(rows, func(r *audit.Record) bool { return r.Stage == audit.Intent && ended[r.Request] })
		if err := a.auditTable(rows); err != nil {
			return err
		}
	}
	if first != nil {
		return fmt.Errorf("the record is broken: %w", first)
	}
	return nil
}

// auditTable prints rows in columns.
func (a *app) auditTable(rows []*audit.Record) error {
	t := newTable(a.Out)
	t.row("TIME", "STAGE", "CODE", "USER", "FROM", "VERB", "RESOURCE", "NAME")
	for _, r := range rows {
		who := r.Who
		if who == nil {
			who = &audit.Who{}
		}
		user, code, name := who.User, "", r.Name
		if user == "" && r.Who != nil {
			user = "(unknown)"
		}
		if r.Code != 0 {
			code = strconv.Itoa(r.Code)
		}
		if r.Namespace != "" {
			name = r.Namespace + "/" + name
		}
		verb := r.Verb
		switch {
		case r.Stage == audit.Repaired && r.Torn != nil:
			verb = fmt.Sprintf("(%d bytes were torn)", r.Torn.Bytes)
		case r.Stage == audit.Opened:
			verb = "(" + r.Program + ")"
		}
		t.row(r.Time.Local().Format("2006-01-02 15:04:05"), string(r.Stage), code, user, who.From, verb, r.Resource+r.Path, name)
	}
	return t.flush()
}

// auditKeep is which records f is about.
func (a *app) auditKeep(cmd *cobra.Command, f auditFilter) (func(*audit.Record) bool, error) {
	resource := ""
	if f.kind != "" {
		d, err := kindNamed(cmd, f.kind)
		if err != nil {
			return nil, err
		}
		if resource = d.Plural; d.Group != "" {
			resource += "." + d.Group
		}
	}
	var since time.Time
	if f.since != "" {
		ago, err := time.ParseDuration(f.since)
		if err == nil {
			since = a.now().Add(-ago)
		} else if since, err = time.Parse(time.RFC3339, f.since); err != nil {
			return nil, usage(cmd, "--since %q: want a time like 2026-01-31T12:00:00Z, or how long ago, like 90m", f.since)
		}
	}
	namespace, name, qualified := strings.Cut(f.name, "/")
	if !qualified {
		namespace, name = "", f.name
	}
	return func(r *audit.Record) bool {
		user := ""
		if r.Who != nil {
			user = r.Who.User
		}
		return (f.user == "" || user == f.user) && (resource == "" || r.Resource == resource) &&
			(f.name == "" || r.Name == name && (!qualified || r.Namespace == namespace)) && !r.Time.Before(since)
	}, nil
}
