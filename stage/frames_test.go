package stage

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
)

// inPieces gives what there is in pieces whose lengths are those of cuts in turn, 0
// for a read of nothing, and then in one.
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

// collect returns the frames that a handler which reads n bytes at a time, or copies if
// n is 0, gets to see, the last one maybe in part, and how that ended.
func collect(t testing.TB, s Frames, in io.Reader, n int) (frames []string, err error) {
	c := &Conn{Number: 7, In: in, Out: io.Discard}
	err = s.Wrap(HandlerFunc(func(_ context.Context, f *Conn) error {
		if f.Number != 7 || f.Frame != uint64(len(frames)+1) {
			t.Errorf("frame %d of connection %d, want %d of 7", f.Frame, f.Number, len(frames)+1)
		}
		var got bytes.Buffer
		var err error
		if n == 0 {
			_, err = Copy(&got, f.In)
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
	"2 bytes, little": LengthPrefix(2, binary.LittleEndian),
	"4 bytes":         LengthPrefix(4, binary.BigEndian),
	"4 bytes, little": LengthPrefix(4, binary.LittleEndian),
	"8 bytes":         LengthPrefix(8, binary.BigEndian),
	"8 bytes, little": LengthPrefix(8, binary.LittleEndian),
	"varint":          UvarintPrefix,
	"lines":           Delimiter("\n"),
	"CRLF":            Delimiter("\r\n"),
	"aabaa":           Delimiter("aabaa"),
	"octets":          OctetCounting,
	"syslog":          SyslogFraming,
}

func TestFrames(t *testing.T) {
	for _, tt := range []struct {
		framing string
		max     int64
		sent    string
		want    []string
		err     error // and if it is io.ErrUnexpectedEOF, ErrProtocol as well
	}{
		{"1 byte", 0, "", nil, nil},
		{"1 byte", 0, "\x05hello\x00\x01!", []string{"hello", "", "!"}, nil},
		{"1 byte", 0, "\x05hell", []string{"hell"}, io.ErrUnexpectedEOF},
		{"1 byte", 5, "\x05hello\x06worlds", []string{"hello"}, ErrTooLarge},
		{"2 bytes", 0, "\x00\x02hi\x00\x00", []string{"hi", ""}, nil},
		{"2 bytes", 0, "\x00\x02hi\x00", []string{"hi"}, io.ErrUnexpectedEOF},
		{"2 bytes", 0, "\x00\x02", []string{""}, io.ErrUnexpectedEOF},
		{"2 bytes", 255, "\x01", nil, io.ErrUnexpectedEOF},
		{"2 bytes", 255, "\x01\x00", nil, ErrTooLarge},
		{"2 bytes, little", 0, "\x02\x00hi", []string{"hi"}, nil},
		{"2 bytes, little", 255, "\x00\x01", nil, ErrTooLarge},
		{"4 bytes", 0, "\x00\x00\x00\x02hi", []string{"hi"}, nil},
		{"4 bytes", 9, "\xff", nil, ErrTooLarge}, // whatever follows
		{"4 bytes, little", 0, "\x02\x00\x00\x00hi", []string{"hi"}, nil},
		{"8 bytes", 0, "\x00\x00\x00\x00\x00\x00\x00\x02hi", []string{"hi"}, nil},
		{"8 bytes", 0, "\x80\x00\x00\x00\x00\x00\x00\x00", nil, ErrTooLarge}, // than any payload can be
		{"8 bytes", 0, "\x7f\xff\xff\xff\xff\xff\xff\xffhi", []string{"hi"}, io.ErrUnexpectedEOF},
		{"8 bytes, little", 0, "\x02\x00\x00\x00\x00\x00\x00\x00hi", []string{"hi"}, nil},
		{"8 bytes, little", 0, "\x00\x00\x00\x00\x00\x00\x00\x80", nil, ErrTooLarge},
		{"varint", 0, "\x02hi\x00\x81\x00!", []string{"hi", "", "!"}, nil},
		{"varint", 0, "\xac\x02" + strings.Repeat("x", 300), []string{strings.Repeat("x", 300)}, nil},
		{"varint", 0, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", nil, ErrTooLarge},
		{"varint", 0, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02", nil, ErrProtocol},
		{"varint", 0, "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80", nil, ErrProtocol},
		{"varint", 0, "\x80", nil, io.ErrUnexpectedEOF},
		{"lines", 0, "hello\n\nworld\n", []string{"hello", "", "world"}, nil},
		{"lines", 0, "\n", []string{""}, nil},
		{"lines", 0, "hello\nwor", []string{"hello", "wor"}, io.ErrUnexpectedEOF},
		{"lines", 5, "hello\nworlds\n", []string{"hello", "world"}, ErrTooLarge},
		{"lines", 5, "worlds", []string{"world"}, ErrTooLarge},
		{"lines", 5, "hello\nworld", []string{"hello", "world"}, io.ErrUnexpectedEOF},
		{"CRLF", 0, "a\r\nb\rc\nd\r\r\n\r\n", []string{"a", "b\rc\nd\r", ""}, nil},
		{"CRLF", 0, "a\r", []string{"a"}, io.ErrUnexpectedEOF},
		{"CRLF", 1, "a\r\nb\r\r\n", []string{"a", "b"}, ErrTooLarge},
		{"aabaa", 0, "aabaabaa", []string{"", "b"}, io.ErrUnexpectedEOF},
		{"aabaa", 0, "aaabaaxaabaabaabaaaaabaa", []string{"a", "x", "b", "a"}, nil},
		{"octets", 0, "5 hello10 0123456789", []string{"hello", "0123456789"}, nil},
		{"octets", 0, "5 hello 3 abc", []string{"hello"}, ErrProtocol},
		{"octets", 0, "0 ", nil, ErrProtocol},
		{"octets", 0, "05 hello", nil, ErrProtocol},
		{"octets", 0, "-1 ", nil, ErrProtocol},
		{"octets", 0, "5", nil, io.ErrUnexpectedEOF},
		{"octets", 0, "5hello", nil, ErrProtocol},
		{"octets", 99, "100", nil, ErrTooLarge}, // whatever follows
		{"octets", 99, "9" + strings.Repeat("0", 40), nil, ErrTooLarge},
		{"octets", 0, "9223372036854775807 x", []string{"x"}, io.ErrUnexpectedEOF},
		{"octets", 0, "9223372036854775808 x", nil, ErrTooLarge},
		{"octets", 0, "18446744073709551617 x", nil, ErrTooLarge},
		{"syslog", 0, "<34>1 - hello\n11 <34>2\nhello<13>3\n", []string{"<34>1 - hello", "<34>2\nhello", "<13>3"}, nil},
		{"syslog", 0, "no priority\n", []string{"no priority"}, nil},
		{"syslog", 0, "12x", nil, ErrProtocol},
		{"syslog", 3, "<3>\n<34>\n", []string{"<3>", "<34"}, ErrTooLarge},
	} {
		for _, cuts := range []string{"", strings.Repeat("\x01", 400), "\x02\x03\x01\x07"} {
			for _, n := range []int{0, 1, 3, 64 << 10} {
				s := Frames{Split: framings[tt.framing], Max: tt.max}
				got, err := collect(t, s, &inPieces{left: tt.sent, cuts: []byte(cuts)}, n)
				if !slices.Equal(got, tt.want) || !errors.Is(err, tt.err) {
					t.Errorf("%s, %q in pieces of %q, read by %d: %q, %v; want %q, %v", tt.framing, tt.sent, cuts, n, got, err, tt.want, tt.err)
				}
				if tt.err == io.ErrUnexpectedEOF && !errors.Is(err, ErrProtocol) {
					t.Errorf("%q: %v is no ErrProtocol", tt.sent, err)
				}
			}
		}
	}
}

func TestTheLastDelimiterMayBeMissing(t *testing.T) {
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

// modelOf cuts all of a stream at once.
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
		case "aabaa":
			delim = is
		case "octets":
			for body < len(sent) && sent[body] >= '0' && sent[body] <= '9' {
				body++
			}
			var perr error
			known, perr = strconv.ParseUint(sent[:body], 10, 64)
			switch {
			case body == 0 || sent[0] == '0':
				return frames, ErrProtocol
			case perr != nil || known > uint64(limit):
				return frames, ErrTooLarge
			case body == len(sent):
				return frames, io.ErrUnexpectedEOF
			case sent[body] != ' ':
				return frames, ErrProtocol
			}
			body++
		case "varint":
			// Byte by byte, since how much is too much is known before the end.
			for body = 1; ; body++ {
				part := []byte(sent[:min(body, len(sent))])
				done := part[len(part)-1] < 0x80
				part[len(part)-1] &= 0x7f
				n, got := binary.Uvarint(part)
				if got < 0 || body == 10 && !done {
					return frames, ErrProtocol
				}
				if n > uint64(limit) {
					return frames, ErrTooLarge
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
				copy(part[8-got:], sent[:got])
			} else {
				copy(part, sent[:got])
			}
			known, body = order.Uint64(part), got
			if known > uint64(limit) {
				return frames, ErrTooLarge
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
			// What may be the beginning of a delimiter is not too much yet.
			may := 0
			if !found && !allowEnd {
				for n := min(len(delim)-1, len(frame)); n > 0 && may == 0; n-- {
					if strings.HasSuffix(frame, delim[:n]) {
						may = n
					}
				}
			}
			if int64(len(frame)-may) > limit {
				return append(frames, frame[:limit]), ErrTooLarge
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

// FuzzFrames has the frames be the same however the stream is cut and read.
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
		cuts = slices.DeleteFunc(cuts, func(n byte) bool { return n == 0 && len(cuts) >= maxEmptyReads })
		name := names[int(framing)%len(names)]
		want, wantErr := modelOf(name, sent, limit, allowEnd)
		s := Frames{Split: framings[name], Max: limit, AllowEnd: allowEnd}
		got, err := collect(t, s, &inPieces{sent, cuts, endBeside}, int(reads))
		if !slices.Equal(got, want) || !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
			t.Fatalf("%s, %q in pieces of %v, read by %d: %q, %v; want %q, %v", name, sent, cuts, reads, got, err, want, wantErr)
		}
		// A handler that reads nothing, and one behind a gate of a connection.
		skipped := 0
		err = s.Wrap(HandlerFunc(func(context.Context, *Conn) error { skipped++; return nil })).
			Serve(t.Context(), &Conn{In: NewReader(&inPieces{sent, cuts, endBeside}, new(Counter)), Out: io.Discard})
		if skipped != len(want) || !errors.Is(err, wantErr) || (err == nil) != (wantErr == nil) {
			t.Fatalf("%s, %q in pieces of %v, skipped: %d frames, %v; want %d, %v", name, sent, cuts, skipped, err, len(want), wantErr)
		}
		got, err = collect(t, s, NewReader(&inPieces{sent, cuts, endBeside}, new(Counter)), int(reads))
		if !slices.Equal(got, want) || !errors.Is(err, wantErr) {
			t.Fatalf("%s, %q in pieces of %v, behind a gate: %q, %v; want %q, %v", name, sent, cuts, got, err, want, wantErr)
		}
	})
}

func TestFramesWithoutSenseAreFaultsOfTheProgram(t *testing.T) {
	for name, f := range map[string]func(){
		"Frames without Split": func() { Frames{}.Wrap(Receive) },
		"no delimiter":         func() { Delimiter("") },
		"3 bytes":              func() { LengthPrefix(3, binary.BigEndian) },
		"no order":             func() { LengthPrefix(2, nil) },
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

// numberedFrame is a name for Save.
func numberedFrame(c *Conn) string { return fmt.Sprintf("%d-%d", c.Number, c.Frame) }

// Each frame is a payload of its own; what is outside has the connection's sum.
func TestSaveInsideOfFrames(t *testing.T) {
	for network, open := range inMemory {
		t.Run(network, func(t *testing.T) {
			store := newMapStore()
			var outer, inner []int64
			count := func(to *[]int64) Stage {
				return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
					n := c.count()
					return func(err error) error {
						*to = append(*to, n.Count())
						return err
					}, nil
				})
			}
			h := Chain{
				count(&outer), Idle{Limit: time.Hour}, Frames{Split: Delimiter("\n")},
				Save{Store: store, Name: numberedFrame, Mark: ErrorMark}, count(&inner), MaxSize{Bytes: 5},
			}.Then(Receive)
			server, client := open()
			done := play(client, says("one\ntwo\n"), says("\nhel"), says("lo\nworlds\nnever\n"))
			err := Serve(t.Context(), server, 3, h)
			if !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "frame 5") {
				t.Errorf("ended with %v", err)
			}
			client.Close()
			<-done
			for name, want := range map[string]string{"3-1": "one", "3-2": "two", "3-3": "", "3-4": "hello", "3-5": ErrorMark} {
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
		})
	}
}

// Frames of one connection do not replace each other, whatever they are called by.
func TestFramesAreStoredUnderNamesOfTheirOwn(t *testing.T) {
	for kind, name := range map[string]func(*Conn) string{
		"NumberedFile": NumberedFile, "TimeName": TimeName("2006", ".file"), "RandomName": RandomName(".file"),
	} {
		t.Run(kind, func(t *testing.T) {
			store := newMapStore()
			c := &Conn{Number: 7, In: strings.NewReader("one\ntwo\nthree\n"), Out: io.Discard}
			h := Chain{Frames{Split: Delimiter("\n")}, Save{Store: store, Name: name}}.Then(Receive)
			if err := h.Serve(t.Context(), c); err != nil || len(store.files) != 3 {
				t.Errorf("%v, stored %v", err, store.files)
			}
		})
	}
}

func TestMaxFrames(t *testing.T) {
	for frames, want := range map[int]error{0: nil, 1: nil, 3: nil, 4: ErrTooLarge, 1000: ErrTooLarge} {
		s := Frames{Split: Delimiter("\n"), MaxFrames: 3}
		got, err := collect(t, s, strings.NewReader(strings.Repeat("\n", frames)), 0)
		if !errors.Is(err, want) || (err == nil) != (want == nil) || len(got) != min(frames, 3) {
			t.Errorf("%d frames: %d served, %v", frames, len(got), err)
		}
	}
}

// What limits all of a connection's payload stands outside of Frames, and outside of Save.
func TestMaxSizeOutsideOfFrames(t *testing.T) {
	store := newMapStore()
	c := &Conn{Number: 7, In: strings.NewReader("one\ntwo\nthree\n"), Out: io.Discard}
	h := Chain{MaxSize{Bytes: 7}, Frames{Split: Delimiter("\n")}, Save{Store: store, Name: NumberedFile}}.Then(Receive)
	if err := h.Serve(t.Context(), c); !errors.Is(err, ErrTooLarge) || len(store.files) != 2 {
		t.Errorf("%v, stored %v", err, store.files)
	}
}

type cover struct{ net.Conn }

// A layer that is put over the connection for a frame is gone with it.
func TestALayerIsThatOfAFrame(t *testing.T) {
	server, client := net.Pipe()
	done := play(client, says("a\nb\nc\n"), ends)
	on := Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		if c.Net != server {
			t.Errorf("frame %d begins with a %T", c.Frame, c.Net)
		}
		c.Net = cover{c.Net}
		return nil, nil
	})
	if err := Serve(t.Context(), server, 1, Chain{Frames{Split: Delimiter("\n")}, on}.Then(Receive)); err != nil {
		t.Error(err)
	}
	<-done
}

// A stage that wraps what the frame's Conn has wraps it for that frame only.
func TestFramesHaveNothingOfEachOther(t *testing.T) {
	var gates, after int
	stage := Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		if _, ok := c.In.(*Reader); ok || c.Counter != nil || c.Out != io.Discard {
			t.Errorf("frame %d has %T, %v, %T", c.Frame, c.In, c.Counter, c.Out)
		}
		c.count()
		c.In = NewReader(c.In, new(Counter))
		c.Reply = io.Discard
		gates++
		return func(err error) error {
			after++
			return err
		}, nil
	})
	server, client := net.Pipe()
	done := play(client, says("a\nb\nc\n"), ends)
	if err := Serve(t.Context(), server, 1, Chain{Frames{Split: Delimiter("\n")}, stage}.Then(Receive)); err != nil {
		t.Error(err)
	}
	<-done
	if gates != 3 || after != 3 {
		t.Errorf("%d frames began and %d ended", gates, after)
	}
}

func TestAHandlersErrorEndsItsConnection(t *testing.T) {
	n := 0
	fails := HandlerFunc(func(_ context.Context, c *Conn) error {
		if n++; n == 2 {
			return io.ErrClosedPipe
		}
		return nil
	})
	_, err := n, Frames{Split: Delimiter("\n")}.Wrap(fails).Serve(t.Context(), &Conn{In: strings.NewReader("a\nb\nc\n"), Out: io.Discard})
	if n != 2 || !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%d frames, ended with %v", n, err)
	}
}

// A shutdown ends a connection that waits in a frame or for one, and one that would go
// on with a frame that has come.
func TestAShutdownEndsFrames(t *testing.T) {
	for sent, served := range map[string]uint64{"a\n": 1, "a\nb": 2, "a\nb\nc\n": 3, "a\nb\nstay\nd\n": 3} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			server, client := net.Pipe()
			done := play(client, says(sent))
			time.AfterFunc(time.Second, cancel)
			var last uint64
			err := Serve(ctx, server, 1, Frames{Split: Delimiter("\n")}.Wrap(HandlerFunc(func(ctx context.Context, c *Conn) error {
				last = c.Frame
				b, err := io.ReadAll(c.In)
				if string(b) == "stay" {
					<-ctx.Done()
				}
				return err
			})))
			if !errors.Is(err, ErrShutdown) || last != served {
				t.Errorf("%q: ended with %v in frame %d, want %d", sent, err, last, served)
			}
			client.Close()
			<-done
		})
	}
}

