package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience is how long a test waits for what has to come, before it fails.
const patience = 20 * time.Second

// puppets are Sessions of which the test sees every Run, and answers it.
type puppets struct {
	t    *testing.T
	runs chan *run
	over chan struct{} // the test is
}

func newPuppets(t *testing.T) *puppets {
	p := &puppets{t: t, runs: make(chan *run, 10_000), over: make(chan struct{})}
	t.Cleanup(func() { close(p.over) })
	return p
}

func (p *puppets) handler() Handler {
	return SessionHandler(func(ctx context.Context, conn net.Conn, number uint64) Session {
		return &puppet{puppets: p, ctx: ctx, conn: conn, number: number}
	})
}

type puppet struct {
	*puppets
	ctx    context.Context
	conn   net.Conn
	number uint64

	inside atomic.Bool
	calls  int  // for one goroutine at a time, which the race detector sees to
	ended  bool // as is this
}

// run is one Run of a puppet.
type run struct {
	*puppet
	call   int // counts them
	wake   func()
	got    string // what there was to be read
	err    error  // the end of it
	answer chan func() (time.Time, bool)
}

func (p *puppet) Run(wake func()) (until time.Time, waits bool) {
	if !p.inside.CompareAndSwap(false, true) {
		p.t.Error("Run is called twice at a time")
	}
	defer p.inside.Store(false)
	if p.ended {
		p.t.Error("Run is called after the end")
	}
	p.calls++
	r := &run{puppet: p, call: p.calls, wake: wake, answer: make(chan func() (time.Time, bool))}
	r.got, r.err = take(p.conn)
	p.ended = true // if the answer is a panic
	p.runs <- r
	select {
	case answer := <-r.answer:
		until, waits = answer()
	case <-p.over:
	}
	p.ended = !waits
	return until, waits
}

// take returns what can be read without waiting.
func take(conn net.Conn) (got string, err error) {
	rc, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return "", err
	}
	var b [64]byte
	n := 0
	cerr := rc.Read(func(fd uintptr) bool {
		for {
			if n, err = syscall.Read(int(fd), b[:]); err != syscall.EINTR {
				return true
			}
		}
	})
	switch {
	case cerr != nil:
		return "", cerr
	case err == syscall.EAGAIN:
		return "", nil
	case err != nil:
		return "", err
	case n == 0:
		return "", io.EOF
	}
	return string(b[:n]), nil
}

// next returns the next Run, which waits for its answer.
func (p *puppets) next() *run {
	p.t.Helper()
	select {
	case r := <-p.runs:
		return r
	case <-time.After(patience):
		p.t.Fatal("nobody is resumed")
		return nil
	}
}

// nobody fails the test if there is a Run that was not looked for.
func (p *puppets) nobody() {
	p.t.Helper()
	select {
	case r := <-p.runs:
		p.t.Errorf("connection %d is resumed, reads %q, %v", r.number, r.got, r.err)
		r.close()
	default:
	}
}

func (r *run) park() { r.parkUntil(time.Time{}) }

func (r *run) parkUntil(until time.Time) {
	r.answer <- func() (time.Time, bool) { return until, true }
}

func (r *run) close() {
	r.answer <- func() (time.Time, bool) { r.conn.Close(); return time.Time{}, false }
}

// settle waits until no goroutine has to do with a connection: each is parked, or
// has ended.
func settle(t *testing.T) {
	t.Helper()
	eventually(t, "a goroutine stays with its connection", func() bool {
		var stacks strings.Builder
		pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		return !strings.Contains(stacks.String(), "transport.(*tracked).serve+")
	})
}

func eventually(t *testing.T, otherwise string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal(otherwise)
		}
	}
}

// countingScheduler counts what is taken from a Scheduler, and given back.
type countingScheduler struct {
	Scheduler
	acquired, released atomic.Int64
}

func (s *countingScheduler) Acquire(ctx context.Context) error {
	err := s.Scheduler.Acquire(ctx)
	if err == nil {
		s.acquired.Add(1)
	}
	return err
}

func (s *countingScheduler) Release() {
	s.released.Add(1)
	s.Scheduler.Release()
}

