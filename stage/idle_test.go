package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	idleLimit = 10 * time.Second

	// idleError is how much later than at its limit Idle may end a connection.
	idleError = 500 * time.Millisecond
)

// inMemory is the connections that take no real time.
var inMemory = map[string]func() (server, client net.Conn){
	"net.Pipe": net.Pipe,
	"wire":     func() (net.Conn, net.Conn) { return wire() },
}

// reading is a Handler that reads by Read, where Receive copies.
var reading = HandlerFunc(func(_ context.Context, c *Conn) error {
	buf := make([]byte, 64)
	for {
		n, err := c.In.Read(buf)
		if _, werr := c.Out.Write(buf[:n]); werr != nil {
			return werr
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
})

var receivers = map[string]Handler{"Receive": Receive, "a reading handler": reading}

func TestIdle(t *testing.T) {
	hourly := []act{}
	for range 364 {
		hourly = append(hourly, pauses(9900*time.Millisecond), says("x"))
	}
	tests := []struct {
		name  string
		peer  []act
		err   error
		after time.Duration // when the connection is to end
	}{
		{"a peer that says nothing from the start", nil, ErrIdle, idleLimit},
		{"a peer that falls silent after a byte", []act{says("x")}, ErrIdle, idleLimit},
		{"a peer that falls silent later", []act{says("x"), pauses(3 * time.Second), says("x")}, ErrIdle, 13 * time.Second},
		{"a peer whose byte comes at the last moment", []act{pauses(idleLimit - 1), says("x")}, ErrIdle, 2*idleLimit - 1},
		{"a peer whose bytes come twice at the last moment",
			[]act{pauses(idleLimit - 1), says("x"), pauses(idleLimit - 1), says("x")}, ErrIdle, 3*idleLimit - 2},
		{"a peer whose byte comes too late", []act{pauses(idleLimit + idleError), says("x")}, ErrIdle, idleLimit},
		{"a peer that ends its stream at the last moment", []act{pauses(idleLimit - 1), ends}, nil, idleLimit - 1},
		{"a peer that ends its stream at once", []act{ends}, nil, 0},
		{"a peer that sends a byte every 9.9 s for an hour", append(slices.Clone(hourly), ends), nil, 364 * 9900 * time.Millisecond},
		{"a peer that falls silent after such an hour", hourly, ErrIdle, 364*9900*time.Millisecond + idleLimit},
	}
	for network, open := range inMemory {
		for handler, h := range receivers {
			for _, tt := range tests {
				t.Run(fmt.Sprintf("%s, with %s on %s", tt.name, handler, network), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						server, client := open()
						start := time.Now()
						done := play(client, tt.peer...)
						err := Serve(t.Context(), server, 1, Chain{Idle{Limit: idleLimit}}.Then(h))
						if took := time.Since(start); took < tt.after || took > tt.after+idleError {
							t.Errorf("ended after %v, want %v", took, tt.after)
						}
						if !errors.Is(err, tt.err) || err != nil && !strings.Contains(err.Error(), idleLimit.String()) {
							t.Errorf("ended with %v, want %v and the limit", err, tt.err)
						}
						if err := farewell(client); err != nil && !errors.Is(err, io.ErrClosedPipe) {
							t.Errorf("the peer saw it end with %v", err)
						}
						<-done
					})
				})
			}
		}
	}
}

func TestIdleWithoutLimit(t *testing.T) {
	for _, limit := range []time.Duration{0, -1, -time.Hour} {
		t.Run(limit.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := net.Pipe()
				done := play(client, pauses(24*time.Hour), says("x"), pauses(24*time.Hour), ends)
				if err := Serve(t.Context(), server, 1, Chain{Idle{Limit: limit}}.Then(Receive)); err != nil {
					t.Error(err)
				}
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// However long the sink takes, it is the peer's silence that counts.
func TestIdleWhileTheSinkStalls(t *testing.T) {
	const stall = 30 * time.Second
	tests := []struct {
		name  string
		peer  []act
		err   error
		got   string
		after time.Duration
	}{
		{"bytes that came before the stall", []act{says("a"), says("b"), ends}, nil, "ab", 2 * stall},
		{"bytes that came during the stall", []act{says("a"), pauses(stall / 2), says("b"), ends}, nil, "ab", 2 * stall},
		{"bytes that came as the stall ended", []act{says("a"), pauses(stall - 1), says("b"), ends}, nil, "ab", 2 * stall},
		{"the end of the stream, during the stall", []act{says("a"), pauses(stall / 2), ends}, nil, "a", stall},
		{"many bytes, with a stall for each", []act{says("a"), says("b"), says("c"), says("d"), says("e"), ends}, nil, "abcde", 5 * stall},
		{"no byte but silence", []act{says("a")}, ErrIdle, "a", stall},
	}
	for handler, h := range receivers {
		for _, tt := range tests {
			t.Run(tt.name+", with "+handler, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					// More limits do not make a peer look silent either.
					chain := Chain{Idle{Limit: idleLimit}, Idle{Limit: idleLimit + time.Second}}
					server, client := wire()
					var got []byte
					stalls := writerFunc(func(p []byte) (int, error) {
						if len(p) > 0 {
							time.Sleep(stall)
						}
						got = append(got, p...)
						return len(p), nil
					})
					start := time.Now()
					done := play(client, tt.peer...)
					err := Serve(t.Context(), server, 1, Chain{into(stalls), chain}.Then(h))
					if !errors.Is(err, tt.err) {
						t.Errorf("ended with %v, want %v", err, tt.err)
					}
					if string(got) != tt.got {
						t.Errorf("received %q, want %q", got, tt.got)
					}
					if took := time.Since(start); took < tt.after || took > tt.after+idleError {
						t.Errorf("ended after %v, want %v", took, tt.after)
					}
					<-done
				})
			})
		}
	}
}

