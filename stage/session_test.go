package stage

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"time"
)

// visit is one call of Run.
type visit struct {
	until time.Time
	waits bool
}

// guest is a session under test, and its peer.
type guest struct {
	*Session
	peer  net.Conn
	ended []error // what done was called with
	woken chan struct{}
}

func newGuest(t *testing.T, ctx context.Context, h Handler) *guest {
	server, client := tcpPair(t)
	g := &guest{peer: client, woken: make(chan struct{}, 1)}
	g.Session = NewSession(ctx, server, 1, h, func(err error) { g.ended = append(g.ended, err) })
	return g
}

func (g *guest) wake() {
	select {
	case g.woken <- struct{}{}:
	default:
	}
}

// run calls Run, and fails unless that returns in time.
func (g *guest) run(t *testing.T) visit {
	t.Helper()
	done := make(chan visit, 1)
	go func() {
		until, waits := g.Run(g.wake)
		done <- visit{until, waits}
	}()
	select {
	case v := <-done:
		return v
	case <-time.After(patience):
		t.Fatal("Run does not return")
		return visit{}
	}
}

// waits calls Run, which is to leave.
func (g *guest) waits(t *testing.T) visit {
	t.Helper()
	v := g.run(t)
	if !v.waits || len(g.ended) > 0 {
		t.Fatalf("Run = %v, and ended %v; want it to wait", v, g.ended)
	}
	return v
}

// ends calls Run, which is to be the last time.
func (g *guest) ends(t *testing.T, want error) {
	t.Helper()
	if v := g.run(t); v.waits || !v.until.IsZero() {
		t.Fatalf("Run = %v; want it to end", v)
	}
	if len(g.ended) != 1 || !errors.Is(g.ended[0], want) {
		t.Fatalf("ended with %v, want %v once", g.ended, want)
	}
}

func (g *guest) does(t *testing.T, acts ...act) {
	t.Helper()
	if err := <-play(g.peer, acts...); err != nil {
		t.Fatal(err)
	}
}

// A peer that is silent before each of its words, and in the midst of its payload.
func TestASessionIsLeftWhereverItsPeerIsSilent(t *testing.T) {
	store := newMapStore()
	g := newGuest(t, t.Context(), Chain{
		Save{Store: store, Name: NumberedFile, Mark: ErrorMark},
		Count{},
		Idle{Limit: time.Hour},
		Handshake{Script: Accio},
	}.Then(Receive))
	begun := time.Now()
	v := g.waits(t)
	if left := v.until.Sub(begun); left < time.Hour-time.Minute || left > time.Hour+patience {
		t.Errorf("it can be left for %v, want the hour of its deadline", left)
	}
	g.waits(t) // too early
	g.does(t, hears(AccioGreeting), says(AccioConfirm))
	g.waits(t)
	g.does(t, hears(AccioGreeting), says(AccioConfirmAgain))
	g.waits(t)
	if len(store.log) > 0 {
		t.Errorf("before the first byte the store saw %q", store.log)
	}
	g.does(t, says("pay"))
	g.waits(t)
	g.waits(t)
	g.does(t, says("load"), ends)
	g.ends(t, nil)
	if err := farewell(g.peer); err != nil {
		t.Errorf("the peer saw %v", err)
	}
	if got := store.files["1.file"]; got != "payload" {
		t.Errorf("stored %q", got)
	}
}

// Who runs it may find that it cannot be left after all.
func TestASessionThatCannotBeLeftWaitsInPlace(t *testing.T) {
	g := newGuest(t, t.Context(), Chain{Idle{Limit: time.Hour}}.Then(Receive))
	g.waits(t)
	done := make(chan visit, 1)
	go func() {
		until, waits := g.Run(nil)
		done <- visit{until, waits}
	}()
	select {
	case v := <-done:
		t.Fatalf("Run = %v, and ended %v; want it to wait", v, g.ended)
	case <-time.After(2 * shortWait):
	}
	g.does(t, says("payload"), ends)
	if v := <-done; v.waits || len(g.ended) != 1 || g.ended[0] != nil {
		t.Errorf("Run = %v, and ended %v", v, g.ended)
	}
}

