// Package zstd has Zstandard (RFC 8878) for stage.Decompress of the package above it:
// [Open], and [WithMaxWindow] for another limit of memory.
//
//	h := stage.Chain{
//		stage.Save{Store: store, Name: stage.NumberedFile},
//		stage.Decompress{Open: zstd.Open, MaxBytes: 1 << 30},
//	}.Then(stage.Receive)
//
// The decoder is github.com/klauspost/compress/zstd. It does all of its work in the
// goroutine that reads, and what a peer can make it allocate is bounded by the window, as
// whose size a frame may declare in a byte what it never uses.
package zstd

import (
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// MaxWindow is the limit of [Open], in bytes. It is what RFC 8878 (3.1.1.1.2) asks of
// every decoder, and what the levels of the zstd command need, up to 19; with --ultra
// and --long it makes frames that need more.
const MaxWindow = 8 << 20

// Open returns a reader of what r expands to: all frames of it, one after the other.
// Frames whose window is larger than [MaxWindow] are an error, as are those that need a
// dictionary. The caller closes it; a Close does not close r. It starts no goroutine.
//
// It takes memory for the window that the frame declares, whatever its content, and up to
// 1 MiB beside that.
func Open(r io.Reader) (io.ReadCloser, error) { return open(r) }

var open = WithMaxWindow(MaxWindow)

// minWindow is the least that a frame can have (RFC 8878, 3.1.1.1.2).
const minWindow = 1 << 10

// WithMaxWindow returns what is as [Open], but for windows of up to so many bytes. It
// panics if they are less than 1024, which no frame has.
func WithMaxWindow(bytes uint64) func(r io.Reader) (io.ReadCloser, error) {
	if bytes < minWindow {
		panic(fmt.Sprintf("zstd: a window of %d bytes", bytes))
	}
	return func(r io.Reader) (io.ReadCloser, error) {
		// The most memory is that of the window for a stream, and for a frame of one
		// segment, whose window is its content. No Decoder is used again: what it takes
		// is mostly that window, and a peer that has declared a large one is not to have
		// it held for those that come later.
		d, err := zstd.NewReader(plain{r}, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxMemory(bytes))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
}

// plain is a reader that is nothing else: of a bytes.Buffer the decoder would take all at
// once.
type plain struct{ io.Reader }
