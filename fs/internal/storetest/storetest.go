// Package storetest opens stores of every kind for the tests of packages on top of package
// fs.
package storetest

import (
	"io"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/fstest"
)

// Place is a Store, and another view of its directory.
type Place struct {
	*fs.Store
	Kind string
	Fs   afero.Fs
	path string
}

// The kinds of stores.
const (
	Disk   = "on the disk"
	OsFs   = "on OsFs"
	Memory = "in memory"
)

// Open opens a Store that the test closes.
func Open(t *testing.T, kind string, opts ...fs.Option) *Place {
	t.Helper()
	if kind == Memory {
		return open(t, kind, fs.NewMemory(), filepath.FromSlash("/store"), opts)
	}
	return open(t, kind, afero.NewOsFs(), filepath.Join(t.TempDir(), "store"), opts)
}

func open(t *testing.T, kind string, afs afero.Fs, path string, opts []fs.Option) *Place {
	t.Helper()
	var store *fs.Store
	var err error
	if kind == Disk {
		store, err = fs.OpenDir(path, opts...)
	} else {
		store, err = fs.New(afs, path, opts...)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	return &Place{store, kind, afs, path}
}

// Each runs test with a Store of each kind.
func Each(t *testing.T, test func(t *testing.T, p *Place)) {
	for _, kind := range []string{Disk, OsFs, Memory} {
		t.Run(kind, func(t *testing.T) { test(t, Open(t, kind)) })
	}
}

// EachFaulty runs test with Stores on a Faulty, and checks that all files are closed at the
// end.
func EachFaulty(t *testing.T, test func(t *testing.T, faulty *fstest.Faulty, p *Place)) {
	for kind, afs := range map[string]afero.Fs{OsFs: afero.NewOsFs(), Memory: fs.NewMemory()} {
		t.Run(kind, func(t *testing.T) {
			faulty := fstest.NewFaulty(afs)
			p := open(t, kind, faulty.Fs(), filepath.Join(t.TempDir(), "store"), nil)
			before := faulty.Handles()
			test(t, faulty, p)
			faulty.Mend()
			if n := faulty.Handles(); n != before {
				t.Errorf("%d files are open at the end, and were %d", n, before)
			}
		})
	}
}

// Path returns the path of a file on p.Fs.
func (p *Place) Path(name string) string { return filepath.Join(p.path, name) }

// Put writes a file as another process would.
func (p *Place) Put(t testing.TB, name, content string) {
	t.Helper()
	if err := afero.WriteFile(p.Fs, p.Path(name), []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

// Names returns the names of all files, pending ones included.
func (p *Place) Names(t testing.TB) []string {
	t.Helper()
	infos, err := afero.ReadDir(p.Fs, p.path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, fi := range infos {
		names = append(names, fi.Name())
	}
	return names
}

// Holds checks that the directory holds these files, and nothing else.
func (p *Place) Holds(t testing.TB, want map[string]string) {
	t.Helper()
	if got := p.Names(t); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("the directory holds %q, want %q", got, slices.Sorted(maps.Keys(want)))
		return
	}
	for name, content := range want {
		if got, err := afero.ReadFile(p.Fs, p.Path(name)); string(got) != content || err != nil {
			t.Errorf("%s holds %.40q, %v; want %.40q", name, got, err, content)
		}
	}
}

// Write writes s to w.
func Write(t testing.TB, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}