func TestIdleCancel(t *testing.T) {
	tests := []struct {
		name string
		peer []act
		at   time.Duration // of the cancellation
	}{
		{"before the start", nil, -1},
		{"at the start", nil, 0},
		{"while it waits for the first byte", nil, 5 * time.Second},
		{"just before the limit", nil, idleLimit - 1},
		{"while it waits for another byte", []act{says("x"), pauses(9 * time.Second), says("x")}, 15 * time.Second},
		{"after the limit was set again", []act{pauses(9 * time.Second), says("x")}, idleLimit + 1},
	}
	for network, open := range inMemory {
		for _, tt := range tests {
			t.Run(tt.name+", on "+network, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					endsWithCancellation(t, open, tt.at, tt.peer...)
				})
			})
		}
	}
}

// Half of the moments fall together with a byte or with a deadline.
func TestIdleCancelAtAnyMoment(t *testing.T) {
	for seed := range uint64(150) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		unit := []time.Duration{time.Second, 500 * time.Millisecond, time.Millisecond}[rnd.IntN(3)]
		at := time.Duration(rnd.Int64N(int64(50*time.Second/unit))) * unit
		var peer []act
		for range 60 {
			wait := 1 + time.Duration(rnd.Int64N(int64((idleLimit-time.Second)/unit)))
			peer = append(peer, pauses(wait*unit), says("x"))
		}
		for network, open := range inMemory {
			synctest.Test(t, func(t *testing.T) { endsWithCancellation(t, open, at, peer...) })
			if t.Failed() {
				t.Fatalf("with seed %d on %s", seed, network)
			}
		}
	}
}

// endsWithCancellation serves a peer and cancels the context after the time at,
// before the start if that is less than 0.
func endsWithCancellation(t *testing.T, open func() (server, client net.Conn), at time.Duration, peer ...act) {
	server, client := open()
	ctx, cancel := context.WithCancelCause(t.Context())
	start := time.Now()
	if at < 0 {
		cancel(errOne)
	} else {
		time.AfterFunc(at, func() { cancel(errOne) })
	}
	done := play(client, peer...)
	err := Serve(ctx, server, 1, Chain{Idle{Limit: idleLimit}}.Then(Receive))
	if !errors.Is(err, ErrShutdown) || !errors.Is(err, errOne) || errors.Is(err, ErrIdle) {
		t.Errorf("ended with %v, want ErrShutdown and its cause", err)
	}
	if took := time.Since(start); took != max(at, 0) {
		t.Errorf("cancelled after %v, ended after %v", at, took)
	}
	client.Close()
	<-done
}

// deadlineConn is a connection whose read deadline is watched.
type deadlineConn struct {
	net.Conn
	set func(nth int)
	n   int
}

func (c *deadlineConn) SetReadDeadline(t time.Time) error {
	c.n++
	if c.set != nil {
		c.set(c.n)
	}
	return c.Conn.SetReadDeadline(t)
}

