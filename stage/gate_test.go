package stage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

var (
	errOne = errors.New("one failure")
	errTwo = errors.New("another failure")
)

// testGate is a Gate of functions. One that is nil stands in nobody's way.
type testGate struct {
	allow  func(max int) (int, error)
	passed func(n int, err error) error
}

func (g testGate) Allow(max int) (int, error) {
	if g.allow == nil {
		return max, nil
	}
	return g.allow(max)
}

func (g testGate) Passed(n int, err error) error {
	if g.passed == nil {
		return err
	}
	return g.passed(n, err)
}

// allows is a gate that gives the same answer always.
func allows(n int, err error) testGate {
	return testGate{allow: func(int) (int, error) { return n, err }}
}

// atMost is a gate that allows n bytes at a time.
func atMost(n int) testGate {
	return testGate{allow: func(max int) (int, error) { return min(n, max), nil }}
}

// answers is a gate that has err in place of every outcome.
func answers(err error) testGate {
	return testGate{passed: func(int, error) error { return err }}
}

// swallows is a gate that returns nil in place of err.
func swallows(err error) testGate {
	return testGate{passed: func(_ int, e error) error {
		if e == err {
			return nil
		}
		return e
	}}
}

// part is what one call of Read returns.
type part struct {
	s   string
	err error
}

func (p part) String() string { return fmt.Sprintf("%q, %v", p.s, p.err) }

// parts is a reader that returns one part a call, then io.EOF.
type parts struct{ left []part }

func (r *parts) Read(p []byte) (int, error) {
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	now := r.left[0]
	n := copy(p, now.s)
	if n < len(now.s) {
		r.left[0].s = now.s[n:]
		return n, nil
	}
	r.left = r.left[1:]
	return n, now.err
}

// outcome is what one call of Write does: take at most n bytes, and return err.
type outcome struct {
	n   int
	err error
}

// sink is a writer with scripted outcomes; after those, it takes everything.
type sink struct {
	outcomes []outcome
	got      []byte
	writes   []string
}

func (w *sink) Write(p []byte) (n int, err error) {
	n = len(p)
	if len(w.outcomes) > 0 {
		n, err = min(n, w.outcomes[0].n), w.outcomes[0].err
		w.outcomes = w.outcomes[1:]
	}
	w.got = append(w.got, p[:n]...)
	w.writes = append(w.writes, string(p[:n]))
	return n, err
}

func TestReader(t *testing.T) {
	tests := []struct {
		name string
		src  []part
		gate Gate
		want []part // of each Read in turn
	}{
		{"what the gate allows is read as the inner reader gives it",
			[]part{{"hello", nil}, {"bye", io.EOF}}, testGate{},
			[]part{{"hello", nil}, {"bye", io.EOF}}},
		{"no more is read than the gate allows",
			[]part{{"hello", nil}}, atMost(2),
			[]part{{"he", nil}, {"ll", nil}, {"o", nil}, {"", io.EOF}}},
		{"an error of Allow ends the stream",
			[]part{{"hello", nil}}, allows(3, errOne),
			[]part{{"", errOne}}},
		{"what Passed says takes the place of the error",
			[]part{{"", errOne}}, answers(errTwo),
			[]part{{"", errTwo}}},
		{"what Passed says takes the place of success",
			[]part{{"hello", nil}}, answers(errTwo),
			[]part{{"hello", errTwo}}},
		{"bytes that come beside an error are returned beside it",
			[]part{{"hello", errOne}}, testGate{},
			[]part{{"hello", errOne}}},
		{"a gate cannot make an error nil",
			[]part{{"hello", errOne}, {"", errOne}}, swallows(errOne),
			[]part{{"hello", errOne}, {"", errOne}}},
		{"a read of nothing without an error is returned as it is",
			[]part{{"", nil}, {"hello", nil}}, testGate{},
			[]part{{"", nil}, {"hello", nil}}},
		{"a gate that allows nothing is at fault",
			[]part{{"hello", nil}}, allows(0, nil),
			[]part{{"", ErrGate}}},
		{"a gate that allows less than nothing is at fault",
			[]part{{"hello", nil}}, allows(-1, nil),
			[]part{{"", ErrGate}}},
		{"a gate that allows more than it was asked for is at fault",
			[]part{{"hello", nil}}, allows(9, nil),
			[]part{{"", ErrGate}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src := &parts{slices.Clone(tt.src)}
			r := NewReader(src, tt.gate)
			for i, want := range tt.want {
				buf := make([]byte, 8)
				n, err := r.Read(buf)
				if got := (part{string(buf[:n]), err}); got != want {
					t.Fatalf("read %d: %v; want %v", i+1, got, want)
				}
			}
		})
	}
}

func TestReaderRefusedByAGate(t *testing.T) {
	for _, g := range []testGate{allows(3, errOne), allows(0, nil), allows(-1, nil), allows(9, nil)} {
		src := &parts{[]part{{"hello", nil}}}
		NewReader(src, g).Read(make([]byte, 8))
		if len(src.left) != 1 || src.left[0].s != "hello" {
			n, err := g.Allow(8)
			t.Errorf("something was read though the gate answered %d, %v", n, err)
		}
	}
}

func TestReaderWithoutRoom(t *testing.T) {
	src := &parts{[]part{{"", errOne}}}
	r := NewReader(src, allows(0, errTwo))
	for _, buf := range [][]byte{nil, {}} {
		if n, err := r.Read(buf); n != 0 || err != nil {
			t.Errorf("Read: %d, %v", n, err)
		}
	}
	if len(src.left) != 1 {
		t.Error("the inner reader was asked")
	}
}

