package stage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// noise is n bytes, different for each seed and without a pattern that could
// hide bytes that are lost, doubled or out of place.
func noise(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// sameBytes compares payloads that are too large to be printed.
func sameBytes(t testing.TB, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < min(len(got), len(want)) && got[at] == want[at] {
		at++
	}
	t.Errorf("%d bytes, want %d; they differ from byte %d on", len(got), len(want), at)
}

func TestCopy(t *testing.T) {
	tests := []struct {
		name    string
		src     []part
		dst     []outcome
		in, out Gate
		want    string
		err     error
	}{
		{name: "the end of the source is no error",
			src: []part{{"hello ", nil}, {"world", nil}, {"", io.EOF}}, want: "hello world"},
		{name: "an empty source is copied too"},
		{name: "bytes that come beside the end are written",
			src: []part{{"hello ", nil}, {"world", io.EOF}}, want: "hello world"},
		{name: "an error of the source comes after all that was read is written",
			src: []part{{"hello ", nil}, {"world", errOne}}, want: "hello world", err: errOne},
		{name: "an error of the source alone ends it",
			src: []part{{"hello", nil}, {"", errOne}}, want: "hello", err: errOne},
		{name: "a sink that fails at once has taken nothing",
			src: []part{{"hello", nil}}, dst: []outcome{{0, errOne}}, err: errOne},
		{name: "a sink that fails half-way has taken the first half",
			src: []part{{"hello ", nil}, {"world", nil}}, dst: []outcome{{6, nil}, {2, errOne}}, want: "hello wo", err: errOne},
		{name: "a sink that takes less than all and does not say why is at fault",
			src: []part{{"hello", nil}}, dst: []outcome{{3, nil}}, want: "hel", err: io.ErrShortWrite},
		{name: "io.EOF from a sink is not the end of the source",
			src: []part{{"hello", nil}}, dst: []outcome{{3, io.EOF}}, want: "hel", err: io.EOF},
		{name: "where both sides fail at the same bytes, the sink's failure lost some",
			src: []part{{"hello", errOne}}, dst: []outcome{{2, errTwo}}, want: "he", err: errTwo},
		{name: "a source that gives neither bytes nor an error is given up",
			src: slices.Repeat([]part{{"", nil}}, maxEmptyReads), err: io.ErrNoProgress},
		{name: "a source that gives nothing for a while is not given up",
			src: slices.Concat(slices.Repeat([]part{{"", nil}}, maxEmptyReads-1), []part{{"hello", nil}},
				slices.Repeat([]part{{"", nil}}, maxEmptyReads-1), []part{{"bye", nil}}), want: "hellobye"},

		{name: "a gate before the source that does not allow has nothing read",
			src: []part{{"hello", nil}}, in: allows(1, errOne), err: errOne},
		{name: "a gate before the source that stops allowing leaves what was read written",
			src: []part{{"hello", nil}}, in: budget(3), want: "hel", err: errOne},
		{name: "what a gate before the source says of bytes comes after they are written",
			src: []part{{"hello", nil}, {"bye", nil}}, in: answers(errTwo), want: "hello", err: errTwo},
		{name: "a gate before the source may change its error",
			src: []part{{"hello", nil}, {"", errOne}}, in: replaces(errOne, errTwo), want: "hello", err: errTwo},
		{name: "a gate before the source may make its end an error",
			src: []part{{"hello", nil}}, in: replaces(io.EOF, errTwo), want: "hello", err: errTwo},
		{name: "a gate before the source may make its error an end",
			src: []part{{"hello", nil}, {"", errOne}}, in: replaces(errOne, io.EOF), want: "hello"},
		{name: "a gate before the source cannot make its error nil",
			src: []part{{"hello", errOne}, {"bye", nil}}, in: swallows(errOne), want: "hello", err: errOne},
		{name: "a gate before the source that allows nothing is at fault",
			src: []part{{"hello", nil}}, in: allows(0, nil), err: ErrGate},
		{name: "a gate before the source that allows too much is at fault",
			src: []part{{"hello", nil}}, in: allows(transferSize+1, nil), err: ErrGate},
		{name: "a gate before the source can have it read byte by byte",
			src: []part{{"hello", nil}}, in: atMost(1), want: "hello"},

		{name: "a gate before the sink that does not allow has nothing read",
			src: []part{{"hello", nil}}, out: allows(1, errOne), err: errOne},
		{name: "a gate before the sink that stops allowing leaves the first half written",
			src: []part{{"hello", nil}}, out: budget(3), want: "hel", err: errOne},
		{name: "a gate before the sink may change its error",
			src: []part{{"hello", nil}}, dst: []outcome{{2, errOne}}, out: replaces(errOne, errTwo), want: "he", err: errTwo},
		{name: "a gate before the sink cannot make its error nil",
			src: []part{{"hello", nil}}, dst: []outcome{{1, errOne}}, out: swallows(errOne), want: "h", err: errOne},
		{name: "a gate before the sink that fails after success counts what was taken",
			src: []part{{"hello", nil}}, out: answers(errTwo), want: "hello", err: errTwo},
		{name: "a gate before the sink that allows nothing is at fault",
			src: []part{{"hello", nil}}, out: allows(0, nil), err: ErrGate},
		{name: "a gate before the sink that allows too much is at fault",
			src: []part{{"hello", nil}}, out: allows(transferSize+1, nil), err: ErrGate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, dst := &parts{slices.Clone(tt.src)}, &sink{outcomes: tt.dst}
			var r io.Reader = src
			if tt.in != nil {
				r = NewReader(src, tt.in)
			}
			var w io.Writer = dst
			if tt.out != nil {
				w = NewWriter(dst, tt.out)
			}
			n, err := Copy(w, r)
			if err != tt.err {
				t.Errorf("error %v, want this very one: %v", err, tt.err)
			}
			if got := string(dst.got); got != tt.want {
				t.Errorf("the sink has %q, want %q", got, tt.want)
			}
			if n != int64(len(tt.want)) {
				t.Errorf("said that %d bytes were taken, want %d", n, len(tt.want))
			}
		})
	}
}