// The limits outside go on over the frames; those inside are each frame's own.
func TestTheTimeOfFrames(t *testing.T) {
	lines := Frames{Split: Delimiter("\n")}
	for _, tt := range []limits{
		{"silence between frames", Chain{Idle{Limit: idleLimit}, lines}, []act{says("a\n"), pauses(9 * time.Second), says("b\n")}, ErrIdle, 19 * time.Second},
		{"silence in a frame", Chain{Idle{Limit: idleLimit}, lines}, []act{says("a\n"), pauses(9 * time.Second), says("b")}, ErrIdle, 19 * time.Second},
		{"frames that come for long", Chain{MaxDuration{Limit: 25 * time.Second}, lines}, each(time.Second, "a\nb"), ErrTooLong, 25 * time.Second},
		{"frames that do not", Chain{MaxDuration{Limit: 25 * time.Second}, lines}, []act{says("a\n"), pauses(time.Second), ends}, nil, time.Second},
		{"silence between frames, for a limit inside", Chain{lines, Idle{Limit: idleLimit}}, []act{says("a\n"), pauses(time.Hour), says("b\n"), ends}, nil, time.Hour},
		{"silence in a frame, for a limit inside", Chain{lines, Idle{Limit: idleLimit}}, []act{says("a\n"), pauses(time.Hour), says("b")}, ErrIdle, time.Hour + idleLimit},
		{"silence between frames, for limits outside and inside", Chain{Idle{Limit: 30 * time.Second}, lines, Idle{Limit: idleLimit}}, []act{says("a\n"), pauses(29 * time.Second), says("b\n"), pauses(time.Hour)}, ErrIdle, 59 * time.Second},
		{"a frame that takes long", Chain{lines, MaxDuration{Limit: idleLimit}}, []act{says("a\nb"), pauses(9 * time.Second), says("\nc"), pauses(9 * time.Second), says("d")}, ErrTooLong, 19 * time.Second},
		{"a sized frame that takes long", Chain{Frames{Split: LengthPrefix(1, binary.BigEndian)}, Idle{Limit: idleLimit}}, []act{says("\x09a"), pauses(9 * time.Second), says("b")}, ErrIdle, 19 * time.Second},
	} {
		tt.test(t)
	}
}

