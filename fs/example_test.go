package fs_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

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

// A checksum of every file, that is known when its sender has the confirmation.
func ExampleWithConsumer() {
	store, err := fs.New(fs.NewMemory(), "/uploads")
	if err != nil {
		panic(err)
	}
	defer store.Close()
	sums := fs.Follow(store, fs.WithConsumer(fs.Consumer{
		Consume: func(_ context.Context, name string, r io.Reader) error {
			h := sha256.New()
			if _, err := io.Copy(h, r); err != nil {
				return err
			}
			fmt.Printf("%x  %s\n", h.Sum(nil), name)
			return nil
		},
		OnError: func(name string, err error) { fmt.Println("no checksum of", name, "since", err) },
	}))

	p, err := sums.Create(context.Background(), "greeting")
	if err != nil {
		panic(err)
	}
	defer p.Abort()
	io.WriteString(p, "hello")
	fmt.Println(p.Commit())
	// Output:
	// 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824  greeting
	// <nil>
}

// Nothing but PDF is stored. What is something else need not be received to its end.
func ExampleConsumer_decisive() {
	mem := fs.NewMemory()
	store, err := fs.New(mem, "/uploads")
	if err != nil {
		panic(err)
	}
	defer store.Close()
	checked := fs.Follow(store, fs.WithConsumerLimit(time.Minute), fs.WithConsumer(fs.Consumer{
		Consume: func(_ context.Context, _ string, r io.Reader) error {
			head := make([]byte, 5)
			if _, err := io.ReadFull(r, head); err != nil || string(head) != "%PDF-" {
				return errors.New("not a PDF")
			}
			return nil // that is enough
		},
		Decisive: true,
	}))

	for _, content := range []string{"%PDF-1.7 and so on", "something else"} {
		p, err := checked.Create(context.Background(), "report.pdf")
		if err != nil {
			panic(err)
		}
		defer p.Abort()
		io.WriteString(p, content)
		err = p.Commit()
		fmt.Println(errors.Is(err, fs.ErrRejected), err)
	}
	stored, _ := afero.ReadFile(mem, "/uploads/report.pdf")
	fmt.Printf("%s\n", stored)
	// Output:
	// false <nil>
	// true report.pdf rejected by a consumer: not a PDF
	// %PDF-1.7 and so on
}

// Lines of one file a day, whoever writes them.
func ExampleAppend() {
	mem := fs.NewMemory()
	store, err := fs.New(mem, "/logs")
	if err != nil {
		panic(err)
	}
	defer store.Close()
	lines := fs.Append(store, fs.SyncEvery(time.Second))

	day := time.Date(2026, 11, 25, 23, 0, 0, 0, time.UTC)
	for _, text := range []string{"good night", "good\nmorning"} {
		p, err := lines.Create(context.Background(), day.Format(time.DateOnly))
		if err != nil {
			panic(err)
		}
		defer p.Abort()
		io.WriteString(p, text)
		if err := p.Commit(); err != nil {
			panic(err)
		}
		day = day.Add(time.Hour)
	}
	fmt.Println(lines.Close())
	for _, name := range []string{"2026-11-25", "2026-11-26"} {
		got, _ := afero.ReadFile(mem, "/logs/"+name)
		fmt.Printf("%s: %q\n", name, got)
	}
	// Output:
	// <nil>
	// 2026-11-25: "good night\n"
	// 2026-11-26: "good#012morning\n"
}

// Lines that need not be synced one by one.
func ExampleSyncEvery() {
	store, err := fs.New(fs.NewMemory(), "/logs")
	if err != nil {
		panic(err)
	}
	defer store.Close()
	lines := fs.Append(store, fs.SyncEvery(time.Second))
	p, err := lines.Create(context.Background(), "today")
	if err != nil {
		panic(err)
	}
	io.WriteString(p, "is synced within a second, or by Close")
	fmt.Println(p.Commit(), lines.Close())
	// Output: <nil> <nil>
}
