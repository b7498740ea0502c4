package stage

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"
)

// Frames is a stage that cuts what the peer sends into frames, and calls the next
// handler once for each, in order, until the peer ends its stream between two of them.
//
// The handler's Conn is that of the frame: its Frame is the frame's number, its In ends
// with the frame, and stages inside of Frames act on the frame alone: [Count] counts it,
// and [Save] stores it as a payload of its own, whose name is made from Number and
// Frame. Net, Reply, the deadlines, and a shutdown are the connection's. The Conn is
// used again for the next frame: it is the handler's until that returns. If a handler
// returns an error, the connection ends with it, and what has come of later frames is
// lost. What it has not read of its frame is skipped.
//
// A frame larger than Max is an [ErrTooLarge] as soon as that is known: if its length
// comes first, before the handler is called for it. So is one more than MaxFrames. A malformed length is an
// [ErrProtocol]. So is an end of the stream within a frame, which is an
// io.ErrUnexpectedEOF as well: the reads of In end with it, so that no part of a frame
// is taken for the whole.
//
// Stages outside of Frames have the connection before them as ever: an [Idle] there
// limits the silence within frames and between them, an [Observe] is told what reaches
// the sinks of all frames.
//
// Frames reads ahead, up to 64 KiB, so that small frames are quick, and copies what it
// has read. The rest of a frame whose length comes first keeps zero-copy: it is moved
// by [Copy] as that of a connection is. A connection that waits for its peer holds no
// buffer, on Linux and where c.In is a TCP or Unix stream connection behind gates;
// elsewhere it holds one as Copy does. It keeps its goroutine, so a [Session] is not left inside
// of Frames.
type Frames struct {
	// Split is how frames are told from each other.
	Split Framing

	// Max is how many bytes a frame may have, without its length or delimiter. 0 or
	// less means no limit.
	Max int64

	// MaxFrames is how many frames a connection may have, empty ones included. 0 or less
	// means no limit: then a peer makes what is done for a frame, such as a file, be done
	// for each byte that it sends.
	MaxFrames int64

	// AllowEnd says that the end of the stream ends the last frame if its delimiter is
	// missing, as that of a last line may be: otherwise that is an end within a frame,
	// since it cannot be told from a peer that has died. It means nothing to a frame
	// whose length comes first.
	AllowEnd bool
}

// Framing is how the frames of a stream are told from each other. The zero value is
// none.
type Framing struct {
	begin func(h *prefix, b byte) (begun, error)
	delim string
}

// prefix is what has come of a frame's length.
type prefix struct {
	n      int // bytes
	length uint64
}

// begun is what a byte at the beginning of a frame says.
type begun uint8

const (
	goesOn    begun = iota // the length does
	sized                  // the length is complete
	delimited              // the byte is the first of a frame that ends with the delimiter
)

// LengthPrefix is the framing in which each frame comes after its length, as an unsigned
// integer of size bytes: 1, 2, 4 or 8, in that order of bytes.
func LengthPrefix(size int, order binary.ByteOrder) Framing {
	if size != 1 && size != 2 && size != 4 && size != 8 || order == nil {
		panic("stage: LengthPrefix of a size that there is not, or without an order")
	}
	little := order.Uint16([]byte{1, 0}) == 1
	return Framing{begin: func(h *prefix, b byte) (begun, error) {
		if little {
			h.length |= uint64(b) << (8 * h.n)
		} else {
			h.length = h.length<<8 | uint64(b)
		}
		if h.n+1 < size {
			return goesOn, nil
		}
		return sized, nil
	}}
}

// UvarintPrefix is the framing in which each frame comes after its length as a varint
// (encoding/binary), as Protocol Buffers' delimited messages do.
var UvarintPrefix = Framing{begin: func(h *prefix, b byte) (begun, error) {
	if h.n == binary.MaxVarintLen64-1 && b > 1 {
		return 0, fmt.Errorf("length: %w: a varint of more than 64 bits", ErrProtocol)
	}
	h.length |= uint64(b&0x7f) << (7 * h.n)
	if b&0x80 != 0 {
		return goesOn, nil
	}
	return sized, nil
}}

// Delimiter is the framing in which each frame ends with delim, one byte or more, which
// is not part of it. Two delimiters in a row have an empty frame between them. With
// "\n" or "\x00" it is the non-transparent framing of syslog (RFC 6587, 3.4.2).
func Delimiter(delim string) Framing {
	if delim == "" {
		panic("stage: Delimiter without a delimiter")
	}
	return Framing{begin: func(*prefix, byte) (begun, error) { return delimited, nil }, delim: delim}
}

// OctetCounting is the octet counting of syslog (RFC 6587, 3.4.1): each frame comes after
// its length in decimal digits, of which the first is not 0, and a space.
var OctetCounting = Framing{begin: octetCounting}

