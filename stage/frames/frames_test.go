package frames

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// inPieces reads left in pieces as long as cuts says, 0 for a read without bytes, and then
// in one piece.
type inPieces struct {
	left      string
	cuts      []byte
	endBeside bool
}

func (r *inPieces) Read(p []byte) (int, error) {
	n := min(len(p), len(r.left))
	if len(r.cuts) > 0 {
		n = min(n, int(r.cuts[0]))
		r.cuts = r.cuts[1:]
	}
	empty := r.left == ""
	copy(p, r.left[:n])
	r.left = r.left[n:]
	if empty || n > 0 && r.left == "" && r.endBeside {
		return n, io.EOF
	}
	return n, nil
}

// collect returns the frames that a handler reads, n bytes at a time, or by stage.Copy if n
// is 0. The last one may be incomplete. err is the error of the stage.
func collect(t testing.TB, s Frames, in io.Reader, n int) (frames []string, err error) {
	c := &stage.Conn{Number: 7, In: in, Out: io.Discard}
	err = s.Wrap(stage.HandlerFunc(func(_ context.Context, f *stage.Conn) error {
		if f.Number != 7 || f.Frame != uint64(len(frames)+1) {
			t.Errorf("frame %d of connection %d, want %d of 7", f.Frame, f.Number, len(frames)+1)
		}
		var got bytes.Buffer
		var err error
		if n == 0 {
			_, err = stage.Copy(&got, f.In)
		} else {
			_, err = io.CopyBuffer(&got, struct{ io.Reader }{f.In}, make([]byte, n))
		}
		frames = append(frames, got.String())
		return err
	})).Serve(t.Context(), c)
	return frames, err
}

var framings = map[string]Framing{
	"1 byte":          LengthPrefix(1, binary.BigEndian),
	"2 bytes":         LengthPrefix(2, binary.BigEndian),
	"3 bytes":         LengthPrefix(3, binary.BigEndian),
	"2 bytes, little": LengthPrefix(2, binary.LittleEndian),
	"4 bytes":         LengthPrefix(4, binary.BigEndian),
	"4 bytes, little": LengthPrefix(4, binary.LittleEndian),
	"8 bytes":         LengthPrefix(8, binary.BigEndian),
	"8 bytes, little": LengthPrefix(8, binary.LittleEndian),
	"varint":          UvarintPrefix,
	"lines":           Delimiter("\n"),
	"CRLF":            Delimiter("\r\n"),
	"aab":             Delimiter("aab"),
	"aabaa":           Delimiter("aabaa"),
	"octets":          OctetCounting,
	"syslog":          Syslog,
}

