package stage

import (
	"context"
	"errors"
	"hash"
	"io"
)

// Hash is a stage that computes the digest of the payload: of exactly the bytes that the sink
// has taken, in order. It is c.Hash.Sum(nil), for stages inside and outside; while bytes
// flow, it is the digest so far.
//
// It may stand anywhere in the chain, outside of the stage that sets the sink ([Save]) and
// inside. A connection passes only one Hash; a second one ends it with an error. For several
// digests of one payload, New returns a hash.Hash that combines them.
//
// It sees the bytes, so it ends zero-copy for its chain.
type Hash struct {
	// New returns an empty hash, as sha256.New does. It is called once for each connection.
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
		c.Out = &hashWriter{c.Out, c.Hash}
		return nil, nil
	}).Wrap(next)
}

var errTwoHashes = errors.New("stage: a connection has passed two Hashes")

// hashWriter hashes the bytes that another writer has taken.
type hashWriter struct {
	w io.Writer
	h hash.Hash
}

func (w *hashWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.h.Write(p[:n]) // never fails (hash.Hash)
	return n, err
}
