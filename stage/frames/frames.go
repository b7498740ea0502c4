// Package frames cuts the stream of a connection into frames. Each frame is a payload of
// its own.
//
//	h := stage.Chain{
//		frames.Frames{Split: frames.Delimiter("\n"), Max: 64 << 10},
//		stage.Save{Store: store, Name: stage.NumberedFile},
//	}.Then(stage.Receive)
package frames

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"

	"github.com/accio-go/accio/stage"
)

// Frames is a stage that calls the next handler once for each frame that the client sends,
// in order. It returns when the client ends its stream between two frames.
//
// The Conn of the handler comes from [stage.Conn.NewFrame]: Frame is the number of the frame,
// and In ends with the frame. Stages inside act on the frame: [stage.Save] stores each as a
// payload of its own, whose name is made from Number and Frame. Stages outside act on the
// connection: [stage.Idle] there limits the silence within frames and between them.
//
// Frames skips bytes that the handler does not read. An error of the handler ends the
// connection, and later frames are lost.
//
// A frame larger than Max is a [stage.ErrTooLarge], before Frames calls the handler if the
// length comes first. So is a frame beyond MaxFrames. A malformed length is a
// [stage.ErrProtocol]. So is an end of the stream within a frame, which is an
// io.ErrUnexpectedEOF as well. Reads of In fail with it, so a handler cannot take a part
// of a frame for the whole.
//
// Frames reads up to 64 KiB ahead and copies those bytes. The rest of a frame whose length
// comes first keeps zero-copy. A connection that waits for its client holds a buffer only
// where [stage.ReadAhead] does.
type Frames struct {
	// Split finds the end of a frame.
	Split Framing

	// Max is the limit of bytes in a frame, without its length or delimiter. 0 or less
	// means no limit.
	Max int64

	// MaxFrames is the limit of frames in a connection, empty ones included. 0 or less
	// means no limit: then each byte of a client may cost the server a frame, such as a file.
	MaxFrames int64

	// AllowEnd allows the end of the stream in place of the last delimiter. Otherwise that
	// is an end within a frame, since the client may have died. It has no effect on a frame
	// whose length comes first.
	AllowEnd bool
}

// Framing finds the ends of the frames in a stream. The zero value is not valid.
type Framing struct {
	// length decodes the length at the beginning of b. n is its size, or 0 if bytes of it
	// are missing or wrong: then length is the least that it can be.
	length func(b []byte) (length uint64, n int, err error)

	// delim ends a frame without a length. A Framing with both has a length in the frames
	// that begin with a digit.
	delim []byte
}

// LengthPrefix is the framing in which the length of a frame comes first. It is an
// unsigned integer of 1 to 8 bytes in the given order.
func LengthPrefix(size int, order binary.ByteOrder) Framing {
	if size < 1 || size > 8 || order == nil {
		panic("frames: LengthPrefix without a size of 1 to 8, or without an order")
	}
	little := order.Uint16([]byte{1, 0}) == 1
	return Framing{length: func(b []byte) (length uint64, n int, err error) {
		for i, c := range b[:min(len(b), size)] {
			if !little {
				i = size - 1 - i
			}
			length |= uint64(c) << (8 * i)
		}
		if len(b) < size {
			return length, 0, nil
		}
		return length, size, nil
	}}
}

// UvarintPrefix is the framing in which the length of a frame comes first, as a varint of
// encoding/binary. Delimited messages of Protocol Buffers have it.
var UvarintPrefix = Framing{length: func(b []byte) (length uint64, n int, err error) {
	for i, c := range b {
		if i == binary.MaxVarintLen64-1 && c > 1 {
			return length, 0, fmt.Errorf("%w: a varint of more than 64 bits", stage.ErrProtocol)
		}
		length |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return length, i + 1, nil
		}
	}
	return length, 0, nil
}}

// Delimiter is the framing in which a frame ends with delim, one byte or more. delim is not
// part of the frame. Two delimiters in a row have an empty frame between them. With "\n" or
// "\x00" it is the non-transparent framing of syslog (RFC 6587, 3.4.2).
func Delimiter(delim string) Framing {
	if delim == "" {
		panic("frames: Delimiter without a delimiter")
	}
	return Framing{delim: []byte(delim)}
}

// OctetCounting is the octet counting of syslog (RFC 6587, 3.4.1). The length of a frame
// comes first, in decimal digits without a leading 0, and then a space.
var OctetCounting = Framing{length: decimal}

// Syslog is the framing for syslog from any client. A frame that begins with a digit has
// OctetCounting. Any other, such as one that begins with "<", ends with a line feed.
var Syslog = Framing{length: decimal, delim: []byte("\n")}

func decimal(b []byte) (length uint64, n int, err error) {
	for i, c := range b {
		if c == ' ' && i > 0 {
			return length, i + 1, nil
		}
		if !isDigit(c) || c == '0' && i == 0 {
			return length, 0, fmt.Errorf("%w: got %q", stage.ErrProtocol, c)
		}
		length = 10*min(length, math.MaxInt64/8) + uint64(c-'0') // stays beyond any Max
	}
	return length, 0, nil
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// Wrap calls next for each frame.
func (s Frames) Wrap(next stage.Handler) stage.Handler {
	if s.Split.length == nil && s.Split.delim == nil {
		panic("frames: Frames without Split")
	}
	if s.Max <= 0 {
		s.Max = math.MaxInt64
	}
	return stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) error {
		r := &reader{Frames: s, in: c.In}
		defer r.release()
		var frame *stage.Conn
		for number := uint64(1); ; number++ {
			if ctx.Err() != nil {
				return fmt.Errorf("%w: %w", stage.ErrShutdown, context.Cause(ctx))
			}
			err := r.begin()
			if err == io.EOF {
				return nil
			}
			if err == nil && s.MaxFrames > 0 && number > uint64(s.MaxFrames) {
				err = fmt.Errorf("%w: more than %d frames", stage.ErrTooLarge, s.MaxFrames)
			}
			if err == nil {
				frame = c.NewFrame(frame, number, r)
				err = next.Serve(ctx, frame)
			}
			if err == nil && !r.done() {
				_, err = stage.Copy(io.Discard, r)
			}
			if err != nil {
				return fmt.Errorf("frame %d: %w", number, err)
			}
		}
	})
}

