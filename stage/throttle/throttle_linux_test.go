package throttle

import (
	"context"
	"os"
	"testing"

	"github.com/accio-go/accio/stage"
)

// file is a sink that the kernel can move bytes to.
type file struct {
	f       *os.File
	written int
}

func (w *file) File() *os.File { return w.f }

func (w *file) Write(p []byte) (int, error) {
	w.written += len(p)
	return w.f.Write(p)
}

// The kernel moves what is throttled.
func TestThrottleKeepsZeroCopy(t *testing.T) {
	server, client := tcp(t)
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 1 << 20
	done := peer(client, bytesOf(size))
	w := &file{f: f}
	sink := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		c.SetSink(w)
		return nil, nil
	})
	if err := stage.Serve(t.Context(), server, 1, stage.Chain{sink, Throttle{BytesPerSecond: 100 << 20}}.Then(stage.Receive)); err != nil {
		t.Error(err)
	}
	<-done
	// A little that comes at the end is copied, since that is cheaper.
	if fi, err := f.Stat(); err != nil || fi.Size() != size || w.written > size/4 {
		t.Errorf("%d bytes were stored (%v), %d of them by the process", fi.Size(), err, w.written)
	}
}
