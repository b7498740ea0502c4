package stage

import (
	"io"
	"net"
	"os"
	"sync"
)

const (
	// bufferSize is what a payload passes through where it has to pass through
	// user space.
	bufferSize = 64 << 10

	// smallSize is what it passes through where a connection may have to wait with its
	// buffer: see pool.
	smallSize = 4 << 10

	// transferSize bounds one transfer through the kernel.
	transferSize = 1 << 20
)

// buffers holds *[]byte of bufferSize: from what the kernel can be asked about, a buffer is
// taken only while bytes move, so that a connection that waits costs none. Where it has to
// wait with one, and there may be thousands of those at the same time, it holds one of
// smallBuffers.
var (
	buffers      = sync.Pool{New: func() any { return newBuffer(bufferSize) }}
	smallBuffers = sync.Pool{New: func() any { return newBuffer(smallSize) }}
)

func newBuffer(size int) *[]byte {
	b := make([]byte, size)
	return &b
}

// Filer is a writer that is one with an open file: bytes may be moved into the
// file by the kernel, at its current offset, without going through Write. A
// sink that looks at the bytes in its Write must not be a Filer.
type Filer interface {
	io.Writer
	// File returns the open file, which stays the Filer's own.
	File() *os.File
}

// Copy moves src to dst until the end of src or an error, and returns how many
// bytes dst has taken. The end of src is no error. All payload goes through
// here.
//
// The gates of a [Reader] and a [Writer] are asked before each read and each
// write, and told of it after.
// Where what is behind them are files and connections, on Linux the kernel moves
// the bytes by splice(2) or sendfile(2) and none of them enters user space: from a TCP or Unix
// stream connection or a regular *os.File, to such a connection, an *os.File or a
// [Filer]. From a TCP connection to io.Discard, the kernel drops them (recv(2),
// MSG_TRUNC). Everything else goes through a pooled buffer. Those are the only
// types that Copy looks behind: any other Reader or Writer in between is called
// as it is, and sees every byte. Of a frame of [Frames] whose length is known, what has
// not been read ahead with the frames before it is moved like that.
//
// Of a peer that sends a hundred megabytes a second, what comes last before a pause may be
// passed on ten to twenty milliseconds late: the first time, and then ever more seldom.
//
// An error is returned as the side that failed gave it, after its gates; that
// of src comes after everything read so far is written. Copy closes nothing.
func Copy(dst io.Writer, src io.Reader) (written int64, err error) {
	t := newTransfer(dst, src)
	defer t.free()
	if sent, err := t.sendFile(); sent {
		return t.written, err
	}
	err = t.run()
	return t.written, err
}

func (t *transfer) run() error {
	for empty := 0; empty < maxEmptyReads; {
		t.goOn()
		n, inner, err := t.fill()
		if n > 0 {
			if err := t.flush(n); err != nil {
				return err
			}
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case n == 0 && inner == nil:
			empty++
		default:
			empty = 0
		}
	}
	return io.ErrNoProgress
}

// fill takes what src gives once, into t.buf or the kernel. It returns the error that
// src, or a gate that allows nothing, gave, and what the gates have made of it.
func (t *transfer) fill() (n int, inner, err error) {
	max, err := t.in.allow(transferSize)
	if err != nil {
		return 0, err, err
	}
	if t.rawSrc != nil {
		n, inner = t.fillKernel(max)
	} else {
		if t.buf != nil && t.pool() != poolOf(t.buf) {
			t.release()
		}
		t.take()
		n, inner = t.src.Read((*t.buf)[:min(max, len(*t.buf))])
		t.much = n >= smallSize
	}
	return n, inner, t.in.passed(n, inner)
}

// ahead is a reader that has read ahead: once it holds nothing more of that, rest is
// what the next bytes come from, and the gates before it; ok is false if that is the
// reader itself.
type ahead interface {
	io.Reader
	rest() (r io.Reader, before gates, ok bool)
}