func TestParkedConnectionsTakeNoGoroutinesAndAreResumedByTheirOwnBytes(t *testing.T) {
	const count = 500
	before := runtime.NumGoroutine()
	ln, _ := listen(t)
	p := newPuppets(t)
	s := serve(t, &Server{Handler: p.handler()}, ln)
	clients := make(map[uint64]*net.TCPConn)
	for i := range count {
		clients[uint64(i+1)] = dial(t, ln)
	}
	for range count {
		p.next().park()
	}
	settle(t)
	few := maxResting + 10
	eventually(t, "goroutines stay", func() bool { return runtime.NumGoroutine() <= before+few })

	for number, client := range clients { // one at a time
		text := fmt.Sprint("for ", number)
		io.WriteString(client, text)
		r := p.next()
		if r.number != number || r.got != text || r.err != nil || r.call != 2 {
			t.Fatalf("%q resumes connection %d for the %d. time, which reads %q, %v", text, r.number, r.call, r.got, r.err)
		}
		r.park()
	}
	settle(t)
	p.nobody()

	for number, client := range clients { // all at once
		fmt.Fprint(client, number)
	}
	for range count {
		if r := p.next(); r.got != fmt.Sprint(r.number) || r.err != nil || r.call != 3 {
			t.Errorf("connection %d, resumed for the %d. time, reads %q, %v", r.number, r.call, r.got, r.err)
			r.close()
		} else {
			r.park()
		}
	}
	settle(t)
	p.nobody()

	for _, client := range clients {
		client.Close()
	}
	for range count {
		r := p.next()
		if r.got != "" || r.err != io.EOF || r.call != 4 {
			t.Errorf("connection %d, resumed for the %d. time, reads %q, %v", r.number, r.call, r.got, r.err)
		}
		r.close()
	}
	s.end(t)
	p.nobody()
}

func TestAParkedConnectionIsResumed(t *testing.T) {
	const soon, late = 30 * time.Millisecond, time.Hour
	hello := func(client *net.TCPConn, _ func()) { io.WriteString(client, "hello") }
	wake := func(_ *net.TCPConn, wake func()) { wake() }
	nothing := func(*net.TCPConn, func()) {}
	tests := []struct {
		name string
		wait time.Duration // until when it is parked; 0: for ever
		how  func(client *net.TCPConn, wake func())
		got  string
		err  error
	}{
		{name: "by bytes", how: hello, got: "hello"},
		{name: "by bytes before a time", wait: late, how: hello, got: "hello"},
		{name: "by an urgent byte", how: func(client *net.TCPConn, _ func()) { sendUrgent(t, client, "!") }, got: "!"},
		{name: "by the end of the peer's stream", how: func(client *net.TCPConn, _ func()) { client.CloseWrite() }, err: io.EOF},
		{name: "by the end of the peer's stream before a time", wait: late, how: func(client *net.TCPConn, _ func()) { client.CloseWrite() }, err: io.EOF},
		{name: "by the peer's close", how: func(client *net.TCPConn, _ func()) { client.Close() }, err: io.EOF},
		{name: "by a reset", how: func(client *net.TCPConn, _ func()) { reset(client) }, err: syscall.ECONNRESET},
		{name: "by wake", how: wake},
		{name: "by wake before a time", wait: late, how: wake},
		{name: "by a time", wait: soon, how: nothing},
		{name: "by a time that has passed", wait: -soon, how: nothing},
		{name: "by a time long ago", wait: -1 << 62, how: nothing},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			ln, _ := listen(t)
			p := newPuppets(t)
			s := serve(t, &Server{Handler: p.handler()}, ln)
			client := dial(t, ln)
			r := p.next()
			for range 3 { // once it has been resumed it can be parked again
				var until time.Time
				if test.wait != 0 {
					until = time.Now().Add(test.wait)
				}
				r.parkUntil(until)
				if test.wait == 0 || test.wait == late {
					settle(t)
					p.nobody()
				}
				test.how(client, r.wake)
				r = p.next()
				if test.wait != late && time.Now().Before(until) {
					t.Errorf("it is resumed %v too early", time.Until(until))
				}
				if r.got != test.got || r.err != test.err {
					t.Errorf("it reads %q, %v", r.got, r.err)
				}
				if r.err != nil {
					break
				}
			}
			r.close()
			s.end(t)
			p.nobody()
		})
	}
}

