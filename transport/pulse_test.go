package transport

import (
	"context"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// halt stops it and sees it end, in a bubble.
func (s *serving) halt(t *testing.T) {
	t.Helper()
	s.stop()
	if err := <-s.result; err != nil {
		t.Error(err)
	}
}

func TestPulse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, conns := newConns(3)
		ln := newListener()
		var pulses []int
		s := serve(t, &Server{
			Pulse:   time.Second,
			OnPulse: func(open int) { pulses = append(pulses, open) },
			Drain:   time.Hour,
			Handler: HandlerFunc(func(_ context.Context, _ net.Conn, number uint64) {
				time.Sleep(time.Duration(number) * time.Second)
			}),
		}, ln)
		time.Sleep(2500 * time.Millisecond)
		for _, c := range conns {
			ln.conns <- c
		}
		time.Sleep(2 * time.Second)
		s.halt(t) // and it drains until the third has ended, at 5.5 s
		if want := []int{0, 0, 3, 2, 1}; !slices.Equal(pulses, want) {
			t.Errorf("the pulses tell of %v, want %v", pulses, want)
		}
	})
}

// slowNumbers are numbers each of which takes so long.
type slowNumbers struct {
	Counter
	takes time.Duration
}

func (n *slowNumbers) Next(ctx context.Context) (uint64, error) {
	time.Sleep(n.takes)
	return n.Counter.Next(ctx)
}

func TestAServerThatIsStuckHasNoPulse(t *testing.T) {
	for _, tt := range []struct {
		name  string
		conns int
		srv   func() Server
		hold  func(ln *fakeListener) // at 2.5 s
		want  int                    // pulses within 10 s
	}{
		{name: "nothing happens", want: 10},
		{name: "all slots are taken", conns: 2, srv: func() Server { return Server{Scheduler: Sequential()} }, want: 10},
		{name: "numbers take some time", conns: 9, srv: func() Server { return Server{Numbers: &slowNumbers{takes: time.Second - 1}} }, want: 10},
		// One pulse sees it begin.
		{name: "a number does not come", conns: 1, srv: func() Server { return Server{Numbers: &slowNumbers{takes: time.Hour}} }, want: 3},
		{name: "descriptors lack", conns: 1, hold: func(ln *fakeListener) { ln.fails(func() error { return asOfAccept(syscall.EMFILE) }) }, want: 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, conns := newConns(tt.conns)
				ln := newListener()
				var pulses atomic.Int32
				var srv Server
				if tt.srv != nil {
					srv = tt.srv()
				}
				srv.Pulse, srv.OnPulse = time.Second, func(int) { pulses.Add(1) }
				srv.Handler = HandlerFunc(func(ctx context.Context, _ net.Conn, _ uint64) { <-ctx.Done() })
				s := serve(t, &srv, ln)
				time.Sleep(2500 * time.Millisecond)
				if tt.hold != nil {
					tt.hold(ln)
				}
				for _, c := range conns {
					ln.conns <- c
				}
				time.Sleep(8 * time.Second)
				if got := int(pulses.Load()); got != tt.want {
					t.Errorf("there were %d pulses, want %d", got, tt.want)
				}
				s.halt(t)
			})
		})
	}
}

// A lock that is never left, as by a goroutine that waits for itself, ends the pulse.
func TestALockThatIsHeldEndsThePulse(t *testing.T) {
	const noTime = 50 * time.Millisecond // for a pulse of one millisecond
	for name, hold := range map[string]func(l *loop) (release func()){
		"of connections": func(l *loop) func() { l.mu.Lock(); return l.mu.Unlock },
		"of the lot":     func(l *loop) func() { l.lot.mu.Lock(); return l.lot.mu.Unlock },
		"the lot's work": func(l *loop) func() { l.lot.turns.work(); return l.lot.turns.wait },
	} {
		t.Run(name, func(t *testing.T) {
			pulses, over := make(chan int), make(chan struct{})
			l := &loop{
				lot: new(lot),
				Server: &Server{Pulse: time.Millisecond, OnPulse: func(open int) {
					select {
					case pulses <- open:
					case <-over:
					}
				}},
			}
			stop := l.pulse()
			<-pulses
			release := hold(l)
			beats := 0
			for alive := true; alive; beats++ {
				select {
				case <-pulses:
				case <-time.After(noTime):
					alive = false
				}
			}
			if beats > 3 { // one was under way, and one may have seen it begin
				t.Errorf("there were %d more pulses", beats-1)
			}
			release()
			<-pulses
			close(over)
			stop()
		})
	}
}
