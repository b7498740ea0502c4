package stage

import (
	"context"
	"errors"
	"hash"
	"io"
)

// Hash is a stage that computes the digest of the payload: of the bytes that the sink has
// taken, in order, and of no others. It is c.Hash.Sum(nil), for stages within and
// without, when what is inside has ended; before that it is the digest so far.
//
// It may stand anywhere in the chain, outside of the stage that sets the sink ([Save])
// and inside. A connection passes one Hash only; at a second it ends with an error. For
// several digests of one payload, New returns a hash.Hash that is several.
//
// It sees the bytes, so it ends zero-copy for its chain. They pass through one buffer,
// and no write costs an allocation.
type Hash struct {
	// New returns an empty hash, as sha256.New does. It is called for each connection,
	// when this stage is entered.
	New func() hash.Hash
}

// Wrap puts a hash before the sink of next.
func (s Hash) Wrap(next Handler) Handler {
	if s.New == nil {
		panic("stage: Hash without New")
	}
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		if c.Hash != nil {
			return nil, errTwoHashes
		}
		c.Hash = s.New()
		c.Out = NewHashWriter(c.Out, c.Hash)
		return nil, nil
	}).Wrap(next)
}

var errTwoHashes = errors.New("stage: a connection has passed two Hashes")

// HashWriter is an io.Writer that hashes what another has taken.
type HashWriter struct {
	w io.Writer
	h hash.Hash
}

// NewHashWriter returns a writer to w that adds to h what w has taken of each write. It
// is no more safe for concurrent use than w and h.
func NewHashWriter(w io.Writer, h hash.Hash) *HashWriter { return &HashWriter{w, h} }

// Write writes p to the inner writer, and returns what that does.
func (w *HashWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.h.Write(p[:n]) // which never fails (hash.Hash)
	return n, err
}
