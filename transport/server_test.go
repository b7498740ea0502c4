package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/accio-go/accio/internal/netutil"
)

// fakeListener is a listener whose connections come from a channel.
type fakeListener struct {
	conns  chan net.Conn
	fail   func() error // if it returns an error, that is Accept's
	closed chan struct{}

	mu     sync.Mutex
	calls  []time.Time // of Accept
	closes int
}

func newListener(conns ...net.Conn) *fakeListener {
	ln := &fakeListener{
		conns:  make(chan net.Conn, 10_000),
		fail:   func() error { return nil },
		closed: make(chan struct{}),
	}
	for _, c := range conns {
		ln.conns <- c
	}
	return ln
}

func (ln *fakeListener) Accept() (net.Conn, error) {
	ln.mu.Lock()
	ln.calls = append(ln.calls, time.Now())
	fail := ln.fail
	ln.mu.Unlock()
	if ln.isClosed() {
		return nil, net.ErrClosed
	}
	if err := fail(); err != nil {
		return nil, err
	}
	select {
	case c := <-ln.conns:
		return c, nil
	case <-ln.closed:
		return nil, net.ErrClosed
	}
}

func (ln *fakeListener) Close() error {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.closes++; ln.closes == 1 {
		close(ln.closed)
	}
	return nil
}

func (*fakeListener) Addr() net.Addr { return fakeAddr{} }

func (ln *fakeListener) isClosed() bool {
	select {
	case <-ln.closed:
		return true
	default:
		return false
	}
}

func (ln *fakeListener) accepts() []time.Time {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	return slices.Clone(ln.calls)
}

// fails has Accept fail as fail says, from now on.
func (ln *fakeListener) fails(fail func() error) {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	ln.fail = fail
}

type fakeAddr struct{}

func (fakeAddr) Network() string { return "fake" }
func (fakeAddr) String() string  { return "a client" }

// fakeConn is a connection that remembers how it was closed.
type fakeConn struct {
	net.Conn // nil: a Handler that reads or writes is for TCP
	mu       sync.Mutex
	linger   int
	ends     string
	closedAt time.Time
}

func newConns(n int) (fakes []*fakeConn, conns []net.Conn) {
	for range n {
		c := &fakeConn{linger: -1}
		fakes, conns = append(fakes, c), append(conns, c)
	}
	return fakes, conns
}

func (c *fakeConn) RemoteAddr() net.Addr { return fakeAddr{} }

func (c *fakeConn) SetLinger(sec int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.linger = sec
	return nil
}

func (c *fakeConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ends != "" {
		return net.ErrClosed
	}
	c.closedAt = time.Now()
	c.ends = orderly
	if c.linger == 0 {
		c.ends = byReset
	}
	return nil
}

// How a connection can end.
const (
	orderly = "orderly"
	byReset = "by a reset"
)

func (c *fakeConn) ended() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ends
}

// peerSees reads a connection to its end and says how that came.
func peerSees(t *testing.T, client net.Conn) string {
	t.Helper()
	switch _, err := io.Copy(io.Discard, client); {
	case err == nil:
		return orderly
	case errors.Is(err, syscall.ECONNRESET):
		return byReset
	default:
		return err.Error()
	}
}

// visitorSees is what a client sees that comes and waits for the end. A reset
// can be there before it knows that it is connected.
func visitorSees(t *testing.T, ln net.Listener) string {
	t.Helper()
	client, err := tryDial(ln)
	if errors.Is(err, syscall.ECONNRESET) {
		return byReset
	}
	if err != nil {
		return err.Error()
	}
	defer client.Close()
	return peerSees(t, client)
}

// serving is a Serve under way.
type serving struct {
	stop   context.CancelFunc
	result chan error
}

func serve(t *testing.T, srv *Server, ln net.Listener) *serving {
	ctx, stop := context.WithCancel(t.Context())
	s := &serving{stop, make(chan error, 1)}
	go func() { s.result <- srv.Serve(ctx, ln) }()
	return s
}

// end stops it, and fails the test unless that goes well.
func (s *serving) end(t *testing.T) {
	t.Helper()
	s.stop()
	if err := <-s.result; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

// errorLog is an OnError.
type errorLog struct {
	mu   sync.Mutex
	errs []error
}

func (l *errorLog) add(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.errs = append(l.errs, err)
}

func (l *errorLog) all() []error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.errs)
}

