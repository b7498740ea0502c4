package fs_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
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
					sink = fs.Follow(store)
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

// To its sender a duplicate is stored; what follows it hears that it is not the one that is
// visible.
func TestWhatFollowsADuplicateHearsThatTheNameIsTaken(t *testing.T) {
	store, err := fs.New(fs.NewMemory(), "/store", fs.NoReplace())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var f *fs.Follower
	guests, told := make(chan io.ReadCloser, 2), make(chan error, 2)
	f = fs.Follow(store,
		fs.WithConsumer(fs.Consumer{Decisive: true, Consume: func(_ context.Context, name string, r io.Reader) error {
			guest, err := f.Open(name)
			if err != nil {
				return err
			}
			guests <- guest
			_, err = io.Copy(io.Discard, r)
			return err
		}}),
		fs.WithConsumer(fs.Consumer{
			Consume: func(_ context.Context, _ string, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				return err
			},
			OnError: func(_ string, err error) { told <- err },
		}),
	)
	h := stage.Chain{
		stage.Hash{New: sha256.New},
		stage.Save{Store: f, Name: stage.NumberedFile, Final: stage.HashName(""), Dedupe: true},
	}.Then(stage.Receive)
	for i, want := range []error{nil, os.ErrExist} {
		client, server := net.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			io.WriteString(client, "content")
			client.Close()
		})
		if err := stage.Serve(t.Context(), server, uint64(i+1), h); err != nil {
			t.Errorf("sender %d: %v", i+1, err)
		}
		wg.Wait()
		guest := <-guests
		defer guest.Close()
		if _, err := io.ReadAll(guest); !errors.Is(err, want) {
			t.Errorf("the reader of %d got %v, want %v", i+1, err, want)
		}
	}
	if err := <-told; !errors.Is(err, os.ErrExist) || len(told) > 0 {
		t.Errorf("the consumer was told of %v, and %d more", err, len(told))
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
				if stage.OutcomeOf(err, 4) != stage.OutcomeConflict || errors.Is(err, stage.ErrStorage) || !errors.Is(err, cause) && cause != nil {
					t.Errorf("ended with %v", err)
				}
			})
		}
	}
}
