// Lint is go vet, and staticcheck but for what is unused, on packages that it reads from
// source. So it looks at the code for another system, as GOOS and GOARCH have it, without
// compiling all that this imports for that system, which takes several times as long.
//
//	GOOS=windows lint PATTERN...
package main

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/tools/go/analysis/checker"
	"golang.org/x/tools/go/analysis/suite/vet"
	"golang.org/x/tools/go/packages"
	"honnef.co/go/tools/simple"
	"honnef.co/go/tools/staticcheck"
	"honnef.co/go/tools/stylecheck"
)

func main() {
	clean, err := lint(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "lint:", err)
	}
	if err != nil || !clean {
		os.Exit(1)
	}
}

// lint prints what is wrong with the packages, and reports whether nothing is.
func lint(patterns []string) (clean bool, err error) {
	pkgs, err := packages.Load(&packages.Config{Mode: packages.LoadAllSyntax, Tests: true}, patterns...)
	if err != nil {
		return false, err
	}
	if len(pkgs) == 0 {
		return false, fmt.Errorf("no packages match %q", patterns)
	}
	if packages.PrintErrors(pkgs) > 0 {
		return false, nil
	}
	suite := vet.Suite
	for _, a := range slices.Concat(staticcheck.Analyzers, simple.Analyzers, stylecheck.Analyzers) {
		if !a.Doc.NonDefault {
			suite = append(suite, a.Analyzer)
		}
	}
	found, err := checker.Analyze(suite, pkgs, nil)
	if err != nil {
		return false, err
	}
	clean = true
	for _, of := range found.Roots {
		clean = clean && of.Err == nil && len(of.Diagnostics) == 0
	}
	return clean, found.PrintText(os.Stderr, -1)
}
