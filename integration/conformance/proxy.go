package conformance

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"
)

// shape is what a proxy does to the bytes that go through it, in both
// directions. The zero value changes nothing.
type shape struct {
	delay  time.Duration // of everything
	jitter time.Duration // of what may be added to it; the order stays

	// fragment is the most bytes that are sent at once, for as many bytes as
	// fragmented says (0: for all), with a pause after each piece so that they
	// leave in segments of their own.
	fragment   int
	fragmented int64

	coalesce time.Duration // how long to collect what comes, to send it in one

	// stall is how long nothing moves, every so many bytes: what a lost
	// segment looks like from above.
	stall      time.Duration
	stallEvery int64

	rate int // bytes a second that are read at the most; 0 is as fast as they come

	resetAfter int64 // from the side that connects; both sides are reset then. 0 is never
}

// inFlight bounds what a proxy holds in one direction.
const inFlight = 64

// shapedNetwork is a network that is slow and loses segments, as far as that
// can be played from above TCP.
var shapedNetwork = shape{
	delay: 25 * time.Millisecond, jitter: 10 * time.Millisecond,
	fragment: 5, fragmented: 400,
	stall: 200 * time.Millisecond, stallEvery: 40 << 20,
}

// proxy forwards what connects to it.
type proxy struct {
	shape  shape
	target string
	ln     *listener
	cancel context.CancelFunc // of connections to the target that are being made
	work   sync.WaitGroup

	mu     sync.Mutex
	conns  []*net.TCPConn
	closed bool
}

// proxy starts a proxy to target and returns its address.
func (t *trial) proxy(target string, s shape) string {
	ln := t.listen(nil)
	if t.over() {
		return ""
	}
	ctx, cancel := context.WithCancel(t.ctx)
	p := &proxy{shape: s, target: target, ln: ln, cancel: cancel}
	p.work.Go(func() { p.serve(ctx) })
	t.later(p.close)
	return ln.Addr().String()
}

func (p *proxy) close() {
	p.ln.Close()
	p.cancel()
	p.mu.Lock()
	p.closed = true
	for _, c := range p.conns {
		c.SetLinger(0) // nobody waits for what is still under way
		c.Close()
	}
	p.mu.Unlock()
	p.work.Wait()
}

// keep has close close the connection, and says whether that is still to come.
func (p *proxy) keep(c *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
		return false
	}
	p.conns = append(p.conns, c)
	return true
}

func (p *proxy) serve(ctx context.Context) {
	for {
		near, err := p.ln.AcceptTCP()
		if err != nil {
			return
		}
		if !p.keep(near) {
			return
		}
		p.work.Go(func() {
			conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp4", p.target)
			if err != nil {
				cut(near)
				return
			}
			far := conn.(*net.TCPConn)
			if !p.keep(far) {
				return
			}
			var both sync.WaitGroup
			both.Go(func() { p.forward(far, near, p.shape.resetAfter) })
			both.Go(func() { p.forward(near, far, 0) })
			both.Wait()
			near.Close()
			far.Close()
		})
	}
}

// cut resets connections.
func cut(conns ...*net.TCPConn) {
	for _, c := range conns {
		c.SetLinger(0)
		c.Close()
	}
}

// parcel is some bytes on their way.
type parcel struct {
	data []byte
	due  time.Time
	err  error // of the side that they come from: io.EOF at its end of stream
}

// forward moves bytes from one side to the other, and then how they ended: the
// end of stream as that, all else as a reset.
func (p *proxy) forward(to, from *net.TCPConn, resetAfter int64) {
	way := make(chan parcel, inFlight)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(way)
		p.collect(way, from, resetAfter)
	})
	sent := int64(0)
	broken := false
	for parcel := range way {
		if broken {
			continue // collect ends by itself: from is closed
		}
		if pause := time.Until(parcel.due); pause > 0 {
			<-time.After(pause)
		}
		err := parcel.err
		if err == nil {
			err = p.send(to, parcel.data, &sent)
		}
		switch {
		case err == io.EOF:
			to.CloseWrite()
		case err != nil:
			cut(to, from)
			broken = true
		}
	}
	reader.Wait()
}

var errCut = errors.New("to be reset here")

// collect reads what comes and says when it is due on the other side.
func (p *proxy) collect(way chan<- parcel, from *net.TCPConn, resetAfter int64) {
	read := int64(0)
	due := time.Time{}
	for {
		buf := make([]byte, 64<<10)
		room := buf
		if resetAfter > 0 {
			room = room[:min(int64(len(room)), resetAfter-read)]
		}
		if p.shape.rate > 0 {
			room = room[:min(len(room), max(1, p.shape.rate/20))]
		}
		n, err := from.Read(room)
		if p.shape.coalesce > 0 && err == nil {
			from.SetReadDeadline(time.Now().Add(p.shape.coalesce))
			for n < len(room) && err == nil {
				var m int
				m, err = from.Read(room[n:])
				n += m
			}
			if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
				err = nil
			}
			from.SetReadDeadline(time.Time{})
		}
		if p.shape.rate > 0 && n > 0 {
			<-time.After(time.Duration(n) * time.Second / time.Duration(p.shape.rate))
		}
		after := p.shape.delay
		if p.shape.jitter > 0 {
			after += rand.N(p.shape.jitter)
		}
		if at := time.Now().Add(after); at.After(due) {
			due = at
		}
		before := read
		read += int64(n)
		if every := p.shape.stallEvery; every > 0 && before/every != read/every {
			due = due.Add(p.shape.stall)
		}
		if n > 0 {
			way <- parcel{data: buf[:n], due: due}
		}
		if resetAfter > 0 && read >= resetAfter {
			err = errCut
		}
		if err != nil {
			if err != io.EOF && errors.Is(err, syscall.ECONNRESET) {
				err = syscall.ECONNRESET
			}
			way <- parcel{err: err, due: due}
			return
		}
	}
}

func (p *proxy) send(to *net.TCPConn, data []byte, sent *int64) error {
	for len(data) > 0 {
		n := len(data)
		small := p.shape.fragment > 0 && (p.shape.fragmented == 0 || *sent < p.shape.fragmented)
		if small {
			n = min(n, p.shape.fragment)
		}
		if _, err := to.Write(data[:n]); err != nil {
			return err
		}
		*sent += int64(n)
		data = data[n:]
		if small && len(data) > 0 {
			<-time.After(time.Millisecond)
		}
	}
	return nil
}