func TestFrames(t *testing.T) {
	for _, tt := range []struct {
		framing string
		max     int64
		sent    string
		want    []string
		err     error // and if it is io.ErrUnexpectedEOF, stage.ErrProtocol as well
	}{
		{"1 byte", 0, "", nil, nil},
		{"1 byte", 0, "\x05hello\x00\x01!", []string{"hello", "", "!"}, nil},
		{"1 byte", 0, "\x05hell", []string{"hell"}, io.ErrUnexpectedEOF},
		{"1 byte", 5, "\x05hello\x06worlds", []string{"hello"}, stage.ErrTooLarge},
		{"2 bytes", 0, "\x00\x02hi\x00\x00", []string{"hi", ""}, nil},
		{"2 bytes", 0, "\x00\x02hi\x00", []string{"hi"}, io.ErrUnexpectedEOF},
		{"2 bytes", 0, "\x00\x02", []string{""}, io.ErrUnexpectedEOF},
		{"2 bytes", 256, "\x01", nil, io.ErrUnexpectedEOF},
		{"2 bytes", 255, "\x01", nil, stage.ErrTooLarge}, // whatever follows
		{"2 bytes", 255, "\x01\x00", nil, stage.ErrTooLarge},
		{"3 bytes", 0, "\x00\x00\x02hi\x00\x00\x00", []string{"hi", ""}, nil},
		{"2 bytes, little", 0, "\x02\x00hi", []string{"hi"}, nil},
		{"2 bytes, little", 255, "\x00\x01", nil, stage.ErrTooLarge},
		{"4 bytes", 0, "\x00\x00\x00\x02hi", []string{"hi"}, nil},
		{"4 bytes", 9, "\xff", nil, stage.ErrTooLarge}, // whatever follows
		{"4 bytes, little", 0, "\x02\x00\x00\x00hi", []string{"hi"}, nil},
		{"8 bytes", 0, "\x00\x00\x00\x00\x00\x00\x00\x02hi", []string{"hi"}, nil},
		{"8 bytes", 0, "\x80\x00\x00\x00\x00\x00\x00\x00", nil, stage.ErrTooLarge}, // than any payload can be
		{"8 bytes", 0, "\x7f\xff\xff\xff\xff\xff\xff\xffhi", []string{"hi"}, io.ErrUnexpectedEOF},
		{"8 bytes, little", 0, "\x02\x00\x00\x00\x00\x00\x00\x00hi", []string{"hi"}, nil},
		{"8 bytes, little", 0, "\x00\x00\x00\x00\x00\x00\x00\x80", nil, stage.ErrTooLarge},
		{"varint", 0, "\x02hi\x00\x81\x00!", []string{"hi", "", "!"}, nil},
		{"varint", 0, "\xac\x02" + strings.Repeat("x", 300), []string{strings.Repeat("x", 300)}, nil},
		{"varint", 0, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", nil, stage.ErrTooLarge},
		{"varint", 0, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", nil, stage.ErrProtocol},
		{"varint", 0, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", nil, stage.ErrProtocol},
		{"varint", 0, "\x80", nil, io.ErrUnexpectedEOF},
		{"lines", 0, "hello\n\nworld\n", []string{"hello", "", "world"}, nil},
		{"lines", 0, "\n", []string{""}, nil},
		{"lines", 0, "hello\nwor", []string{"hello", "wor"}, io.ErrUnexpectedEOF},
		{"lines", 5, "hello\nworlds\n", []string{"hello", "world"}, stage.ErrTooLarge},
		{"lines", 5, "worlds", []string{"world"}, stage.ErrTooLarge},
		{"lines", 5, "hello\nworld", []string{"hello", "world"}, io.ErrUnexpectedEOF},
		{"CRLF", 0, "a\r\nb\rc\nd\r\r\n\r\n", []string{"a", "b\rc\nd\r", ""}, nil},
		{"CRLF", 0, "a\r", []string{"a"}, io.ErrUnexpectedEOF},
		{"CRLF", 1, "a\r\nb\r\r\n", []string{"a", "b"}, stage.ErrTooLarge},
		{"aab", 0, "aaabaab", []string{"a", ""}, nil},
		{"aab", 1, "aaabaaaab", []string{"a", "a"}, stage.ErrTooLarge},
		{"aabaa", 0, "aabaabaa", []string{"", "b"}, io.ErrUnexpectedEOF},
		{"aabaa", 0, "aaabaaxaabaabaabaaaaabaa", []string{"a", "x", "b", "a"}, nil},
		{"octets", 0, "5 hello10 0123456789", []string{"hello", "0123456789"}, nil},
		{"octets", 0, "5 hello 3 abc", []string{"hello"}, stage.ErrProtocol},
		{"octets", 0, "0 ", nil, stage.ErrProtocol},
		{"octets", 0, "05 hello", nil, stage.ErrProtocol},
		{"octets", 0, "-1 ", nil, stage.ErrProtocol},
		{"octets", 0, "5", nil, io.ErrUnexpectedEOF},
		{"octets", 0, "5hello", nil, stage.ErrProtocol},
		{"octets", 99, "100", nil, stage.ErrTooLarge}, // whatever follows
		{"octets", 99, "9" + strings.Repeat("0", 40), nil, stage.ErrTooLarge},
		{"octets", 0, "9223372036854775807 x", []string{"x"}, io.ErrUnexpectedEOF},
		{"octets", 0, "9223372036854775808 x", nil, stage.ErrTooLarge},
		{"octets", 0, "18446744073709551617 x", nil, stage.ErrTooLarge},
		{"syslog", 0, "<34>1 - hello\n11 <34>2\nhello<13>3\n", []string{"<34>1 - hello", "<34>2\nhello", "<13>3"}, nil},
		{"syslog", 0, "no priority\n", []string{"no priority"}, nil},
		{"syslog", 0, "12x", nil, stage.ErrProtocol},
		{"syslog", 3, "<3>\n<34>\n", []string{"<3>", "<34"}, stage.ErrTooLarge},
	} {
		for _, cuts := range []string{"", strings.Repeat("\x01", 400), "\x02\x03\x01\x07"} {
			for _, n := range []int{0, 1, 3, 64 << 10} {
				s := Frames{Split: framings[tt.framing], Max: tt.max}
				got, err := collect(t, s, &inPieces{left: tt.sent, cuts: []byte(cuts)}, n)
				if !slices.Equal(got, tt.want) || !errors.Is(err, tt.err) {
					t.Errorf("%s, %q in pieces of %q, read by %d: %q, %v; want %q, %v", tt.framing, tt.sent, cuts, n, got, err, tt.want, tt.err)
				}
				if tt.err == io.ErrUnexpectedEOF && !errors.Is(err, stage.ErrProtocol) {
					t.Errorf("%q: %v is no stage.ErrProtocol", tt.sent, err)
				}
			}
		}
	}
}

func TestFramesAllowEnd(t *testing.T) {
	for _, tt := range []struct {
		framing, sent string
		want          []string
		err           error
	}{
		{"lines", "a\nb", []string{"a", "b"}, nil},
		{"lines", "a\n", []string{"a"}, nil},
		{"CRLF", "a\r\nb\r", []string{"a", "b\r"}, nil},
		{"CRLF", "\r", []string{"\r"}, nil},
		{"aabaa", "xaab", []string{"xaab"}, nil},
		{"syslog", "<1>a", []string{"<1>a"}, nil},
		{"syslog", "5 <1>", []string{"<1>"}, io.ErrUnexpectedEOF},
		{"1 byte", "\x05", []string{""}, io.ErrUnexpectedEOF},
	} {
		for _, n := range []int{0, 1} {
			got, err := collect(t, Frames{Split: framings[tt.framing], AllowEnd: true}, strings.NewReader(tt.sent), n)
			if !slices.Equal(got, tt.want) || !errors.Is(err, tt.err) {
				t.Errorf("%s, %q: %q, %v; want %q, %v", tt.framing, tt.sent, got, err, tt.want, tt.err)
			}
		}
	}
}

// modelOf cuts a whole stream at once.
func modelOf(framing, sent string, limit int64, allowEnd bool) (frames []string, err error) {
	if limit <= 0 {
		limit = math.MaxInt64
	}
	for sent != "" {
		delim, known, body := "", uint64(0), 0
		is := framing
		if is == "syslog" {
			if is = "lines"; sent[0] >= '0' && sent[0] <= '9' {
				is = "octets"
			}
		}
		var size int
		var order binary.ByteOrder = binary.BigEndian
		switch is {
		case "lines":
			delim = "\n"
		case "CRLF":
			delim = "\r\n"
		case "aab", "aabaa":
			delim = is
		case "octets":
			for body < len(sent) && sent[body] >= '0' && sent[body] <= '9' {
				body++
			}
			var perr error
			known, perr = strconv.ParseUint(sent[:body], 10, 64)
			switch {
			case body == 0 || sent[0] == '0':
				return frames, stage.ErrProtocol
			case perr != nil || known > uint64(limit):
				return frames, stage.ErrTooLarge
			case body == len(sent):
				return frames, io.ErrUnexpectedEOF
			case sent[body] != ' ':
				return frames, stage.ErrProtocol
			}
			body++
		case "varint":
			// Byte by byte: a length may be too large before its end.
			for body = 1; ; body++ {
				part := []byte(sent[:min(body, len(sent))])
				done := part[len(part)-1] < 0x80
				part[len(part)-1] &= 0x7f
				n, got := binary.Uvarint(part)
				if got < 0 || body == 10 && !done {
					return frames, stage.ErrProtocol
				}
				if n > uint64(limit) {
					return frames, stage.ErrTooLarge
				}
				if known = n; done {
					break
				}
				if body == len(sent) {
					return frames, io.ErrUnexpectedEOF
				}
			}
		default:
			size = int(is[0] - '0')
			if strings.HasSuffix(is, "little") {
				order = binary.LittleEndian
			}
		}
		if size > 0 {
			part := make([]byte, 8)
			got := min(size, len(sent))
			if order == binary.BigEndian {
				copy(part[8-size:], sent[:got])
			} else {
				copy(part, sent[:got])
			}
			known, body = order.Uint64(part), got
			if known > uint64(limit) {
				return frames, stage.ErrTooLarge
			}
			if got < size {
				return frames, io.ErrUnexpectedEOF
			}
		}
		if delim == "" {
			sent = sent[body:]
			if uint64(len(sent)) < known {
				return append(frames, sent), io.ErrUnexpectedEOF
			}
			frames, sent = append(frames, sent[:known]), sent[known:]
			continue
		}
		frame, rest, found := strings.Cut(sent, delim)
		if int64(len(frame)) > limit {
			// The beginning of a delimiter does not count yet.
			may := 0
			if !found && !allowEnd {
				for n := min(len(delim)-1, len(frame)); n > 0 && may == 0; n-- {
					if strings.HasSuffix(frame, delim[:n]) {
						may = n
					}
				}
			}
			if int64(len(frame)-may) > limit {
				return append(frames, frame[:limit]), stage.ErrTooLarge
			}
		}
		if !found && !allowEnd {
			may := 0
			for n := min(len(delim)-1, len(frame)); n > 0 && may == 0; n-- {
				if strings.HasSuffix(frame, delim[:n]) {
					may = n
				}
			}
			return append(frames, frame[:len(frame)-may]), io.ErrUnexpectedEOF
		}
		frames, sent = append(frames, frame), rest
	}
	return frames, nil
}

// FuzzFrames checks that the frames do not depend on how the stream is cut and read.
func FuzzFrames(f *testing.F) {
	names := slices.Sorted(func(yield func(string) bool) {
		for name := range framings {
			if !yield(name) {
				return
			}
		}
	})
	for i := range names {
		f.Add(uint8(i), "\x05hello\x02hi5 hello<34>x\r\naabaabaa\n", []byte{1, 2, 3}, int64(0), uint16(3), true, false)
		f.Add(uint8(i), "\x00\x00\x00\x00\x00\x00\x00\x02hi\r\r\naaabaa", []byte{0, 1, 1, 1}, int64(4), uint16(0), false, true)
	}
	f.Fuzz(func(t *testing.T, framing uint8, sent string, cuts []byte, limit int64, reads uint16, allowEnd, endBeside bool) {
		cuts = slices.DeleteFunc(cuts, func(n byte) bool { return n == 0 && len(cuts) >= 100 }) // io.ErrNoProgress
		name := names[int(framing)%len(names)]
		want, wantErr := modelOf(name, sent, limit, allowEnd)
		s := Frames{Split: framings[name], Max: limit, AllowEnd: allowEnd}
		got, err := collect(t, s, &inPieces{sent, cuts, endBeside}, int(reads))
		if !slices.Equal(got, want) || !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
			t.Fatalf("%s, %q in pieces of %v, read by %d: %q, %v; want %q, %v", name, sent, cuts, reads, got, err, want, wantErr)
		}
		// A handler that reads nothing, and one behind a gate of the connection.
		skipped := 0
		err = s.Wrap(stage.HandlerFunc(func(context.Context, *stage.Conn) error { skipped++; return nil })).
			Serve(t.Context(), &stage.Conn{In: stage.NewReader(&inPieces{sent, cuts, endBeside}, new(stage.Counter)), Out: io.Discard})
		if skipped != len(want) || !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
			t.Fatalf("%s, %q in pieces of %v, skipped: %d frames, %v; want %d, %v", name, sent, cuts, skipped, err, len(want), wantErr)
		}
		got, err = collect(t, s, stage.NewReader(&inPieces{sent, cuts, endBeside}, new(stage.Counter)), int(reads))
		if !slices.Equal(got, want) || !errors.Is(err, wantErr) {
			t.Fatalf("%s, %q in pieces of %v, behind a gate: %q, %v; want %q, %v", name, sent, cuts, got, err, want, wantErr)
		}
	})
}

func TestFramesInvalidFields(t *testing.T) {
	for name, f := range map[string]func(){
		"no Split":     func() { Frames{}.Wrap(stage.Receive) },
		"no delimiter": func() { Delimiter("") },
		"0 bytes":      func() { LengthPrefix(0, binary.BigEndian) },
		"9 bytes":      func() { LengthPrefix(9, binary.BigEndian) },
		"no order":     func() { LengthPrefix(2, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

// mapStore is a store in memory.
type mapStore struct {
	files  map[string]string
	aborts []string
}

func newMapStore() *mapStore { return &mapStore{files: map[string]string{}} }

func (s *mapStore) Create(_ context.Context, name string) (stage.Pending, error) {
	return &mapPending{s: s, name: name}, nil
}

func (s *mapStore) Remove(name string) error {
	delete(s.files, name)
	return nil
}

type mapPending struct {
	bytes.Buffer
	s    *mapStore
	name string
}

func (p *mapPending) Commit() error {
	p.s.files[p.name] = p.String()
	return nil
}

func (p *mapPending) Abort() error {
	p.s.aborts = append(p.s.aborts, p.name)
	return nil
}

// frameName is a name for stage.Save.
func frameName(c *stage.Conn) string { return fmt.Sprintf("%d-%d", c.Number, c.Frame) }

// over returns a Conn that reads sent, for a handler that needs no network.
func over(sent string) *stage.Conn {
	return &stage.Conn{Number: 7, In: strings.NewReader(sent), Out: io.Discard}
}

// Save inside stores each frame, and stages outside see the sum of all frames.
func TestFramesSave(t *testing.T) {
	store := newMapStore()
	var outer, inner []int64
	count := func(to *[]int64) stage.Stage {
		return stage.Chain{stage.Count{}, stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
			return func(err error) error {
				*to = append(*to, c.Counter.Count())
				return err
			}, nil
		})}
	}
	h := stage.Chain{
		count(&outer), stage.Idle{Limit: time.Hour}, Frames{Split: Delimiter("\n")},
		stage.Save{Store: store, Name: frameName, Mark: stage.ErrorMark}, count(&inner), stage.MaxSize{Bytes: 5},
	}.Then(stage.Receive)
	server, client := memnet.Pair()
	end := memnet.Peer{memnet.Say("one\ntwo\n", "\nhel", "lo\nworlds\nnever\n"), memnet.Rst}.Start(client)
	err := stage.Serve(t.Context(), server, 3, h)
	if !errors.Is(err, stage.ErrTooLarge) || !strings.Contains(err.Error(), "frame 5") {
		t.Errorf("ended with %v", err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]string{"3-1": "one", "3-2": "two", "3-3": "", "3-4": "hello", "3-5": stage.ErrorMark} {
		if got, ok := store.files[name]; got != want || !ok {
			t.Errorf("%s is %q", name, got)
		}
	}
	if len(store.files) != 5 {
		t.Errorf("stored %v", store.files)
	}
	if !slices.Equal(inner, []int64{3, 3, 0, 5, 5}) || !slices.Equal(outer, []int64{16}) {
		t.Errorf("counted %d inside and %d outside", inner, outer)
	}
}

// The frames of a connection do not replace each other, whatever names them.
func TestFramesNames(t *testing.T) {
	for kind, name := range map[string]func(*stage.Conn) string{
		"NumberedFile": stage.NumberedFile, "TimeName": stage.TimeName("2006", ".file"), "RandomName": stage.RandomName(".file"),
	} {
		t.Run(kind, func(t *testing.T) {
			store := newMapStore()
			h := stage.Chain{Frames{Split: Delimiter("\n")}, stage.Save{Store: store, Name: name}}.Then(stage.Receive)
			if err := h.Serve(t.Context(), over("one\ntwo\nthree\n")); err != nil || len(store.files) != 3 {
				t.Errorf("%v, stored %v", err, store.files)
			}
		})
	}
}

// A Save outside of Frames and one inside are two Saves on one payload.
func TestFramesSaveOutsideAndInside(t *testing.T) {
	outside, inside := newMapStore(), newMapStore()
	h := stage.Chain{
		stage.Save{Store: outside, Name: frameName}, Frames{Split: Delimiter("\n")}, stage.Save{Store: inside, Name: frameName},
	}.Then(stage.Receive)
	err := h.Serve(t.Context(), over("one\ntwo\n"))
	if err == nil || !strings.Contains(err.Error(), "two Saves") || len(outside.files)+len(inside.files) > 0 {
		t.Errorf("ended with %v, stored %v outside and %v inside", err, outside.files, inside.files)
	}
}

func TestFramesMaxFrames(t *testing.T) {
	for frames, want := range map[int]error{0: nil, 1: nil, 3: nil, 4: stage.ErrTooLarge, 1000: stage.ErrTooLarge} {
		s := Frames{Split: Delimiter("\n"), MaxFrames: 3}
		got, err := collect(t, s, strings.NewReader(strings.Repeat("\n", frames)), 0)
		if !errors.Is(err, want) || (err == nil) != (want == nil) || len(got) != min(frames, 3) {
			t.Errorf("%d frames: %d served, %v", frames, len(got), err)
		}
	}
}

// A limit outside of Frames counts the payload of all frames.
func TestFramesMaxSizeOutside(t *testing.T) {
	store := newMapStore()
	h := stage.Chain{
		stage.MaxSize{Bytes: 7}, Frames{Split: Delimiter("\n")}, stage.Save{Store: store, Name: stage.NumberedFile},
	}.Then(stage.Receive)
	if err := h.Serve(t.Context(), over("one\ntwo\nthree\n")); !errors.Is(err, stage.ErrTooLarge) || len(store.files) != 2 {
		t.Errorf("%v, stored %v", err, store.files)
	}
}

// A stage inside changes the Conn of one frame only.
func TestFramesConn(t *testing.T) {
	server, client := memnet.Pair()
	var begun, after int
	change := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		begun++
		if _, ok := c.In.(io.WriterTo); ok || c.Net != server || c.Reply == io.Discard || c.Counter != nil || c.Out != io.Discard {
			t.Errorf("frame %d has %T, %T, %T, %v, %T", c.Frame, c.Net, c.In, c.Reply, c.Counter, c.Out)
		}
		c.Net = struct{ net.Conn }{c.Net}
		c.In = stage.NewReader(c.In, new(stage.Counter))
		c.Reply = io.Discard
		return func(err error) error {
			after++
			return err
		}, nil
	})
	end := memnet.Peer{memnet.Say("a\nb\nc\n"), memnet.HalfClose, memnet.Fin}.Start(client)
	h := stage.Chain{Frames{Split: Delimiter("\n")}, change, stage.Count{}}.Then(stage.Receive)
	if err := stage.Serve(t.Context(), server, 1, h); err != nil {
		t.Error(err)
	}
	if err := end(); err != nil {
		t.Error(err)
	}
	if begun != 3 || after != 3 {
		t.Errorf("%d frames began and %d ended", begun, after)
	}
}

func TestFramesHandlerError(t *testing.T) {
	for _, want := range []error{io.ErrClosedPipe, io.EOF} {
		n := 0
		err := Frames{Split: Delimiter("\n")}.Wrap(stage.HandlerFunc(func(context.Context, *stage.Conn) error {
			if n++; n == 2 {
				return want
			}
			return nil
		})).Serve(t.Context(), over("a\nb\nc\n"))
		if n != 2 || !errors.Is(err, want) {
			t.Errorf("%d frames, ended with %v", n, err)
		}
	}
}

// A shutdown ends a connection that waits within a frame or for the next one, and one whose
// next frame has been read ahead.
func TestFramesShutdown(t *testing.T) {
	for sent, served := range map[string]uint64{"a\n": 1, "a\nb": 2, "a\nb\nc\n": 3, "a\nb\nstay\nd\n": 3} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			server, client := memnet.Pair()
			end := memnet.Peer{memnet.Say(sent), memnet.Rst}.Start(client)
			time.AfterFunc(time.Second, cancel)
			var last uint64
			err := stage.Serve(ctx, server, 1, Frames{Split: Delimiter("\n")}.Wrap(stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) error {
				last = c.Frame
				b, err := io.ReadAll(c.In)
				if string(b) == "stay" {
					<-ctx.Done()
				}
				return err
			})))
			if !errors.Is(err, stage.ErrShutdown) || last != served {
				t.Errorf("%q: ended with %v in frame %d, want %d", sent, err, last, served)
			}
			if err := end(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A limit of time outside covers all frames, and a limit inside each frame by itself.
func TestFramesTime(t *testing.T) {
	const limit = 10 * time.Second
	lines := Frames{Split: Delimiter("\n")}
	say, pause := func(s string) memnet.Step { return memnet.Say(s) }, memnet.Pause
	for _, tt := range []struct {
		name   string
		chain  stage.Chain
		client memnet.Peer
		err    error
		after  time.Duration
	}{
		{"Idle outside, silence between frames", stage.Chain{stage.Idle{Limit: limit}, lines},
			memnet.Peer{say("a\n"), pause(9 * time.Second), say("b\n")}, stage.ErrIdle, 19 * time.Second},
		{"Idle outside, silence in a frame", stage.Chain{stage.Idle{Limit: limit}, lines},
			memnet.Peer{say("a\n"), pause(9 * time.Second), say("b")}, stage.ErrIdle, 19 * time.Second},
		{"MaxDuration outside, many frames", stage.Chain{stage.MaxDuration{Limit: 25 * time.Second}, lines},
			slices.Repeat(memnet.Peer{say("a\nb"), pause(time.Second)}, 100), stage.ErrTooLong, 25 * time.Second},
		{"MaxDuration outside, an end in time", stage.Chain{stage.MaxDuration{Limit: 25 * time.Second}, lines},
			memnet.Peer{say("a\n"), pause(time.Second), memnet.HalfClose}, nil, time.Second},
		{"Idle inside, silence between frames", stage.Chain{lines, stage.Idle{Limit: limit}},
			memnet.Peer{say("a\n"), pause(time.Hour), say("b\n"), memnet.HalfClose}, nil, time.Hour},
		{"Idle inside, silence in a frame", stage.Chain{lines, stage.Idle{Limit: limit}},
			memnet.Peer{say("a\n"), pause(time.Hour), say("b")}, stage.ErrIdle, time.Hour + limit},
		{"Idle outside and inside", stage.Chain{stage.Idle{Limit: 30 * time.Second}, lines, stage.Idle{Limit: limit}},
			memnet.Peer{say("a\n"), pause(29 * time.Second), say("b\n"), pause(time.Hour)}, stage.ErrIdle, 59 * time.Second},
		{"MaxDuration inside", stage.Chain{lines, stage.MaxDuration{Limit: limit}},
			memnet.Peer{say("a\nb"), pause(9 * time.Second), say("\nc"), pause(9 * time.Second), say("d")}, stage.ErrTooLong, 19 * time.Second},
		{"Idle inside, a frame with a length", stage.Chain{Frames{Split: LengthPrefix(1, binary.BigEndian)}, stage.Idle{Limit: limit}},
			memnet.Peer{say("\x09a"), pause(9 * time.Second), say("b")}, stage.ErrIdle, 19 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := memnet.Pair()
				start := time.Now()
				end := tt.client.Start(client)
				err := stage.Serve(t.Context(), server, 1, tt.chain.Then(stage.Receive))
				if took := time.Since(start); !errors.Is(err, tt.err) || took < tt.after || took > tt.after+time.Second/2 {
					t.Errorf("ended with %v after %v, want %v after %v", err, took, tt.err, tt.after)
				}
				client.Close()
				end()
			})
		})
	}
}

