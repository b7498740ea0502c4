package fs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

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

// A cache is found whole or not at all after its process was killed; after a loss of
// power it is begun anew, and so nothing has to be synced.
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

// A server goes on where the filesystem cannot sync, and says so.
func ExampleOnWarning() {
	warn := func(err error) {
		if errors.Is(err, fs.ErrCannotSync) {
			fmt.Println("warning:", err)
		}
	}
	store, err := fs.New(fs.NewMemory(), "/uploads", fs.OnWarning(warn))
	if err != nil {
		panic(err)
	}
	fmt.Println(store.Close()) // memory syncs without complaint
	// Output: <nil>
}

// A scanner that hangs does not hold up the sender for longer than a moment.
func ExampleWithConsumerLimit() {
	store, err := fs.New(fs.NewMemory(), "/uploads")
	if err != nil {
		panic(err)
	}
	defer store.Close()
	scanned := fs.Follow(store, fs.WithConsumerLimit(20*time.Millisecond), fs.WithConsumer(fs.Consumer{
		Consume: func(ctx context.Context, _ string, _ io.Reader) error {
			<-ctx.Done() // it waits for another server
			return context.Cause(ctx)
		},
		Decisive: true,
	}))
	p, err := scanned.Create(context.Background(), "report.pdf")
	if err != nil {
		panic(err)
	}
	defer p.Abort()
	fmt.Println(errors.Is(p.Commit(), fs.ErrConsumerLimit))
	// Output: true
}

// What a process that was killed has left is removed by the next one. Which files are
// one's own is told by the names they were to have.
func ExampleStore_Sweep() {
	store, err := fs.New(fs.NewMemory(), "/uploads")
	if err != nil {
		panic(err)
	}
	defer store.Close()
	fmt.Println(store.Sweep(func(name string) bool { return filepath.Ext(name) == ".file" }))
	// Output: <nil>
}
