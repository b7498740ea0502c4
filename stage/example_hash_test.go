package stage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/accio-go/accio/stage"
)

// shelf is a store in memory that replaces nothing, like package fs with NoReplace.
type shelf map[string]string

func (s shelf) Create(_ context.Context, name string) (stage.Pending, error) {
	return &item{shelf: s, name: name}, nil
}

func (s shelf) Remove(name string) error {
	return fmt.Errorf("remove %s: %w", name, errors.ErrUnsupported)
}

type item struct {
	bytes.Buffer
	shelf shelf
	name  string
}

func (i *item) Commit() error { return i.CommitAs(i.name, true) }

func (i *item) CommitAs(name string, _ bool) error {
	if _, ok := i.shelf[name]; ok {
		return fmt.Errorf("%s: %w", name, os.ErrExist)
	}
	i.shelf[name] = i.String()
	return nil
}

func (i *item) Abort() error { return nil }

// upload sends payload to h as one connection, and returns how that ended.
func upload(h stage.Handler, number uint64, payload string) error {
	client, server := net.Pipe()
	go func() {
		defer client.Close()
		io.WriteString(client, payload)
	}()
	return stage.Serve(context.Background(), server, number, h)
}

// A digest beside the number of bytes.
func ExampleHash() {
	h := stage.Chain{
		stage.Hash{New: sha256.New},
		stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
			return func(err error) error {
				fmt.Printf("%x\n", c.Hash.Sum(nil))
				return err
			}, nil
		}),
	}.Then(stage.Receive)
	upload(h, 1, "abc")
	// Output: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
}

// A store that is addressed by content. What is there already is stored once: Dedupe has
// the commit that found it count as its own. Whoever takes the digest from the receipt
// need not know which it was.
func ExampleHashName() {
	store := shelf{}
	h := stage.Chain{
		stage.Hash{New: sha256.New},
		stage.Save{
			Store:  store,
			Name:   stage.NumberedFile, // while it is pending
			Final:  stage.HashName(".bin"),
			Dedupe: true,
		},
	}.Then(stage.Receive)
	fmt.Println(upload(h, 1, "abc"), upload(h, 2, ""), upload(h, 3, "abc"))
	for _, payload := range []string{"abc", ""} {
		name := fmt.Sprintf("%x.bin", sha256.Sum256([]byte(payload)))
		got, ok := store[name]
		fmt.Printf("%.8s….bin %q %t\n", name, got, ok)
	}
	fmt.Println(len(store))
	// Output:
	// <nil> <nil> <nil>
	// ba7816bf….bin "abc" true
	// e3b0c442….bin "" true
	// 2
}

// A final name that is made of what is known at the end, and is refused to a payload that
// is not what its sender said.
func ExampleSave() {
	store := shelf{}
	h := stage.Chain{
		stage.Count{},
		stage.Save{Store: store, Name: stage.NumberedFile, Final: func(c *stage.Conn) (string, error) {
			if n := c.Counter.Count(); n%4 != 0 {
				return "", fmt.Errorf("%w: %d bytes are no whole records", stage.ErrProtocol, n)
			}
			return fmt.Sprintf("%d-records-of-%d", c.Counter.Count()/4, c.Number), nil
		}},
	}.Then(stage.Receive)
	fmt.Println(upload(h, 1, "one.two."))
	fmt.Println(errors.Is(upload(h, 2, "three"), stage.ErrProtocol))
	fmt.Println(store)
	// Output:
	// <nil>
	// true
	// map[2-records-of-1:one.two.]
}

// Names that stay apart when a server is started anew and counts from 1 again.
func ExampleTimeName() {
	const layout = "20060102T150405Z"
	name := stage.TimeName(layout, ".log")(&stage.Conn{Number: 7})
	_, err := time.Parse(layout, name[:len(layout)])
	fmt.Println(name[len(layout):], err)
	// Output: -7.log <nil>
}

func ExampleRandomName() {
	name := stage.RandomName(".upload")
	one, other := name(nil), name(nil)
	fmt.Println(len(one), one == other)
	// Output: 33 false
}
