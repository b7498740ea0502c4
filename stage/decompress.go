package stage

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"sync"
)

// Decompress is a stage that expands what the peer sends: what stages inside read from
// c.In is what was compressed. Counts, limits, digests and sinks inside are of that.
//
// It ends a connection with [ErrTooLarge] when more than MaxBytes comes out, as soon as
// it does, and with [ErrProtocol] when what the peer sends is malformed, cut off,
// or goes on after its end. So is a stream without a byte: no compressed form of nothing
// is that short. An error of the connection keeps its cause, whatever the
// decompressor would make of it, and a [Gate] inside may have the read tried again.
//
// What is inside is entered when the first byte has come: until then there is neither
// decompressor nor buffer, and a [Session] can be left. So who is to greet its peer, and
// limits of time ([Idle], [MaxDuration]), stand outside of it; MinRate and others that
// count what they see of c.In count there what the peer sends, and inside what that
// expands to. From the first byte to the end of the connection it takes 96 KiB of buffers
// beside what Open takes, and a goroutine that runs only while c.In is read.
//
// It sees the bytes, so it ends zero-copy for its chain.
type Decompress struct {
	// Open returns a reader of what r expands to, as [Gzip] does. It is called when there
	// is something to be read, and what it returns is closed when the connection has
	// ended, while r can still be read. r is a *bufio.Reader; that it reads no more than it
	// needs lets bytes after the end be found. An error of Open, and of what it returns,
	// is taken for one of the data: r has no other.
	Open func(r io.Reader) (io.ReadCloser, error)

	// MaxBytes is how large the payload may become. 0 or less means no limit, which lets
	// a peer that sends a kilobyte fill a megabyte, and more.
	MaxBytes int64
}

// Wrap expands what next reads.
func (s Decompress) Wrap(next Handler) Handler {
	if s.Open == nil {
		panic("stage: Decompress without Open")
	}
	return step{s.begin, beforeBytes}.wrap(next)
}

// begin waits for the first byte.
func (s Decompress) begin(_ context.Context, c *Conn) (func(error) error, error) {
	var first [1]byte
	for {
		n, err := c.In.Read(first[:])
		if n == 0 && err == nil {
			continue
		}
		if n == 0 && err == io.EOF {
			return nil, errNothing
		}
		if n == 0 {
			return nil, err
		}
		d := NewDecompressReader(c.In, s.Open, s.MaxBytes)
		d.in.held, d.in.first, d.in.err = true, first[0], err
		c.In = d
		return d.after, nil
	}
}

// errNothing is how a stream ends that has no byte.
var errNothing = malformed(io.ErrUnexpectedEOF)

func malformed(err error) error { return fmt.Errorf("decompressing: %w", because(ErrProtocol, err)) }

// DecompressReader is the io.Reader that [Decompress] puts before a connection. It is for
// one goroutine at a time.
//
// What it reads may fail and be read on: an error of that is returned as it is, and the
// next Read goes on where it was. For that the decompressor runs in a coroutine of its
// own, since few can be read on after an error.
type DecompressReader struct {
	in   compressed
	open func(io.Reader) (io.ReadCloser, error)
	max  int64 // or no more than 0
	left int64 // of max

	next func() (expanded, bool)
	stop func()
	rest []byte // that has been expanded, and is still to be read
	err  error  // after that, and for ever
}

// NewDecompressReader returns a reader of what open makes of r, up to max bytes if that is
// more than 0. Its errors are those of [Decompress], and those of r. The caller closes
// it, and r.
func NewDecompressReader(r io.Reader, open func(io.Reader) (io.ReadCloser, error), max int64) *DecompressReader {
	return &DecompressReader{in: compressed{r: r}, open: open, max: max, left: max}
}

// Read reads what has been expanded.
func (d *DecompressReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(d.rest) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		if err := d.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, d.rest)
	if d.rest = d.rest[n:]; len(d.rest) == 0 {
		return n, d.err
	}
	return n, nil
}

// fill has more expanded. It returns an error that does not last, or that comes without
// a byte.
func (d *DecompressReader) fill() error {
	if d.next == nil {
		d.next, d.stop = iter.Pull(d.expand)
	}
	d.err = errUnwinding // if it panics
	e, ok := d.next()
	if !ok {
		return d.err
	}
	d.rest, d.err = e.b, e.err
	if e.broken {
		d.err = nil
		return e.err
	}
	if n := int64(len(d.rest)); d.max > 0 {
		if n > d.left {
			d.rest, d.err = d.rest[:d.left], fmt.Errorf("decompressing: %w: more than %d bytes", ErrTooLarge, d.max)
		}
		d.left -= int64(len(d.rest))
	}
	if len(d.rest) == 0 {
		return d.err
	}
	return nil
}

