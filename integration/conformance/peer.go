package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// The words of the protocol, as the kit has them: they are not the ones of the
// library, which is among those that are judged.
const (
	greeting = "accio\r\n"
	confirm  = "confirm-accio\r\n"
	again    = "confirm-accio-again\r\n\r\n"
	header   = confirm + again
)

const (
	// patience is how long a peer waits for what should come at once, from any
	// program on any machine. It is less than what the protocol allows for
	// silence, so that what only time-outs bring about is seen as late.
	patience = 8 * time.Second

	// workload is how long a program may take with what it has got, before it
	// takes more or closes.
	workload = 30 * time.Second
)

// ending is how the other side was seen to close.
type ending string

const (
	orderly ending = "an orderly close (FIN)"
	reset   ending = "a reset (RST)"
)

// peer is the kit's end of a connection, whichever side that is. Each of its
// steps does nothing if the trial has failed.
type peer struct {
	t        witness
	tape     tape
	conn     *net.TCPConn // nil if the trial has failed
	in       []byte       // read and not looked at yet
	patience time.Duration
	end      ending    // how the other side has closed, if it has
	last     time.Time // when something was sent or received last
}

func (t *trial) peer(conn *net.TCPConn, how string) *peer {
	tape := t.tapes.tape()
	p := &peer{t: witness{trial: t, tape: tape}, tape: tape, conn: conn, patience: patience, last: time.Now()}
	if conn == nil {
		return p
	}
	p.tape.note(how)
	t.owns(conn)
	return p
}

// dial connects to addr.
func (t *trial) dial(n *network, addr string) *peer {
	if t.over() {
		return t.peer(nil, "")
	}
	conn, err := t.tryDial(n, addr, patience)
	if lacking(err) {
		t.cannot("connecting", err)
		return t.peer(nil, "")
	}
	if err != nil {
		t.fail("a connection to the server", "%v", err)
		return t.peer(nil, "")
	}
	return t.peer(conn, "connected to "+addr)
}

// lacking says that an error is for want of something on the kit's side.
func lacking(err error) bool {
	for _, cause := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, cause) {
			return true
		}
	}
	return false
}

// tryDial is dial where it need not succeed.
func (t *trial) tryDial(n *network, addr string, within time.Duration) (tcp *net.TCPConn, err error) {
	err = n.do(func() error {
		conn, err := (&net.Dialer{Timeout: within}).DialContext(t.ctx, "tcp4", addr)
		if err == nil {
			tcp = conn.(*net.TCPConn)
		}
		return err
	})
	return tcp, err
}

func (p *peer) over() bool { return p.conn == nil || p.t.over() }

// read takes what has come, or waits for it. It returns nil at the end, and
// when nothing has come.
func (p *peer) read(within time.Duration) []byte { return p.readUpTo(64<<10, within) }

func (p *peer) readUpTo(most int, within time.Duration) []byte {
	buf := make([]byte, most)
	p.conn.SetReadDeadline(p.deadline(within))
	n, err := p.conn.Read(buf)
	switch {
	case n > 0:
		p.tape.add("received", buf[:n])
		p.last = time.Now()
		return buf[:n]
	case errors.Is(err, os.ErrDeadlineExceeded):
	case err == io.EOF:
		p.ended(orderly)
	default: // ECONNRESET, or on some systems EPIPE or ETIMEDOUT
		p.ended(reset)
	}
	return nil
}

func (p *peer) ended(e ending) {
	if p.end == "" {
		p.end = e
		p.tape.note("saw " + string(e))
	}
}

func (p *peer) deadline(within time.Duration) time.Time { return p.t.deadline(within) }

// deadline is the end of a time that begins now, or of the trial if that is sooner.
func (t *trial) deadline(within time.Duration) time.Time {
	at := time.Now().Add(within)
	if limit, ok := t.ctx.Deadline(); ok && limit.Before(at) {
		return limit
	}
	return at
}

// seen says what has come, for a failure.
func (p *peer) seen() string {
	switch {
	case p.end != "" && len(p.in) > 0:
		return fmt.Sprintf("%s, then %s", quoted(p.in), p.end)
	case p.end != "":
		return string(p.end)
	case len(p.in) > 0:
		return quoted(p.in)
	default:
		return "nothing"
	}
}

// hear expects exactly these words, however they are cut. It takes nothing that
// comes after them: who hears no more has a program that cannot send any more.
func (p *peer) hear(words string) *peer {
	for !p.over() {
		n := min(len(p.in), len(words))
		switch {
		case string(p.in[:n]) != words[:n]:
			p.t.fail(fmt.Sprintf("%q", words), "%s", p.seen())
		case n == len(words):
			p.in = p.in[n:]
			return p
		case p.end != "":
			p.t.fail(fmt.Sprintf("%q", words), "%s", p.seen())
		default:
			got := p.readUpTo(len(words)-len(p.in), p.patience)
			if got == nil && p.end == "" {
				p.t.fail(fmt.Sprintf("%q within %v", words, p.patience), "%s", p.seen())
			}
			p.in = append(p.in, got...)
		}
	}
	return p
}

// hearAtOnce expects these words in one piece, and nothing with them.
func (p *peer) hearAtOnce(words string) *peer {
	if !p.over() {
		p.in = append(p.in, p.read(p.patience)...)
		p.t.ensure(string(p.in) == words, fmt.Sprintf("%q in one piece, and nothing with it", words), "%s", p.seen())
		p.in = nil
	}
	return p
}

// hears nothing for a while, and sees no end either.
func (p *peer) hearsNothing(within time.Duration, why string) *peer {
	if !p.over() {
		if len(p.in) == 0 && p.end == "" {
			p.in = append(p.in, p.read(within)...)
		}
		p.t.ensure(len(p.in) == 0 && p.end == "", "nothing "+why, "%s", p.seen())
	}
	return p
}