// What was read of a word would be lost if it were read anew.
func TestASessionIsNotLeftWithinAWord(t *testing.T) {
	g := newGuest(t, t.Context(), Handshake{Script: Accio}.Wrap(Receive))
	g.does(t, says(AccioConfirm[:3]))
	done := make(chan visit, 1)
	go func() {
		until, waits := g.Run(g.wake)
		done <- visit{until, waits}
	}()
	select {
	case v := <-done:
		t.Fatalf("Run = %v within a word", v)
	case <-time.After(5 * shortWait): // in which it would have left
	}
	g.does(t, says(AccioConfirm[3:]))
	select {
	case v := <-done:
		if !v.waits {
			t.Fatalf("Run = %v, ended %v", v, g.ended)
		}
	case <-time.After(patience):
		t.Fatal("Run does not leave after the word")
	}
	g.does(t, says(AccioConfirmAgain+"x"), ends)
	g.ends(t, nil)
}

func TestASessionThatIsLeftEndsAsServeDoes(t *testing.T) {
	t.Run("the peer is silent for too long", func(t *testing.T) {
		const limit = time.Second // much more than shortWait, also where little time is given to this
		g := newGuest(t, t.Context(), Chain{Idle{Limit: limit}, Handshake{Script: Accio}}.Then(Receive))
		begun := time.Now()
		v := g.waits(t)
		if left := v.until.Sub(begun); left < limit || left > limit+patience {
			t.Errorf("it can be left for %v, want %v", left, limit)
		}
		<-time.After(time.Until(v.until))
		g.ends(t, ErrIdle)
		if err := farewell(g.peer); err != nil {
			t.Errorf("the peer saw %v", err)
		}
	})
	t.Run("it is run before its time", func(t *testing.T) {
		const limit = 5 * shortWait
		g := newGuest(t, t.Context(), Idle{Limit: limit}.Wrap(Receive))
		begun := time.Now()
		for len(g.ended) == 0 {
			g.run(t)
		}
		if took := time.Since(begun); took < limit || !errors.Is(g.ended[0], ErrIdle) {
			t.Errorf("ended with %v after %v", g.ended, took)
		}
	})
	t.Run("the peer breaks off", func(t *testing.T) {
		g := newGuest(t, t.Context(), Receive)
		g.waits(t)
		g.does(t, resets)
		g.ends(t, ErrReset)
	})
	t.Run("the peer ends within the handshake", func(t *testing.T) {
		script := Accio
		script.AllowEnd = false
		g := newGuest(t, t.Context(), Handshake{Script: script}.Wrap(Receive))
		g.waits(t)
		g.does(t, hears(AccioGreeting), ends)
		g.ends(t, ErrProtocol)
	})
	t.Run("the context is cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := newGuest(t, ctx, Idle{Limit: time.Hour}.Wrap(Receive))
		g.waits(t)
		cancel()
		<-g.woken
		g.ends(t, ErrShutdown)
	})
	t.Run("a panic", func(t *testing.T) {
		var after []error
		g := newGuest(t, t.Context(), Chain{
			Bracket(func(context.Context, *Conn) (func(error) error, error) {
				return func(err error) error { after = append(after, err); return err }, nil
			}),
			Handshake{Script: Script{Steps: []Step{Expect("x")}}},
			Bracket(func(context.Context, *Conn) (func(error) error, error) { panic(errOne) }),
		}.Then(Receive))
		g.waits(t)
		g.does(t, says("x"))
		func() {
			defer func() {
				if v := recover(); v != errOne {
					t.Errorf("panicked with %v", v)
				}
			}()
			g.Run(g.wake)
		}()
		if len(after) != 1 || !errors.Is(after[0], ErrPanic) || len(g.ended) > 0 {
			t.Errorf("after was called with %v, done with %v", after, g.ended)
		}
		if err := farewell(g.peer); err == nil {
			t.Error("the peer saw an orderly end")
		}
	})
}