// replaces is a gate that has with in place of the error err.
func replaces(err, with error) testGate {
	return testGate{passed: func(_ int, e error) error {
		if e == err {
			return with
		}
		return e
	}}
}

// A gate that ends a stream where it would otherwise go on does so for every
// way of reading.
func TestCopyEndsWhereAGateDoes(t *testing.T) {
	first := func(n int) Gate {
		return testGate{
			allow: func(max int) (int, error) {
				if n == 0 {
					return 0, io.EOF
				}
				return min(n, max), nil
			},
			passed: func(m int, err error) error { n -= m; return err },
		}
	}
	got, err := io.ReadAll(NewReader(strings.NewReader("hello, world"), first(5)))
	if string(got) != "hello" || err != nil {
		t.Errorf("io.ReadAll: %q, %v", got, err)
	}
	var dst bytes.Buffer
	n, err := Copy(&dst, NewReader(strings.NewReader("hello, world"), first(5)))
	if dst.String() != "hello" || n != 5 || err != nil {
		t.Errorf("Copy: %q, %d, %v; want what io.ReadAll has", dst.String(), n, err)
	}
}

func TestCopyOrderOfGates(t *testing.T) {
	var log []string
	named := func(name string) Gate {
		return testGate{
			allow: func(max int) (int, error) {
				if max > 1 {
					max--
				}
				log = append(log, fmt.Sprintf("%s allows %d", name, max))
				return max, nil
			},
			passed: func(n int, err error) error {
				log = append(log, fmt.Sprintf("%s passed %d %v", name, n, err))
				return err
			},
		}
	}
	r := NewReader(NewReader(&parts{[]part{{"abcd", nil}}}, named("in: inner")), named("in: outer"))
	w := NewWriter(NewWriter(&sink{}, named("out: inner")), named("out: outer"))
	if n, err := Copy(w, r); n != 4 || err != nil {
		t.Error(n, err)
	}
	ask := []string{
		fmt.Sprint("in: outer allows ", transferSize-1),
		fmt.Sprint("in: inner allows ", transferSize-2),
	}
	want := slices.Concat(ask, []string{
		"in: inner passed 4 <nil>",
		"in: outer passed 4 <nil>",
		"out: outer allows 3",
		"out: inner allows 2",
		"out: inner passed 2 <nil>",
		"out: outer passed 2 <nil>",
		"out: outer allows 1",
		"out: inner allows 1",
		"out: inner passed 1 <nil>",
		"out: outer passed 1 <nil>",
		"out: outer allows 1",
		"out: inner allows 1",
		"out: inner passed 1 <nil>",
		"out: outer passed 1 <nil>",
	}, ask, []string{
		"in: inner passed 0 EOF",
		"in: outer passed 0 EOF",
	})
	if !slices.Equal(log, want) {
		t.Errorf("the gates were asked:\n%s\nwant:\n%s", strings.Join(log, "\n"), strings.Join(want, "\n"))
	}
}

func TestCopyNarrowestGate(t *testing.T) {
	for narrow := range 4 {
		gates := [4]Gate{atMost(9), atMost(9), atMost(9), atMost(9)}
		gates[narrow] = atMost(3)
		dst := &sink{}
		r := NewReader(NewReader(strings.NewReader("hello, world"), gates[0]), gates[1])
		w := NewWriter(NewWriter(dst, gates[2]), gates[3])
		if _, err := Copy(w, r); err != nil {
			t.Error(err)
		}
		if want := []string{"hel", "lo,", " wo", "rld"}; !slices.Equal(dst.writes, want) {
			t.Errorf("with the narrowest as gate %d it wrote %q, want %q", narrow, dst.writes, want)
		}
	}
}