func TestFramesPanic(t *testing.T) {
	store := newMapStore()
	h := stage.Chain{stage.Recover{}, Frames{Split: Delimiter("\n")}, stage.Save{Store: store, Name: frameName}}.Then(stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error {
		io.WriteString(c.Out, "x")
		panic("a handler")
	}))
	err := h.Serve(t.Context(), over("a\nb\n"))
	if !errors.Is(err, stage.ErrPanic) || len(store.files) != 0 || !slices.Equal(store.aborts, []string{"7-1"}) {
		t.Errorf("ended with %v, stored %v, aborted %q", err, store.files, store.aborts)
	}
}

// repeated reads line again and again, left bytes in all.
type repeated struct {
	line string
	left int
	at   int
}

func (l *repeated) Read(p []byte) (n int, err error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	p = p[:min(len(p), l.left)]
	for n < len(p) {
		m := copy(p[n:], l.line[l.at:])
		n += m
		l.at = (l.at + m) % len(l.line)
	}
	l.left -= n
	return n, nil
}

// A frame costs its Conn and no other allocation.
func TestFramesAllocations(t *testing.T) {
	const n = 10000
	buf := make([]byte, 64)
	reads := stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error { // no pool, which the race detector empties
		for {
			switch _, err := c.In.Read(buf); err {
			case nil:
			case io.EOF:
				return nil
			default:
				return err
			}
		}
	})
	for name, s := range map[string]struct {
		Framing
		frame string
	}{
		"lines":  {Delimiter("\n"), "a line\n"},
		"CRLF":   {Delimiter("\r\n"), "a line\r\n"},
		"octets": {OctetCounting, "6 a line"},
		"prefix": {LengthPrefix(2, binary.BigEndian), "\x00\x06a line"},
	} {
		h := Frames{Split: s.Framing}.Wrap(reads)
		allocs := testing.AllocsPerRun(10, func() {
			c := &stage.Conn{In: &repeated{line: s.frame, left: n * len(s.frame)}, Out: io.Discard}
			if err := h.Serve(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		})
		if allocs > n+100 {
			t.Errorf("%s: %v allocations for %d frames", name, allocs, n)
		}
	}
}

// BenchmarkFrames cuts a million frames of 100 bytes.
func BenchmarkFrames(b *testing.B) {
	const n = 1000000
	body := strings.Repeat("x", 99)
	for _, bm := range []struct {
		name string
		Framing
		frame string
	}{
		{"lines", Delimiter("\n"), body + "\n"},
		{"CRLF", Delimiter("\r\n"), body[1:] + "\r\n"},
		{"octets", OctetCounting, "96 " + body[3:]},
		{"prefix", LengthPrefix(2, binary.BigEndian), "\x00\x62" + body[1:]},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n * len(bm.frame)))
			h := Frames{Split: bm.Framing}.Wrap(stage.Receive)
			for b.Loop() {
				if err := h.Serve(b.Context(), &stage.Conn{In: &repeated{line: bm.frame, left: n * len(bm.frame)}, Out: io.Discard}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
