package throttle

import (
	"context"
	"errors"
	"io"
	"math"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/accio-go/accio/stage"
)

// peer does in turn what it is told, and ends: a string is sent, a time passes.
func peer(c net.Conn, acts ...any) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer c.Close()
		for _, a := range acts {
			switch a := a.(type) {
			case string:
				if _, err := io.WriteString(c, a); err != nil {
					return
				}
			case time.Duration:
				time.Sleep(a)
			}
		}
	}()
	return done
}

// serve serves one peer by chain, and returns how many bytes came, how that ended, and
// when.
func serve(ctx context.Context, chain stage.Chain, acts ...any) (n int64, took time.Duration, err error) {
	server, client := net.Pipe()
	begun := time.Now()
	done := peer(client, acts...)
	var count *stage.Counter
	err = stage.Serve(ctx, server, 1, stage.Chain{stage.Count{}, chain}.Then(stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) error {
		count = c.Counter
		return stage.Receive.Serve(ctx, c)
	})))
	took = time.Since(begun)
	<-done
	return count.Count(), took, err
}

func bytesOf(n int) string { return strings.Repeat("x", n) }

func TestThrottle(t *testing.T) {
	s := time.Second
	for _, tt := range []struct {
		name string
		Throttle
		acts  []any
		after time.Duration
	}{
		{"less than the burst", Throttle{BytesPerSecond: 1000, Burst: 500}, []any{bytesOf(500)}, 0},
		{"more than the burst", Throttle{BytesPerSecond: 1000, Burst: 500}, []any{bytesOf(10500)}, 10 * s},
		{"a second's burst", Throttle{BytesPerSecond: 1000}, []any{bytesOf(11000)}, 10 * s},
		{"a burst of one byte", Throttle{BytesPerSecond: 10, Burst: 1}, []any{bytesOf(101)}, 10 * s},
		{"a burst that is saved up", Throttle{BytesPerSecond: 1000, Burst: 500}, []any{bytesOf(500), s, bytesOf(500), s, bytesOf(1500)}, 3 * s},
		{"more than is saved up", Throttle{BytesPerSecond: 1000, Burst: 500}, []any{time.Hour, bytesOf(1500)}, time.Hour + s},
		{"a peer that is slow enough", Throttle{BytesPerSecond: 1000, Burst: 100}, []any{bytesOf(100), s, bytesOf(100), s, bytesOf(100), s}, 3 * s},
		{"one that they share", Throttle{Shared: rate.NewLimiter(1000, 500)}, []any{bytesOf(10500)}, 10 * s},
		{"the slower of two is the shared", Throttle{BytesPerSecond: 1 << 20, Shared: rate.NewLimiter(1000, 500)}, []any{bytesOf(10500)}, 10 * s},
		{"the slower of two is its own", Throttle{BytesPerSecond: 1000, Burst: 500, Shared: rate.NewLimiter(1<<20, 1<<20)}, []any{bytesOf(10500)}, 10 * s},
		{"a shared one without a limit", Throttle{Shared: rate.NewLimiter(rate.Inf, 0)}, []any{bytesOf(1 << 20)}, 0},
		{"no limit", Throttle{Burst: 5}, []any{bytesOf(1 << 20)}, 0},
		{"less than no limit", Throttle{BytesPerSecond: -1}, []any{bytesOf(1 << 20)}, 0},
		{"the greatest limit", Throttle{BytesPerSecond: math.MaxInt64, Burst: math.MaxInt}, []any{bytesOf(1 << 20)}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, took, err := serve(t.Context(), stage.Chain{tt.Throttle}, tt.acts...)
				want := 0
				for _, a := range tt.acts {
					if s, ok := a.(string); ok {
						want += len(s)
					}
				}
				if err != nil || n != int64(want) {
					t.Errorf("%d bytes, ended with %v; want %d", n, err, want)
				}
				// The last piece is waited for before the end of the stream is.
				if took < tt.after || took > tt.after+10*time.Millisecond {
					t.Errorf("took %v, want %v", took, tt.after)
				}
			})
		})
	}
}

// timeline is when bytes passed, and how many.
type timeline struct {
	at []time.Time
	n  []int
}

func (*timeline) Allow(max int) (int, error) { return max, nil }

func (l *timeline) Passed(n int, err error) error {
	if n > 0 {
		l.at, l.n = append(l.at, time.Now()), append(l.n, n)
	}
	return err
}

// In no stretch of time does more pass than the burst, what the time allows, and a piece.
func TestThrottleRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, burst, piece = 10000, 5000, minPiece
		var line timeline
		look := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
			c.In = stage.NewReader(c.In, &line)
			return nil, nil
		})
		acts := []any{bytesOf(30000), 3 * time.Second, bytesOf(777), 300 * time.Millisecond, bytesOf(20000), time.Minute, bytesOf(9999)}
		if _, _, err := serve(t.Context(), stage.Chain{look, Throttle{BytesPerSecond: perSecond, Burst: burst}}, acts...); err != nil {
			t.Fatal(err)
		}
		for i := range line.at {
			sum := 0
			for j := i; j < len(line.at); j++ {
				sum += line.n[j]
				if most := burst + piece + int(line.at[j].Sub(line.at[i]).Seconds()*perSecond) + 1; sum > most {
					t.Fatalf("%d bytes in %v, more than %d", sum, line.at[j].Sub(line.at[i]), most)
				}
			}
		}
	})
}

