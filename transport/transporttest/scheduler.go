package transporttest

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/transport"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// TestScheduler tests a scheduler with that number of slots, 0 for no limit.
//
// It uses a transport.Server with connections in memory, in bubbles of testing/synctest.
// make returns a new scheduler for each check, and is called in the bubble. Each rule is a
// subtest:
//
//   - bound: as many connections are served at a time as there are slots;
//   - order: with one slot, connections are served in order of arrival;
//   - release: a slot is free when its connection has ended, also after a panic;
//   - context: once the context is done, Acquire returns its error, even if a slot is free,
//     and takes no slot;
//   - drain: at a shutdown, handlers keep their slots, and no connection gets another;
//   - concurrency: servers can share the scheduler (run it with the race detector).
func TestScheduler(t *testing.T, slots int, make func() transport.Scheduler) {
	for _, r := range rules {
		t.Run(r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r.check(&check{T: t, rule: r, slots: slots, Scheduler: make()})
			})
		})
	}
}

// rule is a requirement of schedulers, and the doc comment that states it.
type rule struct {
	name, text, where string
	check             func(c *check)
}

var rules = []rule{
	{"bound", "as many connections are served at a time as there are slots", "transport.Scheduler", checkBound},
	{"order", "connections are served in order of arrival", "transport.Sequential and transport.Numbers", checkOrder},
	{"release", "Release frees a slot, on any goroutine and however its connection has ended", "transport.Scheduler", checkRelease},
	{"context", "Acquire returns the context's error when that is done", "transport.Scheduler.Acquire", checkContext},
	{"drain", "handlers keep their slots, and no connection gets one once the context is done", "transport.Server.Serve", checkDrain},
	{"concurrency", "a scheduler is safe for concurrent use", "transport.Scheduler", checkConcurrency},
}

// check is the check of a rule, in its bubble.
type check struct {
	*testing.T
	rule
	transport.Scheduler
	slots int
}

// broken reports a violation of the rule.
func (c *check) broken(format string, args ...any) {
	c.Helper()
	c.Errorf(format+"\n\tthe rule: %s (%s)", append(args, c.text, c.where)...)
}

// extra is the number of connections beyond the slots.
const extra = 5

// many is the number of connections that arrive.
func (c *check) many() int { return max(c.slots, 1) + extra }

// served is the number of them that can be served at a time.
func (c *check) served() int {
	if c.slots > 0 {
		return c.slots
	}
	return c.many()
}

// server is a running Serve. Its handlers record their start and wait for a function in
// ends, which ends them.
type server struct {
	*check
	ln     memnet.Listener
	stop   context.CancelFunc
	result chan error
	ends   chan func()

	mu    sync.Mutex
	began []uint64 // numbers, in order
	works int      // number of running handlers
	most  int
}

func (c *check) serve(drain time.Duration) *server {
	ctx, stop := context.WithCancel(c.Context())
	s := &server{check: c, ln: memnet.Listen(1000), stop: stop, result: make(chan error, 1), ends: make(chan func())}
	srv := &transport.Server{Scheduler: c.Scheduler, Drain: drain, Handler: s.handle}
	go func() { s.result <- srv.Serve(ctx, s.ln) }()
	return s
}

func (s *server) handle(ctx context.Context, conn net.Conn, number uint64) {
	defer conn.Close()
	s.mu.Lock()
	s.began = append(s.began, number)
	s.works++
	s.most = max(s.most, s.works)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.works--
	}()
	select {
	case end := <-s.ends:
		end()
	case <-ctx.Done():
	}
}

// come makes n more connections.
func (s *server) come(n int) {
	for range n {
		if _, err := s.ln.Dial(s.Context()); err != nil {
			s.Fatal(err)
		}
	}
}

// state returns the state once all goroutines wait.
func (s *server) state() (began []uint64, works, most int) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.began), s.works, s.most
}

// end ends one handler by how, and reports whether one was running.
func (s *server) end(how func()) bool {
	select {
	case s.ends <- how:
		return true
	case <-time.After(time.Hour):
		s.broken("no connection is served, although some wait")
		return false
	}
}

func well() {}

func panics() { panic("a handler panicked") }

// shutdown stops the server and waits for Serve.
func (s *server) shutdown() {
	s.stop()
	select {
	case err := <-s.result:
		if err != nil {
			s.broken("the server ended with %v", err)
		}
	case <-time.After(time.Hour):
		s.broken("the server does not stop")
	}
}

func checkBound(c *check) {
	s := c.serve(0)
	defer s.shutdown()
	s.come(c.many())
	for left := c.many(); left > 0; left-- {
		if _, works, most := s.state(); works != min(left, c.served()) || most > c.served() {
			c.broken("%d are served at a time, and there were %d; want %d", works, most, min(left, c.served()))
			return
		}
		if !s.end(well) {
			return
		}
	}
}

func checkOrder(c *check) {
	if c.slots != 1 {
		c.Skip("it needs one slot")
	}
	s := c.serve(0)
	defer s.shutdown()
	s.come(c.many())
	for range c.many() {
		if !s.end(well) {
			return
		}
	}
	began, _, _ := s.state()
	if len(began) != c.many() || !slices.IsSorted(began) {
		c.broken("connections were served in the order %v", began)
	}
}

