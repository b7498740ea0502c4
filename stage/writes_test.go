package stage

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// replies is a handler that writes to its peer without end, which never reads but the
// first bytes.
var replies = HandlerFunc(func(_ context.Context, c *Conn) error {
	for {
		if _, err := io.WriteString(c.Reply, "hello"); err != nil {
			return err
		}
	}
})

// The limits of time hold while a write to the peer waits.
func TestLimitsOfTimeEndWrites(t *testing.T) {
	for _, tt := range []struct {
		name  string
		chain Chain
		h     Handler
		err   error
		after time.Duration
	}{
		{"MaxDuration", Chain{MaxDuration{Limit: time.Minute}}, replies, ErrTooLong, time.Minute},
		{"Idle", Chain{Idle{Limit: idleLimit}}, replies, ErrIdle, idleLimit},
		{"Idle inside", Chain{MaxDuration{Limit: time.Minute}, Idle{Limit: idleLimit}}, replies, ErrIdle, idleLimit},
		{"Idle outside", Chain{Idle{Limit: idleLimit}, MaxDuration{Limit: time.Minute}}, replies, ErrIdle, idleLimit},
		{"MaxDuration before Idle", Chain{Idle{Limit: time.Minute}, MaxDuration{Limit: idleLimit}}, replies, ErrTooLong, idleLimit},
		{"the last word", Chain{MaxDuration{Limit: time.Minute}, Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
			return func(error) error {
				_, err := io.WriteString(c.Reply, "OK\n")
				return err
			}, nil
		})}, HandlerFunc(func(context.Context, *Conn) error { return nil }), ErrTooLong, time.Minute},
		{"a handshake", Chain{Idle{Limit: idleLimit}, Handshake{Script: Accio, Limit: time.Minute}}, Receive, ErrIdle, idleLimit},
		{"a handshake of a shorter limit", Chain{Idle{Limit: time.Minute}, Handshake{Script: Accio, Limit: idleLimit}}, Receive, ErrSlowHandshake, idleLimit},
		{"a receipt", Chain{Receipt{Format: func(*Conn) string { return "done" }, Limit: time.Minute}, MaxDuration{Limit: idleLimit}},
			HandlerFunc(func(context.Context, *Conn) error { time.Sleep(idleLimit / 2); return nil }), ErrIdle, idleLimit/2 + time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := memnet.Pair()
				client.SetReadBuffer(1)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				start := time.Now()
				err := Serve(ctx, server, 1, tt.chain.Then(tt.h))
				// Of the first byte it is only known at the end of the limit that it was taken.
				if took := time.Since(start); took < tt.after || took > 2*tt.after+idleError {
					t.Errorf("ended after %v, want %v", took, tt.after)
				}
				if !errors.Is(err, tt.err) {
					t.Errorf("ended with %v, want %v", err, tt.err)
				}
				client.Close()
			})
		})
	}
}

// A peer that takes what it is sent, however slowly, and then has its turn, is not silent.
func TestIdleWriteThenRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := memnet.Pair()
		client.SetReadBuffer(1)
		done := play(client, says("x"), func(c net.Conn) error {
			for range 10 {
				time.Sleep(idleLimit / 2)
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					return err
				}
			}
			return nil
		}, pauses(idleLimit/2-1), says("y"), ends)
		err := Serve(t.Context(), server, 1, Chain{Idle{Limit: idleLimit}}.Then(HandlerFunc(func(ctx context.Context, c *Conn) error {
			if _, err := io.ReadFull(c.In, make([]byte, 1)); err != nil {
				return err
			}
			if _, err := io.WriteString(c.Reply, strings.Repeat("z", 10)); err != nil {
				return err
			}
			return Receive.Serve(ctx, c)
		})))
		if err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// takes is a client that reads n bytes.
func takes(n int64) act {
	return func(c net.Conn) error {
		_, err := io.CopyN(io.Discard, c, n)
		return err
	}
}

func TestIdleWrite(t *testing.T) {
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
		{"takes everything", []any{"hello, ", "world"}, []act{takes(12)}, nil, 12, 0},
		{"takes nothing", []any{"hello"}, nil, ErrIdle, 0, idleLimit},
		{"takes it at the last moment", []any{"hello"}, []act{pauses(idleLimit - 1), takes(5)}, nil, 5, idleLimit - 1},
		{"takes the first write only", []any{"hello", "world"}, []act{takes(5)}, ErrIdle, 5, idleLimit},
		{"takes the first write only, late", []any{"hello", "world"}, []act{pauses(3 * time.Second), takes(5)}, ErrIdle, 5, 13 * time.Second},
		{"takes a part of a write", []any{"hello"}, []act{takes(2)}, ErrIdle, 2, 2 * idleLimit},
		{"takes a part of a write, late", []any{"hello"}, []act{pauses(3 * time.Second), takes(2)}, ErrIdle, 2, 2 * idleLimit},
		{"takes a byte every 9.9 s", []any{strings.Repeat("x", 100)}, slowly, nil, 100, 990 * time.Second},
		{"slow source", []any{30 * time.Second, "hello", 30 * time.Second, "world"}, []act{takes(10)}, nil, 10, 60 * time.Second},
		{"slow source, slow client", []any{9 * time.Second, "hello"}, []act{pauses(18 * time.Second), takes(5)}, nil, 5, 18 * time.Second},
		{"slow source, takes nothing", []any{30 * time.Second, "hello"}, nil, ErrIdle, 0, 40 * time.Second},
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
					server, client := net.Pipe()
					start := time.Now()
					done := play(client, tt.peer...)
					var n int64
					err := Serve(t.Context(), server, 1, Idle{Limit: idleLimit}.Wrap(HandlerFunc(func(_ context.Context, c *Conn) (err error) {
						n, err = do(c.Reply, &slowSource{tt.src})
						return err
					})))
					if took := time.Since(start); took < tt.after || took > tt.after+idleError {
						t.Errorf("ended after %v, want %v", took, tt.after)
					}
					if n != tt.n || !errors.Is(err, tt.err) {
						t.Errorf("%d bytes were taken, %v; want %d, %v", n, err, tt.n, tt.err)
					}
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

func TestIdleWriteSetsTheDeadlineSeldom(t *testing.T) {
	server, client := wire()
	watched := &writeDeadlines{Conn: server}
	done := play(client, takes(10000))
	err := Serve(t.Context(), watched, 1, Chain{MaxDuration{Limit: time.Hour}, Idle{Limit: time.Hour}}.Then(HandlerFunc(func(_ context.Context, c *Conn) error {
		for range 10000 {
			if _, err := io.WriteString(c.Reply, "x"); err != nil {
				return err
			}
		}
		return nil
	})))
	if err := errors.Join(err, <-done); err != nil {
		t.Error(err)
	}
	if watched.n > 6 {
		t.Errorf("set %d times for 10000 writes", watched.n)
	}
}

// writeDeadlines counts how often its write deadline is set.
type writeDeadlines struct {
	net.Conn
	n int
}

func (c *writeDeadlines) SetWriteDeadline(t time.Time) error {
	c.n++
	return c.Conn.SetWriteDeadline(t)
}
