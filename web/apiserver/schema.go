// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/ripstop/ripstop/daemon/api"
)

// schemaJSON has the schemas of all kinds and of what they are made of, by
// name, in the form of OpenAPI 3. It is made from the types and comments of
// package api by TestSchema, which also fails when it is old.
//
//go:embed schema.json
var schemaJSON []byte

// metaPrefix begins the names of the schemas that every kind uses.
const metaPrefix = "io.k8s.apimachinery.pkg.apis.meta.v1."

// definitionPrefix begins the names of a kind's own schemas: its group
// backwards, and the version, as Kubernetes names them.
func definitionPrefix(d api.Descriptor) string {
	switch d.Group {
	case api.GroupCore:
		return "io.k8s.api.core." + d.Version + "."
	case api.GroupCalico:
		return "org.projectcalico." + d.Version + "."
	case api.GroupRipstop:
		return "io.ripstop." + d.Version + "."
	}
	panic("apiserver: no name for schemas of group " + d.Group)
}

// refs lead from one schema to another: so in OpenAPI 3 and in OpenAPI 2.
const (
	refs3 = "#/components/schemas/"
	refs2 = "#/definitions/"
)

// schemas are the schemas by name.
func schemas() map[string]*spec.Schema {
	var all map[string]*spec.Schema
	if err := json.Unmarshal(schemaJSON, &all); err != nil {
		panic(fmt.Sprintf("apiserver: schema.json: %v", err))
	}
	return all
}

// rawSchemas are the schemas as JSON, those whose names have one of prefixes.
func rawSchemas(prefixes ...string) map[string]json.RawMessage {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(schemaJSON, &all); err != nil {
		panic(fmt.Sprintf("apiserver: schema.json: %v", err))
	}
	for name := range all {
		keep := false
		for _, p := range prefixes {
			keep = keep || strings.HasPrefix(name, p)
		}
		if !keep {
			delete(all, name)
		}
	}
	return all
}