// Close closes the decompressor and gives back its buffers. Reads fail with an
// os.ErrClosed from then on. It never fails, and more than once it does nothing.
func (d *DecompressReader) Close() error {
	d.rest, d.err = nil, errReaderClosed
	if d.stop != nil {
		d.stop()
	}
	return nil
}

var errReaderClosed = fmt.Errorf("decompressing: %w", os.ErrClosed)

func (d *DecompressReader) after(err error) error {
	d.Close()
	return err
}

// expanded is a piece of what comes out, or an error.
type expanded struct {
	b      []byte // good until the next is asked for
	err    error  // after b
	broken bool   // err is that of what is read, which may be tried again
}

// inputs holds *bufio.Reader, for what is still compressed.
var inputs = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, inputSize) }}

const inputSize = 32 << 10

// expand is the coroutine. It runs while Read waits for it.
func (d *DecompressReader) expand(yield func(expanded) bool) {
	d.in.yield = yield
	in := inputs.Get().(*bufio.Reader)
	in.Reset(&d.in)
	defer func() {
		in.Reset(nil)
		inputs.Put(in)
	}()
	fail := func(err error) {
		if !d.in.stopped {
			yield(expanded{err: err})
		}
	}
	if _, err := in.Peek(1); err != nil {
		fail(errNothing)
		return
	}
	z, err := d.open(in)
	if err != nil {
		fail(malformed(err))
		return
	}
	defer z.Close()
	out := buffers.Get().(*[]byte)
	defer buffers.Put(out)
	for empty := 0; ; empty++ {
		n, err := z.Read(*out)
		switch {
		case d.in.stopped:
			return
		case err == io.EOF:
			_, after := in.ReadByte()
			if d.in.stopped {
				return
			}
			if after == nil {
				err = malformed(errTrailing)
			}
		case err != nil:
			err = malformed(err)
		case n > 0:
			empty = 0
		case empty >= maxEmptyReads:
			err = malformed(io.ErrNoProgress)
		default:
			continue
		}
		if !yield(expanded{b: (*out)[:n], err: err}) || err != nil {
			return
		}
	}
}

var errTrailing = errors.New("something comes after the end of what was compressed")

// compressed is what a decompressor reads. An error of it is not the decompressor's: it
// waits in its Read until the reader outside of it has had the error, and tries again.
type compressed struct {
	r       io.Reader
	yield   func(expanded) bool
	held    bool // first is still to be read
	first   byte
	err     error // that came with the last bytes
	stopped bool  // nobody is going to try again
}

var errStopped = errors.New("stage: decompressing was given up")

func (c *compressed) Read(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	if c.held {
		c.held, p[0] = false, c.first
		return 1, nil
	}
	for empty := 0; !c.stopped; {
		if err, c.err = c.err, nil; err == nil {
			n, err = c.r.Read(p)
		}
		if n > 0 {
			c.err = err
			return n, nil
		}
		if err == io.EOF {
			c.err = err
			return 0, err
		}
		if err == nil {
			if empty++; empty < maxEmptyReads {
				continue
			}
			err = io.ErrNoProgress
		}
		empty = 0
		c.stopped = !c.yield(expanded{err: err, broken: true})
	}
	return 0, errStopped
}

// Gzip is an Open for [Decompress]: it reads what gzip has compressed (RFC 1952), all
// members of it. It takes some 45 KiB for each connection.
func Gzip(r io.Reader) (io.ReadCloser, error) {
	z := gzips.Get().(*gzip.Reader)
	if err := z.Reset(r); err != nil {
		gzips.Put(z)
		return nil, err
	}
	return &gzipReader{z}, nil
}

// gzips holds *gzip.Reader.
var gzips = sync.Pool{New: func() any { return new(gzip.Reader) }}

// gzipReader is a gzip.Reader that is used again after its Close.
type gzipReader struct{ z *gzip.Reader }

func (g *gzipReader) Read(p []byte) (int, error) {
	if g.z == nil {
		return 0, os.ErrClosed
	}
	return g.z.Read(p)
}

func (g *gzipReader) Close() error {
	if g.z != nil {
		gzips.Put(g.z)
		g.z = nil
	}
	return nil
}
