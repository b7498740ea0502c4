// Package zstd expands Zstandard (RFC 8878) for package decompress.
//
//	h := stage.Chain{
//		stage.Save{Store: store, Name: stage.NumberedFile},
//		decompress.Decompress{Open: zstd.Open, MaxBytes: 1 << 30},
//	}.Then(stage.Receive)
//
// The decoder is github.com/klauspost/compress/zstd. It works in the goroutine that reads.
// A frame declares its window in one byte. The limit of the window bounds the memory that a
// client can make the server take.
package zstd

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// maxWindow is the window that every decoder should support (RFC 8878, 3.1.1.1.2).
const maxWindow = 8 << 20

// minWindow is the smallest window that a frame can have (RFC 8878, 3.1.1.1.2).
const minWindow = 1 << 10

// Open returns a reader that expands all frames of r. A frame whose window is larger than
// 8 MiB is an error, as is a frame that needs a dictionary. Levels of the zstd command up
// to 19 need no more, but --ultra and --long may.
//
// The reader takes memory for the window that a frame declares, and up to 1 MiB beside
// that. It starts no goroutine. The caller closes it, which does not close r.
func Open(r io.Reader) (io.ReadCloser, error) { return open(r) }

var open = WithMaxWindow(maxWindow)

// WithMaxWindow returns an [Open] for windows of at most the given number of bytes. It
// panics if that is less than 1024, since no frame has a smaller window.
func WithMaxWindow(bytes uint64) func(r io.Reader) (io.ReadCloser, error) {
	if bytes < minWindow {
		panic(fmt.Sprintf("zstd: window of %d bytes, less than %d", bytes, minWindow))
	}
	return func(r io.Reader) (io.ReadCloser, error) {
		// WithDecoderMaxMemory limits the window, also of a frame whose content is its
		// window. Decoders are not reused: one would keep the largest window that any
		// client has declared.
		d, err := zstd.NewReader(plain{r}, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(bytes))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
}

// plain hides the other methods of a reader: the decoder reads all of a bytes.Buffer at once.
type plain struct{ io.Reader }
