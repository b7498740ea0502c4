package integration

import (
	"os/exec"
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
		{"transport", nil},
		{"fs", []string{"github.com/spf13/afero", "github.com/google/renameio/v2", "github.com/djherbis/stream", "golang.org/x/sys", "golang.org/x/text"}},
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
				allowed := dep == module+"/"+tt.pkg
				for _, a := range tt.also {
					allowed = allowed || dep == a || strings.HasPrefix(dep, a+"/")
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