func checkRelease(c *check) {
	s := c.serve(0)
	defer s.shutdown()
	for round := range 3 {
		for _, how := range []func(){well, panics} {
			s.come(c.many())
			for range c.many() {
				if !s.end(how) {
					return
				}
			}
		}
		if _, works, _ := s.state(); works != 0 {
			c.broken("after %d rounds %d are still served", round+1, works)
		}
	}
	s.come(c.many())
	if _, works, _ := s.state(); works != c.served() {
		c.broken("after all have ended %d are served at a time, want %d", works, c.served())
	}
}

func checkContext(c *check) {
	causes := []struct {
		want error
		ctx  func() (context.Context, context.CancelFunc)
	}{
		{context.Canceled, func() (context.Context, context.CancelFunc) { return context.WithCancel(c.Context()) }},
		{context.DeadlineExceeded, func() (context.Context, context.CancelFunc) { return context.WithTimeout(c.Context(), time.Minute) }},
	}
	for _, cause := range causes {
		ctx, cancel := cause.ctx()
		var waiting []chan error
		if c.slots > 0 {
			c.acquire(c.slots)
			for range extra {
				got := make(chan error, 1)
				waiting = append(waiting, got)
				go func() { got <- c.Acquire(ctx) }()
			}
			synctest.Wait()
		}
		if cause.want == context.Canceled {
			cancel()
		} else {
			<-ctx.Done()
		}
		for _, got := range waiting {
			select {
			case err := <-got:
				if !errors.Is(err, cause.want) {
					c.broken("Acquire returned %v after a wait, want %v", err, cause.want)
				}
			case <-time.After(time.Hour):
				c.broken("Acquire still waits for a slot")
			}
		}
		for range c.slots {
			c.Release()
		}
		for range 20 { // slots are free, and select would choose at random
			if err := c.Acquire(ctx); !errors.Is(err, cause.want) {
				c.broken("Acquire with a context that is done returned %v, want %v", err, cause.want)
				if err == nil {
					c.Release()
				}
			}
		}
		cancel()
	}
	c.acquire(c.served()) // no slot is lost
	for range c.served() {
		c.Release()
	}
}

// acquire takes n slots, which must be free.
func (c *check) acquire(n int) {
	c.Helper()
	for i := range n {
		got := make(chan error, 1)
		go func() { got <- c.Acquire(c.Context()) }()
		select {
		case err := <-got:
			if err != nil {
				c.broken("slot %d of %d cannot be had: %v", i+1, n, err)
				c.FailNow()
			}
		case <-time.After(time.Hour):
			c.broken("slot %d of %d is not free", i+1, n)
			c.FailNow()
		}
	}
}

func checkDrain(c *check) {
	s := c.serve(24 * time.Hour)
	s.come(c.served())
	if _, works, _ := s.state(); works != c.served() {
		c.broken("%d are served at a time, want %d", works, c.served())
	}
	if c.slots > 0 {
		s.come(extra)
	}
	s.stop()
	began, works, _ := s.state()
	if len(began) != c.served() || works != c.served() {
		c.broken("after the stop %d are served of %d", works, len(began))
	}
	for range works {
		if !s.end(well) {
			break
		}
	}
	s.shutdown()
	if began, works, _ := s.state(); len(began) != c.served() || works != 0 {
		c.broken("after the drain %d are served of %d", works, len(began))
	}
	c.acquire(c.served())
	for range c.served() {
		c.Release()
	}
}

func checkConcurrency(c *check) {
	const servers, each = 4, 50
	var mu sync.Mutex
	works, most, all := 0, 0, 0
	ctx, stop := context.WithCancel(c.Context())
	srv := &transport.Server{Scheduler: c.Scheduler, Handler: func(_ context.Context, conn net.Conn, _ uint64) {
		mu.Lock()
		works++
		all++
		most = max(most, works)
		mu.Unlock()
		time.Sleep(time.Millisecond)
		mu.Lock()
		works--
		mu.Unlock()
		conn.Close()
	}}
	var serving sync.WaitGroup
	for range servers {
		ln := memnet.Listen(each)
		for range each {
			if _, err := ln.Dial(ctx); err != nil {
				c.Fatal(err)
			}
		}
		serving.Go(func() {
			if err := srv.Serve(ctx, ln); err != nil {
				c.broken("a server ended with %v", err)
			}
		})
	}
	// A server that waits for a connection holds a slot. With fewer slots than servers,
	// some connections may never be served.
	time.Sleep(time.Hour)
	stop()
	serving.Wait()
	mu.Lock()
	defer mu.Unlock()
	if c.slots > 0 && most > c.slots {
		c.broken("%d are served at a time by servers that share %d slots", most, c.slots)
	}
	if want := servers * each; (c.slots == 0 || c.slots >= servers) && all != want {
		c.broken("%d were served, want %d", all, want)
	}
	if all < each {
		c.broken("%d were served, want %d at least", all, each)
	}
}