func TestASessionThatIsLeftIsWokenWhenItsDeadlineMoves(t *testing.T) {
	var d *Deadline
	g := newGuest(t, t.Context(), Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		d = c.NewDeadline()
		return nil, nil
	}).Wrap(Receive))
	if v := g.waits(t); !v.until.IsZero() {
		t.Errorf("without a deadline it can be left until %v", v.until)
	}
	select {
	case <-g.woken:
		t.Error("woken for nothing")
	default:
	}
	at := time.Now().Add(time.Hour)
	d.SetReadDeadline(at)
	<-g.woken
	if v := g.waits(t); !v.until.Equal(at) {
		t.Errorf("it can be left until %v, want %v", v.until, at)
	}
	d.SetReadDeadline(time.Unix(1, 0))
	<-g.woken
	if g.run(t); len(g.ended) != 1 || g.ended[0] == nil {
		t.Errorf("ended with %v", g.ended)
	}
}

// A session that is not left has to be ended by its peer.
func TestASessionIsNotLeft(t *testing.T) {
	for _, test := range []struct {
		name string
		h    Handler
		wake bool
	}{
		{"without a way to be woken", Receive, false},
		{"in a stage that calls what is inside of it", StageFunc(func(next Handler) Handler {
			return HandlerFunc(func(ctx context.Context, c *Conn) error { return next.Serve(ctx, c) })
		}).Wrap(Chain{Count{}, Handshake{Script: Script{Steps: []Step{Expect("pay")}}}}.Then(Receive)), true},
		{"in a handler that reads", HandlerFunc(func(_ context.Context, c *Conn) error {
			_, err := io.Copy(c.Out, c.In)
			return err
		}), true},
		{"in a Bracket that reads", Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
			_, err := io.ReadFull(c.In, make([]byte, len("payload")))
			return nil, err
		}).Wrap(Receive), true},
		{"in a Bracket that reads after", Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
			return func(error) error {
				_, err := io.ReadFull(c.In, make([]byte, len("payload")))
				return err
			}, nil
		}).Wrap(stops(nil)), true},
		{"where a reader may hold bytes back", Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
			c.In = bufio.NewReader(c.In)
			return nil, nil
		}).Wrap(Chain{Handshake{Script: Script{Steps: []Step{Expect("pay")}}}}.Then(Receive)), true},
		{"where a gate stands before a reader that may", Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
			c.In = NewReader(bufio.NewReader(c.In), new(Counter))
			return nil, nil
		}).Wrap(Receive), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := newGuest(t, t.Context(), test.h)
			done := make(chan visit, 1)
			go func() {
				var wake func()
				if test.wake {
					wake = g.wake
				}
				until, waits := g.Run(wake)
				done <- visit{until, waits}
			}()
			select {
			case v := <-done:
				t.Fatalf("Run = %v, ended %v", v, g.ended)
			case <-time.After(5 * shortWait): // in which it would have left
			}
			g.does(t, says("payload"), ends)
			select {
			case v := <-done:
				if v.waits || len(g.ended) != 1 || g.ended[0] != nil {
					t.Errorf("Run = %v, ended %v", v, g.ended)
				}
			case <-time.After(patience):
				t.Fatal("Run does not return")
			}
		})
	}
}

// noting is a Gate that notes what it is told.
type noting struct{ passed []error }

func (*noting) Allow(max int) (int, error) { return max, nil }

func (g *noting) Passed(n int, err error) error {
	if n == 0 {
		g.passed = append(g.passed, err)
	}
	return err
}