// Those who share a limiter share it evenly, whatever each would take at once, and who
// has little to send does not wait for those who have much.
func TestThrottleFairness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const perSecond, many, each = 100000, 10, 100000
		h := stage.Chain{stage.Count{}, Throttle{Shared: rate.NewLimiter(perSecond, 10000)}} // the burst is for who comes first
		begun := time.Now()
		var wg sync.WaitGroup
		var mu sync.Mutex
		var took []time.Duration
		for range many {
			wg.Go(func() {
				n, _, err := serve(t.Context(), h, bytesOf(each))
				if n != each || err != nil {
					t.Error(n, err)
				}
				mu.Lock()
				defer mu.Unlock()
				took = append(took, time.Since(begun))
			})
		}
		time.Sleep(3 * time.Second)
		if n, d, err := serve(t.Context(), h, bytesOf(2*minPiece)); n != 2*minPiece || err != nil || d > time.Second {
			t.Errorf("a small one: %d bytes after %v, %v", n, d, err)
		}
		wg.Wait()
		// Ten times 100 kB by 100 kB/s, with a burst of a tenth of a second.
		for _, d := range took {
			if d < 9*time.Second || d > 10*time.Second {
				t.Errorf("one ended after %v", d)
			}
		}
	})
}

func TestThrottleCancel(t *testing.T) {
	for name, s := range map[string]Throttle{
		"own":              {BytesPerSecond: 1, Burst: 1000},
		"shared":           {Shared: rate.NewLimiter(1, 1000)},
		"stopped, forever": {Shared: rate.NewLimiter(0, 1000)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				why := errors.New("why")
				time.AfterFunc(10*time.Second, func() { cancel(why) })
				n, took, err := serve(ctx, stage.Chain{s}, bytesOf(5000))
				if !errors.Is(err, stage.ErrShutdown) || !errors.Is(err, why) || took != 10*time.Second || n == 0 {
					t.Errorf("%d bytes, ended with %v after %v", n, took, err)
				}
			})
		})
	}
}

// Waits of half a minute are no silence, in any order of the stages; but silence is.
func TestThrottleIsNotSilence(t *testing.T) {
	slow := Throttle{BytesPerSecond: 10, Burst: 300}
	for what, tt := range map[string]struct {
		limit stage.Stage
		err   error
	}{
		"Idle":    {stage.Idle{Limit: 10 * time.Second}, stage.ErrIdle},
		"MinRate": {stage.MinRate{BytesPerSecond: 100, Grace: 10 * time.Second}, stage.ErrTooSlow},
	} {
		for order, chain := range map[string]stage.Chain{"outside": {tt.limit, slow}, "inside": {slow, tt.limit}} {
			t.Run(what+" "+order, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					n, took, err := serve(t.Context(), chain, bytesOf(1500))
					if err != nil || n != 1500 || took < 100*time.Second {
						t.Errorf("a quick peer: %d bytes, ended with %v after %v", n, took, err)
					}
					n, took, err = serve(t.Context(), chain, bytesOf(1500), time.Hour)
					if !errors.Is(err, tt.err) || n != 1500 || took < 120*time.Second || took > 131*time.Second {
						t.Errorf("a peer that falls silent: %d bytes, ended with %v after %v", n, took, err)
					}
					n, took, err = serve(t.Context(), chain, time.Hour)
					if !errors.Is(err, tt.err) || n != 0 || took > 11*time.Second {
						t.Errorf("a peer that is silent: %d bytes, ended with %v after %v", n, took, err)
					}
				})
			})
		}
	}
}

// A limiter may be changed while connections use it.
func TestThrottleLimiterChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := rate.NewLimiter(1000, 1000)
		time.AfterFunc(5*time.Second+time.Millisecond, func() {
			l.SetLimit(10000)
			l.SetBurst(100)
		})
		n, took, err := serve(t.Context(), stage.Chain{Throttle{Shared: l}}, bytesOf(16000))
		if n != 16000 || err != nil || took < 5500*time.Millisecond || took > 7*time.Second {
			t.Errorf("%d bytes, ended with %v after %v", n, took, err)
		}
		time.AfterFunc(time.Millisecond, func() { l.SetBurst(0) })
		if _, _, err := serve(t.Context(), stage.Chain{Throttle{Shared: l}}, bytesOf(16000)); !errors.Is(err, errNoBurst) {
			t.Errorf("without a burst it ended with %v", err)
		}
	})
}

// tcp returns the two ends of a TCP connection.
func tcp(t *testing.T) (server, client net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if client, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	return server, client
}

// always is a reader that always has something.
type always struct{}

func (always) Read(p []byte) (int, error) { return len(p), nil }

func TestThrottleAllocations(t *testing.T) {
	r := stage.NewReader(always{}, Throttle{BytesPerSecond: 1 << 40, Shared: rate.NewLimiter(1<<40, 1<<30)}.newGate(t.Context()))
	buf := make([]byte, 1024)
	if n := testing.AllocsPerRun(1000, func() { r.Read(buf) }); n != 0 {
		t.Errorf("%v allocations for a read", n)
	}
}

// That holds, too, if a reader of another stage stands between the two.
func TestThrottleIsNotSilenceBehindAReader(t *testing.T) {
	between := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		c.In = struct{ io.Reader }{c.In}
		return nil, nil
	})
	chain := stage.Chain{Throttle{BytesPerSecond: 1000, Burst: 1000}, between, stage.MinRate{BytesPerSecond: 2000, Grace: time.Second}}
	synctest.Test(t, func(t *testing.T) {
		n, took, err := serve(t.Context(), chain, bytesOf(20000))
		if err != nil || n != 20000 || took < 18*time.Second {
			t.Errorf("a quick peer: %d bytes, ended with %v after %v", n, took, err)
		}
		if n, took, err = serve(t.Context(), chain, bytesOf(5000), time.Hour); !errors.Is(err, stage.ErrTooSlow) || took > 10*time.Second {
			t.Errorf("a peer that falls silent: %d bytes, ended with %v after %v", n, took, err)
		}
	})
}
