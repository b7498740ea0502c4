package integration

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Who takes one package of the library must not get the others' dependencies
// with it.
func TestPackagesImportNoMoreThanTheyMay(t *testing.T) {
	const module = "github.com/accio-go/accio"
	tests := []struct {
		pkg  string
		also []string // beside the standard library and the package itself
	}{
		{"stage", nil},
		{"stage/frames", []string{module + "/stage"}},
		{"stage/decompress", []string{module + "/stage"}},
		{"stage/decompress/zstd", []string{"github.com/klauspost/compress"}},
		{"stage/send", []string{module + "/stage"}},
		{"stage/tlsstage", []string{module + "/stage"}},
		{"stage/proxyproto", []string{module + "/stage", "github.com/pires/go-proxyproto"}},
		{"stage/throttle", []string{module + "/stage", "golang.org/x/time"}},
		{"transport", nil},
		{"fs", []string{"github.com/spf13/afero", "github.com/google/renameio/v2", "golang.org/x/sys", "golang.org/x/text"}},
		{"fs/follow", []string{module + "/fs", "github.com/spf13/afero", "github.com/google/renameio/v2", "github.com/djherbis/stream", "golang.org/x/sys", "golang.org/x/text"}},
		{"fs/appendlog", []string{module + "/fs", "github.com/spf13/afero", "github.com/google/renameio/v2", "golang.org/x/sys", "golang.org/x/text"}},
		{"transport/transporttest/memnet", nil},
		{"transport/transporttest", []string{module + "/transport"}},
		{"stage/stagetest", []string{module + "/stage", module + "/transport/transporttest/memnet"}},
		{"fs/fstest", []string{"github.com/spf13/afero", "golang.org/x/text"}},
	}
	for _, tt := range tests {
		t.Run(tt.pkg, func(t *testing.T) {
			list := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", module+"/"+tt.pkg)
			list.Env = append(list.Environ(), "GOOS=linux")
			out, err := list.Output()
			if err != nil {
				t.Fatal(err)
			}
			for dep := range strings.FieldsSeq(string(out)) {
				top, _, _ := strings.Cut(tt.pkg, "/")
				allowed := dep == module+"/"+tt.pkg || strings.HasPrefix(dep, module+"/"+top+"/internal/") || strings.HasPrefix(dep, module+"/internal/")
				for _, a := range tt.also {
					// Of the library that very package, and of others all that is beneath.
					allowed = allowed || dep == a || strings.HasPrefix(dep, a+"/") && a != module+"/stage" && a != module+"/fs"
				}
				if !allowed {
					t.Errorf("imports %s", dep)
				}
			}
			for _, a := range tt.also {
				if !strings.HasPrefix(a, "golang.org/x/") && !strings.Contains(string(out), a) {
					t.Errorf("does not use %s", a)
				}
			}
		})
	}
}

// A clock that is set is nothing to the library: all times that it compares are those of
// time.Now, and have a reading of the clock that nobody sets, unless they lose it by one
// of these.
func TestTimesAreOfTheClockThatNobodySets(t *testing.T) {
	lost := map[string]bool{
		"Date": true, "Parse": true, "ParseInLocation": true, "UTC": true, "Local": true, "Round": true, "AddDate": true,
		"Unix": true, "UnixMilli": true, "UnixMicro": true, "UnixNano": true, "ModTime": true,
	}
	for _, pkg := range []string{"stage", "stage/internal/socket", "stage/internal/fastconn", "stage/send", "stage/tlsstage", "stage/proxyproto", "stage/throttle", "fs", "fs/follow", "fs/appendlog", "transport"} {
		files, err := filepath.Glob("../" + pkg + "/*.go")
		if err != nil || len(files) == 0 {
			t.Fatalf("no files of %s (%v)", pkg, err)
		}
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				f, ok := call.Fun.(*ast.SelectorExpr)
				if !ok || !lost[f.Sel.Name] {
					return true
				}
				if f.Sel.Name == "ModTime" && pkg == "stage/tlsstage" {
					return true // is compared with others only to see that a file has changed
				}
				switch types.ExprString(call) {
				case "time.Unix(1, 0)": // what is long past is so by any clock
				case "time.Now().UTC()": // is written down, and compared with nothing
				default:
					t.Errorf("%v: %s", fset.Position(call.Pos()), types.ExprString(call))
				}
				return true
			})
		}
	}
}