// looker is a reader and a writer that looks at the bytes on their way.
type looker struct {
	io.Reader
	io.Writer
	seen []byte
}

func (l *looker) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	l.seen = append(l.seen, p[:n]...)
	return n, err
}

func (l *looker) Write(p []byte) (int, error) {
	l.seen = append(l.seen, p...)
	return l.Writer.Write(p)
}

func TestCopyCallsReadersAndWriters(t *testing.T) {
	payload := noise(300_000, 1)
	var dst bytes.Buffer
	in := &looker{Reader: NewReader(bytes.NewReader(payload), new(Counter))}
	out := &looker{Writer: NewWriter(&dst, new(Counter))}
	n, err := Copy(NewWriter(out, new(Counter)), NewReader(in, new(Counter)))
	if n != int64(len(payload)) || err != nil {
		t.Error(n, err)
	}
	sameBytes(t, in.seen, payload)
	sameBytes(t, out.seen, payload)
	sameBytes(t, dst.Bytes(), payload)
}

func TestCopyReaders(t *testing.T) {
	payload := noise(200_000, 2)
	wraps := map[string]func(io.Reader) io.Reader{
		"one byte at a time":      iotest.OneByteReader,
		"half of what is wanted":  iotest.HalfReader,
		"the end beside the data": iotest.DataErrReader,
	}
	for name, wrap := range wraps {
		t.Run(name, func(t *testing.T) {
			var dst bytes.Buffer
			n, err := Copy(&dst, wrap(bytes.NewReader(payload)))
			if n != int64(len(payload)) || err != nil {
				t.Error(n, err)
			}
			sameBytes(t, dst.Bytes(), payload)
		})
	}
}

// A panic belongs to the stages; it must not take the buffer with it into
// somebody else's transfer.
func TestCopyAfterAPanic(t *testing.T) {
	panics := testGate{passed: func(int, error) error { panic("stop") }}
	copies := map[string]func(){
		"in the source":               func() { Copy(&sink{}, panicker{}) },
		"in the sink":                 func() { Copy(panicker{}, strings.NewReader("lost")) },
		"in a gate before the source": func() { Copy(&sink{}, NewReader(strings.NewReader("lost"), panics)) },
		"in a gate before the sink":   func() { Copy(NewWriter(&sink{}, panics), strings.NewReader("lost")) },
	}
	for name, do := range copies {
		t.Run(name, func(t *testing.T) {
			func() {
				defer func() {
					if recover() == nil {
						t.Error("the panic was lost")
					}
				}()
				do()
			}()
			dst := &sink{}
			if n, err := Copy(dst, strings.NewReader("kept")); n != 4 || err != nil || string(dst.got) != "kept" {
				t.Errorf("afterwards: %d, %v, %q", n, err, dst.got)
			}
		})
	}
}

type panicker struct{}

func (panicker) Read([]byte) (int, error)  { panic(errors.New("read")) }
func (panicker) Write([]byte) (int, error) { panic(errors.New("write")) }

// sizes is a reader that brings so much with each Read, and notes how much it could have.
type sizes struct {
	brings []int
	room   []int
}

func (s *sizes) Read(p []byte) (int, error) {
	s.room = append(s.room, len(p))
	if len(s.brings) == 0 {
		return 0, io.EOF
	}
	n := min(s.brings[0], len(p))
	s.brings = s.brings[1:]
	return n, nil
}

// packets is a connection of packets, of which a Read that is too small loses the rest.
type packets struct {
	net.PacketConn
	*sizes
}

// A Read that waits for a peer holds a buffer meanwhile.
func TestCopyBufferSize(t *testing.T) {
	brings := []int{1, bufferSize, bufferSize, smallSize, smallSize - 1, 1}
	s := &sizes{brings: slices.Clone(brings)}
	if _, err := Copy(io.Discard, s); err != nil {
		t.Error(err)
	}
	want := []int{smallSize, smallSize, bufferSize, bufferSize, bufferSize, smallSize, smallSize}
	if !slices.Equal(s.room, want) {
		t.Errorf("there was room for %d, want %d", s.room, want)
	}

	s = &sizes{brings: brings}
	if _, err := Copy(io.Discard, packets{sizes: s}); err != nil {
		t.Error(err)
	}
	if slices.Min(s.room) != bufferSize {
		t.Errorf("there was room for %d of a packet", s.room)
	}
}