// untilDone is a Handler that has nothing to do but end when it is told to.
func untilDone(ctx context.Context, conn net.Conn, _ uint64) {
	<-ctx.Done()
	conn.Close()
}

func TestNumbersOrder(t *testing.T) {
	const count = 100
	for _, sched := range []Scheduler{nil, NewPool(10), Sequential()} {
		t.Run(fmt.Sprintf("by %#v", sched), func(t *testing.T) {
			fakes, conns := newConns(count)
			ln := newListener(conns...)
			var mu sync.Mutex
			numbers := make(map[net.Conn]uint64)
			var served sync.WaitGroup
			served.Add(count)
			s := serve(t, &Server{Scheduler: sched, Handler: func(_ context.Context, conn net.Conn, number uint64) {
				defer served.Done()
				mu.Lock()
				defer mu.Unlock()
				numbers[conn] = number
			}}, ln)
			served.Wait()
			s.end(t)
			for i, c := range fakes {
				if numbers[c] != uint64(i+1) {
					t.Errorf("connection %d has number %d", i+1, numbers[c])
				}
			}
		})
	}
}

func TestSequentialOrderOverTCP(t *testing.T) {
	const count = 20
	ln, _ := listen(t)
	var clients []*net.TCPConn
	for range count {
		clients = append(clients, dial(t, ln))
	}
	s := serve(t, &Server{Scheduler: Sequential(), Handler: func(_ context.Context, conn net.Conn, number uint64) {
		defer conn.Close()
		fmt.Fprintf(conn, "%d\n", number)
		io.Copy(io.Discard, conn) // until the client has ended
	}}, ln)
	for i, client := range clients {
		var number int
		if _, err := fmt.Fscanln(client, &number); err != nil || number != i+1 {
			t.Fatalf("client %d reads %d, %v", i+1, number, err)
		}
		if i+1 < count { // the next one has been told nothing so far
			next := clients[i+1]
			next.SetReadDeadline(time.Unix(1, 0))
			if n, err := next.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatalf("client %d reads %d bytes before its turn, %v", i+2, n, err)
			}
			next.SetReadDeadline(time.Time{})
		}
		client.CloseWrite()
		if got := peerSees(t, client); got != orderly {
			t.Fatalf("client %d sees an end %s", i+1, got)
		}
	}
	s.end(t)
}

// numbersFunc are Numbers by a function.
type numbersFunc func(ctx context.Context) (uint64, error)

func (f numbersFunc) Next(ctx context.Context) (uint64, error) { return f(ctx) }

func TestNumbersErrorResetsConnection(t *testing.T) {
	spent := errors.New("the numbers are spent")
	asked := 0
	numbers := numbersFunc(func(context.Context) (uint64, error) {
		if asked++; asked%2 == 0 {
			return 0, spent
		}
		return uint64(asked) * 10, nil
	})
	var log errorLog
	ln, _ := listen(t)
	s := serve(t, &Server{
		Scheduler: Sequential(), // whose slot is needed again
		Numbers:   numbers,
		OnError:   log.add,
		Handler: func(_ context.Context, conn net.Conn, number uint64) {
			defer conn.Close()
			fmt.Fprintf(conn, "%d\n", number)
		},
	}, ln)
	for i := 1; i <= 7; i++ { // the last one, to see that the loop went on
		if i%2 == 0 {
			if got := visitorSees(t, ln); got != byReset {
				t.Errorf("the client without a number sees an end %s", got)
			}
			continue
		}
		client := dial(t, ln)
		var number int
		if _, err := fmt.Fscanln(client, &number); err != nil || number != i*10 {
			t.Errorf("client %d reads %d, %v", i, number, err)
		}
		if got := peerSees(t, client); got != orderly {
			t.Errorf("the client with a number sees an end %s", got)
		}
	}
	s.end(t)
	errs := log.all()
	if len(errs) != 3 {
		t.Errorf("told of %v", errs)
	}
	for _, err := range errs {
		if !errors.Is(err, spent) || !strings.Contains(err.Error(), "127.0.0.1:") {
			t.Errorf("told of %v", err)
		}
	}
}

// A number that does not come because of the shutdown is nobody's fault.
func TestShutdownDuringNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fakes, conns := newConns(1)
		ln := newListener(conns...)
		var log errorLog
		s := serve(t, &Server{
			Handler: untilDone,
			OnError: log.add,
			Numbers: numbersFunc(func(ctx context.Context) (uint64, error) {
				<-ctx.Done()
				return 0, ctx.Err()
			}),
		}, ln)
		synctest.Wait()
		s.end(t)
		if fakes[0].ended() != byReset {
			t.Errorf("the connection ended %q", fakes[0].ended())
		}
		if errs := log.all(); len(errs) != 0 {
			t.Errorf("told of %v", errs)
		}
		if !ln.isClosed() {
			t.Error("the listener is open")
		}
	})
}

