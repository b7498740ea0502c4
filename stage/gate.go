package stage

import (
	"errors"
	"io"
	"slices"
)

// Gate is what a stage puts on a stream when it has to know how many bytes
// pass, or to decide how many may, but not what they are: an idle deadline, a
// counter, a limit, a throttle. A Gate sees numbers and errors, never bytes,
// and that is why a chain of them costs nothing: [Copy] asks them around each
// transfer and still lets the kernel move the payload.
//
// The same Gate works in front of a reader ([NewReader]) and of a writer
// ([NewWriter]). It is called by one goroutine at a time, the one that reads
// or writes; one that is shared by streams guards itself. It must not keep bytes back
// and must not read or write the stream itself.
//
// Of several gates, the one put there last is asked first, and each after it for no
// more than those before have allowed. Last is that of [MinRate], so that
// the waits of others are not the peer's. What has passed is told in the other order, so
// that whoever is asked last has the first say what an error means.
type Gate interface {
	// Allow is called before a transfer of at most max bytes (max >= 1) and
	// answers how many may pass now, from 1 to max. It may block, until the
	// connection's context is cancelled at the latest. An error ends the stream, and
	// nothing is transferred; before a reader io.EOF is the end of the stream like
	// any other. Anything else is an ErrGate.
	Allow(max int) (int, error)

	// Passed is called after a transfer with the number of bytes that passed
	// (0 if none) and how it ended: nil, io.EOF at the end of what is read, or
	// an error. What it returns takes that error's place: an error of its own
	// ends the stream; nil in place of an error other than io.EOF has the
	// transfer tried again. One that has no say in that returns err.
	//
	// It need not follow an Allow, since another gate may have refused, and may come
	// without one: with 0 bytes, when a sink has been opened or could not be.
	Passed(n int, err error) error
}

// ErrGate is returned when a [Gate] allows no bytes, or more than it was asked
// for, without an error: a fault in the Gate.
var ErrGate = errors.New("stage: a gate allowed an impossible number of bytes")

// gates are Gates before the same end of a stream, the innermost first.
type gates []Gate

// and returns gates with one more outside of them.
func (gs gates) and(g Gate) gates { return append(slices.Clip(gs), g) }

// allow asks how many of max bytes may pass.
func (gs gates) allow(max int) (int, error) {
	for i := len(gs) - 1; i >= 0; i-- {
		n, err := gs[i].Allow(max)
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

// passed tells of a transfer, and returns what has become of its error.
func (gs gates) passed(n int, err error) error {
	awaits := false
	for _, g := range gs {
		if err = g.Passed(n, err); err == errAwait {
			awaits, err = true, nil // those outside have nothing to do with it
		}
	}
	if awaits && err == nil {
		err = errAwait
	}
	return err
}

// Reader is an io.Reader behind a [Gate]. [Copy] and io.Copy from it keep the
// kernel's zero-copy path where there is one.
//
// Do not embed a Reader in a type that has a Read of its own: WriteTo would be
// promoted and go round it.
type Reader struct {
	r     io.Reader // not a *Reader
	gates gates
}

// NewReader returns r behind gate. The Reader closes nothing, and is no more
// safe for concurrent use than r.
func NewReader(r io.Reader, gate Gate) *Reader {
	if inner, ok := r.(*Reader); ok {
		return &Reader{inner.r, inner.gates.and(gate)}
	}
	return &Reader{r, gates{gate}}
}

// newPeerReader is NewReader for a gate that has to do with the peer's time: it is asked
// after all other gates, also those of stages further out, so that their waits are not
// the peer's.
func newPeerReader(r io.Reader, gate Gate) *Reader {
	inner, ok := r.(*Reader)
	if !ok {
		return NewReader(r, gate)
	}
	at := 0
	if _, ok := inner.gates[0].(*inGate); ok {
		at = 1
	}
	return &Reader{inner.r, slices.Insert(slices.Clone(inner.gates), at, gate)}
}

// Read reads from the inner reader as much as the gate allows.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		max, err := r.gates.allow(len(p))
		if err != nil {
			return 0, err
		}
		n, inner := r.r.Read(p[:max])
		err = r.gates.passed(n, inner)
		if n > 0 || err != nil || inner == nil {
			return n, err
		}
	}
}

// WriteTo copies to w until the end of the stream, as [Copy] does.
func (r *Reader) WriteTo(w io.Writer) (int64, error) { return Copy(w, r) }

// Writer is an io.Writer behind a [Gate]. [Copy] to it keeps the kernel's
// zero-copy path where there is one.
//
// Do not embed a Writer in a type that has a Write of its own: ReadFrom would
// be promoted and go round it.
type Writer struct {
	w     io.Writer // not a *Writer
	gates gates
}

// NewWriter returns w behind gate. The Writer closes nothing, and is no more
// safe for concurrent use than w.
func NewWriter(w io.Writer, gate Gate) *Writer {
	if inner, ok := w.(*Writer); ok {
		return &Writer{inner.w, inner.gates.and(gate)}
	}
	return &Writer{w, gates{gate}}
}

// Write writes all of p, in pieces as large as the gate allows.
func (w *Writer) Write(p []byte) (n int, err error) {
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

// ReadFrom copies from r until its end, as [Copy] does.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) { return Copy(w, r) }

var (
	_ io.WriterTo   = (*Reader)(nil)
	_ io.ReaderFrom = (*Writer)(nil)
)