func TestAConnectionIsParkedAndResumedManyTimes(t *testing.T) {
	const times = 3000
	ln, _ := listen(t)
	p := newPuppets(t)
	s := serve(t, &Server{Handler: p.handler()}, ln)
	client := dial(t, ln)
	r := p.next()
	for i := range times {
		switch i % 5 { // each way after each other, sooner or later
		case 0, 3:
			r.park()
			client.Write([]byte("x"))
		case 1:
			r.parkUntil(time.Now().Add(time.Hour))
			client.Write([]byte("x"))
		case 2:
			r.park()
			r.wake()
		default:
			r.parkUntil(time.Now().Add(time.Duration(i%7) * 10 * time.Microsecond))
		}
		r = p.next()
		if read := i%5 != 2 && i%5 != 4; r.err != nil || (r.got == "x") != read {
			t.Fatalf("at the %d. time it reads %q, %v", i, r.got, r.err)
		}
	}
	r.close()
	s.end(t)
	p.nobody()
}

// What happens while Run is at work, Run may have missed.
func TestAWakeWhileRunIsAtWorkIsNotLost(t *testing.T) {
	ln, _ := listen(t)
	p := newPuppets(t)
	s := serve(t, &Server{Handler: p.handler()}, ln)
	dial(t, ln)
	r := p.next()
	for range 3 {
		for range 2 { // which are one
			woken := make(chan struct{})
			go func() { r.wake(); close(woken) }() // while Run waits for its answer
			<-woken
		}
		r.park()
		r = p.next()
		r.park()
		settle(t)
		p.nobody()
		r.wake()
		r = p.next()
	}
	r.answer <- func() (time.Time, bool) { r.wake(); return time.Time{}, true } // by Run itself
	r = p.next()
	r.close()
	s.end(t)
	r.wake() // when all is over
	p.nobody()
}

func TestBytesThatComeWhileRunIsAtWorkAreNotLost(t *testing.T) {
	ln, _ := listen(t)
	p := newPuppets(t)
	s := serve(t, &Server{Handler: p.handler()}, ln)
	client := dial(t, ln)
	r := p.next()
	for _, text := range []string{"for the first park", "and for others,", "of which it was told"} {
		io.WriteString(client, text)
		readable(t, r.conn)
		r.park()
		r = p.next()
		if r.got != text || r.err != nil {
			t.Errorf("it reads %q, %v", r.got, r.err)
		}
		r.park()
		settle(t)
		r.wake() // and the poller would still tell
		r = p.next()
	}
	client.CloseWrite()
	readable(t, r.conn)
	r.park()
	if r = p.next(); r.err != io.EOF {
		t.Errorf("it reads %q, %v", r.got, r.err)
	}
	r.close()
	s.end(t)
}

// readable waits until there is something to be read from conn.
func readable(t *testing.T, conn net.Conn) {
	t.Helper()
	rc, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := rc.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK)
		return err != syscall.EAGAIN
	}); err != nil {
		t.Fatal(err)
	}
}

// A time that has not come when the connection is resumed is not the next one's.
func TestATimeIsForOnePark(t *testing.T) {
	ln, _ := listen(t)
	dial(t, ln)
	resumed := make(chan *tracked, 1)
	l := newLot(func(tr *tracked) { resumed <- tr })
	tr := &tracked{Conn: accept(t, ln)}
	wake := l.waker(tr)
	for _, until := range []time.Time{time.Now().Add(time.Hour), {}, time.Now().Add(2 * time.Hour), {}} {
		if !l.park(tr, until) {
			t.Fatal("it cannot be parked")
		}
		if until.IsZero() && tr.timeout.Stop() {
			t.Error("it is parked until a time that it had before")
		}
		wake()
		if <-resumed; tr.timeout.Stop() {
			t.Error("the time is still waited for")
		}
	}
	l.close()
}

