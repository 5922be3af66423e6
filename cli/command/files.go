// SPDX-License-Identifier: Apache-2.0

package command

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
)

// input is the flags that name files with resources.
type input struct {
	files     []string
	recursive bool
	skipEmpty bool
}

// addInput adds the flags of an input to a command.
func addInput(cmd *cobra.Command, in *input) {
	cmd.Flags().StringArrayVarP(&in.files, "filename", "f", nil, "file or directory with YAML or JSON, - for standard input; may be given more than once")
	cmd.Flags().BoolVarP(&in.recursive, "recursive", "R", false, "go into directories below the ones given")
	cmd.Flags().BoolVar(&in.skipEmpty, "skip-empty", false, "files without resources, and directories without files, are no error")
	_ = cmd.MarkFlagFilename("filename", "yaml", "yml", "json")
}

// given refuses a command line that names no file.
func (in *input) given(cmd *cobra.Command, what string) error {
	if len(in.files) == 0 {
		return usage(cmd, "%s: what to %s is not said: -f FILE", cmd.Name(), what)
	}
	return nil
}

// maxInput is the largest file that is read.
const maxInput = 256 << 20

// read reads all documents and checks them as far as that can be done
// offline. All faults of all files are in the error.
func (in *input) read(a *app) ([]api.Document, error) {
	paths, err := in.paths()
	errs := byLine(err)
	var docs []api.Document
	for _, p := range paths {
		data, err := readInput(p, a.In)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		source := p
		if p == "-" {
			source = "standard input"
		}
		found, err := api.DecodeAll(data, source)
		if err == nil && len(found) == 0 && !in.skipEmpty {
			err = fmt.Errorf("%s: there are no resources in it", source)
		}
		faults := []error{err}
		for _, d := range found {
			faults = append(faults, a.check(d))
		}
		errs = append(errs, byLine(errors.Join(faults...))...)
		docs = append(docs, found...)
	}
	errs = append(errs, twice(docs)...)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return docs, nil
}

// byLine are the errors that err joins, those of one file in the order of
// their lines.
func byLine(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if err == nil {
			return nil
		}
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, byLine(e)...)
	}
	line := func(e error) int {
		var d *api.DocumentError
		if errors.As(e, &d) {
			return d.Line
		}
		return 0
	}
	slices.SortStableFunc(all, func(x, y error) int { return cmp.Compare(line(x), line(y)) })
	return all
}

// check gives a document its namespace, and a workload endpoint without name
// its name, and checks it.
func (a *app) check(d api.Document) error {
	m := d.Object.Metadata()
	desc, ok := api.DescriptorOf(d.Object.Key().Kind)
	if !ok {
		return d.Locate(fmt.Errorf("kind is not known"))
	}
	if desc.Namespaced {
		if m.Namespace == "" {
			m.Namespace = a.cfg.namespace()
		}
		if a.cfg.Namespace != "" && m.Namespace != a.cfg.Namespace {
			return d.Locate(&api.FieldError{
				Path: "metadata.namespace", Value: fmt.Sprintf("%q", m.Namespace),
				Message: fmt.Sprintf("the command line says --namespace %s", a.cfg.Namespace), Fix: "leave one of them out",
			})
		}
	}
	if w, ok := d.Object.(*api.WorkloadEndpoint); ok && w.Name == "" {
		w.Name = w.ComputedName() // the only one it can have
	}
	if m.Name == "" && m.GenerateName != "" { // the server completes it
		m.Name = m.GenerateName + "x"
		defer func() { m.Name = "" }()
	}
	return d.Check()
}

// twice finds resources that are given more than once.
func twice(docs []api.Document) (errs []error) {
	first := map[api.Key]api.Document{}
	for _, d := range docs {
		k := d.Object.Key()
		if k.Name == "" {
			continue // generateName
		}
		if f, seen := first[k]; seen {
			errs = append(errs, &api.DocumentError{Source: d.Source, Line: d.Line, Object: k.String(),
				Err: fmt.Errorf("given twice, before at %s:%d; remove one of them", f.Source, f.Line)})
			continue
		}
		first[k] = d
	}
	return errs
}

// paths are the files to read, in order; those of a directory by name. The
// error joins what is wrong with those that are not among them.
func (in *input) paths() (out []string, err error) {
	var errs []error
	for _, f := range in.files {
		if f == "-" {
			out = append(out, f)
			continue
		}
		fi, err := os.Stat(f)
		if err != nil {
			errs = append(errs, ofFile(f, err))
			continue
		}
		if !fi.IsDir() {
			out = append(out, f)
			continue
		}
		found, err := in.directory(f)
		switch {
		case err != nil:
			errs = append(errs, ofFile(f, err))
		case len(found) == 0 && !in.skipEmpty:
			errs = append(errs, fmt.Errorf("%s: there is no .yaml, .yml or .json file in this directory; -R looks further down", f))
		}
		out = append(out, found...)
	}
	return out, errors.Join(errs...)
}

// ofFile is an error of the file system with the file's name first.
func ofFile(name string, err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return fmt.Errorf("%s: %w", pe.Path, pe.Err)
	}
	return fmt.Errorf("%s: %w", name, err)
}

func (in *input) directory(dir string) (found []string, err error) {
	err = filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && p != dir && !in.recursive:
			return fs.SkipDir
		case e.IsDir():
			return nil
		}
		switch strings.ToLower(filepath.Ext(p)) {
		case ".yaml", ".yml", ".json":
			found = append(found, p)
		}
		return nil
	})
	return found, err
}

func readInput(path string, stdin io.Reader) ([]byte, error) {
	r := stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, ofFile(path, err)
		}
		defer f.Close()
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, maxInput+1))
	if err != nil {
		return nil, ofFile(path, err)
	}
	if len(data) > maxInput {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxInput)
	}
	return data, nil
}

// inOrder sorts documents so that what is named comes before what names it:
// tiers before policies. The order of files is kept otherwise.
func inOrder(docs []api.Document) {
	rank := map[api.Kind]int{}
	for i, d := range api.Kinds() {
		rank[d.Kind] = i
	}
	slices.SortStableFunc(docs, func(x, y api.Document) int {
		return cmp.Compare(rank[x.Object.Key().Kind], rank[y.Object.Key().Kind])
	})
}

// nameOf is a resource as commands print it: tier/sec, networkpolicy/prod/db.
func nameOf(k api.Key) string {
	kind := strings.ToLower(string(k.Kind))
	if d, ok := api.DescriptorOf(k.Kind); ok {
		kind = d.Singular
	}
	if k.Namespace != "" {
		return kind + "/" + k.Namespace + "/" + k.Name
	}
	return kind + "/" + k.Name
}
