package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"sync"
)

// payload is what a file holds: some bytes that are given, or many that look
// random and differ from one id to the next.
type payload struct {
	text string
	id   int
	size int64 // of the random bytes, which follow the text
}

func text(s string) payload { return payload{text: s} }

func random(id int, size int64) payload { return payload{id: id, size: size} }

func (p payload) length() int64 { return int64(len(p.text)) + p.size }

func (p payload) String() string {
	if p.size == 0 {
		return quoted(p.text)
	}
	return fmt.Sprintf("the %d bytes that were sent", p.length())
}

// noise is what random payloads are cut from. Its length is a prime, so that a
// block that goes missing or comes twice is never made up for by the next.
var noise = sync.OnceValue(func() []byte {
	b := make([]byte, 1<<20+7)
	rand.NewChaCha8([32]byte{'a', 'c', 'c', 'i', 'o'}).Read(b)
	return b
})

// pieces yields what the payload holds, a piece at a time. The pieces are not to be
// written to.
func (p payload) pieces() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		if p.text != "" && !yield([]byte(p.text)) {
			return
		}
		at := (p.id*7919 + 1) % len(noise())
		for left := p.size; left > 0; {
			piece := noise()[at:]
			piece = piece[:min(int64(len(piece)), left, pieceSize)]
			if !yield(piece) {
				return
			}
			left -= int64(len(piece))
			at = (at + len(piece)) % len(noise())
		}
	}
}

const pieceSize = 256 << 10

func (p payload) reader() io.Reader {
	r := &pieceReader{}
	for piece := range p.pieces() {
		r.left = append(r.left, piece)
	}
	return r
}

// pieceReader reads pieces one after the other.
type pieceReader struct{ left [][]byte }

func (r *pieceReader) Read(b []byte) (n int, err error) {
	for len(r.left) > 0 && n < len(b) {
		m := copy(b[n:], r.left[0])
		n += m
		if r.left[0] = r.left[0][m:]; len(r.left[0]) == 0 {
			r.left = r.left[1:]
		}
	}
	if n == 0 && len(b) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

func (p payload) writeFile(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	for piece := range p.pieces() {
		if _, err = f.Write(piece); err != nil {
			break
		}
	}
	return errors.Join(err, f.Close())
}

// differs says in what r differs from the payload: nothing if it is the same.
// The error is that of reading r.
func (p payload) differs(r io.Reader) (string, error) {
	at := int64(0)
	got := make([]byte, pieceSize)
	for want := range p.pieces() {
		n, err := io.ReadFull(r, got[:min(len(want), len(got))])
		if bad := firstDifference(got[:n], want[:n]); bad >= 0 {
			if n <= shownBytes && at == 0 {
				return fmt.Sprintf("%q", got[:n]), nil
			}
			return fmt.Sprintf("other bytes: the byte at %d and those after it are %s where %s should be",
				at+int64(bad), quoted(got[bad:min(n, bad+16)]), quoted(want[bad:min(n, bad+16)])), nil
		}
		at += int64(n)
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			return fmt.Sprintf("only %d bytes of %d", at, p.length()), nil
		case err != nil:
			return fmt.Sprintf("%d bytes, then an error", at), err
		}
	}
	switch n, err := io.ReadFull(r, got[:shownBytes]); {
	case n > 0 && at == 0:
		return quoted(got[:n]), nil
	case n > 0:
		return fmt.Sprintf("more than %d bytes: after them comes %s", at, quoted(got[:n])), nil
	case err != io.EOF:
		return fmt.Sprintf("%d bytes, then an error", at), err
	}
	return "", nil
}

// firstDifference is where a is no longer what b is, or -1.
func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}