// Bytes, times and many that wake, all at a time.
func TestManyResumeAConnectionAtATime(t *testing.T) {
	const (
		connections = 4
		wakers      = 2
		duration    = time.Second
	)
	type state struct {
		inside atomic.Bool
		wake   atomic.Pointer[func()]
		// That one goroutine at a time uses these, the race detector sees to.
		calls, read int
		ended       bool
	}
	var states [connections]state
	var ended sync.WaitGroup
	ended.Add(connections)
	ln, _ := listen(t)
	s := serve(t, &Server{Handler: SessionHandler(func(_ context.Context, conn net.Conn, number uint64) Session {
		st := &states[number-1]
		return sessionFunc(func(wake func()) (time.Time, bool) {
			if !st.inside.CompareAndSwap(false, true) || st.ended {
				t.Error("Run is called twice at a time, or after the end")
			}
			defer st.inside.Store(false)
			st.wake.Store(&wake)
			st.calls++
			got, err := take(conn)
			st.read += len(got)
			if err != nil {
				if err != io.EOF {
					t.Errorf("it reads %v", err)
				}
				st.ended = true
				conn.Close()
				ended.Done()
				return time.Time{}, false
			}
			var until time.Time
			switch st.calls % 3 {
			case 0:
				until = time.Now().Add(time.Duration(rand.IntN(200)) * time.Microsecond)
			case 1:
				until = time.Now().Add(time.Hour)
			}
			return until, true
		})
	})}, ln)

	var work sync.WaitGroup
	end := time.Now().Add(duration)
	var written [connections]int
	for i := range connections {
		client := dial(t, ln)
		for range wakers {
			work.Go(func() {
				for time.Now().Before(end) {
					if wake := states[i].wake.Load(); wake != nil {
						(*wake)()
					}
					runtime.Gosched()
				}
			})
		}
		work.Go(func() {
			for time.Now().Before(end) {
				n, _ := client.Write([]byte("hello")[:1+rand.IntN(5)])
				written[i] += n
				runtime.Gosched()
			}
			client.CloseWrite()
		})
	}
	work.Wait()
	ended.Wait()
	for i := range states {
		if w := states[i].wake.Load(); w != nil {
			(*w)()
		}
	}
	s.end(t)
	total := 0
	for _, n := range written {
		total += n
	}
	read, calls := 0, 0
	for i := range states {
		read, calls = read+states[i].read, calls+states[i].calls
	}
	if read != total || calls < 100 {
		t.Errorf("of %d bytes %d were read, in %d calls of Run", total, read, calls)
	}
}

func TestAResumedRunThatDoesNotReturn(t *testing.T) {
	tests := []struct {
		name  string
		how   func() (time.Time, bool)
		value any // of the panic that is told of, or nil
	}{
		{"but panics", func() (time.Time, bool) { panic("at the wrong moment") }, "at the wrong moment"},
		{"but ends its goroutine", func() (time.Time, bool) { runtime.Goexit(); return time.Time{}, true }, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var log errorLog
			sched := &countingScheduler{Scheduler: Sequential()}
			ln, _ := listen(t)
			p := newPuppets(t)
			s := serve(t, &Server{Handler: p.handler(), Scheduler: sched, OnError: log.add}, ln)
			for number := range uint64(3) { // each has the only slot
				client := dial(t, ln)
				p.next().park()
				settle(t)
				io.WriteString(client, "x")
				r := p.next()
				r.answer <- test.how
				if got := peerSees(t, client); got != byReset {
					t.Errorf("client %d sees an end %s", number+1, got)
				}
				r.wake() // too late
			}
			client := dial(t, ln)
			p.next().close()
			if got := peerSees(t, client); got != orderly {
				t.Errorf("the last client sees an end %s", got)
			}
			s.end(t)
			p.nobody()
			if a, r := sched.acquired.Load(), sched.released.Load(); a != r {
				t.Errorf("%d slots were taken, and %d released", a, r)
			}
			errs := log.all()
			if test.value == nil {
				if len(errs) != 0 {
					t.Errorf("told of %v", errs)
				}
				return
			}
			if len(errs) != 3 {
				t.Fatalf("told of %v", errs)
			}
			for i, err := range errs {
				e := new(PanicError)
				if !errors.As(err, &e) || e.Number != uint64(i+1) || e.Value != test.value || !strings.Contains(string(e.Stack), "transport.(*puppet).Run(") {
					t.Errorf("told of %v", err)
				}
			}
		})
	}
}

