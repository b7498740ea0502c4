package fs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

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

func ExampleNoReplace() {
	store, err := fs.New(fs.NewMemory(), "/uploads", fs.NoReplace())
	if err != nil {
		panic(err)
	}
	defer store.Close()
	for _, content := range []string{"first", "second"} {
		p, err := store.Create(context.Background(), "greeting")
		if err != nil {
			panic(err)
		}
		defer p.Abort()
		io.WriteString(p, content)
		fmt.Println(errors.Is(p.Commit(), os.ErrExist))
	}
	// Output:
	// false
	// true
}
