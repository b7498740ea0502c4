package integration

import (
	"context"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// snippet is what stands between ```go and ``` in a document.
type snippet struct {
	at     string // where it begins
	file   string // what stands after ```go, or a name made up for it
	source string
}

// snippets are the blocks of Go in a document. Those of a folder are one package; one
// without a name is a package of its own.
func snippets(t *testing.T, document string) (found []snippet) {
	t.Helper()
	text, err := os.ReadFile("../" + document)
	if err != nil {
		t.Fatal(err)
	}
	var b *snippet
	for i, line := range strings.SplitAfter(string(text), "\n") {
		info, fence := strings.CutPrefix(strings.TrimRight(line, "\n"), "```")
		switch {
		case fence && b != nil:
			found, b = append(found, *b), nil
		case fence && (info == "go" || strings.HasPrefix(info, "go ")):
			at := fmt.Sprintf("%s:%d", document, i+1)
			name := strings.TrimSpace(strings.TrimPrefix(info, "go"))
			if name == "" {
				name = fmt.Sprintf("%s%d/%[2]d.go", strings.ToLower(strings.TrimSuffix(document, ".md")), i+1)
			}
			b = &snippet{at: at, file: name}
		case fence:
			b = &snippet{} // of something else
		case b != nil:
			b.source += line
		}
	}
	if b != nil {
		t.Fatalf("%s has a block without an end", document)
	}
	return slices.DeleteFunc(found, func(b snippet) bool { return b.file == "" })
}

// imported are the packages that a block may use without importing them.
var imported = map[string]string{
	"stage":      "github.com/accio-go/accio/stage",
	"tlsstage":   "github.com/accio-go/accio/stage/tlsstage",
	"decompress": "github.com/accio-go/accio/stage/decompress",
	"zstd":       "github.com/accio-go/accio/stage/decompress/zstd",
	"fs":         "github.com/accio-go/accio/fs",
	"follow":     "github.com/accio-go/accio/fs/follow",
	"transport":  "github.com/accio-go/accio/transport",
	"atomic":     "sync/atomic",
	"sha256":     "crypto/sha256",
}

func init() {
	for _, std := range []string{"bytes", "context", "errors", "fmt", "io", "log", "net", "os", "testing", "time"} {
		imported[std] = std
	}
}

// whole is the block as a file: one that has no package clause has declarations, and what
// they import is left out in the document.
func (b snippet) whole(t *testing.T) string {
	t.Helper()
	source := b.source
	_, err := parser.ParseFile(token.NewFileSet(), b.at, source, parser.PackageClauseOnly)
	if err == nil {
		return source
	}
	pkg := "package " + path.Base(path.Dir(b.file)) + "\n"
	file, err := parser.ParseFile(token.NewFileSet(), b.at, pkg+source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("%s: %v", b.at, err)
	}
	used := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok && imported[x.Name] != "" {
				used[imported[x.Name]] = true
			}
		}
		return true
	})
	for _, name := range slices.Sorted(maps.Keys(used)) {
		pkg += fmt.Sprintf("import %q\n", name)
	}
	return pkg + source
}