func TestAPanicInAFramePassesBy(t *testing.T) {
	store := newMapStore()
	h := Chain{Recover{}, Frames{Split: Delimiter("\n")}, Save{Store: store, Name: numberedFrame}}.Then(HandlerFunc(func(_ context.Context, c *Conn) error {
		io.WriteString(c.Out, "x")
		panic("a handler")
	}))
	err := h.Serve(t.Context(), &Conn{Number: 1, In: strings.NewReader("a\nb\n"), Out: io.Discard})
	if !errors.Is(err, ErrPanic) || len(store.files) != 0 || !store.saw("abort 1-1") {
		t.Errorf("ended with %v, and the store saw %q", err, store.log)
	}
}

// lines gives the same line so many times.
type lines struct {
	line string
	left int // bytes
	at   int
}

func (l *lines) Read(p []byte) (n int, err error) {
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

func TestAFrameCostsNoAllocation(t *testing.T) {
	const n = 10000
	buf := make([]byte, 64)
	reads := HandlerFunc(func(_ context.Context, c *Conn) error { // no pool, which the race detector empties
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
			c := &Conn{In: &lines{line: s.frame, left: n * len(s.frame)}, Out: io.Discard}
			if err := h.Serve(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		})
		if allocs > 20 {
			t.Errorf("%s: %v allocations for %d frames", name, allocs, n)
		}
	}
}

// BenchmarkFrames cuts a million lines of 100 bytes.
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
			h := Frames{Split: bm.Framing}.Wrap(Receive)
			for b.Loop() {
				if err := h.Serve(b.Context(), &Conn{In: &lines{line: bm.frame, left: n * len(bm.frame)}, Out: io.Discard}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