func TestServeAcquiresBeforeAccept(t *testing.T) {
	for _, slots := range []int{1, 2, 5} {
		t.Run(fmt.Sprintf("of %d", slots), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const count = 20
				_, conns := newConns(count)
				ln := newListener(conns...)
				goOn := make(chan struct{})
				var atWork, served atomic.Int32
				s := serve(t, &Server{Scheduler: NewPool(slots), Handler: func(context.Context, net.Conn, uint64) {
					if n := atWork.Add(1); int(n) > slots {
						t.Errorf("%d are served at a time", n)
					}
					<-goOn
					atWork.Add(-1)
					served.Add(1)
				}}, ln)
				for i := range count {
					synctest.Wait()
					if got, want := int(atWork.Load()), min(slots, count-i); got != want {
						t.Errorf("after %d, %d are served at a time, want %d", i, got, want)
					}
					if got, want := len(ln.accepts()), min(slots+i, count+1); got != want {
						t.Errorf("after %d, Accept was called %d times, want %d", i, got, want)
					}
					goOn <- struct{}{}
				}
				synctest.Wait()
				s.end(t)
				if served.Load() != count {
					t.Errorf("%d were served", served.Load())
				}
			})
		})
	}
}

func TestHandlerForgetsClose(t *testing.T) {
	ln, _ := listen(t)
	s := serve(t, &Server{Handler: func(context.Context, net.Conn, uint64) {}}, ln)
	for range 3 {
		if got := visitorSees(t, ln); got != orderly {
			t.Errorf("the client sees an end %s", got)
		}
	}
	s.end(t)
}

func explode(context.Context, net.Conn, uint64) { panic("at the\nwrong moment") }

// nobody returns a list that the compiler does not know to be empty.
func nobody(n int) []byte { return make([]byte, n) }

// What one Handler does to itself, the others do not notice.
func TestHandlerDoesNotReturn(t *testing.T) {
	failure := errors.New("failed")
	ends := []struct {
		name string
		end  func(context.Context, net.Conn, uint64)
		want any // of the panic; nil if there is none
	}{
		{"but panics", explode, "at the\nwrong moment"},
		{"but panics with an error", func(context.Context, net.Conn, uint64) { panic(failure) }, failure},
		{"but reaches beyond a slice", func(context.Context, net.Conn, uint64) { clear(nobody(0)[1:]) }, "runtime error: slice bounds out of range [1:0]"},
		{"but panics with nil", func(context.Context, net.Conn, uint64) { panic(nil) }, new(runtime.PanicNilError)},
		{"but panics while it has a panic", func(context.Context, net.Conn, uint64) {
			defer func() { panic("second") }()
			panic("first")
		}, "second"},
		{"but ends its goroutine", func(context.Context, net.Conn, uint64) { runtime.Goexit() }, nil},
		{"but resets its connection itself and panics", func(_ context.Context, conn net.Conn, _ uint64) {
			netutil.Reset(conn)
			panic("late")
		}, "late"},
	}
	for _, end := range ends {
		t.Run(end.name, func(t *testing.T) {
			var log errorLog
			ln, _ := listen(t)
			const slots = 2
			s := serve(t, &Server{
				Scheduler: NewPool(slots),
				OnError:   log.add,
				Handler: func(ctx context.Context, conn net.Conn, number uint64) {
					if number > 1 && number <= 1+3*slots {
						end.end(ctx, conn, number)
						return
					}
					defer conn.Close()
					io.Copy(conn, conn)
				},
			}, ln)
			other := dial(t, ln)
			echo := func(client *net.TCPConn) {
				t.Helper()
				io.WriteString(client, "hello")
				got := make([]byte, 5)
				if _, err := io.ReadFull(client, got); err != nil || string(got) != "hello" {
					t.Errorf("a client of another connection reads %q, %v", got, err)
				}
			}
			echo(other)
			for range 3 * slots { // no slot stays taken
				if got := visitorSees(t, ln); got != byReset {
					t.Errorf("the client sees an end %s", got)
				}
			}
			echo(other)
			other.CloseWrite()
			if got := peerSees(t, other); got != orderly {
				t.Errorf("the other client sees an end %s", got)
			}
			last := dial(t, ln)
			echo(last)
			last.Close()
			s.end(t)

			errs := log.all()
			if end.want == nil {
				if len(errs) != 0 {
					t.Errorf("told of %v", errs)
				}
				return
			}
			if len(errs) != 3*slots {
				t.Fatalf("told of %d: %v", len(errs), errs)
			}
			numbers := make(map[string]bool)
			for _, err := range errs {
				p := new(PanicError)
				if !errors.As(err, &p) {
					t.Fatalf("told of %v", err)
				}
				number, _, _ := strings.Cut(err.Error(), ":")
				numbers[number] = true
				if fmt.Sprint(p.Value) != fmt.Sprint(end.want) {
					t.Errorf("the value is %v", p.Value)
				}
				if !strings.Contains(string(p.Stack), "transport") || strings.Contains(p.Error(), "goroutine") {
					t.Errorf("%q has the stack %s", p.Error(), p.Stack)
				}
			}
			for number := uint64(2); number <= 1+3*slots; number++ {
				if !numbers[fmt.Sprintf("connection %d", number)] {
					t.Errorf("told nothing of connection %d", number)
				}
			}
		})
	}
}

