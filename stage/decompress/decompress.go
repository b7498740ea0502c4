// Package decompress expands the stream of a connection.
//
//	h := stage.Chain{
//		stage.Save{Store: store, Name: stage.NumberedFile},
//		stage.Idle{Limit: 10 * time.Second},
//		decompress.Decompress{Open: decompress.Gzip, MaxBytes: 1 << 30},
//	}.Then(stage.Receive)
//
// Package zstd in the directory below has an Open for Zstandard.
package decompress

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/accio-go/accio/stage"
)

// Decompress is a stage that expands the client's stream. Stages inside of it read, count,
// limit, hash and store the expanded payload.
//
// It ends a connection with [stage.ErrTooLarge] as soon as the payload exceeds MaxBytes. It
// ends it with [stage.ErrProtocol] if the compressed stream is malformed or cut off, has
// bytes after its end, or has no byte at all. An error of the connection replaces the
// decompressor's error.
//
// It waits for the first byte before it enters the stages inside, without a decompressor or
// a buffer. So a stage that greets the client, and a limit of time such as [stage.Idle],
// stand outside. [stage.MinRate] counts compressed bytes outside, and expanded ones inside.
//
// Afterwards the connection holds 32 KiB beside the memory of the decompressor. Decompress
// sees the bytes, so it ends zero-copy for its chain.
type Decompress struct {
	// Open returns a reader that expands r, as [Gzip] does. Decompress calls it at the
	// first read, and closes the reader when the connection ends. r is a *bufio.Reader,
	// so a decompressor that reads single bytes takes none after its end. Errors of Open
	// and of the reader mean malformed data, unless the connection has failed.
	Open func(r io.Reader) (io.ReadCloser, error)

	// MaxBytes is the limit of expanded bytes. 0 or less means no limit: then a client
	// fills a megabyte and more with each kilobyte that it sends.
	MaxBytes int64
}

// Wrap expands the input of next.
func (s Decompress) Wrap(next stage.Handler) stage.Handler {
	if s.Open == nil {
		panic("decompress: Decompress without Open")
	}
	return stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c.In, first); err == io.EOF {
			return nil, malformed(io.ErrUnexpectedEOF)
		} else if err != nil {
			return nil, err
		}
		r := &reader{Decompress: s, left: s.MaxBytes}
		r.src.Reader = io.MultiReader(bytes.NewReader(first), c.In)
		c.In = r
		return r.close, nil
	}).Wrap(next)
}

func malformed(err error) error { return fmt.Errorf("decompressing: %w: %w", stage.ErrProtocol, err) }

// source is the compressed stream. It keeps its first error.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (n int, err error) {
	if s.err == nil {
		n, s.err = s.Reader.Read(p)
	}
	return n, s.err
}

// reader is the In of the stages inside.
type reader struct {
	Decompress
	src  source
	in   *bufio.Reader // of src; nil before the first read
	z    io.ReadCloser // expands in; nil before the first read
	left int64         // of MaxBytes
	err  error         // final
}

// inputs holds *bufio.Reader.
var inputs = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 32<<10) }}

func (r *reader) open() (err error) {
	r.in = inputs.Get().(*bufio.Reader)
	r.in.Reset(&r.src)
	if r.z, err = r.Open(r.in); err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

func (r *reader) Read(p []byte) (n int, err error) {
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	if r.MaxBytes > 0 {
		p = p[:min(int64(len(p)-1), r.left)+1] // one byte too many shows that there are more
	}
	if r.in == nil {
		err = r.open()
	}
	if err == nil {
		n, err = r.z.Read(p)
	}
	if r.MaxBytes > 0 && int64(n) > r.left {
		n, r.err = int(r.left), fmt.Errorf("decompressing: %w: more than %d bytes", stage.ErrTooLarge, r.MaxBytes)
	} else {
		r.err = r.explain(err) // may wait for the end of the stream
	}
	r.left -= int64(n)
	return n, r.err
}

// explain adds the cause to an error of the decompressor. If the connection has failed, its
// error replaces it.
func (r *reader) explain(err error) error {
	if err == io.EOF {
		if _, after := r.in.ReadByte(); after == nil {
			err = errors.New("bytes after the end of the compressed stream")
		}
	}
	switch {
	case err != nil && r.src.err != nil && r.src.err != io.EOF:
		return r.src.err
	case err == nil || err == io.EOF:
		return err
	}
	return malformed(err)
}

// close releases the resources of the reader.
func (r *reader) close(err error) error {
	if r.z != nil {
		r.z.Close()
	}
	if r.in != nil {
		r.in.Reset(nil)
		inputs.Put(r.in)
	}
	r.in, r.z, r.err = nil, nil, os.ErrClosed
	return err
}

// gzips holds *gzip.Reader.
var gzips = sync.Pool{New: func() any { return new(gzip.Reader) }}

// Gzip is an Open for [Decompress]. It expands all members of a gzip stream (RFC 1952), and
// takes about 45 KiB for each connection.
func Gzip(r io.Reader) (io.ReadCloser, error) {
	z := gzips.Get().(*gzip.Reader)
	if err := z.Reset(r); err != nil {
		gzips.Put(z)
		return nil, err
	}
	return &gzipReader{z}, nil
}

// gzipReader must not be read after Close, which gives its gzip.Reader back.
type gzipReader struct{ *gzip.Reader }

func (g *gzipReader) Close() error {
	if g.Reader != nil {
		gzips.Put(g.Reader)
		g.Reader = nil
	}
	return nil
}