// goOn puts the rest of a reader that has read ahead in its place.
func (t *transfer) goOn() {
	a, ok := t.src.(ahead)
	if !ok {
		return
	}
	r, before, ok := a.rest()
	if !ok {
		return
	}
	t.release()
	t.src, t.in = r, append(before, t.in...)
	t.attachSrc()
	t.attachDst()
}

// maxEmptyReads is how many times in a row a reader may return neither bytes
// nor an error, as in bufio.
const maxEmptyReads = 100

// lazy is a writer that is to be opened by the first byte that reaches it.
type lazy interface {
	io.Writer
	open() (io.Writer, error)
}

// transfer is one Copy under way: the two ends without their gates, the gates, and
// what is held between the ends.
type transfer struct {
	src     io.Reader
	dst     io.Writer
	in, out gates
	written int64
	buf     *[]byte // taken while it holds bytes, or while src can only be read through it
	much    bool    // the last Read of src brought smallSize or more
	kernel          // the parts of a transfer that the system has a faster way for
}

// transfers holds *transfer that are not under way: one is the better part of what
// a small payload would have allocated.
var transfers = sync.Pool{New: func() any {
	t := new(transfer)
	t.kernel.init(t)
	return t
}}

// newTransfer returns a transfer, to be freed.
func newTransfer(dst io.Writer, src io.Reader) *transfer {
	t := transfers.Get().(*transfer)
	t.src, t.dst, t.in, t.out, t.written, t.much = src, dst, nil, nil, 0, false
	if r, ok := src.(*Reader); ok {
		t.src, t.in = r.r, r.gates
	}
	if w, ok := dst.(*Writer); ok {
		t.dst, t.out = w.w, w.gates
	}
	t.attachSrc()
	t.attachDst()
	return t
}

// flush writes the n bytes that fill has taken to dst.
func (t *transfer) flush(n int) error {
	for l, ok := t.dst.(lazy); ok; l, ok = t.dst.(lazy) {
		w, err := l.open()
		if err := t.passed(0, err); err != nil {
			return err
		}
		if err != nil {
			continue // a gate wants it tried again
		}
		t.dst = w
		t.attachDst()
	}
	if err, ok := t.flushKernel(n); ok {
		return err
	}
	return t.write((*t.buf)[:n])
}

func (t *transfer) write(b []byte) error {
	for len(b) > 0 {
		max, err := t.out.allow(len(b))
		if err != nil {
			return err
		}
		n, err := t.push(b[:max])
		if err := t.passed(n, err); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func writeAll(w io.Writer, b []byte) (int, error) {
	n, err := w.Write(b)
	if n < len(b) && err == nil {
		err = io.ErrShortWrite
	}
	return n, err
}

// passed counts what dst has taken, and tells the gates before it.
func (t *transfer) passed(n int, err error) error {
	t.written += int64(n)
	return t.out.passed(n, err)
}

// take gives t a buffer, release gives it back.
func (t *transfer) take() {
	if t.buf == nil {
		t.buf = t.pool().Get().(*[]byte)
	}
}

func (t *transfer) release() {
	if t.buf != nil {
		poolOf(t.buf).Put(t.buf)
		t.buf = nil
	}
}

// pool is where the next buffer comes from. A small one will do where a connection may
// have to wait with it: for its sink to be opened, or, since a Reader that is not the
// system's can only be waited for in its Read, for a peer that has not been sending
// much.
func (t *transfer) pool() *sync.Pool {
	if t.rawSrc != nil {
		if _, ok := t.dst.(lazy); ok {
			return &smallBuffers
		}
		return &buffers
	}
	if _, packets := t.src.(net.PacketConn); t.much || packets { // which loses what does not fit
		return &buffers
	}
	return &smallBuffers
}

func poolOf(buf *[]byte) *sync.Pool {
	if len(*buf) == smallSize {
		return &smallBuffers
	}
	return &buffers
}

// free ends t, also when a gate panics half-way.
func (t *transfer) free() {
	t.end()
	t.src, t.dst, t.in, t.out = nil, nil, nil, nil
	t.detach()
	transfers.Put(t)
}

// end gives back what t holds.
func (t *transfer) end() {
	t.release()
	t.endKernel()
}