// hearsNoWord is hearsNothing for who does not mind an end.
func (p *peer) hearsNoWord(within time.Duration, why string) *peer {
	if !p.over() {
		if len(p.in) == 0 && p.end == "" {
			p.in = append(p.in, p.read(within)...)
		}
		p.t.ensure(len(p.in) == 0, "nothing "+why, "%s", p.seen())
	}
	return p
}

// say sends each piece in a write of its own.
func (p *peer) say(pieces ...string) *peer {
	for _, s := range pieces {
		if p.over() || p.end != "" {
			return p
		}
		p.write([]byte(s))
	}
	return p
}

// sayApart sends each piece a moment after the one before, so that each is, on
// most days, a segment of its own.
func (p *peer) sayApart(pause time.Duration, pieces ...string) *peer {
	for i, s := range pieces {
		if i > 0 {
			p.t.pace(pause)
		}
		p.say(s)
	}
	return p
}

// give sends all of a payload.
func (p *peer) give(what payload) *peer {
	for piece := range what.pieces() {
		if p.over() || p.end != "" {
			break
		}
		p.write(piece)
	}
	return p
}

func (p *peer) write(b []byte) {
	if len(b) == 0 {
		return
	}
	p.tape.add("sent", b)
	p.conn.SetWriteDeadline(p.deadline(workload))
	_, err := p.conn.Write(b)
	p.last = time.Now()
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.t.fail("the other side to take what is sent", "it takes nothing for %v", workload)
	case err != nil:
		p.ended(reset)
	}
}

// ends the stream, and goes on listening.
func (p *peer) halfClose() *peer {
	if !p.over() && p.end == "" {
		p.tape.note("sent the end of stream")
		p.conn.CloseWrite() // fails only if the connection has broken: to be seen by who reads
		p.last = time.Now()
	}
	return p
}

// close closes the connection without a look at what comes.
func (p *peer) close() *peer {
	if p.conn != nil {
		p.tape.note("closed")
		p.conn.Close()
	}
	return p
}

// breakOff resets the connection.
func (p *peer) breakOff() *peer {
	if p.conn != nil {
		p.tape.note("sent a reset")
		p.conn.SetLinger(0)
		p.conn.Close()
	}
	return p
}

// awaitEnd waits until the other side closes, and expects no word before but
// those given, or a beginning of them. A greeting that comes too early, and so is
// still to be read, is left to who asks for that.
func (p *peer) awaitEnd(within time.Duration, words string, why string) *peer {
	for !p.over() && p.end == "" {
		got := p.read(within + p.t.slack())
		if got == nil && p.end == "" {
			p.t.missed(within)
			p.t.fail(fmt.Sprintf("the end of the connection within %v, %s", within.Round(time.Millisecond), why), "%s", p.seen())
		}
		if p.in = append(p.in, got...); !bytes.HasPrefix([]byte(words+greeting), p.in) {
			p.t.fail("no word before the end of the connection, "+why, "%s", p.seen())
		}
	}
	return p
}

// ends expects the other side to close in a certain way.
func (p *peer) ends(want ending, why string) *peer {
	p.awaitEnd(workload, "", why)
	if !p.over() {
		p.t.ensure(p.end == want, string(want)+", "+why, "%s", p.end)
	}
	return p
}

// take expects a whole payload and then the end of stream.
func (p *peer) take(want payload) *peer {
	if p.over() {
		return p
	}
	diff, err := want.differs(io.MultiReader(bytes.NewReader(p.in), (*peerReader)(p)))
	p.in = nil
	if err != nil {
		diff += fmt.Sprintf(" (%v)", err)
	}
	p.t.ensure(diff == "", "the payload "+want.String(), "%s", diff)
	return p
}

// discard takes what comes until nothing more does.
func (p *peer) discard() *peer {
	for !p.over() && p.end == "" && p.read(p.patience) != nil {
	}
	return p
}

// narrow has the system keep little of what comes and is not read, so that the
// other side's does. It is for who has not let the other side send anything yet.
func (p *peer) narrow() *peer {
	if !p.over() {
		if err := p.conn.SetReadBuffer(64 << 10); err != nil {
			p.t.cannot("setting a buffer", err)
		}
	}
	return p
}

// takeSlowly is take with so many bytes a second, steadily.
func (p *peer) takeSlowly(want payload, rate int) *peer {
	if p.over() {
		return p
	}
	// Ten times a second; what is read too late is not made up for.
	pause := time.NewTicker(time.Second / 10)
	defer pause.Stop()
	for int64(len(p.in)) < want.length() && !p.over() && p.end == "" {
		got := p.readUpTo(rate/10, p.patience)
		if got == nil && p.end == "" {
			p.t.fail("the payload "+want.String(), "%d bytes, then nothing for %v", len(p.in), p.patience)
		}
		p.in = append(p.in, got...)
		<-pause.C
	}
	return p.take(want)
}

var errEnded = errors.New("the connection ended")

// peerReader reads what comes up to the end of stream.
type peerReader peer

func (r *peerReader) Read(b []byte) (int, error) {
	p := (*peer)(r)
	p.conn.SetReadDeadline(p.deadline(p.patience))
	n, err := p.conn.Read(b)
	if n > 0 {
		p.tape.add("received", b[:n])
		p.last = time.Now()
	}
	switch {
	case err == nil:
	case err == io.EOF:
		p.ended(orderly)
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = fmt.Errorf("nothing came for %v", p.patience)
	case errors.Is(err, syscall.ECONNRESET):
		p.ended(reset)
		err = fmt.Errorf("%w: %s", errEnded, p.end)
	}
	return n, err
}