func TestIdleCancelWhileADeadlineIsSet(t *testing.T) {
	for network, open := range inMemory {
		for moment := 1; moment <= 4; moment++ {
			t.Run(fmt.Sprintf("for time %d, on %s", moment, network), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server, client := open()
					ctx, cancel := context.WithCancel(t.Context())
					var cancelled time.Time
					watched := &deadlineConn{Conn: server, set: func(nth int) {
						if nth == moment {
							cancelled = time.Now()
							cancel()
						}
					}}
					done := play(client, slices.Repeat([]act{pauses(9 * time.Second), says("x")}, 10)...)
					err := Serve(ctx, watched, 1, Chain{Idle{Limit: idleLimit}}.Then(Receive))
					if !errors.Is(err, ErrShutdown) {
						t.Errorf("ended with %v", err)
					}
					if cancelled.IsZero() || time.Since(cancelled) != 0 {
						t.Errorf("cancelled at %v, ended %v later", cancelled, time.Since(cancelled))
					}
					<-done
				})
			})
		}
	}
}

// The deadline is not moved at each byte, only when it has passed.
func TestIdleSetsTheDeadlineSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		watched := &deadlineConn{Conn: server}
		done := play(client, append(slices.Repeat([]act{pauses(10 * time.Millisecond), says("x")}, 6000), ends)...)
		if err := Serve(t.Context(), watched, 1, Chain{Idle{Limit: idleLimit}}.Then(Receive)); err != nil {
			t.Error(err)
		}
		<-done
		if watched.n > 10 {
			t.Errorf("set %d times in a minute", watched.n)
		}
	})
}

func TestIdleTwiceTheShorterLimitHolds(t *testing.T) {
	const long, short = 10 * time.Second, 2 * time.Second
	for name, chain := range map[string]Chain{
		"the shorter one inside":  {Idle{Limit: long}, Idle{Limit: short}},
		"the shorter one outside": {Idle{Limit: short}, Idle{Limit: long}},
	} {
		for handler, h := range receivers {
			t.Run(name+", with "+handler, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server, client := net.Pipe()
					start := time.Now()
					done := play(client, pauses(short-1), says("x"))
					err := Serve(t.Context(), server, 1, chain.Then(h))
					if !errors.Is(err, ErrIdle) {
						t.Errorf("ended with %v", err)
					}
					if took := time.Since(start); took < 2*short-1 || took > 2*short+idleError {
						t.Errorf("ended after %v, want %v", took, 2*short)
					}
					<-done
				})
			})
		}
	}
}

// within is a stage with a deadline: reads end with err after limit.
func within(limit time.Duration, err error) Stage {
	return StageFunc(func(next Handler) Handler {
		return HandlerFunc(func(ctx context.Context, c *Conn) error {
			d := c.NewDeadline(func(time.Time) (time.Time, error) { return time.Time{}, err })
			d.SetReadDeadline(time.Now().Add(limit))
			defer d.SetReadDeadline(time.Time{})
			return next.Serve(ctx, c)
		})
	})
}

func TestIdleBesideAnotherDeadline(t *testing.T) {
	const all = 25 * time.Second
	talks := slices.Repeat([]act{says("x"), pauses(9 * time.Second)}, 20)
	tests := []struct {
		name  string
		peer  []act
		err   error
		after time.Duration
	}{
		{"a peer that talks for too long", talks, errOne, all},
		{"a peer that falls silent", nil, ErrIdle, idleLimit},
		{"a peer that falls silent after a while", talks[:4], ErrIdle, 9*time.Second + idleLimit},
		{"a peer that has not been silent for long when its time is up", talks[:6], errOne, all},
		{"a peer that ends its stream in time", append(slices.Clone(talks[:4]), ends), nil, 18 * time.Second},
	}
	for where, chain := range map[string]Chain{
		"outside": {within(all, errOne), Idle{Limit: idleLimit}},
		"inside":  {Idle{Limit: idleLimit}, within(all, errOne)},
	} {
		for handler, h := range receivers {
			for _, tt := range tests {
				t.Run(fmt.Sprintf("%s, with the other %s and %s", tt.name, where, handler), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						server, client := net.Pipe()
						start := time.Now()
						done := play(client, tt.peer...)
						err := Serve(t.Context(), server, 1, chain.Then(h))
						if !errors.Is(err, tt.err) {
							t.Errorf("ended with %v, want %v", err, tt.err)
						}
						if took := time.Since(start); took < tt.after || took > tt.after+idleError {
							t.Errorf("ended after %v, want %v", took, tt.after)
						}
						client.Close()
						<-done
					})
				})
			}
		}
	}
}

// A peer that came and went before its turn has ended its stream.
func TestIdleClientThatIsGone(t *testing.T) {
	for network, open := range inMemory {
		t.Run(network, func(t *testing.T) {
			server, client := open()
			client.Close()
			if err := Serve(t.Context(), server, 1, Chain{Idle{Limit: idleLimit}}.Then(Receive)); err != nil {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

// endless is a reader that always has a byte.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return 1, nil }