func TestHandlerPanicReport(t *testing.T) {
	var log errorLog
	_, conns := newConns(1)
	ln := newListener(conns...)
	reported := make(chan struct{})
	s := serve(t, &Server{
		Handler: explode,
		OnError: func(err error) { log.add(err); close(reported) },
	}, ln)
	<-reported
	s.end(t)
	err := log.all()[0]
	p := new(PanicError)
	if !errors.As(err, &p) {
		t.Fatalf("reported %v", err)
	}
	if !strings.Contains(string(p.Stack), "transport.explode(") {
		t.Errorf("the place is not in the stack:\n%s", p.Stack)
	}
	if !strings.HasPrefix(err.Error(), "connection 1: panic: at the") {
		t.Errorf("it says %q", err)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is more than one line", err)
	}
}

func TestServeWithoutOnError(t *testing.T) {
	fakes, conns := newConns(2)
	ln := newListener(conns...)
	failed := 0
	ln.fail = func() error {
		if failed++; failed == 1 {
			return asOfAccept(syscall.EMFILE)
		}
		return nil
	}
	s := serve(t, &Server{Scheduler: Sequential(), Handler: explode}, ln)
	for len(ln.accepts()) < 4 {
		runtime.Gosched()
	}
	s.end(t)
	for _, c := range fakes {
		if c.ended() != byReset {
			t.Errorf("a connection ended %q", c.ended())
		}
	}
}

func TestAcceptRetriesFailedConnection(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EINTR} {
		t.Run(errno.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fakes, conns := newConns(1)
				ln := newListener(conns...)
				failures := 0
				ln.fail = func() error {
					if failures++; failures <= 1000 {
						return asOfAccept(errno)
					}
					return nil
				}
				var log errorLog
				start := time.Now()
				s := serve(t, &Server{Handler: func(context.Context, net.Conn, uint64) {}, OnError: log.add}, ln)
				synctest.Wait()
				if fakes[0].ended() != orderly || time.Since(start) != 0 {
					t.Errorf("after %v the connection has ended %q", time.Since(start), fakes[0].ended())
				}
				s.end(t)
				if errs := log.all(); len(errs) != 0 {
					t.Errorf("told of %v", errs)
				}
			})
		})
	}
}

var shortages = []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM}

