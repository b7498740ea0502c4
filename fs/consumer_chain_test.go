package fs_test

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/stage"
)

// What a decisive consumer says is a matter between the store and whoever runs the
// server: it has to come through package stage's Save, as an outcome of the upload.
func TestAVerdictReachesTheConnection(t *testing.T) {
	errVirus := errors.New("a virus")
	for _, tt := range []struct {
		name  string
		early bool
	}{{"on the way", true}, {"at the end", false}} {
		t.Run(tt.name, func(t *testing.T) {
			mem := fs.NewMemory()
			store, err := fs.New(mem, saveDir)
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			followed := fs.Follow(store, fs.WithConsumer(fs.Consumer{
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
			}))
			server, client := net.Pipe()
			sent := make(chan error)
			go func() {
				defer client.Close()
				if tt.early { // there is no end
					_, err := io.Copy(client, endless{})
					sent <- err
					return
				}
				_, err := io.Copy(client, strings.NewReader(payload))
				client.Close()
				sent <- err
			}()
			err = stage.Serve(t.Context(), server, 1, receive(followed))
			if !errors.Is(err, fs.ErrRejected) || !errors.Is(err, errVirus) || stage.OutcomeOf(err, 1) != stage.OutcomeRejected {
				t.Errorf("the connection ended with %v", err)
			}
			if err := <-sent; (err != nil) != tt.early {
				t.Errorf("the client met %v", err)
			}
			if got, err := afero.ReadFile(mem, filepath.Join(saveDir, "1.file")); string(got) != stage.ErrorMark || err != nil {
				t.Errorf("in its place is %q, %v", got, err)
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return copy(p, payload), nil }