// guideModule writes the blocks of the documents as a module that uses this one as any
// other would, but from here and without the network.
func guideModule(t *testing.T, found []snippet) (dir string) {
	t.Helper()
	dir = t.TempDir()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	mod, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	sum, err := os.ReadFile("../go.sum")
	if err != nil {
		t.Fatal(err)
	}
	const this = "github.com/accio-go/accio"
	requirements, ok := strings.CutPrefix(string(mod), "module "+this+"\n")
	if !ok {
		t.Fatal("go.mod does not begin as it did")
	}
	files := map[string]string{
		"go.mod": fmt.Sprintf("module guide\n%s\nrequire %s v0.0.0\nreplace %[2]s => %q\n", requirements, this, filepath.ToSlash(root)),
		"go.sum": string(sum),
	}
	for _, b := range found {
		if !filepath.IsLocal(b.file) || path.Dir(b.file) == "." || !strings.HasSuffix(b.file, ".go") {
			t.Fatalf("%s: %q names no file in a folder", b.at, b.file)
		}
		if files[b.file] != "" {
			t.Fatalf("%s: there are two of %s", b.at, b.file)
		}
		files[b.file] = b.whole(t)
	}
	for name, source := range files {
		name = filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(source), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// goIn runs the go command in a module of guideModule.
func goIn(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// Whoever copies a block of Go from a document has something that compiles, is
// formatted, and does what its tests say.
func TestTheGuideCompiles(t *testing.T) {
	guide, readme := snippets(t, "GUIDE.md"), snippets(t, "README.md")
	if len(guide) < 5 || len(readme) < 1 {
		t.Fatalf("%d blocks in GUIDE.md and %d in README.md: they are not where they were", len(guide), len(readme))
	}
	found := append(guide, readme...)
	for _, b := range found {
		if formatted, err := format.Source([]byte(b.source)); err != nil || string(formatted) != b.source {
			t.Errorf("%s is not gofmt-ed (%v)", b.at, err)
		}
	}
	dir := guideModule(t, found)
	if out, err := goIn(t, dir, "vet", "./..."); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	var tested []string
	for _, b := range found {
		if folder := "./" + path.Dir(b.file); strings.HasSuffix(b.file, "_test.go") && !slices.Contains(tested, folder) {
			tested = append(tested, folder)
		}
	}
	if len(tested) == 0 {
		t.Fatal("GUIDE.md has no test")
	}
	if out, err := goIn(t, dir, append([]string{"test"}, tested...)...); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// A mistake in a document is found.
func TestTheGuideWouldNotCompileWithAMistake(t *testing.T) {
	dir := guideModule(t, []snippet{{"here", "mistake/mistake.go", "var h stage.Handler = stage.Receiver\n"}})
	out, err := goIn(t, dir, "vet", "./...")
	if err == nil || !strings.Contains(out, "Receiver") {
		t.Errorf("%v: %s", err, out)
	}
}

// Whoever looks for a stage finds it in the guide's table.
func TestTheGuideHasEveryStage(t *testing.T) {
	text, err := os.ReadFile("../GUIDE.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range []string{"stage", "stage/tlsstage", "stage/proxyproto", "stage/throttle"} {
		for name := range parsePackage(t, "../"+pkg).stages {
			switch name {
			case "Bracket", "Chain", "StageFunc": // what stages are made of
				continue
			}
			if pkg != "stage" {
				name = path.Base(pkg) + "." + name
			}
			if !strings.Contains(string(text), "\n| `"+name+"` |") {
				t.Errorf("%s is not in the table", name)
			}
		}
	}
}

// The guide's first server does what the guide says: it saves what is sent, nothing of
// what is broken off, and ends by a signal.
func TestTheGuidesFirstServer(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("there is no SIGTERM")
	}
	found := snippets(t, "GUIDE.md")
	i := slices.IndexFunc(found, func(b snippet) bool { return b.file == "upload/main.go" })
	if i < 0 {
		t.Fatal("the server is not where it was")
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().(*net.TCPAddr)
	free.Close()
	server := found[i]
	server.source = strings.Replace(server.source, "Listen(ctx, 5000)", fmt.Sprintf("Listen(ctx, %d)", addr.Port), 1)
	if server.source == found[i].source {
		t.Fatal("it does not listen where it did")
	}
	dir := guideModule(t, []snippet{server})
	if out, err := goIn(t, dir, "build", "-o", "server", "./upload"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	var said strings.Builder
	cmd := exec.CommandContext(t.Context(), "./server")
	cmd.Dir, cmd.Stderr = dir, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	dial := func() *net.TCPConn {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for {
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr.String())
			if err == nil {
				return conn.(*net.TCPConn)
			}
			select {
			case err := <-ended:
				t.Fatalf("%v: %s", err, &said)
			case <-ctx.Done():
				t.Fatal(err)
			case <-time.After(10 * time.Millisecond): // it may not listen yet
			}
		}
	}
	whole := dial()
	io.WriteString(whole, "hello")
	whole.CloseWrite()
	if _, err := io.ReadAll(whole); err != nil {
		t.Error(err)
	}
	whole.Close()
	broken := dial()
	io.WriteString(broken, "hel")
	broken.SetLinger(0)
	broken.Close()
	again := dial() // so that what was broken off has been accepted
	again.CloseWrite()
	io.ReadAll(again)
	again.Close()

	cmd.Process.Signal(syscall.SIGTERM)
	if err := <-ended; err != nil {
		t.Errorf("%v: %s", err, &said)
	}
	saved, err := filepath.Glob(filepath.Join(dir, "uploads", "*"))
	if err != nil || len(saved) != 2 {
		t.Fatalf("%q are saved (%v), for the one that is whole and the one that is empty", saved, err)
	}
	content := map[string]bool{}
	for _, name := range saved {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		content[string(b)] = true
	}
	if !content["hello"] || !content[""] {
		t.Errorf("%q are saved", slices.Sorted(maps.Keys(content)))
	}
	if n := strings.Count(said.String(), "connection ended"); n != 3 {
		t.Errorf("%d lines of connections:\n%s", n, &said)
	}
}