// reader reads the frames of a connection, one after the other.
type reader struct {
	Frames
	in   io.Reader // the connection's
	held []byte    // bytes read ahead
	free func()    // gives back the buffer of held, or nil
	much bool      // the last read filled a small buffer
	err  error     // came with held; final

	// Of the frame:
	sized bool  // its length came first
	left  int64 // bytes to come if it is sized, otherwise bytes allowed
	clear int   // bytes at the beginning of held that belong to it
	ended bool  // its delimiter has come
}

// begin begins the next frame. It returns io.EOF if the client has ended its stream.
func (r *reader) begin() error {
	for len(r.held) == 0 {
		if err := r.fill(); err != nil {
			return err
		}
	}
	r.left, r.ended = r.Max, false
	r.sized = r.Split.length != nil && (r.Split.delim == nil || isDigit(r.held[0]))
	for r.sized {
		length, n, err := r.Split.length(r.held)
		if length > uint64(r.Max) {
			return r.tooLarge()
		}
		if err != nil {
			return fmt.Errorf("length: %w", err)
		}
		if n > 0 {
			r.use(n)
			r.left = int64(length)
			break
		}
		if err := r.fill(); err != nil {
			return cutShort(err)
		}
	}
	return nil
}

func (r *reader) tooLarge() error {
	return fmt.Errorf("%w: more than %d bytes", stage.ErrTooLarge, r.Max)
}

// cutShort returns err, the error of a read within a frame, for the handler.
func cutShort(err error) error {
	if err == io.EOF {
		err = fmt.Errorf("%w: %w", stage.ErrProtocol, io.ErrUnexpectedEOF)
	}
	return err
}

// fill adds the bytes of one read to the bytes held, which are part of a length or a
// delimiter. These move to memory of their own: the read may have to wait, without a buffer.
func (r *reader) fill() error {
	if r.err != nil {
		return r.err
	}
	tail := bytes.Clone(r.held)
	r.release()
	r.held, r.free, r.err = stage.ReadAhead(r.in, r.much)
	n := len(r.held)
	r.much = n >= 4<<10
	if len(tail) > 0 {
		tail = append(tail, r.held...)
		r.release()
		r.held = tail
	}
	if n > 0 {
		return nil
	}
	return r.err
}

// use drops the first n bytes held.
func (r *reader) use(n int) {
	if r.held = r.held[n:]; len(r.held) == 0 {
		r.release()
	}
}

// release drops all bytes held, and gives their buffer back.
func (r *reader) release() {
	if r.free != nil {
		r.free()
	}
	r.held, r.free = nil, nil
}

// Read reads from the frame.
func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := r.find(); err != nil {
		return 0, err
	}
	if r.left == 0 {
		return 0, r.tooLarge()
	}
	n := copy(p[:min(int64(len(p)), r.left)], r.held[:r.clear])
	r.use(n)
	r.clear -= n
	r.left -= int64(n)
	return n, nil
}

// done reports whether all of the frame has been read.
func (r *reader) done() bool { return r.clear == 0 && (r.ended || r.sized && r.left == 0) }

// find reads ahead until bytes of the frame are held.
func (r *reader) find() error {
	for r.clear == 0 {
		if !r.done() {
			r.search()
		}
		if r.done() {
			return io.EOF
		}
		if r.clear > 0 {
			break
		}
		if err := r.fill(); err == io.EOF && r.AllowEnd && !r.sized {
			r.clear, r.ended = len(r.held), true
		} else if err != nil {
			return cutShort(err)
		}
	}
	return nil
}

// search counts the bytes held that belong to the frame. Bytes that may begin a delimiter
// wait for those after them.
func (r *reader) search() {
	if r.sized {
		r.clear = int(min(int64(len(r.held)), r.left))
		return
	}
	delim := r.Split.delim
	if r.clear = bytes.Index(r.held, delim); r.clear == 0 {
		r.use(len(delim))
		r.ended = true
	}
	if r.clear < 0 {
		n := min(len(r.held), len(delim)-1)
		for !bytes.HasSuffix(r.held, delim[:n]) {
			n--
		}
		r.clear = len(r.held) - n
	}
}

// Rest returns the reader of the connection up to the end of the frame, if no bytes are
// held. [stage.Copy] goes on with it.
func (r *reader) Rest() (io.Reader, bool) {
	if !r.sized || r.left == 0 || len(r.held) > 0 || r.err != nil {
		return nil, false
	}
	return stage.NewReader(r.in, (*endGate)(r)), true
}

// endGate ends the stream where a sized frame ends.
type endGate reader

func (g *endGate) Allow(max int) (int, error) {
	if g.left == 0 {
		return 0, io.EOF
	}
	return int(min(int64(max), g.left)), nil
}

func (g *endGate) Passed(n int, err error) error {
	if g.left -= int64(n); g.left > 0 {
		err = cutShort(err)
	}
	return err
}
