package transport

import (
	"sync"
	"syscall"
	"time"
)

// lot is where connections wait that their Sessions have left: one goroutine waits
// for all of them.
type lot struct {
	resume func(*tracked) // has one served again, without waiting
	begin  sync.Once      // when the first comes that can be parked
	poller *poller        // nil before that, and if there can be none
	over   chan struct{}  // closed when that goroutine has ended
	turns  turns          // of that goroutine

	mu     sync.Mutex
	parked []*tracked // by descriptor
}

// parking is what the lot knows of a connection.
type parking struct {
	// These are for who serves the connection, or has found it parked.
	wake    func() // nil until the first Run
	inPlace bool   // it cannot be parked

	// The lot's mu guards these.
	fd      int
	watched bool // the poller knows fd
	parked  bool
	woken   bool        // while it was not parked
	timeout *time.Timer // wakes it; nil until it is parked with a time
}

// newLot returns a lot. close ends it.
func newLot(resume func(*tracked)) *lot {
	return &lot{resume: resume, over: make(chan struct{})}
}

// start has the goroutine begin. Where no connection is the system's, as in memory, there
// is none: to wait in the system is no waiting for a bubble of testing/synctest.
func (l *lot) start() {
	p := newPoller()
	if p == nil {
		return
	}
	l.poller = p
	go func() {
		defer close(l.over)
		p.wait(l.ready)
	}()
}

// close ends the lot: nothing can be parked any longer. What is parked is resumed by
// wake and its time, but not by what comes.
func (l *lot) close() {
	if l == nil {
		return
	}
	l.begin.Do(func() {}) // never, if it has not
	if l.poller != nil {
		l.poller.close()
		<-l.over
	}
}

// waker returns what wakes t, or nil if t cannot be parked.
func (l *lot) waker(t *tracked) func() {
	if _, ok := t.Conn.(syscall.Conn); !ok || t.inPlace {
		return nil
	}
	if l.begin.Do(l.start); l.poller == nil {
		return nil
	}
	if t.wake == nil {
		t.wake = func() { l.unpark(t) }
	}
	return t.wake
}

// park keeps t, which it takes over, until there is something to be read, it is
// woken, or until (zero: never) has come. If it cannot, or t has been woken since it
// was resumed, it reports false, and t is still the caller's.
func (l *lot) park(t *tracked, until time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.woken {
		t.woken = false
		return false
	}
	if !l.watch(t) {
		t.inPlace = true
		return false
	}
	t.parked = true
	for len(l.parked) <= t.fd {
		l.parked = append(l.parked, nil)
	}
	l.parked[t.fd] = t
	if !until.IsZero() {
		if t.timeout == nil {
			t.timeout = time.AfterFunc(time.Until(until), t.wake)
		} else {
			t.timeout.Reset(time.Until(until))
		}
	}
	return true
}

// watch has the poller tell when t has something to be read.
func (l *lot) watch(t *tracked) bool {
	sc, ok := t.session.(syscall.Conn)
	if !ok {
		sc = t.Conn.(syscall.Conn)
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	cerr := rc.Control(func(fd uintptr) {
		t.fd = int(fd)
		err = l.poller.watch(t.fd, t.watched)
		t.watched = err == nil
	})
	return err == nil && cerr == nil
}

// unpark has t resumed if it is parked, and otherwise keeps it from being so
// once.
func (l *lot) unpark(t *tracked) {
	l.mu.Lock()
	if !t.parked {
		t.woken = true
		l.mu.Unlock()
		return
	}
	t.parked = false
	if l.parked[t.fd] == t { // and not one that got the descriptor of t, which was closed
		l.parked[t.fd] = nil
	}
	if t.timeout != nil {
		t.timeout.Stop()
	}
	l.mu.Unlock()
	l.resume(t)
}

// ready has who waits with fd resumed. It may be one that got the descriptor of
// another that was closed, or that has been resumed and parked again: then it is too
// early, which does no harm.
func (l *lot) ready(fd int) {
	l.turns.work()
	defer l.turns.wait()
	l.mu.Lock()
	var t *tracked
	if fd < len(l.parked) {
		t = l.parked[fd]
	}
	l.mu.Unlock()
	if t != nil {
		t.wake()
	}
}
