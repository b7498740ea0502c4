package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What others build with is shown at work: every function that a package of the library
// exports, an option included, and every stage have an Example by which go doc finds it.
// The function may be shown by that of its result's type, where go doc lists it.
func TestEverythingThatIsBuiltWithHasAnExample(t *testing.T) {
	for _, pkg := range []string{
		"stage", "stage/send", "stage/tlsstage", "stage/proxyproto", "stage/throttle", "stage/frames", "stage/decompress", "stage/decompress/zstd", "stage/stagetest",
		"fs", "fs/fstest", "transport", "transport/transporttest", "transport/transporttest/memnet",
	} {
		t.Run(pkg, func(t *testing.T) {
			p := parsePackage(t, "../"+pkg)
			if len(p.examples) == 0 || len(p.results)+len(p.stages) == 0 {
				t.Fatalf("%d examples of %d functions and %d stages: they are not where they were", len(p.examples), len(p.results), len(p.stages))
			}
			for _, name := range slices.Sorted(maps.Keys(p.stages)) {
				if !p.shows(name, "") {
					t.Errorf("the stage %s has no Example%s", name, name)
				}
			}
			for _, name := range slices.Sorted(maps.Keys(p.results)) {
				shown := p.shows(name, "")
				for _, result := range p.results[name] {
					shown = shown || p.shows(result, name)
				}
				if !shown {
					t.Errorf("the function %s has no Example%s", name, name)
				}
			}
		})
	}
}

// exported is what a package exports.
type exported struct {
	results  map[string][]string        // of each function, the types of the package
	stages   map[string]bool            // types that have a Wrap
	examples map[string]map[string]bool // by the name after Example: what each uses
}

// shows reports whether there is an Example of name, which uses what is used unless
// that is empty.
func (p *exported) shows(name, used string) bool {
	for example, uses := range p.examples {
		of, suffix, found := strings.Cut(example, "_")
		if of == name && (!found || suffix == strings.ToLower(suffix[:1])+suffix[1:]) && (used == "" || uses[used]) {
			return true
		}
	}
	return false
}

func parsePackage(t *testing.T, dir string) *exported {
	t.Helper()
	p := &exported{map[string][]string{}, map[string]bool{}, map[string]map[string]bool{}}
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, decl := range file.Decls {
			f, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			example, isExample := strings.CutPrefix(f.Name.Name, "Example")
			switch test := strings.HasSuffix(name, "_test.go"); {
			case test && isExample:
				p.examples[example] = uses(f)
			case test || !f.Name.IsExported():
			case f.Recv == nil:
				p.results[f.Name.Name] = results(f)
			case f.Name.Name == "Wrap":
				if recv := typeName(f.Recv.List[0].Type); ast.IsExported(recv) {
					p.stages[recv] = true
				}
			}
		}
	}
	return p
}

// uses are the names that a function takes from other packages.
func uses(f *ast.FuncDecl) map[string]bool {
	used := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			used[sel.Sel.Name] = true
		}
		return true
	})
	return used
}

// results are the exported types of the function's own package among its results.
func results(f *ast.FuncDecl) (names []string) {
	if f.Type.Results == nil {
		return nil
	}
	for _, r := range f.Type.Results.List {
		if name := typeName(r.Type); ast.IsExported(name) {
			names = append(names, name)
		}
	}
	return names
}

func typeName(x ast.Expr) string {
	if star, ok := x.(*ast.StarExpr); ok {
		x = star.X
	}
	if id, ok := x.(*ast.Ident); ok {
		return id.Name
	}
	return ""
}
