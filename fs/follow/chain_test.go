package follow_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/follow"
	"github.com/accio-go/accio/stage"
)

// stage.Save must recognize the error of a decisive consumer.
func TestConsumerRejectsConnection(t *testing.T) {
	errVirus := errors.New("a virus")
	for _, tt := range []struct {
		name  string
		early bool
	}{{"on the way", true}, {"at the end", false}} {
		t.Run(tt.name, func(t *testing.T) {
			mem := fs.NewMemory()
			store, err := fs.New(mem, "/save")
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			followed := &follow.Store{Store: store, Consumers: []follow.Consumer{{
				Consume: func(_ context.Context, _ string, r io.Reader) error {
					head := make([]byte, 5)
					if _, err := io.ReadFull(r, head); err != nil || string(head) == stage.ErrorMark {
						return err
					}
					if !tt.early {
						io.Copy(io.Discard, r)
					}
					return errVirus
				},
				Decisive: true,
			}}}
			server, client := net.Pipe()
			sent := make(chan error)
			go func() {
				defer client.Close()
				if tt.early { // there is no end
					_, err := io.Copy(client, endless{})
					sent <- err
					return
				}
				_, err := io.Copy(client, strings.NewReader("some payload"))
				client.Close()
				sent <- err
			}()
			err = stage.Serve(t.Context(), server, 1, stage.Save{Store: followed, Name: stage.NumberedFile, Mark: stage.ErrorMark}.Wrap(stage.Receive))
			if !errors.Is(err, stage.ErrRejected) || !errors.Is(err, errVirus) || stage.OutcomeOf(err, 1) != stage.OutcomeOf(stage.ErrRejected, 0) {
				t.Errorf("the connection ended with %v", err)
			}
			if err := <-sent; (err != nil) != tt.early {
				t.Errorf("the client met %v", err)
			}
			if got, err := afero.ReadFile(mem, filepath.Join("/save", "1.file")); string(got) != stage.ErrorMark || err != nil {
				t.Errorf("in its place is %q, %v", got, err)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, "some payload"), nil }

// The client of a duplicate gets a confirmation, its readers an os.ErrExist.
func TestFollowDuplicate(t *testing.T) {
	store, err := fs.New(fs.NewMemory(), "/store", fs.NoReplace())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	guests, told := make(chan io.ReadCloser, 2), make(chan error, 2)
	f := &follow.Store{Store: store}
	f.Consumers = []follow.Consumer{
		{Decisive: true, Consume: func(_ context.Context, name string, r io.Reader) error {
			guest, err := f.Open(name)
			if err != nil {
				return err
			}
			guests <- guest
			_, err = io.Copy(io.Discard, r)
			return err
		}},
		{
			Consume: func(_ context.Context, _ string, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				return err
			},
			OnError: func(_ string, err error) { told <- err },
		},
	}
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