func octetCounting(h *prefix, b byte) (begun, error) {
	switch {
	case b == ' ' && h.n > 0:
		return sized, nil
	case b < '0' || b > '9' || b == '0' && h.n == 0:
		return 0, fmt.Errorf("length: %w: got %q", ErrProtocol, b)
	case h.length > (math.MaxUint64-9)/10:
		h.length = math.MaxUint64
	default:
		h.length = 10*h.length + uint64(b-'0')
	}
	return goesOn, nil
}

// SyslogFraming is that of servers which take syslog from anybody: a frame that begins
// with a digit is one of OctetCounting, any other (a message begins with "<") ends with
// a line feed. So each frame may be of either kind.
var SyslogFraming = Framing{delim: "\n", begin: func(h *prefix, b byte) (begun, error) {
	if h.n == 0 && (b < '0' || b > '9') {
		return delimited, nil
	}
	return octetCounting(h, b)
}}

// Wrap has next called for each frame.
func (s Frames) Wrap(next Handler) Handler {
	if s.Split.begin == nil {
		panic("stage: Frames without Split")
	}
	if s.Max <= 0 {
		s.Max = math.MaxInt64
	}
	delim, fall := []byte(s.Split.delim), falls(s.Split.delim)
	return HandlerFunc(func(ctx context.Context, c *Conn) error {
		f := &framer{Frames: s, delim: delim, fall: fall, in: c.In, t: newTransfer(nil, c.In)}
		defer f.t.free()
		f.conn.Net, f.conn.Number, f.conn.whole = c.Net, c.Number, c
		for {
			if ctx.Err() != nil {
				return because(ErrShutdown, context.Cause(ctx))
			}
			f.conn.Frame++
			err := f.begin()
			if err == io.EOF {
				return nil
			}
			if err == nil && s.MaxFrames > 0 && f.conn.Frame > uint64(s.MaxFrames) {
				err = fmt.Errorf("%w: more than %d frames", ErrTooLarge, s.MaxFrames)
			}
			if err == nil {
				err = f.serve(ctx, next)
			}
			if err != nil {
				return fmt.Errorf("frame %d: %w", f.conn.Frame, err)
			}
		}
	})
}

// framer reads the frames of a connection, and is what reads the one that is under way.
type framer struct {
	Frames
	delim []byte
	fall  []int     // see falls
	conn  Conn      // of the frame
	in    io.Reader // the connection's
	t     *transfer // reads ahead from it
	held  []byte    // what was read ahead, in t's buffer
	err   error     // what came with that

	// Of the frame:
	prefix
	sized bool
	left  int64 // bytes that are to come if it is sized, and otherwise may

	// Of one that ends with a delimiter:
	over    bool   // the delimiter has come
	clear   int    // bytes at the beginning of held that are the frame's
	matched int    // bytes of a delimiter that may have begun, and are no longer held
	owed    string // such bytes that were none
}

// serve has next serve the frame that has begun.
func (f *framer) serve(ctx context.Context, next Handler) error {
	c, whole := &f.conn, f.conn.whole
	c.Net = whole.Net
	c.In, c.Reply, c.Out, c.Counter, c.Hash = f, whole.Reply, whole.Out, nil, nil
	c.after, c.handshake, c.observation = c.room[:0], nil, nil
	if err := next.Serve(ctx, c); err != nil {
		return err
	}
	if f.sized && f.left == 0 || !f.sized && f.over && f.owed == "" {
		return nil
	}
	_, err := Copy(io.Discard, f)
	return err
}

// begin reads what comes before a frame. It returns io.EOF if there is none any more.
func (f *framer) begin() error {
	f.over, f.clear, f.matched, f.owed = false, 0, 0, ""
	f.prefix = prefix{}
	for h := &f.prefix; ; {
		if len(f.held) == 0 {
			err := f.fill()
			if err == io.EOF && h.n > 0 {
				return cutShort("length")
			}
			if err != nil {
				return err
			}
		}
		is, err := f.Split.begin(h, f.held[0])
		if err != nil {
			return err
		}
		if is == delimited {
			f.sized, f.left = false, f.Max
			return nil
		}
		f.use(1)
		h.n++
		if h.length > uint64(f.Max) {
			return f.tooLarge()
		}
		if is == sized {
			f.sized, f.left = true, int64(h.length)
			return nil
		}
	}
}

func (f *framer) tooLarge() error {
	return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, f.Max)
}

func cutShort(what string) error {
	return fmt.Errorf("%s: %w: %w", what, ErrProtocol, io.ErrUnexpectedEOF)
}