func TestShortageBackoff(t *testing.T) {
	for _, errno := range shortages {
		t.Run(errno.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newListener()
				ln.fail = func() error { return asOfAccept(errno) }
				var log errorLog
				start := time.Now()
				s := serve(t, &Server{Handler: untilDone, OnError: log.add}, ln)
				time.Sleep(time.Minute)
				synctest.Wait()

				calls := ln.accepts()
				wait := time.Duration(0)
				for i, call := range calls {
					if i > 0 {
						wait = min(max(2*wait, 5*time.Millisecond), time.Second)
						if got := call.Sub(calls[i-1]); got != wait {
							t.Errorf("before call %d it waited %v, want %v", i+1, got, wait)
						}
					}
				}
				if last := calls[len(calls)-1].Sub(start); last < 59*time.Second {
					t.Errorf("the last try was after %v", last)
				}
				if len(calls) > 70 {
					t.Errorf("%d tries in a minute", len(calls))
				}
				if errs := log.all(); len(errs) != 1 || !errors.Is(errs[0], errno) || !strings.Contains(errs[0].Error(), "for now") {
					t.Errorf("told of %v", errs)
				}
				if ln.isClosed() {
					t.Error("the listener was closed")
				}
				// It is over: the next connection is served, and another
				// shortage, a while later, is told of again and begins as gently.
				ln.fails(func() error { return nil })
				fakes, conns := newConns(1)
				ln.conns <- conns[0]
				time.Sleep(time.Minute)
				synctest.Wait()
				ln.fails(func() error { return asOfAccept(errno) })
				ln.conns <- &fakeConn{linger: -1}
				time.Sleep(6 * time.Millisecond)
				synctest.Wait()
				calls = ln.accepts()
				if got := calls[len(calls)-1].Sub(calls[len(calls)-2]); got != 5*time.Millisecond {
					t.Errorf("the second shortage begins with a wait of %v", got)
				}
				if errs := log.all(); len(errs) != 2 {
					t.Errorf("told of %v", errs)
				}
				s.end(t)
				if fakes[0].ended() != orderly {
					t.Errorf("the connection ended %q", fakes[0].ended())
				}
			})
		})
	}
}

func TestShortageEndsWithConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fakes, conns := newConns(2)
		ln := newListener(conns[0])
		s := serve(t, &Server{Handler: func(ctx context.Context, conn net.Conn, number uint64) {
			if number == 1 {
				time.Sleep(100*time.Second + 300*time.Millisecond)
			}
		}}, ln)
		synctest.Wait()
		start := time.Now()
		ln.fails(func() error {
			if fakes[0].ended() == "" {
				return asOfAccept(syscall.EMFILE)
			}
			return nil
		})
		// Accept is under way; the connection that it has next is the last
		// before the shortage.
		_, more := newConns(1)
		ln.conns <- more[0]
		synctest.Wait()
		ln.conns <- conns[1]
		time.Sleep(100 * time.Second)
		synctest.Wait()
		before := len(ln.accepts())
		time.Sleep(time.Second)
		synctest.Wait()
		if got := fakes[1].closedAt.Sub(start); got != 100*time.Second+300*time.Millisecond {
			t.Errorf("the connection was served after %v, %d tries later", got, len(ln.accepts())-before)
		}
		s.end(t)
	})
}

// The ends of connections before the shortage say nothing of it.
func TestShortageAfterManyEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count = 1000
		_, conns := newConns(count)
		ln := newListener(conns...)
		s := serve(t, &Server{Handler: func(context.Context, net.Conn, uint64) {}}, ln)
		synctest.Wait()
		ln.fails(func() error { return asOfAccept(syscall.EMFILE) })
		ln.conns <- &fakeConn{}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := len(ln.accepts()) - count - 1; got > 10 {
			t.Errorf("%d tries in the first second", got)
		}
		s.end(t)
	})
}

// At the limit each connection that ends lets one in, and then there is no
// descriptor again: of that, a line now and then says enough.
func TestShortageReportsOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const count, pause = 600, time.Second
		_, conns := newConns(count)
		ln := newListener(conns...)
		calls := 0
		ln.fail = func() error {
			if calls++; calls%2 == 0 {
				return asOfAccept(syscall.EMFILE)
			}
			return nil
		}
		var log errorLog
		s := serve(t, &Server{Scheduler: Sequential(), OnError: log.add, Handler: func(context.Context, net.Conn, uint64) {
			time.Sleep(pause)
		}}, ln)
		time.Sleep(count * pause / 2)
		synctest.Wait()
		if got := len(ln.accepts()); got < count/2 {
			t.Errorf("%d calls of Accept", got)
		}
		if got, most := len(log.all()), int(count*pause/2/time.Minute)+1; got < 1 || got > most {
			t.Errorf("told %d times, want %d at most", got, most)
		}
		s.end(t)
	})
}