// To a gate, that the session is left is a transfer of nothing.
func TestAGateDoesNotSeeThatASessionIsLeft(t *testing.T) {
	var g noting
	s := newGuest(t, t.Context(), Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		c.In = NewReader(c.In, &g)
		return nil, nil
	}).Wrap(Receive))
	s.waits(t)
	s.waits(t)
	s.does(t, ends)
	s.ends(t, nil)
	if want := []error{nil, nil, io.EOF}; !slices.Equal(g.passed, want) {
		t.Errorf("the gate was told of %v, want %v", g.passed, want)
	}
}

// slow is a Gate that waits.
type slow struct{ d time.Duration }

func (g slow) Allow(max int) (int, error)  { <-time.After(g.d); return min(max, 40), nil }
func (slow) Passed(_ int, err error) error { return err }

// The time that a gate takes is not the peer's: what has come is read all the same.
func TestASessionWithAGateThatWaitsReads(t *testing.T) {
	for _, d := range []time.Duration{shortWait / 2, 2 * shortWait, longWait + shortWait} {
		g := newGuest(t, t.Context(), Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
			c.In = NewReader(c.In, slow{d})
			return nil, nil
		}).Wrap(Receive))
		g.does(t, says(string(noise(100, 1))), ends)
		runs := 0
		for ; len(g.ended) == 0 && runs < 100; runs++ {
			g.run(t)
		}
		if runs > 1 || len(g.ended) != 1 || g.ended[0] != nil {
			t.Errorf("with %v it was run %d times, and ended with %v", d, runs, g.ended)
		}
	}
}

// A deadline that has passed together with the wait, and is moved, does not keep the
// session from being left.
func TestASessionIsLeftAfterADeadlineThatWasMoved(t *testing.T) {
	g := newGuest(t, t.Context(), Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		m := &moving{d: c.NewDeadline()}
		c.In = NewReader(c.In, m)
		return nil, m.d.SetReadDeadline(time.Now().Add(shortWait / 2))
	}).Wrap(Receive))
	g.waits(t)
	g.does(t, ends)
	g.ends(t, nil)
}

// moving is a Gate that takes its time once, and moves its deadline when that has
// passed.
type moving struct {
	d     *Deadline
	asked bool
}

func (m *moving) Allow(max int) (int, error) {
	if !m.asked {
		m.asked = true
		<-time.After(3 * shortWait)
	}
	return max, nil
}

func (m *moving) Passed(_ int, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return m.d.SetReadDeadline(time.Now().Add(time.Hour))
	}
	return err
}

// A peer that keeps sending is waited for in place.
func TestASessionIsNotLeftBetweenTwoBytes(t *testing.T) {
	g := newGuest(t, t.Context(), Receive)
	g.does(t, says("x"))
	done := make(chan visit, 1)
	go func() {
		until, waits := g.Run(g.wake)
		done <- visit{until, waits}
	}()
	left, last := time.After(4*shortWait), time.Now()
	tick := time.NewTicker(shortWait / 4)
	defer tick.Stop()
	for {
		select {
		case v := <-done:
			if time.Since(last) > longWait/2 {
				t.Skip("this peer was not given the time to send")
			}
			t.Fatalf("Run = %v while its peer sends", v)
		case <-tick.C:
			g.does(t, says("x"))
			last = time.Now()
			continue
		case <-left:
		}
		break
	}
	g.does(t, ends)
	if v := <-done; v.waits || len(g.ended) != 1 || g.ended[0] != nil {
		t.Errorf("Run = %v, ended %v", v, g.ended)
	}
}

// A layer that a stage has put over the connection changes nothing about its bytes.
func TestASessionIsLeftUnderALayer(t *testing.T) {
	g := newGuest(t, t.Context(), Chain{relayer(new([]string)), Idle{Limit: time.Hour}, Handshake{Script: Accio}}.Then(Receive))
	g.waits(t)
	g.does(t, hears(AccioGreeting), says(AccioConfirm))
	g.waits(t)
	g.does(t, hears(AccioGreeting), says(AccioConfirmAgain))
	g.waits(t)
	g.does(t, ends)
	g.ends(t, nil)
}
