package stage

import (
	"io"
	"net"
	"os"
	"sync"
)

const (
	// bufferSize is the size of the buffer for payload that passes through the program.
	bufferSize = 64 << 10

	// smallSize is the size of the buffer of a connection that may have to wait with it.
	smallSize = 4 << 10

	// transferSize bounds one transfer through the kernel.
	transferSize = 1 << 20

	// maxEmptyReads is how many times in a row a reader may return neither bytes nor an
	// error, as in bufio.
	maxEmptyReads = 100
)

// buffers holds *[]byte of bufferSize. A transfer from a system connection takes one only
// while bytes move. A transfer from any other reader waits with a buffer. Thousands may
// wait, so each takes one of smallBuffers until much comes.
var (
	buffers      = sync.Pool{New: func() any { return newBuffer(bufferSize) }}
	smallBuffers = sync.Pool{New: func() any { return newBuffer(smallSize) }}
)

func newBuffer(size int) *[]byte {
	b := make([]byte, size)
	return &b
}

// Filer is a writer with an open file. The kernel may move bytes into the file, at its
// current offset, past Write. A sink that looks at the bytes in its Write must not be a
// Filer.
type Filer interface {
	io.Writer
	// File returns the open file, which stays the Filer's own.
	File() *os.File
}

// Copy moves src to dst until the end of src or an error, and returns how many bytes dst has
// taken. The end of src is not an error. All payload goes through Copy.
//
// Copy asks the gates of [NewReader] and [NewWriter] before each transfer, and reports the
// transfer to them. If the ends behind them are files and connections, on Linux the kernel
// moves the bytes by splice(2) or sendfile(2). The source is a TCP or Unix stream connection
// or a regular *os.File. The destination is such a connection, an *os.File or a [Filer].
// From a TCP connection to io.Discard, the kernel drops them (MSG_TRUNC in tcp(7)).
// Everything else passes through a pooled buffer. Copy looks behind no other types: any
// other Reader or Writer is called and sees every byte.
//
// A reader that has read ahead can still have zero-copy for the bytes that follow. Before
// each read, Copy calls its method Rest() (io.Reader, bool), if it has one. While it holds
// bytes that it has read, Rest returns false. Afterwards it may return the reader under it,
// and Copy goes on with that one.
//
// If a client sends a hundred megabytes a second, the last bytes before a pause may
// arrive ten to twenty milliseconds late.
//
// Copy returns the error of the side that failed, as its gates return it. Before an
// error of src it writes all bytes read so far. Copy closes nothing.
func Copy(dst io.Writer, src io.Reader) (written int64, err error) {
	t := newTransfer(dst, src)
	defer t.free()
	if done, err := t.sendFile(); done {
		return t.written, err
	}
	err = t.run()
	return t.written, err
}

// ReadAhead reads from r once, for a stage that cuts a stream into pieces. It returns the
// bytes, which are valid until free is called, and the error that came with them. Without
// bytes free is nil.
//
// Like Copy, it takes a buffer only when a connection has something to read. It waits
// for any other r with a buffer: of 64 KiB if much is true, otherwise of 4 KiB. The
// caller sets much if the previous read filled the buffer.
func ReadAhead(r io.Reader, much bool) (b []byte, free func(), err error) {
	t := newTransfer(nil, r)
	t.much = much
	n := 0
	for empty := 0; n == 0 && err == nil; empty++ {
		if empty == maxEmptyReads {
			err = io.ErrNoProgress
			break
		}
		n, err = t.fill()
	}
	if n == 0 {
		t.free()
		return nil, nil, err
	}
	return (*t.buf)[:n], t.free, err
}

