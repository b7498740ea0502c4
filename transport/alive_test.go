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

// halt stops the server and waits for it, in a bubble.
func (s *serving) halt(t *testing.T) {
	t.Helper()
	s.stop()
	if err := <-s.result; err != nil {
		t.Error(err)
	}
}

func TestOnAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, conns := newConns(3)
		ln := newListener()
		var reports []int
		s := serve(t, &Server{
			AliveInterval: time.Second,
			OnAlive:       func(open int) { reports = append(reports, open) },
			Drain:         time.Hour,
			Handler: func(_ context.Context, _ net.Conn, number uint64) {
				time.Sleep(time.Duration(number) * time.Second)
			},
		}, ln)
		time.Sleep(2500 * time.Millisecond)
		for _, c := range conns {
			ln.conns <- c
		}
		time.Sleep(2 * time.Second)
		s.halt(t) // and it drains until the third has ended, at 5.5 s
		if want := []int{0, 0, 3, 2, 1}; !slices.Equal(reports, want) {
			t.Errorf("reported %v open connections, want %v", reports, want)
		}
	})
}

// slowNumbers take a time for each number.
type slowNumbers struct {
	last  uint64
	takes time.Duration
}

func (n *slowNumbers) Next(context.Context) (uint64, error) {
	time.Sleep(n.takes)
	n.last++
	return n.last, nil
}

func TestOnAliveWhileAcceptLoopIsBusy(t *testing.T) {
	for _, tt := range []struct {
		name  string
		conns int
		srv   func() Server
		hold  func(ln *fakeListener) // at 2.5 s
		want  int                    // calls within 10 s
	}{
		{name: "nothing happens", want: 10},
		{name: "all slots are taken", conns: 2, srv: func() Server { return Server{Scheduler: Sequential()} }, want: 10},
		{name: "numbers take some time", conns: 9, srv: func() Server { return Server{Numbers: &slowNumbers{takes: time.Second - 1}} }, want: 10},
		// One call sees it begin.
		{name: "a number does not come", conns: 1, srv: func() Server { return Server{Numbers: &slowNumbers{takes: time.Hour}} }, want: 3},
		{name: "descriptors lack", conns: 1, hold: func(ln *fakeListener) { ln.fails(func() error { return asOfAccept(syscall.EMFILE) }) }, want: 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, conns := newConns(tt.conns)
				ln := newListener()
				var calls atomic.Int32
				var srv Server
				if tt.srv != nil {
					srv = tt.srv()
				}
				srv.AliveInterval, srv.OnAlive = time.Second, func(int) { calls.Add(1) }
				srv.Handler = func(ctx context.Context, _ net.Conn, _ uint64) { <-ctx.Done() }
				s := serve(t, &srv, ln)
				time.Sleep(2500 * time.Millisecond)
				if tt.hold != nil {
					tt.hold(ln)
				}
				for _, c := range conns {
					ln.conns <- c
				}
				time.Sleep(8 * time.Second)
				if got := int(calls.Load()); got != tt.want {
					t.Errorf("%d calls, want %d", got, tt.want)
				}
				s.halt(t)
			})
		})
	}
}
