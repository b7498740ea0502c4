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

	// firstRequest is how long one that has just come keeps its place without having sent
	// a request, if all places are taken. Who connects to ask sends it at once, and that of
	// who has waited for a place is there already. Those who are silent make way one after
	// the other, so that this is also what maxConns of them cost who comes after them.
	firstRequest = 50 * time.Millisecond

	// longAnswer is how long an answer keeps its place then. It is more than it takes to
	// make any (see probePatience); what is to last longer is a stream.
	longAnswer = 3 * time.Second
)

// standing is what a connection does. One that has done so for longer than its patience
// has to go if all places are taken: of several, one of the least standing.
type standing int

const (
	idle      standing = iota // it may send another request, or a part of one
	fresh                     // likewise, the first, and the server listens
	answering                 // a request is answered, or the server does not listen yet
	streaming                 // likewise, with what lasts; it is never turned out
)

var patience = [...]time.Duration{idle: 0, fresh: firstRequest, answering: longAnswer}

// places is a listener that has no more than n connections open, and one that waits to be
// one of them. Whoever connects gets a place soon, whatever the others do, as long as fewer
// than n of them are streaming: who has waited for the longest, or asks for nothing, makes
// room.
type places struct {
	net.Listener
	n       int
	changed chan struct{} // holds a token if somebody may have gone, or become another
	closed  chan struct{}
	once    sync.Once

	mu    sync.Mutex
	taken map[*place]struct{}
}

func newPlaces(ln net.Listener, n int) *places {
	return &places{Listener: ln, n: n, changed: make(chan struct{}, 1), closed: make(chan struct{}), taken: make(map[*place]struct{})}
}

// Accept waits for the next connection, and then until there is room for it: so nobody has
// to go as long as nobody comes. It is for one goroutine at a time.
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

// makeRoom returns when a place is free.
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

// full returns who has to make room, or how long until that is to be asked again. If there
// is room these are nil and 0.
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

// change has c be of that standing from now on.
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

// track is the ConnState of the http.Server that serves these connections. A request is
// one that has been read as far as its body.
func (p *places) track(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateActive:
		p.change(conn.(*place), answering)
	case http.StateIdle:
		p.change(conn.(*place), idle)
	}
}

type placeKey struct{}

// withPlace is its ConnContext.
func withPlace(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, placeKey{}, conn)
}

// streams serves by next what lasts, for n at a time at the most: these keep their places.
// What is over that is told what there is already, such as "pages are open".
func streams(n int, what string, next http.HandlerFunc) http.HandlerFunc {
	under := make(chan struct{}, n)
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case under <- struct{}{}:
			defer func() { <-under }()
		default:
			plain(w, http.StatusServiceUnavailable, fmt.Sprintf("%d %s already", n, what))
			return
		}
		if c, ok := r.Context().Value(placeKey{}).(*place); ok {
			c.of.change(c, streaming)
			defer c.of.change(c, answering) // it has still to take the rest
		}
		next(w, r)
	}
}

// place is a connection that has one.
type place struct {
	net.Conn
	of *places

	heard bool // for who reads

	standing standing // guarded by of.mu, as is since
	since    time.Time
}

// Read has the time for the first request begin when the server listens, however busy the
// machine is until then.
func (c *place) Read(p []byte) (int, error) {
	if !c.heard {
		c.heard = true
		c.of.change(c, fresh)
	}
	return c.Conn.Read(p)
}

// Close makes room for another.
func (c *place) Close() error {
	err := c.Conn.Close()
	c.of.mu.Lock()
	delete(c.of.taken, c)
	c.of.mu.Unlock()
	c.of.tell()
	return err
}