// run moves bytes until the end of src.
func (t *transfer) run() error {
	for empty := 0; empty < maxEmptyReads; {
		t.replaceSource()
		n, err := t.fill()
		empty++
		if n > 0 {
			if err := t.flush(n); err != nil {
				return err
			}
			empty = 0
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// transfer is one Copy under way: both ends without their gates, the gates, and the bytes
// between the ends. Transfers are reused: they are most of the allocations of a small
// payload.
type transfer struct {
	src     io.Reader
	dst     io.Writer
	in, out *gates
	written int64
	buf     *[]byte // taken while it holds bytes, or while Read waits with it
	much    bool    // the last Read brought smallSize or more
	kernel          // ways past the program, where the system has any
}

var transfers = sync.Pool{New: func() any {
	t := new(transfer)
	t.initKernel()
	return t
}}

func newTransfer(dst io.Writer, src io.Reader) *transfer {
	t := transfers.Get().(*transfer)
	t.setSource(src)
	t.dst = dst
	if w, ok := dst.(*gatedWriter); ok {
		t.dst, t.out = w.w, w.gates
	}
	t.attachSink()
	return t
}

func (t *transfer) setSource(src io.Reader) {
	t.src, t.in = src, nil
	if r, ok := src.(*gatedReader); ok {
		t.src, t.in = r.r, r.gates
	}
	t.attachSource()
}

// replaceSource goes on with the rest of a reader that has read ahead, once it holds
// no more.
func (t *transfer) replaceSource() {
	ahead, ok := t.src.(interface{ Rest() (io.Reader, bool) })
	if !ok {
		return
	}
	rest, ok := ahead.Rest()
	if !ok {
		return
	}
	t.release()
	in := t.in
	t.setSource(rest)
	t.in = in.around(t.in)
	t.attachSink()
}

// fill takes bytes from src once, into t.buf or the kernel.
func (t *transfer) fill() (n int, err error) {
	max, err := t.in.allow(transferSize)
	if err != nil {
		return 0, err
	}
	if t.kernelReads() {
		n, err = t.fillKernel(max)
	} else {
		if t.buf != nil && t.pool() != poolOf(t.buf) {
			t.release()
		}
		t.take()
		n, err = t.src.Read((*t.buf)[:min(max, len(*t.buf))])
		t.much = n >= smallSize
	}
	return n, t.in.passed(n, err)
}

// opener is a sink that is opened by the first byte that reaches it.
type opener interface {
	io.Writer
	open() (io.Writer, error)
}

// flush writes the n bytes that fill has taken to dst.
func (t *transfer) flush(n int) error {
	for {
		sink, ok := t.dst.(opener)
		if !ok {
			break
		}
		w, err := sink.open()
		if err := t.passed(0, err); err != nil {
			return err
		}
		t.dst = w
		t.attachSink()
	}
	if !t.kernelReads() {
		return t.write((*t.buf)[:n])
	}
	return t.flushKernel(n)
}

func (t *transfer) write(b []byte) error {
	for len(b) > 0 {
		max, err := t.out.allow(len(b))
		if err != nil {
			return err
		}
		n, err := writeAll(t.dst, b[:max])
		if err := t.passed(n, err); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// passed counts the bytes that dst has taken, and reports them to its gates.
func (t *transfer) passed(n int, err error) error {
	t.written += int64(n)
	return t.out.passed(n, err)
}

// take gives t a buffer, and release returns it to its pool.
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

// pool returns the pool of the next buffer. The buffer is small if a connection may wait
// with it: for its sink to open, or in Read for a client that has sent little.
func (t *transfer) pool() *sync.Pool {
	if t.kernelReads() {
		if _, ok := t.dst.(opener); ok {
			return &smallBuffers
		}
		return &buffers
	}
	if _, packets := t.src.(net.PacketConn); t.much || packets { // a packet must fit
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

// free returns t and its buffers to the pools, also if a gate panics.
func (t *transfer) free() {
	t.release()
	t.freeKernel()
	t.src, t.dst, t.in, t.out, t.written, t.much = nil, nil, nil, nil, 0, false
	transfers.Put(t)
}
