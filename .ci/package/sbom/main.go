// Command sbom writes the bill of materials of programs, as CycloneDX 1.6 JSON, from what the
// Go linker has put into them:
//
//	sbom VERSION TIME DIR
//
// DIR has the programs, each as DIR/PLATFORM/bin/NAME; TIME is in seconds since 1970. Each
// is a component with its SHA-256, and depends on the modules that are linked into it and on
// Go's standard library. The same programs give the same bytes.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: sbom VERSION TIME DIR")
		os.Exit(2)
	}
	if err := write(os.Stdout, os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func write(w io.Writer, version, epoch, dir string) error {
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return fmt.Errorf("the time is in seconds since 1970: %w", err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*", "bin", "*"))
	if err != nil {
		return err
	}
	if len(names) == 0 {
		return fmt.Errorf("there are no programs in %s", dir)
	}
	components := map[string]cdx.Component{}
	var dependencies []cdx.Dependency
	var programs []string
	product := ""
	for _, name := range names {
		info, err := buildinfo.ReadFile(name)
		if err != nil {
			return err
		}
		sum, err := sha256Of(name)
		if err != nil {
			return err
		}
		product = info.Main.Path
		ref, err := filepath.Rel(dir, name)
		if err != nil {
			return err
		}
		programs = append(programs, ref)
		components[ref] = cdx.Component{
			BOMRef: ref, Type: cdx.ComponentTypeApplication, Name: ref, Version: version,
			PackageURL: purl(product, version) + "#" + strings.TrimPrefix(info.Path, product+"/"),
			Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: sum}},
		}
		of := []string{purl("std", strings.TrimPrefix(info.GoVersion, "go"))}
		components[of[0]] = cdx.Component{
			BOMRef: of[0], Type: cdx.ComponentTypeLibrary, Name: "std", Version: info.GoVersion, PackageURL: of[0],
		}
		for _, m := range info.Deps {
			c, err := component(m)
			if err != nil {
				return err
			}
			components[c.BOMRef] = c
			of = append(of, c.BOMRef)
		}
		dependencies = append(dependencies, cdx.Dependency{Ref: ref, Dependencies: &of})
	}
	root := purl(product, version)
	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{
		Timestamp: time.Unix(seconds, 0).UTC().Format(time.RFC3339),
		Authors:   &[]cdx.OrganizationalContact{{Name: "The Accio authors"}},
		Supplier:  &cdx.OrganizationalEntity{Name: "The Accio authors", URL: &[]string{"https://" + product}},
		Component: &cdx.Component{
			BOMRef: root, Type: cdx.ComponentTypeApplication, Name: "accio", Version: version, PackageURL: root,
			Licenses: &cdx.Licenses{{License: &cdx.License{ID: "MIT"}}},
		},
	}
	var list []cdx.Component
	for _, ref := range slices.Sorted(maps.Keys(components)) {
		list = append(list, components[ref])
	}
	bom.Components = &list
	dependencies = append([]cdx.Dependency{{Ref: root, Dependencies: &programs}}, dependencies...)
	bom.Dependencies = &dependencies
	return cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false).EncodeVersion(bom, cdx.SpecVersion1_6)
}

// purl is the package URL of a Go module.
func purl(path, version string) string { return "pkg:golang/" + path + "@" + version }

// component is a module, with its hash of go.sum: h1, the SHA-256 of the list of its files.
func component(m *debug.Module) (cdx.Component, error) {
	if m.Replace != nil {
		m = m.Replace
	}
	ref := purl(m.Path, m.Version)
	sum, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.Sum, "h1:"))
	if err != nil || len(sum) != sha256.Size {
		return cdx.Component{}, fmt.Errorf("%s has no checksum", ref)
	}
	return cdx.Component{
		BOMRef: ref, Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: ref, Scope: cdx.ScopeRequired,
		Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum)}},
	}, nil
}

func sha256Of(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
