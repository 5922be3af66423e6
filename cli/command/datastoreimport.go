// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
	"github.com/ripstop/ripstop/daemon/client"
	"github.com/ripstop/ripstop/daemon/store"
)

// importFlags are the flags of import.
type importFlags struct {
	writeFlags
	file             string
	overwrite, leave bool
}

func (a *app) importCommand() *cobra.Command {
	var f importFlags
	cmd := &cobra.Command{
		Use:   "import -f FILE",
		Short: "Read an export into this datastore",
		Long: `import reads what ripstop or calicoctl datastore migrate export printed, checks
all of it, lets the server go through every resource, and only then writes the
first. With a fault in any of it nothing is written.

It refuses resources that are there already and different (--overwrite writes
over them), and kinds, BGP and IPAM data that Ripstop does not have
(--leave-out-unsupported goes on without them; they are listed). What is there
already and the same is left alone, so an import that was interrupted is
finished by doing it again. ClusterInformation stays as it is: it belongs to a
datastore.`,
		Example: `  ripstop datastore migrate import -f all.txt --dry-run=server
  ripstop datastore migrate import -f all.txt`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.file == "" {
				return usage(cmd, "import: what to import is not said: -f FILE")
			}
			if err := f.check(cmd); err != nil {
				return err
			}
			return a.importFile(cmd, f)
		},
	}
	addWrite(cmd, &f.writeFlags)
	cmd.Flags().StringVarP(&f.file, "filename", "f", "", "file to import, - for standard input")
	cmd.Flags().BoolVar(&f.overwrite, "overwrite", false, "write over resources that are there and different")
	cmd.Flags().BoolVar(&f.leave, "leave-out-unsupported", false, "leave out what Ripstop does not have")
	_ = cmd.MarkFlagFilename("filename")
	return cmd
}

// importPlan is what an import will write.
type importPlan struct {
	docs  []api.Document
	tiers map[string]bool // that are imported themselves
	done  map[api.Key]string
}

func (a *app) importFile(cmd *cobra.Command, f importFlags) error {
	data, err := readInput(f.file, a.In)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	docs, left, err := a.readExport(data, f.file)
	if err != nil {
		return fmt.Errorf("import: nothing was written:\n%w", err)
	}
	if len(left) > 0 && !f.leave {
		return fmt.Errorf("import: nothing was written: Ripstop does not have\n%s\n--leave-out-unsupported goes on without them", strings.Join(left, "\n"))
	}
	for _, l := range left {
		fmt.Fprintf(a.Err, "left out: %s\n", l)
	}
	inOrder(docs)
	if f.client() {
		fmt.Fprintf(a.Out, "%d resources can be imported%s\n", len(docs), f.suffix())
		return nil
	}
	c, err := a.connect(cmd, false)
	if err != nil {
		return err
	}
	defer c.Close()
	plan := importPlan{docs: docs, tiers: map[string]bool{}, done: map[api.Key]string{}}
	for _, d := range docs {
		if d.Object.Key().Kind == api.KindTier {
			plan.tiers[d.Object.Key().Name] = true
		}
	}
	if err := a.checkImport(cmd, c, f, &plan); err != nil {
		return fmt.Errorf("import: nothing was written:\n%w", err)
	}
	return a.writeImport(cmd, c, f, &plan)
}

// readExport reads the parts of a file. left names what Ripstop does not have.
func (a *app) readExport(data []byte, source string) (docs []api.Document, left []string, err error) {
	if source == "-" {
		source = "standard input"
	}
	parts := slices.Collect(splitLines(data, migrationBreak))
	if len(parts) != 3 {
		return nil, nil, fmt.Errorf("%s: %d parts between lines of %s, want 3: resources, ClusterInformation, IPAM data; ripstop apply reads other files", source, len(parts), migrationBreak)
	}
	known, left, err := withoutUnknown(parts[0], source)
	if err != nil {
		return nil, nil, err
	}
	docs, err = api.DecodeAll(known, source)
	faults := []error{err}
	for _, d := range docs {
		faults = append(faults, a.check(d))
	}
	faults = append(faults, twice(docs)...)
	var ipam struct {
		Blocks  []any `json:"blocks"`
		Handles []any `json:"handles"`
	}
	if err := json.Unmarshal(parts[2], &ipam); err != nil {
		faults = append(faults, fmt.Errorf("%s: IPAM data: %w", source, err))
	}
	if n := len(ipam.Blocks); n > 0 || len(ipam.Handles) > 0 {
		left = append(left, fmt.Sprintf("IPAM data: %d blocks, %d handles", n, len(ipam.Handles)))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, nil, errors.Join(byLine(err)...)
	}
	return docs, left, nil
}

