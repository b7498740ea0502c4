package conformance

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
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

func (p payload) reader() io.Reader {
	r := io.Reader(strings.NewReader(p.text))
	if p.size > 0 {
		r = io.MultiReader(r, io.LimitReader(&noiseReader{at: (p.id*7919 + 1) % len(noise())}, p.size))
	}
	return r
}

type noiseReader struct{ at int }

func (r *noiseReader) Read(b []byte) (n int, err error) {
	for n < len(b) {
		m := copy(b[n:], noise()[r.at:])
		n += m
		r.at = (r.at + m) % len(noise())
	}
	return n, nil
}

func (p payload) writeFile(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, p.reader())
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// differs says in what r differs from the payload: nothing if it is the same.
// The error is that of reading r.
func (p payload) differs(r io.Reader) (string, error) {
	want := p.reader()
	a, b := make([]byte, 256<<10), make([]byte, 256<<10)
	for at := int64(0); ; {
		n, err := io.ReadFull(r, a)
		m, _ := io.ReadFull(want, b)
		if bad := firstDifference(a[:n], b[:min(n, m)]); bad >= 0 {
			if n <= shownBytes && at == 0 {
				return fmt.Sprintf("%q", a[:n]), nil
			}
			if bad == m && bad < n {
				return fmt.Sprintf("more than %d bytes: after them comes %s", p.length(), quoted(a[bad:n])), nil
			}
			return fmt.Sprintf("other bytes: the byte at %d and those after it are %s where %s should be",
				at+int64(bad), quoted(a[bad:min(n, bad+16)]), quoted(b[bad:min(m, bad+16)])), nil
		}
		at += int64(n)
		switch {
		case err == io.EOF || err == io.ErrUnexpectedEOF:
			if at < p.length() {
				return fmt.Sprintf("only %d bytes of %d", at, p.length()), nil
			}
			return "", nil
		case err != nil:
			return fmt.Sprintf("%d bytes, then an error", at), err
		}
	}
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