// fill reads ahead when nothing is held.
func (f *framer) fill() error {
	for empty := 0; empty < maxEmptyReads; {
		if err := f.err; err != nil {
			if err != io.EOF {
				f.err = nil
			}
			return err
		}
		n, inner, err := f.t.fill()
		f.err = err
		if n > 0 {
			f.held = (*f.t.buf)[:n]
			return nil
		}
		if inner == nil {
			empty++
		}
	}
	return io.ErrNoProgress
}

// use takes n bytes of what is held.
func (f *framer) use(n int) {
	if f.held = f.held[n:]; len(f.held) == 0 {
		f.held = nil
		f.t.release()
	}
}

// Read reads from the frame.
func (f *framer) Read(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case f.sized:
		return f.readSized(p)
	}
	return f.readDelimited(p)
}

// directSize is how much is read past what is held, at least.
const directSize = 4 << 10

func (f *framer) readSized(p []byte) (n int, err error) {
	p = p[:min(int64(len(p)), f.left)]
	switch {
	case f.left == 0:
		return 0, io.EOF
	case len(f.held) > 0:
	case len(p) >= directSize && f.err == nil:
		n, err = f.in.Read(p)
		return n, (*frameGate)(f).Passed(n, err)
	default:
		if err := f.fill(); err != nil {
			return 0, (*frameGate)(f).Passed(0, err)
		}
	}
	n = copy(p, f.held)
	f.use(n)
	f.left -= int64(n)
	return n, nil
}

// rest is the connection's reader, up to the end of the frame.
func (f *framer) rest() (io.Reader, gates, bool) {
	r, ok := f.in.(*Reader)
	if !ok || !f.sized || f.left == 0 || len(f.held) > 0 || f.err != nil {
		return nil, nil, false
	}
	return r.r, r.gates.and((*frameGate)(f)), true
}

// frameGate ends what comes from the connection where a sized frame does.
type frameGate framer

func (g *frameGate) Allow(max int) (int, error) {
	if g.left == 0 {
		return 0, io.EOF
	}
	return int(min(int64(max), g.left)), nil
}

func (g *frameGate) Passed(n int, err error) error {
	g.left -= int64(n)
	if err == io.EOF && g.left > 0 {
		return cutShort("payload")
	}
	return err
}

func (f *framer) readDelimited(p []byte) (n int, err error) {
	for {
		switch {
		case f.owed != "":
			if f.left == 0 {
				return 0, f.tooLarge()
			}
			n = copy(p[:min(int64(len(p)), f.left)], f.owed)
			f.owed = f.owed[n:]
			f.left -= int64(n)
			return n, nil
		case f.over:
			return 0, io.EOF
		case f.clear > 0:
			if f.left == 0 {
				return 0, f.tooLarge()
			}
			n = copy(p[:min(int64(len(p)), f.left)], f.held[:f.clear])
			f.use(n)
			f.clear -= n
			f.left -= int64(n)
			return n, nil
		case len(f.held) == 0:
			if err := f.fill(); err == io.EOF && f.AllowEnd {
				f.over, f.owed, f.matched = true, f.Split.delim[:f.matched], 0
			} else if err == io.EOF {
				return 0, cutShort("delimiter")
			} else if err != nil {
				return 0, err
			}
		case f.matched > 0:
			f.match()
		default:
			f.search()
		}
	}
}

// search looks for the delimiter in what is held.
func (f *framer) search() {
	delim := f.Split.delim
	switch i := bytes.Index(f.held, f.delim); {
	case i > 0:
		f.clear = i
	case i == 0:
		f.use(len(delim))
		f.over = true
	default:
		n := min(len(f.held), len(delim)-1)
		for n > 0 && string(f.held[len(f.held)-n:]) != delim[:n] {
			n--
		}
		if f.clear = len(f.held) - n; f.clear == 0 {
			f.use(n)
			f.matched = n
		}
	}
}

// match looks whether a delimiter that has begun goes on.
func (f *framer) match() {
	delim := f.Split.delim
	if f.held[0] != delim[f.matched] {
		fall := f.fall[f.matched]
		f.owed, f.matched = delim[:f.matched-fall], fall
		return
	}
	f.use(1)
	if f.matched++; f.matched == len(delim) {
		f.over, f.matched = true, 0
	}
}

// falls is, for each n, how many bytes at the end of the first n of delim are the same as
// at its beginning, without being all of them.
func falls(delim string) []int {
	fall := make([]int, len(delim)+1)
	for n := 2; n <= len(delim); n++ {
		fall[n] = n - 1
		for !strings.HasSuffix(delim[:n], delim[:fall[n]]) {
			fall[n]--
		}
	}
	return fall
}

var _ ahead = (*framer)(nil)
var _ Gate = (*frameGate)(nil)
