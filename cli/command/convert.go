// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ripstop/ripstop/daemon/api"
)

func (a *app) convertCommand() *cobra.Command {
	var in input
	var output string
	cmd := &cobra.Command{
		Use:   "convert -f FILE",
		Short: "Rewrite resources of Calico's older API version",
		Long: `convert reads resources as kubectl shows them in a cluster with Calico
(apiVersion crd.projectcalico.org/v1, in which Calico keeps them there) and
prints them as projectcalico.org/v3, which apply takes. Names, labels and
annotations that Calico hides in an annotation come out of it, and names of
policies lose the tier that releases before 3.32 put in front. Resources that
are projectcalico.org/v3 already are printed as they are. What belongs to the
old cluster (uid, version, time of creation) is left out.

All files are read and checked; with a fault in any of them nothing is printed.
No server is asked.`,
		Example: `  kubectl get globalnetworkpolicies.crd.projectcalico.org -o yaml | ripstop convert -f -
  ripstop convert -R -f old/ -o json`,
		Args: func(cmd *cobra.Command, args []string) error {
			return errors.Join(noArgs(cmd, args), checkOutput(cmd, output, "", "yaml", "json"))
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := in.given(cmd, "convert"); err != nil {
				return err
			}
			return a.convert(&in, output)
		},
	}
	addInput(cmd, &in)
	addOutput(cmd, &output, "yaml", "json")
	return cmd
}

func (a *app) convert(in *input, output string) error {
	paths, err := in.paths()
	errs := byLine(err)
	var objs []api.Object
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
		found, err := a.converted(data, source)
		errs = append(errs, err)
		objs = append(objs, found...)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("convert:\n%w", err)
	}
	if output == "json" {
		return writeDocument(a.Out, "json", api.List[api.Object]{Kind: "List", APIVersion: "v1", Items: objs})
	}
	for i, o := range objs {
		if i > 0 {
			fmt.Fprintln(a.Out, "---")
		}
		if err := writeDocument(a.Out, "yaml", o); err != nil {
			return err
		}
	}
	return nil
}

// converted are the resources of one file.
func (a *app) converted(data []byte, source string) (objs []api.Object, err error) {
	var errs []error
	for i, text := range documentsIn(data) {
		place := fmt.Sprintf("%s: document %d", source, i+1)
		js, err := api.ToJSON(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", place, err))
			continue
		}
		d := json.NewDecoder(bytes.NewReader(js))
		d.UseNumber()
		var tree any
		if err := d.Decode(&tree); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", place, err))
			continue
		}
		for _, item := range itemsOf(tree) {
			o, err := a.convertOne(item, place)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			objs = append(objs, o)
		}
	}
	return objs, errors.Join(errs...)
}

// documentsIn cuts YAML at the lines that begin a document; what is empty, or
// comments alone, is left out.
func documentsIn(data []byte) [][]byte {
	var out [][]byte
	var part bytes.Buffer
	content := false
	end := func() {
		if content {
			out = append(out, bytes.Clone(part.Bytes()))
		}
		part.Reset()
		content = false
	}
	for line := range bytes.Lines(data) {
		if text := strings.TrimRight(string(line), " \t\r\n"); text == "---" {
			end()
			continue
		} else if t := strings.TrimSpace(text); t != "" && t[0] != '#' {
			content = true
		}
		part.Write(line)
	}
	end()
	return out
}

// itemsOf are the resources in a document: itself, or those of a list.
func itemsOf(tree any) []any {
	switch t := tree.(type) {
	case []any:
		return t
	case map[string]any:
		if items, ok := t["items"].([]any); ok {
			return items
		}
	}
	return []any{tree}
}

// versionOld is the apiVersion in which Calico keeps resources in a
// Kubernetes cluster.
const versionOld = "crd.projectcalico.org/v1"

// convertOne makes a resource of today out of an older one.
func (a *app) convertOne(item any, place string) (api.Object, error) {
	tree, ok := item.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: not a resource", place)
	}
	kind, _ := tree["kind"].(string)
	meta, _ := tree["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
	}
	name, _ := meta["name"].(string)
	place = fmt.Sprintf("%s: %s(%s)", place, kind, name)
	switch tree["apiVersion"] {
	case versionOld:
		tree["apiVersion"] = api.VersionCalico
		var err error
		if meta, err = unhidden(meta, tree); err != nil {
			return nil, fmt.Errorf("%s: %w", place, err)
		}
	case api.VersionCalico, api.VersionOurs, api.VersionCore:
	default:
		return nil, fmt.Errorf("%s: apiVersion: %q: what can be converted is %s", place, tree["apiVersion"], versionOld)
	}
	for _, old := range []string{"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink", "ownerReferences"} {
		delete(meta, old)
	}
	if notes, ok := meta["annotations"].(map[string]any); ok {
		delete(notes, "kubectl.kubernetes.io/last-applied-configuration")
		if len(notes) == 0 {
			delete(meta, "annotations")
		}
	}
	tree["metadata"] = meta
	delete(tree, "status")
	data, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	docs, err := api.DecodeAll(data, "")
	if err == nil && len(docs) == 1 {
		err = a.check(docs[0])
	}
	var errs []error
	for _, f := range api.Faults(err) {
		errs = append(errs, fmt.Errorf("%s: %w", place, f))
	}
	if len(errs) == 0 && err != nil {
		errs = append(errs, fmt.Errorf("%s: %w", place, err))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return docs[0].Object, nil
}

// unhidden is the metadata that Calico keeps in an annotation, joined with
// what of it is on the object itself.
func unhidden(meta, tree map[string]any) (map[string]any, error) {
	notes, _ := meta["annotations"].(map[string]any)
	hidden := map[string]any{}
	if text, ok := notes[api.AnnotationMetadata].(string); ok {
		if err := json.Unmarshal([]byte(text), &hidden); err != nil {
			return nil, fmt.Errorf("metadata.annotations[%s]: %w", api.AnnotationMetadata, err)
		}
		delete(notes, api.AnnotationMetadata)
	}
	out := map[string]any{}
	for k, v := range hidden {
		if v != nil {
			out[k] = v
		}
	}
	for _, m := range []string{"labels", "annotations"} {
		own, _ := meta[m].(map[string]any)
		if len(own) == 0 {
			continue
		}
		joined, _ := out[m].(map[string]any)
		if joined == nil {
			joined = map[string]any{}
		}
		for k, v := range own {
			joined[k] = v
		}
		out[m] = joined
	}
	if ns, has := meta["namespace"]; has {
		out["namespace"] = ns
	}
	kind, _ := tree["kind"].(string)
	name, _ := meta["name"].(string)
	if named, _ := hidden["name"].(string); named == "" || !inTier(api.Kind(kind)) {
		out["name"] = name
		if inTier(api.Kind(kind)) {
			out["name"] = withoutTier(name, tree)
		}
	}
	return out, nil
}

// inTier reports whether the kind is one of the policies that live in tiers.
func inTier(kind api.Kind) bool {
	switch kind {
	case api.KindGlobalNetworkPolicy, api.KindNetworkPolicy, api.KindStagedGlobalNetworkPolicy, api.KindStagedNetworkPolicy:
		return true
	}
	return false
}

// withoutTier is a policy's name without the prefix that releases before 3.32
// gave to policies of the tier default.
func withoutTier(name string, tree map[string]any) string {
	spec, _ := tree["spec"].(map[string]any)
	if tier, _ := spec["tier"].(string); tier != "" && tier != api.DefaultTier {
		return name
	}
	return strings.TrimPrefix(name, api.DefaultTier+".")
}