func TestWriter(t *testing.T) {
	tests := []struct {
		name     string
		outcomes []outcome
		gate     Gate
		want     []string // what reaches the inner writer, a Write each
		err      error
	}{
		{"what the gate allows is written at once", nil, testGate{},
			[]string{"hello"}, nil},
		{"a write is cut as the gate wants it", nil, atMost(2),
			[]string{"he", "ll", "o"}, nil},
		{"an error of Allow ends it before anything is written", nil, allows(3, errOne),
			nil, errOne},
		{"an error of Allow half-way leaves the first half written", nil, budget(3),
			[]string{"hel"}, errOne},
		{"an error of the inner writer is returned as it is", []outcome{{0, errOne}}, testGate{},
			[]string{""}, errOne},
		{"bytes that are taken beside an error count", []outcome{{3, errOne}}, testGate{},
			[]string{"hel"}, errOne},
		{"what Passed says takes the place of the error", []outcome{{3, errOne}}, answers(errTwo),
			[]string{"hel"}, errTwo},
		{"what Passed says takes the place of success", nil, answers(errTwo),
			[]string{"hello"}, errTwo},
		{"a gate cannot make an error nil", []outcome{{3, errOne}}, swallows(errOne),
			[]string{"hel"}, errOne},
		{"a writer that takes less than all and does not say why is at fault", []outcome{{3, nil}}, testGate{},
			[]string{"hel"}, io.ErrShortWrite},
		{"a gate that allows nothing is at fault", nil, allows(0, nil),
			nil, ErrGate},
		{"a gate that allows less than nothing is at fault", nil, allows(-1, nil),
			nil, ErrGate},
		{"a gate that allows more than it was asked for is at fault", nil, allows(6, nil),
			nil, ErrGate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inner := &sink{outcomes: tt.outcomes}
			n, err := NewWriter(inner, tt.gate).Write([]byte("hello"))
			if err != tt.err {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if !slices.Equal(inner.writes, tt.want) {
				t.Errorf("wrote %q, want %q", inner.writes, tt.want)
			}
			if want := len(strings.Join(tt.want, "")); n != want {
				t.Errorf("said that %d bytes were taken, want %d", n, want)
			}
		})
	}
}

// budget is a gate that allows n bytes in all, then fails with errOne.
func budget(n int) testGate {
	return testGate{
		allow: func(max int) (int, error) {
			if n == 0 {
				return 0, errOne
			}
			return min(n, max), nil
		},
		passed: func(m int, err error) error { n -= m; return err },
	}
}

func TestWriterOfNothing(t *testing.T) {
	inner := &sink{}
	if n, err := NewWriter(inner, allows(0, errOne)).Write(nil); n != 0 || err != nil {
		t.Errorf("Write: %d, %v", n, err)
	}
	if inner.writes != nil {
		t.Error("the inner writer was asked")
	}
}

func TestGateReports(t *testing.T) {
	var heard []part
	listener := testGate{passed: func(n int, err error) error {
		heard = append(heard, part{strings.Repeat("x", n), err})
		return err
	}}

	r := NewReader(&parts{[]part{{"abc", nil}, {"", nil}, {"de", errOne}}}, listener)
	for range 4 {
		r.Read(make([]byte, 8))
	}
	if want := []part{{"xxx", nil}, {"", nil}, {"xx", errOne}, {"", io.EOF}}; !slices.Equal(heard, want) {
		t.Errorf("before a reader: %v; want %v", heard, want)
	}

	heard = nil
	w := NewWriter(&sink{outcomes: []outcome{{3, nil}, {2, errOne}}}, listener)
	for range 3 {
		w.Write([]byte("hello"))
	}
	if want := []part{{"xxx", io.ErrShortWrite}, {"xx", errOne}, {"xxxxx", nil}}; !slices.Equal(heard, want) {
		t.Errorf("before a writer: %v; want %v", heard, want)
	}
}

func TestGateInIOCopy(t *testing.T) {
	copies := map[string]func(dst io.Writer, src io.Reader) (int64, error){
		"from a Reader": func(dst io.Writer, src io.Reader) (int64, error) {
			return io.Copy(dst, NewReader(src, atMost(2)))
		},
		"to a Writer": func(dst io.Writer, src io.Reader) (int64, error) {
			return io.Copy(NewWriter(dst, atMost(2)), src)
		},
	}
	for name, do := range copies {
		t.Run(name, func(t *testing.T) {
			dst := &sink{}
			n, err := do(dst, &parts{[]part{{"hello", nil}}})
			if n != 5 || err != nil {
				t.Errorf("%d, %v", n, err)
			}
			if want := []string{"he", "ll", "o"}; !slices.Equal(dst.writes, want) {
				t.Errorf("wrote %q, want %q", dst.writes, want)
			}
		})
	}
}

func TestGateAllocations(t *testing.T) {
	buf := make([]byte, 512)
	src := bytes.NewReader(nil)
	r := NewReader(NewReader(src, atMost(300)), new(Counter))
	w := NewWriter(NewWriter(io.Discard, atMost(300)), new(Counter))
	if n := testing.AllocsPerRun(1000, func() {
		src.Reset(buf)
		if n, err := r.Read(buf); n != 300 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := w.Write(buf); n != 512 || err != nil {
			t.Fatal(n, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a read and a write", n)
	}
}