// splitLines cuts data at the lines that are mark.
func splitLines(data []byte, mark string) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		start, at := 0, 0
		for line := range bytes.Lines(data) {
			if strings.TrimRight(string(line), "\r\n") == mark {
				if !yield(data[start:at]) {
					return
				}
				start = at + len(line)
			}
			at += len(line)
		}
		yield(data[start:])
	}
}

// withoutUnknown blanks the documents of kinds that Ripstop does not have, so
// that lines keep their numbers, and names those that are not empty.
func withoutUnknown(data []byte, source string) (known []byte, left []string, err error) {
	var out bytes.Buffer
	for part := range splitLines(data, "---") {
		text := part
		if len(bytes.TrimSpace(part)) > 0 {
			js, err := api.ToJSON(part)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", source, err)
			}
			var l struct {
				Kind  string `json:"kind"`
				Items []any  `json:"items"`
			}
			if err := json.Unmarshal(js, &l); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", source, err)
			}
			kind := strings.TrimSuffix(l.Kind, "List")
			if _, ok := api.DescriptorOf(api.Kind(kind)); !ok {
				text = bytes.Repeat([]byte("\n"), bytes.Count(part, []byte("\n")))
				if n := len(l.Items); n > 0 || kind == l.Kind {
					left = append(left, fmt.Sprintf("%s: %d", orNone(kind, "no kind"), max(n, 1)))
				}
			}
		}
		out.Write(text)
		out.WriteString("---\n")
	}
	return out.Bytes(), left, nil
}

// checkImport finds out what would be done with every resource, and lets the
// server go through it.
func (a *app) checkImport(cmd *cobra.Command, c *client.Client, f importFlags, plan *importPlan) error {
	p := a.progress("checking", len(plan.docs))
	defer p.end()
	var errs []error
	for i, d := range plan.docs {
		p.step(i)
		o := d.Object
		old, err := c.Get(cmd.Context(), o.Key())
		switch {
		case errors.Is(err, store.ErrNotFound):
			plan.done[o.Key()] = "created"
		case err != nil:
			return err
		case sameDocument(old, o):
			plan.done[o.Key()] = "unchanged"
			continue
		case !f.overwrite:
			errs = append(errs, d.Locate(errors.New("is there already, and different; --overwrite writes over it")))
			continue
		default:
			plan.done[o.Key()] = "configured"
		}
		if err := dryImport(cmd, c, o, plan); err != nil {
			errs = append(errs, d.Locate(err))
			if gone(err) {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// dryImport lets the server go through one resource. A policy whose tier is
// imported with it is shown to the server in a tier that is there.
func dryImport(cmd *cobra.Command, c *client.Client, o api.Object, plan *importPlan) error {
	if spec := api.PolicySpecOf(o); spec != nil && plan.tiers[spec.Tier] {
		o = api.Clone(o)
		api.PolicySpecOf(o).Tier = api.DefaultTier
		delete(o.Metadata().Labels, api.LabelTier)
	}
	opt := client.Options{DryRun: true}
	var err error
	if plan.done[o.Key()] == "created" {
		_, err = c.Create(cmd.Context(), o, opt)
	} else {
		_, err = c.Replace(cmd.Context(), o, opt)
	}
	return err
}

// writeImport writes what was checked; at the first error it stops.
func (a *app) writeImport(cmd *cobra.Command, c *client.Client, f importFlags, plan *importPlan) error {
	p := a.progress("import", len(plan.docs))
	defer p.end()
	count := map[string]int{}
	for i, d := range plan.docs {
		p.step(i)
		key := d.Object.Key()
		done := plan.done[key]
		var err error
		switch {
		case f.options().DryRun:
		case done == "created":
			_, err = c.Create(cmd.Context(), d.Object, f.options())
		case done == "configured":
			_, err = c.Replace(cmd.Context(), d.Object, f.options())
		}
		if err != nil {
			return fmt.Errorf("import: %d of %d resources were written; the import goes on where it stopped when it is done again:\n%w",
				count["created"]+count["configured"], len(plan.docs), d.Locate(err))
		}
		count[done]++
		if done != "unchanged" {
			p.clear()
			fmt.Fprintf(a.Out, "%s %s%s\n", nameOf(key), done, f.suffix())
		}
	}
	p.clear()
	fmt.Fprintf(a.Out, "%d created, %d configured, %d unchanged%s\n", count["created"], count["configured"], count["unchanged"], f.suffix())
	return nil
}
