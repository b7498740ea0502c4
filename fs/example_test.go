package fs_test

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
)

func Example() {
	mem := fs.NewMemory()
	store, err := fs.New(mem, "/uploads")
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
	before, _ := afero.Exists(mem, "/uploads/greeting")
	err = p.Commit()
	after, _ := afero.ReadFile(mem, "/uploads/greeting")
	fmt.Println(before, err, string(after))
	// Output: false <nil> hello
}

// Read a file while it arrives.
func ExampleFollow() {
	store, err := fs.New(fs.NewMemory(), "/uploads")
	if err != nil {
		panic(err)
	}
	defer store.Close()
	follower := fs.Follow(store)

	p, err := follower.Create(context.Background(), "log")
	if err != nil {
		panic(err)
	}
	defer p.Abort()
	r, err := follower.Open("log")
	if err != nil {
		panic(err)
	}
	defer r.Close()

	line := make([]byte, 6)
	io.WriteString(p, "first\n")
	io.ReadFull(r, line) // here already, though nothing is committed
	fmt.Printf("%s", line)
	io.WriteString(p, "last\n")
	p.Commit()
	rest, err := io.ReadAll(r)
	fmt.Printf("%s%v\n", rest, err)
	// Output:
	// first
	// last
	// <nil>
}
