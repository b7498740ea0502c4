package fs_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/follow"
	"github.com/accio-go/accio/stage"
)

// Of many who send the same at a time each is told that it is stored, and one has been.
func TestTheSameContentIsStoredOnce(t *testing.T) {
	const senders, contents = 40, 3
	disk, mem := afero.NewOsFs(), fs.NewMemory()
	dir := t.TempDir()
	tests := []struct {
		name string
		afs  afero.Fs
		path string
		open func(path string) (*fs.Store, error)
	}{
		{"on the disk", disk, filepath.Join(dir, "store"), func(path string) (*fs.Store, error) { return fs.OpenDir(path, fs.NoReplace()) }},
		{"in memory", mem, "/store", func(path string) (*fs.Store, error) { return fs.New(mem, path, fs.NoReplace()) }},
	}
	for _, tt := range tests {
		for _, followed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, followed: %t", tt.name, followed), func(t *testing.T) {
				path := fmt.Sprint(tt.path, followed)
				store, err := tt.open(path)
				if err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				var sink stage.Store = store
				if followed {
					sink = &follow.Store{Store: store}
				}
				h := stage.Chain{
					stage.Hash{New: sha256.New},
					stage.Save{Store: sink, Name: stage.NumberedFile, Final: stage.HashName(""), Dedupe: true},
				}.Then(stage.Receive)
				var wg sync.WaitGroup
				for i := range senders {
					client, server := net.Pipe()
					wg.Go(func() {
						io.WriteString(client, fmt.Sprint("content ", i%contents))
						client.Close()
					})
					wg.Go(func() {
						if err := stage.Serve(t.Context(), server, uint64(i+1), h); err != nil {
							t.Error(err)
						}
					})
				}
				wg.Wait()
				if got, err := afero.ReadDir(tt.afs, path); len(got) != contents || err != nil {
					t.Errorf("the directory holds %d files, %v", len(got), err)
				}
				for i := range contents {
					want := fmt.Sprint("content ", i)
					got, err := afero.ReadFile(tt.afs, filepath.Join(path, fmt.Sprintf("%x", sha256.Sum256([]byte(want)))))
					if string(got) != want || err != nil {
						t.Errorf("%q, %v; want %q", got, err, want)
					}
				}
			})
		}
	}
}

// A name that is taken is no fault of the store, whether it is that of a payload, of a mark
// or of a mark in a hurry.
func TestWhatWouldReplaceIsAConflict(t *testing.T) {
	for name, open := range map[string]func(path string) (*fs.Store, error){
		"on the disk": func(path string) (*fs.Store, error) { return fs.OpenDir(path, fs.NoReplace()) },
		"in memory":   func(path string) (*fs.Store, error) { return fs.New(fs.NewMemory(), path, fs.NoReplace()) },
	} {
		for _, cause := range []error{nil, stage.ErrProtocol, stage.ErrTooMany} {
			t.Run(fmt.Sprint(name, ", ", cause), func(t *testing.T) {
				store, err := open(filepath.Join(t.TempDir(), "store"))
				if err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				if err := store.WriteFile("1.file", []byte("another's")); err != nil {
					t.Fatal(err)
				}
				h := stage.Save{Store: store, Name: stage.NumberedFile, Mark: stage.ErrorMark}.Wrap(stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error {
					io.WriteString(c.Out, "mine")
					return cause
				}))
				err = h.Serve(t.Context(), &stage.Conn{Number: 1, Out: io.Discard})
				if stage.OutcomeOf(err, 4) != stage.OutcomeOf(stage.ErrConflict, 0) || errors.Is(err, stage.ErrStorage) || !errors.Is(err, cause) && cause != nil {
					t.Errorf("ended with %v", err)
				}
			})
		}
	}
}
