// SPDX-License-Identifier: Apache-2.0

// Command sbom prints the bill of materials of Go programs, as CycloneDX 1.7
// in JSON: every module that is linked into any of them, with its version and
// checksum, as the linker has recorded them. The same programs give the same
// bytes.
//
//	sbom NAME VERSION PROGRAM...
package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"slices"
	"strings"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: sbom NAME VERSION PROGRAM...")
		os.Exit(2)
	}
	bom, err := billOf(os.Args[1], os.Args[2], os.Args[3:])
	if err == nil {
		err = cdx.NewBOMEncoder(os.Stdout, cdx.BOMFileFormatJSON).SetPretty(true).Encode(bom)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "sbom: %v\n", err)
		os.Exit(1)
	}
}

// billOf reads what the linker wrote into each program.
func billOf(name, version string, programs []string) (*cdx.BOM, error) {
	found := map[string]cdx.Component{}
	for _, path := range programs {
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		goVersion := strings.TrimPrefix(info.GoVersion, "go")
		found["std"] = component("std", goVersion, "pkg:golang/std@"+goVersion, "")
		for _, m := range info.Deps {
			if m.Replace != nil {
				m = m.Replace
			}
			found[m.Path] = component(m.Path, m.Version, "pkg:golang/"+m.Path+"@"+m.Version, m.Sum)
		}
	}
	components := make([]cdx.Component, 0, len(found))
	for _, c := range found {
		components = append(components, c)
	}
	slices.SortFunc(components, func(a, b cdx.Component) int { return strings.Compare(a.BOMRef, b.BOMRef) })
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Component: &cdx.Component{
		BOMRef: name, Type: cdx.ComponentTypeApplication, Name: name, Version: version,
		Licenses: &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
	}}
	bom.Components = &components
	return bom, nil
}

func component(path, version, purl, sum string) cdx.Component {
	c := cdx.Component{BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: path, Version: version, PackageURL: purl}
	// The checksum of go.sum is one of a list of files, which no hash of
	// CycloneDX is.
	if sum != "" {
		c.Properties = &[]cdx.Property{{Name: "golang:sum", Value: sum}}
	}
	return c
}
