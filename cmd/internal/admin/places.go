package admin

import (
	"context"
	"fmt"
	"math"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// maxConns bounds the connections to the admin address.
	maxConns = 32

	// firstRequest is the time for a new connection to send a request, if all places are
	// taken. Real clients send it at once. Silent connections make room one after the
	// other, so maxConns of them delay the next client by about this time.
	firstRequest = 50 * time.Millisecond

	// longAnswer is the time for an answer, if all places are taken. It is longer than any
	// answer needs (see probePatience). Longer answers are streams.
	longAnswer = 3 * time.Second
)

// standing is the state of a connection. If all places are taken, a connection that is in
// its state for longer than patience must make room: the lowest state first.
type standing int

const (
	idle      standing = iota // before another request
	fresh                     // before the first request
	answering                 // during an answer, or before the server reads
	streaming                 // during a stream; never makes room
)

var patience = [...]time.Duration{idle: 0, fresh: firstRequest, answering: longAnswer}

// places is a listener with at most n open connections, and one more that waits for a
// place. While fewer than n connections stream, a new connection soon gets a place,
// whatever the others do: an idle or slow one makes room.
type places struct {
	net.Listener
	n       int
	changed chan struct{} // holds a token after a close or a change of state
	closed  chan struct{}
	once    sync.Once

	mu    sync.Mutex
	taken map[*place]struct{}
}

func newPlaces(ln net.Listener, n int) *places {
	return &places{Listener: ln, n: n, changed: make(chan struct{}, 1), closed: make(chan struct{}), taken: make(map[*place]struct{})}
}

// Accept waits for the next connection, and then for room. So no connection must go
// before another comes. It is for one goroutine at a time.
func (p *places) Accept() (net.Conn, error) {
	conn, err := p.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if err := p.makeRoom(); err != nil {
		conn.Close()
		return nil, err
	}
	c := &place{Conn: conn, of: p, standing: answering, since: time.Now()}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken[c] = struct{}{}
	return c, nil
}

// makeRoom waits until a place is free.
func (p *places) makeRoom() error {
	for {
		victim, wait := p.full(time.Now())
		if victim != nil {
			victim.Close()
			continue
		}
		if wait == 0 {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-p.changed:
		case <-p.closed:
			timer.Stop()
			return net.ErrClosed
		}
		timer.Stop()
	}
}

// full returns the connection that must make room, or the time until the next try. If
// there is room, it returns nil and 0.
func (p *places) full(now time.Time) (victim *place, wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.taken) < p.n {
		return nil, 0
	}
	wait = math.MaxInt64
	for c := range p.taken {
		if c.standing == streaming {
			continue
		}
		if left := patience[c.standing] - now.Sub(c.since); left > 0 {
			wait = min(wait, left)
			continue
		}
		if victim == nil || c.standing < victim.standing || c.standing == victim.standing && c.since.Before(victim.since) {
			victim = c
		}
	}
	return victim, wait
}

// Close closes the listener.
func (p *places) Close() error {
	p.once.Do(func() { close(p.closed) })
	return p.Listener.Close()
}

// change changes the state of c.
func (p *places) change(c *place, to standing) {
	p.mu.Lock()
	c.standing, c.since = to, time.Now()
	p.mu.Unlock()
	p.tell()
}

func (p *places) tell() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// track is the ConnState of the http.Server. A request becomes active once its header is
// read.
func (p *places) track(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateActive:
		p.change(conn.(*place), answering)
	case http.StateIdle:
		p.change(conn.(*place), idle)
	}
}

type placeKey struct{}

// withPlace is the ConnContext of the http.Server.
func withPlace(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, placeKey{}, conn)
}

// streams serves at most n streams by next, which keep their places. A refused client reads
// "n streams already", with a description such as "pages are open".
func streams(n int, description string, next http.HandlerFunc) http.HandlerFunc {
	under := make(chan struct{}, n)
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case under <- struct{}{}:
			defer func() { <-under }()
		default:
			plain(w, http.StatusServiceUnavailable, fmt.Sprintf("%d %s already", n, description))
			return
		}
		if c, ok := r.Context().Value(placeKey{}).(*place); ok {
			c.of.change(c, streaming)
			defer c.of.change(c, answering) // the client has not received everything
		}
		next(w, r)
	}
}

// place is a connection that holds a place.
type place struct {
	net.Conn
	of *places

	heard bool // for Read

	standing standing // of.mu guards standing and since
	since    time.Time
}

// Read starts the time for the first request when the server first reads, however busy
// the machine is before.
func (c *place) Read(p []byte) (int, error) {
	if !c.heard {
		c.heard = true
		c.of.change(c, fresh)
	}
	return c.Conn.Read(p)
}

// Close frees the place.
func (c *place) Close() error {
	err := c.Conn.Close()
	c.of.mu.Lock()
	delete(c.of.taken, c)
	c.of.mu.Unlock()
	c.of.tell()
	return err
}
