package stage

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const stallLimit = 10 * time.Second

// takes is a peer that takes n bytes of what is sent to it.
func takes(n int64) act {
	return func(c net.Conn) error {
		_, err := io.CopyN(io.Discard, c, n)
		return err
	}
}

func TestStallGate(t *testing.T) {
	slowly := []act{}
	for range 100 {
		slowly = append(slowly, pauses(9900*time.Millisecond), takes(1))
	}
	tests := []struct {
		name  string
		src   []any // strings, and how long they take to come
		peer  []act
		err   error
		n     int64
		after time.Duration
	}{
		{"a peer that takes everything", []any{"hello, ", "world"}, []act{takes(12)}, nil, 12, 0},
		{"a peer that takes nothing", []any{"hello"}, nil, ErrIdle, 0, stallLimit},
		{"a peer that takes it at the last moment", []any{"hello"}, []act{pauses(stallLimit - 1), takes(5)}, nil, 5, stallLimit - 1},
		{"a peer that takes nothing any longer", []any{"hello", "world"}, []act{takes(5)}, ErrIdle, 5, stallLimit},
		{"a peer that takes nothing any longer after a while", []any{"hello", "world"}, []act{pauses(3 * time.Second), takes(5)}, ErrIdle, 5, 13 * time.Second},
		{"a peer that stops within what is sent at once", []any{"hello"}, []act{takes(2)}, ErrIdle, 2, 2 * stallLimit},
		{"a peer that stops within what is sent at once after a while", []any{"hello"}, []act{pauses(3 * time.Second), takes(2)}, ErrIdle, 2, 2 * stallLimit},
		{"a peer that takes a byte every 9.9 s", []any{strings.Repeat("x", 100)}, slowly, nil, 100, 990 * time.Second},
		{"a source that takes its time", []any{30 * time.Second, "hello", 30 * time.Second, "world"}, []act{takes(10)}, nil, 10, 60 * time.Second},
		{"a source that takes almost as long as the peer may, and then the peer", []any{9 * time.Second, "hello"}, []act{pauses(18 * time.Second), takes(5)}, nil, 5, 18 * time.Second},
		{"a peer that takes nothing of a source that takes its time", []any{30 * time.Second, "hello"}, nil, ErrIdle, 0, 40 * time.Second},
	}
	copies := map[string]func(w io.Writer, r io.Reader) (int64, error){
		"Copy": Copy,
		"Write": func(w io.Writer, r io.Reader) (int64, error) {
			return io.Copy(struct{ io.Writer }{w}, r)
		},
	}
	for how, do := range copies {
		for _, tt := range tests {
			t.Run(tt.name+", by "+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					conn, peer := net.Pipe()
					start := time.Now()
					done := play(peer, tt.peer...)
					n, err := do(NewWriter(conn, NewStallGate(conn, stallLimit)), &slowSource{tt.src})
					if took := time.Since(start); took < tt.after || took > tt.after+idleError {
						t.Errorf("ended after %v, want %v", took, tt.after)
					}
					if n != tt.n || !errors.Is(err, tt.err) {
						t.Errorf("%d bytes were taken, %v; want %d, %v", n, err, tt.n, tt.err)
					}
					conn.Close()
					<-done
				})
			})
		}
	}
}

// slowSource is a reader of strings, and of the time until the next.
type slowSource struct{ left []any }

func (s *slowSource) Read(p []byte) (int, error) {
	for len(s.left) > 0 {
		next := s.left[0]
		s.left = s.left[1:]
		switch next := next.(type) {
		case time.Duration:
			time.Sleep(next)
		case string:
			return copy(p, next), nil
		}
	}
	return 0, io.EOF
}

func TestStallGateLeavesOtherErrorsAlone(t *testing.T) {
	conn, peer := net.Pipe()
	defer conn.Close()
	defer peer.Close()
	g := NewStallGate(conn, stallLimit)
	for _, err := range []error{nil, errOne, ErrReset} {
		for n := range 2 {
			if got := g.Passed(n, err); got != err {
				t.Errorf("%v has become %v", err, got)
			}
		}
	}
	if n, err := g.Allow(42); n != 42 || err != nil {
		t.Errorf("allowed %d of 42, %v", n, err)
	}
}

// noDeadlines is a connection that cannot have a write deadline.
type noDeadlines struct{ sink }

func (*noDeadlines) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }

func TestStallGateOnAConnectionThatHasNoDeadlines(t *testing.T) {
	conn := &noDeadlines{}
	n, err := io.WriteString(NewWriter(conn, NewStallGate(conn, stallLimit)), "hello")
	if n != 0 || !errors.Is(err, os.ErrNoDeadline) {
		t.Errorf("wrote %d, %v; want the deadline's error rather than no limit", n, err)
	}
}

func TestStallGateCostsNoAllocation(t *testing.T) {
	conn := &endlessSink{}
	w := NewWriter(conn, NewStallGate(conn, time.Hour))
	buf := make([]byte, 64)
	if n := testing.AllocsPerRun(1000, func() {
		if n, err := w.Write(buf); n != len(buf) || err != nil {
			t.Fatal(n, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a write", n)
	}
}

type endlessSink struct{}

func (*endlessSink) Write(p []byte) (int, error)      { return len(p), nil }
func (*endlessSink) SetWriteDeadline(time.Time) error { return nil }
