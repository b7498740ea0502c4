package fs_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
)

// A directory of the disk, which is created if it is missing.
func ExampleOpenDir() {
	dir := filepath.Join(os.TempDir(), fmt.Sprint("uploads-", os.Getpid()))
	defer os.RemoveAll(dir)
	store, err := fs.OpenDir(dir)
	if err != nil {
		panic(err)
	}
	defer store.Close()

	p, err := store.Create(context.Background(), "greeting")
	if err != nil {
		panic(err)
	}
	defer p.Abort()
	io.WriteString(p, "hello")
	if err := p.Commit(); err != nil {
		panic(err)
	}
	saved, err := os.ReadFile(filepath.Join(dir, "greeting"))
	fmt.Println(string(saved), err)
	// Output: hello <nil>
}

// What is not to be stored is aborted, and nothing of it is left.
func ExampleNew() {
	afs := fs.NewMemory() // or any other afero filesystem
	store, err := fs.New(afs, "/uploads")
	if err != nil {
		panic(err)
	}
	defer store.Close()
	p, err := store.Create(context.Background(), "greeting")
	if err != nil {
		panic(err)
	}
	io.WriteString(p, "hel")
	fmt.Println(p.Abort())
	left, err := afero.ReadDir(afs, "/uploads")
	fmt.Println(len(left), err)
	// Output:
	// <nil>
	// 0 <nil>
}

func ExampleNewMemory() {
	mem := fs.NewMemory()
	afero.WriteFile(mem, "/greeting", []byte("hello"), 0o666)
	content, err := afero.ReadFile(mem, "/greeting")
	fmt.Println(string(content), err)
	// Output: hello <nil>
}

// A cache survives a killed process, and is discarded after a loss of power, so it needs no
// sync.
func ExampleWithDurability() {
	store, err := fs.New(fs.NewMemory(), "/cache", fs.WithDurability(fs.None))
	if err != nil {
		panic(err)
	}
	defer store.Close()
	p, err := store.Create(context.Background(), "entry")
	if err != nil {
		panic(err)
	}
	fmt.Println(p.Commit())
	// Output: <nil>
}

// A server warns and goes on if the filesystem cannot sync.
func ExampleOnWarning() {
	warn := func(err error) { fmt.Println("warning:", err) }
	store, err := fs.New(fs.NewMemory(), "/uploads", fs.OnWarning(warn))
	if err != nil {
		panic(err)
	}
	fmt.Println(store.Close()) // memory syncs without complaint
	// Output: <nil>
}

// At its start a server removes the pending files of a process that was killed. It
// recognizes them by the names that they were created for.
func ExampleStore_Sweep() {
	store, err := fs.New(fs.NewMemory(), "/uploads")
	if err != nil {
		panic(err)
	}
	defer store.Close()
	fmt.Println(store.Sweep(func(name string) bool { return filepath.Ext(name) == ".file" }))
	// Output: <nil>
}