func TestAParkedConnectionHoldsItsSlot(t *testing.T) {
	const slots, count = 2, 6
	sched := &countingScheduler{Scheduler: NewPool(slots)}
	ln, _ := listen(t)
	p := newPuppets(t)
	s := serve(t, &Server{Handler: p.handler(), Scheduler: sched}, ln)
	var clients []*net.TCPConn
	for range count {
		clients = append(clients, dial(t, ln))
	}
	parked := make(map[uint64]*run)
	take := func() {
		t.Helper()
		r := p.next()
		if r.call != 1 {
			t.Errorf("connection %d is resumed", r.number)
		}
		parked[r.number] = r
		r.park()
	}
	take()
	take()
	for number := uint64(1); number <= count; number++ {
		settle(t)
		p.nobody()
		if got, want := sched.released.Load(), int64(number-1); got != want {
			t.Errorf("%d slots were released, want %d", got, want)
		}
		for range 3 { // which releases nothing
			parked[number].wake()
			r := p.next()
			r.park()
			settle(t)
		}
		p.nobody()
		io.WriteString(clients[number-1], "x")
		r := p.next()
		if r.number != number {
			t.Fatalf("connection %d is resumed, want %d", r.number, number)
		}
		r.close()
		if number+slots <= count {
			take()
		}
	}
	s.end(t)
	p.nobody()
	if a, r := sched.acquired.Load(), sched.released.Load(); a != r || a < count {
		t.Errorf("%d slots were taken, and %d released", a, r)
	}
}

// gate is a Scheduler that lets in as many as it is told to.
type gate chan struct{}

