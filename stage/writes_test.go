package stage

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
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
func TestLimitsOfTimeHoldForWrites(t *testing.T) {
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
func TestAPeerThatTakesIsNotIdle(t *testing.T) {
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
		}, pauses(idleLimit/2), says("y"), ends)
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

// Write deadlines do not disturb each other, and the nearest applies.
func TestTheNearestWriteDeadlineApplies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := memnet.Pair()
		defer server.Close()
		defer client.Close()
		client.SetReadBuffer(1)
		c := NewConn(server, 1)
		a, b := c.NewDeadline(), c.NewDeadline()
		waits := func(want time.Duration) {
			t.Helper()
			start := time.Now()
			if _, err := io.WriteString(c.Reply, "hello"); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != want {
				t.Errorf("%v after %v, want %v", err, time.Since(start), want)
			}
		}
		now := time.Now()
		a.SetWriteDeadline(now.Add(time.Second))
		b.SetWriteDeadline(now.Add(3 * time.Second))
		c.SetWriteDeadline(now.Add(2 * time.Second))
		waits(time.Second)
		a.SetWriteDeadline(time.Time{})
		waits(time.Second)
		c.SetWriteDeadline(time.Time{})
		waits(time.Second)
		b.SetWriteDeadline(time.Time{})
		if len(c.writing) > 0 {
			t.Errorf("%d are left", len(c.writing))
		}
	})
}

// The write deadline is not moved for each write.
func TestIdleSetsTheWriteDeadlineSeldom(t *testing.T) {
	server, client := wire()
	watched := &writeDeadlines{Conn: server}
	done := play(client, says("x"), ends, takes(10000))
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