func TestListenerFails(t *testing.T) {
	unknown := errors.New("something else")
	for _, failure := range []error{net.ErrClosed, asOfAccept(syscall.EBADF), asOfAccept(syscall.EINVAL), asOfAccept(syscall.ENOTSOCK), io.EOF, os.ErrDeadlineExceeded, unknown} {
		t.Run(failure.Error(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const count = 3
				fakes, conns := newConns(count)
				ln := newListener(conns...)
				var returned atomic.Int32
				var log errorLog
				s := serve(t, &Server{OnError: log.add, Handler: func(ctx context.Context, conn net.Conn, _ uint64) {
					<-ctx.Done()
					time.Sleep(time.Minute) // there is no hurry without a Grace
					returned.Add(1)
				}}, ln)
				synctest.Wait()
				start := time.Now()
				ln.fails(func() error { return failure })
				ln.conns <- &fakeConn{} // for the Accept under way
				err := <-s.result
				if !errors.Is(err, failure) || errors.Is(err, ErrUnfinished) || !strings.Contains(err.Error(), "cannot accept") {
					t.Errorf("Serve: %v", err)
				}
				if got := time.Since(start); got != time.Minute {
					t.Errorf("it returned after %v", got)
				}
				if got := returned.Load(); got != count+1 {
					t.Errorf("%d handlers have returned", got)
				}
				for _, c := range fakes {
					if c.ended() != orderly {
						t.Errorf("a connection ended %q", c.ended())
					}
				}
				if !ln.isClosed() {
					t.Error("the listener is open")
				}
				if errs := log.all(); len(errs) != 0 {
					t.Errorf("told of %v", errs)
				}
			})
		})
	}
}

func TestListenerFailsAndHandlerHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fakes, conns := newConns(1)
		ln := newListener(conns...)
		never := make(chan struct{})
		s := serve(t, &Server{Grace: time.Second, Handler: func(context.Context, net.Conn, uint64) { <-never }}, ln)
		synctest.Wait()
		ln.fails(func() error { return io.EOF })
		ln.conns <- &fakeConn{}
		if err := <-s.result; !errors.Is(err, io.EOF) || !errors.Is(err, ErrUnfinished) {
			t.Errorf("Serve: %v", err)
		}
		if fakes[0].ended() != byReset {
			t.Errorf("the connection ended %q", fakes[0].ended())
		}
		close(never)
	})
}

func TestShutdown(t *testing.T) {
	const grace = 700 * time.Millisecond
	never := time.Duration(1 << 62)
	tests := []struct {
		name     string
		slots    int
		grace    time.Duration
		handlers []time.Duration // how long after the cancellation each returns
		fail     error           // of Accept, all the time from then on
		after    time.Duration   // when Serve returns
		left     int
	}{
		{name: "with nothing to do"},
		{name: "with nothing to do and a grace", grace: grace},
		{name: "in the wait for a slot", slots: 1, handlers: []time.Duration{0}},
		{name: "in the wait for a slot that does not become free", slots: 2, grace: grace, handlers: []time.Duration{never, never}, after: grace, left: 2},
		{name: "in the back-off of a shortage", fail: asOfAccept(syscall.EMFILE)},
		{name: "in the back-off of a shortage, with handlers", fail: asOfAccept(syscall.EMFILE), grace: grace, handlers: []time.Duration{0, time.Millisecond}, after: time.Millisecond},
		{name: "with handlers that return at once", grace: grace, handlers: []time.Duration{0, 0, 0}},
		{name: "with handlers that return at once and no grace", handlers: []time.Duration{0, 0, 0}},
		{name: "with handlers that return within the grace", grace: grace, handlers: []time.Duration{0, time.Millisecond, 699 * time.Millisecond}, after: 699 * time.Millisecond},
		{name: "with a handler that returns too late", grace: grace, handlers: []time.Duration{0, 701 * time.Millisecond, time.Millisecond}, after: grace, left: 1},
		{name: "with handlers that never return", grace: grace, handlers: []time.Duration{never, never, never}, after: grace, left: 3},
		{name: "with many handlers that never return", grace: grace, handlers: slices.Repeat([]time.Duration{never}, 500), after: grace, left: 500},
		{name: "without a grace waits as long as it takes", handlers: []time.Duration{time.Hour, 24 * time.Hour}, after: 24 * time.Hour},
		{name: "with a negative grace waits as long as it takes", grace: -1, handlers: []time.Duration{time.Hour}, after: time.Hour},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fakes, conns := newConns(len(test.handlers))
				ln := newListener(conns...)
				handed := 0
				ln.fail = func() error {
					if handed++; handed > len(conns) {
						return test.fail
					}
					return nil
				}
				end := make(chan struct{}) // of those that never return, for the test's sake
				s := serve(t, &Server{
					Scheduler: NewPool(test.slots),
					Grace:     test.grace,
					Handler: func(ctx context.Context, _ net.Conn, number uint64) {
						<-ctx.Done()
						after := test.handlers[number-1]
						if after == never {
							<-end
						} else {
							time.Sleep(after)
						}
					},
				}, ln)
				time.Sleep(12345 * time.Millisecond)
				synctest.Wait()
				start := time.Now()
				s.stop()
				err := <-s.result
				if got := time.Since(start); got != test.after {
					t.Errorf("Serve returned after %v, want %v", got, test.after)
				}
				if test.left == 0 && err != nil {
					t.Errorf("Serve: %v", err)
				}
				if test.left > 0 && (!errors.Is(err, ErrUnfinished) || !strings.Contains(err.Error(), fmt.Sprint(test.left, " left"))) {
					t.Errorf("Serve: %v", err)
				}
				if !ln.isClosed() {
					t.Error("the listener is open")
				}
				for i, c := range fakes {
					want := orderly
					if test.grace > 0 && test.handlers[i] > test.grace {
						want = byReset
						if got := c.closedAt.Sub(start); got != test.grace {
							t.Errorf("connection %d was reset after %v", i+1, got)
						}
					}
					if c.ended() != want {
						t.Errorf("connection %d ended %q, want %q", i+1, c.ended(), want)
					}
				}
				close(end)
				time.Sleep(time.Second)
			})
		})
	}
}

func TestServeContextDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, conns := newConns(3)
		ln := newListener(conns...)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := (&Server{Handler: func(context.Context, net.Conn, uint64) {
			t.Error("a connection was served")
		}}).Serve(ctx, ln)
		if err != nil || len(ln.accepts()) != 0 || !ln.isClosed() {
			t.Errorf("Serve: %v, after %d calls of Accept", err, len(ln.accepts()))
		}
	})
}

// At the same moment both may have happened, and each may be the answer; but
// not that nobody was left.
func TestShutdownHandlerReturnsAtGrace(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			_, conns := newConns(1)
			s := serve(t, &Server{Grace: time.Second, Handler: func(ctx context.Context, _ net.Conn, _ uint64) {
				<-ctx.Done()
				time.Sleep(time.Second)
			}}, newListener(conns...))
			synctest.Wait()
			s.stop()
			if err := <-s.result; err != nil && !strings.Contains(err.Error(), "1 left") {
				t.Fatalf("Serve: %v", err)
			}
		})
		if t.Failed() {
			return
		}
	}
}

// valueConn is a connection that cannot be the key of a map.
type valueConn struct {
	*fakeConn
	_ []byte
}

// equalConn is one that equals the others of its kind.
type equalConn struct{ net.Conn }

func (equalConn) Close() error { return nil }