func (g gate) Acquire(ctx context.Context) error {
	select {
	case <-g:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (gate) Release() {}

// descriptor is that of a connection.
func descriptor(t *testing.T, conn net.Conn) (fd uintptr) {
	t.Helper()
	rc, err := conn.(syscall.Conn).SyscallConn()
	if err == nil {
		err = rc.Control(func(d uintptr) { fd = d })
	}
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// A Session that has been left may have a reason of its own to end the
// connection, and be told of it later: by then, another can have its descriptor.
func TestADescriptorOfAParkedConnectionIsUsedAgain(t *testing.T) {
	const others = 40 // of which one gets the descriptor
	enter := make(gate)
	ln, _ := listen(t)
	p := newPuppets(t)
	s := serve(t, &Server{Handler: p.handler(), Scheduler: enter}, ln)
	clients := make(map[uint64]*net.TCPConn)
	for number := range uint64(1 + others) {
		clients[number+1] = dial(t, ln)
	}
	enter <- struct{}{}
	closed := p.next()
	fd := descriptor(t, closed.conn)
	closed.park()
	settle(t)
	closed.conn.Close()

	reused := false
	for range others {
		enter <- struct{}{}
		r := p.next()
		reused = reused || descriptor(t, r.conn) == fd
		r.park()
	}
	settle(t)
	p.nobody()
	if !reused {
		t.Fatalf("no other connection has the descriptor %d", fd)
	}
	closed.wake()
	if r := p.next(); r.number != 1 || !errors.Is(r.err, net.ErrClosed) {
		t.Errorf("connection %d reads %q, %v", r.number, r.got, r.err)
	} else {
		r.close()
	}
	settle(t)
	p.nobody()
	for number := uint64(2); number <= 1+others; number++ {
		io.WriteString(clients[number], "x")
		r := p.next()
		if r.number != number || r.got != "x" {
			t.Errorf("connection %d is resumed, want %d, and reads %q, %v", r.number, number, r.got, r.err)
		}
		r.close()
	}
	s.end(t)
	p.nobody()
}

// mindful is a Session that waits until its context is cancelled, which wakes it.
type mindful struct {
	ctx  context.Context
	conn net.Conn
	ran  func()

	mu   sync.Mutex
	wake func()
}

func newMindful(ctx context.Context, conn net.Conn, ran func()) *mindful {
	m := &mindful{ctx: ctx, conn: conn, ran: ran}
	context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.wake != nil {
			m.wake() // under a lock, as in package stage
		}
	})
	return m
}

func (m *mindful) Run(wake func()) (time.Time, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer m.ran()
	if m.ctx.Err() != nil {
		m.conn.Close()
		return time.Time{}, false
	}
	m.wake = wake
	return time.Time{}, true
}

func TestShutdownOfManyThatAreParked(t *testing.T) {
	const count = 300
	before, files := goleak.IgnoreCurrent(), openDescriptors(t)
	sched := &countingScheduler{Scheduler: NewPool(count)}
	ln, err := Listen(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan struct{}, 2*count)
	s := serve(t, &Server{Scheduler: sched, Grace: time.Minute, Handler: SessionHandler(func(ctx context.Context, conn net.Conn, _ uint64) Session {
		return newMindful(ctx, conn, func() { ran <- struct{}{} })
	})}, ln)
	var clients []*net.TCPConn
	for range count {
		clients = append(clients, dial(t, ln))
		<-ran
	}
	settle(t)
	s.end(t)
	for _, client := range clients {
		if got := peerSees(t, client); got != orderly {
			t.Errorf("a client sees an end %s", got)
		}
		client.Close()
	}
	if a, r := sched.acquired.Load(), sched.released.Load(); a != r || a != count {
		t.Errorf("%d slots were taken, and %d released", a, r)
	}
	goleak.VerifyNone(t, before)
	if got := openDescriptors(t); got != files {
		t.Errorf("%d descriptors are open, and %d were before", got, files)
	}
}

// Some are about to be parked when the context is cancelled.
func TestShutdownWhileConnectionsAreParked(t *testing.T) {
	for range 100 {
		ln, _ := listen(t)
		ran := make(chan struct{}, 100)
		s := serve(t, &Server{Grace: time.Minute, Handler: SessionHandler(func(ctx context.Context, conn net.Conn, _ uint64) Session {
			return newMindful(ctx, conn, func() { ran <- struct{}{} })
		})}, ln)
		for range 3 {
			dial(t, ln)
		}
		<-ran
		s.end(t)
	}
}

func TestAtTheEndOfTheGraceAParkedConnectionIsResetAndItsSessionLearnsOfIt(t *testing.T) {
	const count = 3
	before := goleak.IgnoreCurrent()
	sched := &countingScheduler{Scheduler: NewPool(count)}
	ln, _ := listen(t)
	p := newPuppets(t)
	s := serve(t, &Server{Handler: p.handler(), Scheduler: sched, Grace: 50 * time.Millisecond}, ln)
	var clients []*net.TCPConn
	for range count {
		clients = append(clients, dial(t, ln))
		p.next().park()
	}
	settle(t)
	s.stop()
	if err := <-s.result; !errors.Is(err, ErrUnfinished) || !strings.Contains(err.Error(), "3 left") {
		t.Errorf("Serve: %v", err)
	}
	for _, client := range clients {
		if got := peerSees(t, client); got != byReset {
			t.Errorf("a client sees an end %s", got)
		}
	}
	if t.Failed() {
		return
	}
	for range count {
		r := p.next()
		if !errors.Is(r.err, net.ErrClosed) {
			t.Errorf("it reads %q, %v", r.got, r.err)
		}
		r.close()
	}
	settle(t)
	p.nobody()
	if a, r := sched.acquired.Load(), sched.released.Load(); a != r {
		t.Errorf("%d slots were taken, and %d released", a, r)
	}
	goleak.VerifyNone(t, before)
}

func TestASessionThatIsLeftWhenServeHasReturnedGoesOnInPlace(t *testing.T) {
	before := goleak.IgnoreCurrent()
	ln, _ := listen(t)
	p := newPuppets(t)
	s := serve(t, &Server{Handler: p.handler(), Grace: time.Millisecond}, ln)
	dial(t, ln)
	r := p.next()
	s.stop()
	if err := <-s.result; !errors.Is(err, ErrUnfinished) {
		t.Errorf("Serve: %v", err)
	}
	for r.wake != nil {
		r.park()
		r = p.next()
		if r.call > 3 {
			t.Fatal("there is still a way to wake it")
		}
	}
	r.close()
	settle(t)
	goleak.VerifyNone(t, before)
}

// unwatchable is a connection whose descriptor is nobody's to know.
type unwatchable struct{ net.Conn }

var errUnwatchable = errors.New("there is no descriptor")

func (unwatchable) SyscallConn() (syscall.RawConn, error) { return nil, errUnwatchable }

type unwatchableListener struct{ net.Listener }

func (l unwatchableListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return unwatchable{conn}, err
}

func TestAConnectionThatCannotBeWatchedWaitsInPlace(t *testing.T) {
	ln, _ := listen(t)
	p := newPuppets(t)
	s := serve(t, &Server{Handler: p.handler()}, unwatchableListener{ln})
	dial(t, ln)
	r := p.next()
	if r.wake == nil {
		t.Error("nobody has asked for its descriptor yet")
	}
	r.park()
	if r = p.next(); r.wake != nil {
		t.Error("it can be woken, but not be parked")
	}
	r.close()
	s.end(t)
}

func TestTheLotLeavesNoDescriptorAndNoGoroutine(t *testing.T) {
	visitorSees(t, func() net.Listener { ln, _ := listen(t); ln.Close(); return ln }())
	before, files := goleak.IgnoreCurrent(), openDescriptors(t)
	srv := &Server{Handler: SessionHandler(echoing)}
	for range 20 {
		serve(t, srv, newListener()).end(t)
	}
	for range 20 { // and if Serve itself is left by a panic, of a listener that is somebody else's
		ln := newListener()
		ln.fail = func() error { panic("at the wrong moment") }
		func() {
			defer func() {
				if recover() == nil {
					t.Error("there was no panic")
				}
			}()
			srv.Serve(t.Context(), ln)
		}()
	}
	goleak.VerifyNone(t, before)
	if got := openDescriptors(t); got != files {
		t.Errorf("%d descriptors are open, and %d were before", got, files)
	}
}

// countingRawConn counts calls of Read.
type countingRawConn struct {
	syscall.RawConn
	reads atomic.Int64
}

func (c *countingRawConn) Read(f func(fd uintptr) bool) error {
	c.reads.Add(1)
	return c.RawConn.Read(f)
}

// A poller that told again of what nobody has looked at, or came back without
// having anything to tell, would spin.
func TestThePollerTellsOnce(t *testing.T) {
	const times = 300
	ln, _ := listen(t)
	dead, deadPeer := dial(t, ln), accept(t, ln)
	conn, peer := dial(t, ln), accept(t, ln)
	reset(deadPeer)
	fd, deadFD := int(descriptor(t, conn)), int(descriptor(t, dead))

	poller := newPoller()
	raw := &countingRawConn{RawConn: poller.raw}
	poller.raw = raw
	told := make(chan int, 10*times)
	over := make(chan struct{})
	go func() {
		defer close(over)
		poller.wait(func(fd int) { told <- fd })
	}()
	if err := poller.watch(deadFD, false); err != nil {
		t.Fatal(err)
	}
	if got := <-told; got != deadFD {
		t.Errorf("told of %d", got)
	}
	io.WriteString(peer, "x") // which stays there
	for i := range times {
		if err := poller.watch(fd, i > 0); err != nil {
			t.Fatal(err)
		}
		if got := <-told; got != fd {
			t.Fatalf("told of %d, of which it was told before", got)
		}
	}
	poller.close()
	<-over
	if len(told) != 0 {
		t.Errorf("told of %d", <-told)
	}
	if got := raw.reads.Load(); got > 1+times+1 { // the last one is ended by the close
		t.Errorf("the poller came back %d times, and told of %d", got-1, 1+times)
	}
	if err := poller.watch(fd, true); err == nil {
		t.Error("one that is closed watches")
	}
}

// resetting is a Session that ends when it is reset.
type resetting struct {
	conn net.Conn
	ran  chan<- struct{}
	over chan struct{}
}

func (r *resetting) Run(func()) (until time.Time, waits bool) {
	r.ran <- struct{}{}
	<-r.over
	return
}

func (r *resetting) Reset() {
	reset(r.conn)
	close(r.over)
}

func TestAtTheEndOfTheGraceAResetterIsReset(t *testing.T) {
	const count = 3
	before := goleak.IgnoreCurrent()
	ln, _ := listen(t)
	ran := make(chan struct{})
	s := serve(t, &Server{Grace: 50 * time.Millisecond, Handler: SessionHandler(func(_ context.Context, conn net.Conn, _ uint64) *resetting {
		return &resetting{conn, ran, make(chan struct{})}
	})}, ln)
	var clients []*net.TCPConn
	for range count {
		clients = append(clients, dial(t, ln))
		<-ran
	}
	s.stop()
	if err := <-s.result; !errors.Is(err, ErrUnfinished) || !strings.Contains(err.Error(), "3 left") {
		t.Errorf("Serve: %v", err)
	}
	for _, client := range clients {
		if got := peerSees(t, client); got != byReset {
			t.Errorf("a client sees an end %s", got)
		}
	}
	goleak.VerifyNone(t, before)
}
