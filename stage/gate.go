package stage

import (
	"errors"
	"io"
)

// Gate counts the bytes of a stream and limits how many may pass, without seeing them.
// Counters, size limits and throttles are Gates. [Copy] asks the gates around each
// transfer and still lets the kernel move the payload, so a chain of gates costs nothing.
//
// The same Gate works in front of a reader ([NewReader]) and of a writer ([NewWriter]). It is
// called by one goroutine at a time; a Gate that several streams share must be safe for
// concurrent use. It must not read or write the stream.
//
// If a stream has several gates, Allow of the last one added is called first, and each
// further gate gets the result as its max. Passed is called in reverse order.
type Gate interface {
	// Allow is called before a transfer of at most max bytes (max >= 1). It returns how
	// many may pass now: from 1 to max, anything else is an ErrGate. It may block until the
	// connection's context is cancelled. An error ends the stream, and nothing is
	// transferred; in front of a reader, io.EOF is the end of the stream.
	Allow(max int) (int, error)

	// Passed is called after a transfer with the number of bytes that passed (0 if none),
	// and its error: nil, io.EOF at the end of the stream, or another. It returns err, or
	// an error in its place that ends the stream; it cannot make an error nil.
	//
	// It need not follow an Allow, since another gate may have refused. It may come without
	// one, with 0 bytes, when a sink was opened or could not be.
	Passed(n int, err error) error
}

// ErrGate means that Allow of a [Gate] returned a number outside 1 to max, without an
// error.
var ErrGate = errors.New("stage: a gate allowed an impossible number of bytes")

// gates are the Gates at one end of a stream, the outermost first. nil is none.
type gates struct {
	gate  Gate
	inner *gates
}

// around returns gs around the gates inner.
func (gs *gates) around(inner *gates) *gates {
	if gs == nil {
		return inner
	}
	return &gates{gs.gate, gs.inner.around(inner)}
}

// allow asks how many of max bytes may pass.
func (gs *gates) allow(max int) (int, error) {
	for ; gs != nil; gs = gs.inner {
		n, err := gs.gate.Allow(max)
		if err != nil {
			return 0, err
		}
		if n < 1 || n > max {
			return 0, ErrGate
		}
		max = n
	}
	return max, nil
}

// passed reports a transfer to all gates, and returns its error as they see it.
func (gs *gates) passed(n int, err error) error {
	if gs == nil {
		return err
	}
	err = gs.inner.passed(n, err)
	if gerr := gs.gate.Passed(n, err); gerr != nil {
		err = gerr
	}
	return err
}

// gatedReader is a reader behind gates.
type gatedReader struct {
	r     io.Reader // not a *gatedReader
	gates *gates
}

// NewReader returns a reader of r behind gate. [Copy] and io.Copy from it keep zero-copy, if r
// allows it. It closes nothing, and is no more safe for concurrent use than r.
//
// Do not embed it in a type that has a Read of its own: its WriteTo would be promoted and
// bypass that Read.
func NewReader(r io.Reader, gate Gate) io.Reader {
	if inner, ok := r.(*gatedReader); ok {
		return &gatedReader{inner.r, &gates{gate, inner.gates}}
	}
	return &gatedReader{r, &gates{gate: gate}}
}

// Read reads as much from the inner reader as the gate allows.
func (r *gatedReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	max, err := r.gates.allow(len(p))
	if err != nil {
		return 0, err
	}
	n, err := r.r.Read(p[:max])
	return n, r.gates.passed(n, err)
}

// WriteTo copies to w until the end of the stream, as [Copy] does.
func (r *gatedReader) WriteTo(w io.Writer) (int64, error) { return Copy(w, r) }

// gatedWriter is a writer behind gates.
type gatedWriter struct {
	w     io.Writer // not a *gatedWriter
	gates *gates
}

// NewWriter returns a writer to w behind gate. [Copy] and io.Copy to it keep zero-copy, if w
// allows it. Write writes all of its argument, in pieces as large as the gate allows. It
// closes nothing, and is no more safe for concurrent use than w.
//
// Do not embed it in a type that has a Write of its own: its ReadFrom would be promoted and
// bypass that Write.
func NewWriter(w io.Writer, gate Gate) io.Writer {
	if inner, ok := w.(*gatedWriter); ok {
		return &gatedWriter{inner.w, &gates{gate, inner.gates}}
	}
	return &gatedWriter{w, &gates{gate: gate}}
}

func (w *gatedWriter) Write(p []byte) (n int, err error) {
	for n < len(p) {
		max, err := w.gates.allow(len(p) - n)
		if err != nil {
			return n, err
		}
		m, err := writeAll(w.w, p[n:n+max])
		n += m
		if err = w.gates.passed(m, err); err != nil {
			return n, err
		}
	}
	return n, nil
}

// writeAll writes all of b to w, or fails.
func writeAll(w io.Writer, b []byte) (int, error) {
	n, err := w.Write(b)
	if n < len(b) && err == nil {
		err = io.ErrShortWrite
	}
	return n, err
}

// ReadFrom copies from r until its end, as [Copy] does.
func (w *gatedWriter) ReadFrom(r io.Reader) (int64, error) { return Copy(w, r) }

var (
	_ io.WriterTo   = (*gatedReader)(nil)
	_ io.ReaderFrom = (*gatedWriter)(nil)
)