func TestServeConnTypes(t *testing.T) {
	tests := []struct {
		name string
		conn func() net.Conn
	}{
		{"that cannot be compared", func() net.Conn { return valueConn{fakeConn: &fakeConn{}} }},
		{"whose values are equal", func() net.Conn { return equalConn{} }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newListener(test.conn(), test.conn())
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				var returned atomic.Int32
				result := make(chan error, 1)
				go func() {
					defer func() {
						if v := recover(); v != nil {
							result <- fmt.Errorf("panic: %v", v)
						}
					}()
					srv := Server{Handler: func(ctx context.Context, _ net.Conn, number uint64) {
						<-ctx.Done()
						time.Sleep(time.Duration(number) * time.Second)
						returned.Add(1)
					}}
					result <- srv.Serve(ctx, ln)
				}()
				synctest.Wait()
				stop()
				if err := <-result; err != nil {
					t.Errorf("Serve: %v", err)
				}
				if got := returned.Load(); got != 2 {
					t.Errorf("Serve returned when %d of 2 handlers had", got)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

func TestShutdownResetsOverTCP(t *testing.T) {
	const (
		grace  = 50 * time.Millisecond
		served = 3
		queued = 5
	)
	ln, _ := listen(t)
	never := make(chan struct{})
	var atWork sync.WaitGroup
	atWork.Add(served)
	s := serve(t, &Server{
		Scheduler: NewPool(served),
		Grace:     grace,
		Handler: func(_ context.Context, conn net.Conn, _ uint64) {
			io.WriteString(conn, "served")
			atWork.Done()
			<-never
		},
	}, ln)
	var clients, waiting []*net.TCPConn
	for range served {
		clients = append(clients, dial(t, ln))
	}
	atWork.Wait()
	for range queued {
		waiting = append(waiting, dial(t, ln))
	}
	start := time.Now()
	s.stop()
	// Those who wait learn of it before the others: nobody will serve them.
	for _, client := range waiting {
		if got := peerSees(t, client); got != byReset {
			t.Errorf("a client in the queue sees an end %s", got)
		}
	}
	if err := <-s.result; !errors.Is(err, ErrUnfinished) || !strings.Contains(err.Error(), "3 left") {
		t.Errorf("Serve: %v", err)
	}
	if got := time.Since(start); got < grace {
		t.Errorf("it returned after %v", got)
	}
	for _, client := range clients {
		if got := peerSees(t, client); got != byReset {
			t.Errorf("a client that was served sees an end %s", got)
		}
	}
	if conn, err := tryDial(ln); err == nil {
		conn.Close()
		t.Error("the port still takes connections")
	}
	close(never)
}

// layered is a connection with a layer over it, as one of TLS is: it takes leave
// before it closes.
type layered struct{ net.Conn }

func (l layered) NetConn() net.Conn { return l.Conn }

func (l layered) Close() error {
	_, err := io.WriteString(l.Conn, "goodbye")
	return errors.Join(err, l.Conn.Close())
}

type layeredListener struct{ net.Listener }

func (l layeredListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &layered{conn}, nil
}

// A leave that was taken would make the reset an orderly end all the same.
func TestShutdownResetsThroughLayer(t *testing.T) {
	ln, _ := listen(t)
	s := serve(t, &Server{Handler: func(_ context.Context, conn net.Conn, _ uint64) {
		io.ReadFull(conn, make([]byte, 5))
		panic("at the wrong moment")
	}}, layeredListener{layeredListener{ln}})
	client := dial(t, ln)
	io.WriteString(client, "hello")
	got, err := io.ReadAll(client)
	if len(got) != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client reads %q, %v", got, err)
	}
	s.end(t)
}

func TestShutdownOrderlyOverTCP(t *testing.T) {
	const count = 10
	ln, _ := listen(t)
	var atWork sync.WaitGroup
	atWork.Add(count)
	s := serve(t, &Server{Grace: time.Minute, Handler: func(ctx context.Context, conn net.Conn, number uint64) {
		atWork.Done()
		<-ctx.Done()
		io.WriteString(conn, "the last word")
		conn.Close()
	}}, ln)
	var clients []*net.TCPConn
	for range count {
		clients = append(clients, dial(t, ln))
	}
	atWork.Wait()
	s.end(t)
	for _, client := range clients {
		if got, err := io.ReadAll(client); string(got) != "the last word" || err != nil {
			t.Errorf("a client reads %q, %v", got, err)
		}
	}
}

func TestServersShareSchedulerAndNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots = 3
		counter := NewCounter(0)
		var atWork atomic.Int32
		var mu sync.Mutex
		seen := make(map[uint64]bool)
		goOn := make(chan struct{})
		srv := &Server{
			Scheduler: NewPool(slots),
			Numbers:   counter,
			Handler: func(_ context.Context, _ net.Conn, number uint64) {
				atWork.Add(1)
				defer atWork.Add(-1)
				mu.Lock()
				seen[number] = true
				mu.Unlock()
				<-goOn
			},
		}
		var running []*serving
		for range 2 {
			_, conns := newConns(10)
			running = append(running, serve(t, srv, newListener(conns...)))
		}
		synctest.Wait()
		if got := atWork.Load(); got != slots {
			t.Errorf("%d are served at a time", got)
		}
		close(goOn)
		synctest.Wait()
		for _, s := range running {
			s.end(t)
		}
		if len(seen) != 20 || !seen[1] || !seen[20] {
			t.Errorf("the numbers are %v", seen)
		}
	})
}

func TestServeLeavesNoGoroutine(t *testing.T) {
	const count, clients = 1000, 10
	before := goleak.IgnoreCurrent()
	ln, _ := listen(t)
	var served atomic.Int32
	s := serve(t, &Server{Scheduler: NewPool(5), Handler: func(_ context.Context, conn net.Conn, number uint64) {
		served.Add(1)
		switch number % 4 {
		case 0:
			panic("one of many")
		case 1:
			runtime.Goexit()
		case 2: // and forget to close
		default:
			conn.Close()
		}
	}}, ln)
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for range count / clients {
				if got := visitorSees(t, ln); got != orderly && got != byReset {
					t.Errorf("a client sees an end %s", got)
				}
			}
		})
	}
	wg.Wait()
	s.end(t)
	if got := served.Load(); got != count {
		t.Errorf("%d were served", got)
	}
	goleak.VerifyNone(t, before)
}
