package transport

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestDrain(t *testing.T) {
	const drain, grace = time.Minute, 700 * time.Millisecond
	never := time.Duration(1 << 62)
	for _, test := range []struct {
		name       string
		drain      time.Duration
		now        time.Duration   // when DrainNow is closed, if it is not 0
		noDrainNow bool            // there is none
		handlers   []time.Duration // how long after the stop each has done its work
		stubborn   bool            // they do not return when they are cancelled
		fail       bool            // it is the listener that ends
		after      time.Duration   // when Serve returns
		cut        int             // how many are cancelled
	}{
		{name: "nothing to do", drain: drain},
		{name: "handlers that finish at once", drain: drain, handlers: []time.Duration{0, 0}},
		{name: "handlers that finish in time", drain: drain, handlers: []time.Duration{time.Second, drain - 1}, after: drain - 1},
		{name: "a handler that does not", drain: drain, handlers: []time.Duration{time.Second, drain + 1}, after: drain, cut: 1},
		{name: "a handler that never does", drain: drain, handlers: []time.Duration{never}, after: drain, cut: 1},
		{name: "a handler that does not even end then", drain: drain, handlers: []time.Duration{time.Second, never}, stubborn: true, after: drain + grace, cut: 1},
		{name: "a now", drain: drain, now: 5 * time.Second, handlers: []time.Duration{time.Second, 10 * time.Second}, after: 5 * time.Second, cut: 1},
		{name: "a now and a handler that does not end", drain: drain, now: 5 * time.Second, handlers: []time.Duration{never}, stubborn: true, after: 5*time.Second + grace, cut: 1},
		{name: "a now with nothing left to do", drain: drain, now: 5 * time.Second, handlers: []time.Duration{time.Second}, after: time.Second},
		{name: "a listener that fails", drain: drain, fail: true, handlers: []time.Duration{time.Second, never}, after: drain, cut: 1},
		{name: "a now alone", now: 5 * time.Second, handlers: []time.Duration{time.Second, 10 * time.Second}, after: 5 * time.Second, cut: 1},
		{name: "no drain", noDrainNow: true, handlers: []time.Duration{time.Millisecond, time.Second}, cut: 2},
		{name: "less than no drain", drain: -1, noDrainNow: true, handlers: []time.Duration{time.Second}, cut: 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, conns := newConns(len(test.handlers))
				ln := newListener(conns...)
				stopped, now, end := make(chan struct{}), make(chan struct{}), make(chan struct{})
				cut := make(chan error, len(conns))
				var log errorLog
				srv := &Server{
					OnError:  log.add,
					Drain:    test.drain,
					DrainNow: now,
					Grace:    grace,
					Handler: func(ctx context.Context, _ net.Conn, number uint64) {
						<-stopped
						work := time.NewTimer(test.handlers[number-1])
						defer work.Stop()
						select {
						case <-work.C:
						case <-ctx.Done():
							cut <- context.Cause(ctx)
							if test.stubborn {
								<-end
							}
						}
					},
				}
				if test.noDrainNow {
					srv.DrainNow = nil
				}
				ctx, stop := context.WithCancelCause(t.Context())
				result := make(chan error, 1)
				go func() { result <- srv.Serve(ctx, ln) }()
				synctest.Wait()
				start := time.Now()
				if test.now > 0 {
					time.AfterFunc(test.now, func() { close(now) })
				}
				cause := errors.New("a stop")
				if test.fail {
					ln.Close()
					cause = context.Canceled
				} else {
					stop(cause)
				}
				synctest.Wait()
				close(stopped)
				if !ln.isClosed() {
					t.Error("the listener is open")
				}
				err := <-result
				if told := len(log.all()); (told == 1) != test.fail || told > 1 {
					t.Errorf("told of %v", log.all())
				}
				if took := time.Since(start); took != test.after {
					t.Errorf("Serve returned after %v, want %v", took, test.after)
				}
				if errors.Is(err, ErrUnfinished) != test.stubborn || (err == nil) != (!test.stubborn && !test.fail) {
					t.Errorf("Serve: %v", err)
				}
				if len(cut) != test.cut {
					t.Errorf("%d were cancelled, want %d", len(cut), test.cut)
				}
				for range len(cut) {
					if err := <-cut; err != cause {
						t.Errorf("cancelled with %v, want %v", err, cause)
					}
				}
				close(end)
				stop(nil)
				time.Sleep(time.Minute)
			})
		})
	}
}

func TestOnDrain(t *testing.T) {
	type word struct {
		after time.Duration
		left  int
		done  bool
	}
	const s = time.Second
	for _, test := range []struct {
		name     string
		drain    time.Duration
		handlers []time.Duration // how long after the stop each has done its work
		want     []word
	}{
		{"no drain", 0, []time.Duration{s}, nil},
		{"nothing to do", time.Minute, nil, []word{{0, 0, false}, {0, 0, true}}},
		{"all finish", time.Minute, []time.Duration{s, 2 * s, 7 * s, 24 * s}, []word{{0, 4, false}, {5 * s, 2, false}, {10 * s, 1, false}, {24 * s, 0, true}}},
		{"some do not", 12 * s, []time.Duration{s, time.Hour}, []word{{0, 2, false}, {5 * s, 1, false}, {12 * s, 1, true}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, conns := newConns(len(test.handlers))
				stopped := make(chan struct{})
				var begun time.Time
				var got []word
				srv := serve(t, &Server{
					Drain:   test.drain,
					OnDrain: func(left int, done bool) { got = append(got, word{time.Since(begun), left, done}) },
					Handler: func(ctx context.Context, _ net.Conn, number uint64) {
						<-stopped
						select {
						case <-time.After(test.handlers[number-1]):
						case <-ctx.Done():
						}
					},
				}, newListener(conns...))
				synctest.Wait()
				begun = time.Now()
				close(stopped)
				srv.halt(t)
				if !slices.Equal(got, test.want) {
					t.Errorf("it told of %v, want %v", got, test.want)
				}
			})
		})
	}
}
