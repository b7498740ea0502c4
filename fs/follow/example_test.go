package follow_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/follow"
)

// Read a file while it arrives.
func Example() {
	store, err := fs.New(fs.NewMemory(), "/uploads")
	if err != nil {
		panic(err)
	}
	defer store.Close()
	followed := &follow.Store{Store: store}

	p, err := followed.Create(context.Background(), "log")
	if err != nil {
		panic(err)
	}
	defer p.Abort()
	r, err := followed.Open("log")
	if err != nil {
		panic(err)
	}
	defer r.Close()

	line := make([]byte, 6)
	io.WriteString(p, "first\n")
	io.ReadFull(r, line) // before the commit
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

// A checksum of every file, ready when its sender gets the confirmation.
func ExampleConsumer() {
	store, err := fs.New(fs.NewMemory(), "/uploads")
	if err != nil {
		panic(err)
	}
	defer store.Close()
	sums := &follow.Store{Store: store, Consumers: []follow.Consumer{{
		Consume: func(_ context.Context, name string, r io.Reader) error {
			h := sha256.New()
			if _, err := io.Copy(h, r); err != nil {
				return err
			}
			fmt.Printf("%x  %s\n", h.Sum(nil), name)
			return nil
		},
		OnError: func(name string, err error) { fmt.Println("no checksum of", name, "since", err) },
	}}}

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

// Only PDF files are stored. The upload of another file fails after its first bytes.
func ExampleConsumer_decisive() {
	errNotPDF := errors.New("not a PDF")
	mem := fs.NewMemory()
	store, err := fs.New(mem, "/uploads")
	if err != nil {
		panic(err)
	}
	defer store.Close()
	checked := &follow.Store{Store: store, ConsumerLimit: time.Minute, Consumers: []follow.Consumer{{
		Consume: func(_ context.Context, _ string, r io.Reader) error {
			head := make([]byte, 5)
			if _, err := io.ReadFull(r, head); err != nil || string(head) != "%PDF-" {
				return errNotPDF
			}
			return nil // that is enough
		},
		Decisive: true,
	}}}

	for _, content := range []string{"%PDF-1.7 and so on", "something else"} {
		p, err := checked.Create(context.Background(), "report.pdf")
		if err != nil {
			panic(err)
		}
		defer p.Abort()
		io.WriteString(p, content)
		err = p.Commit()
		fmt.Println(errors.Is(err, errNotPDF), err)
	}
	stored, _ := afero.ReadFile(mem, "/uploads/report.pdf")
	fmt.Printf("%s\n", stored)
	// Output:
	// false <nil>
	// true report.pdf rejected by a consumer: not a PDF
	// %PDF-1.7 and so on
}

// The client does not wait for a scanner that hangs.
func ExampleConsumer_limit() {
	store, err := fs.New(fs.NewMemory(), "/uploads")
	if err != nil {
		panic(err)
	}
	defer store.Close()
	scanned := &follow.Store{Store: store, ConsumerLimit: 20 * time.Millisecond, Consumers: []follow.Consumer{{
		Consume: func(ctx context.Context, _ string, _ io.Reader) error {
			<-ctx.Done() // it waits for another server
			return context.Cause(ctx)
		},
		Decisive: true,
	}}}
	p, err := scanned.Create(context.Background(), "report.pdf")
	if err != nil {
		panic(err)
	}
	defer p.Abort()
	fmt.Println(errors.Is(p.Commit(), context.DeadlineExceeded))
	// Output: true
}
