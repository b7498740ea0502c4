package stage

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// gzipped returns s as one member.
func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

// zlibbed returns s in zlib's format, which has one member only.
func zlibbed(s string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

func TestDecompress(t *testing.T) {
	hello, long, random := gzipped("hello, world"), strings.Repeat("0123456789", 1<<14), string(noise(1<<17, 1))
	broken := []byte(hello)
	broken[len(broken)-5] ^= 1 // in the checksum of the payload
	tests := []struct {
		name string
		open func(io.Reader) (io.ReadCloser, error)
		max  int64
		in   string
		want string
		err  error
	}{
		{"a payload", Gzip, 0, hello, "hello, world", nil},
		{"a payload of no bytes", Gzip, 0, gzipped(""), "", nil},
		{"a long payload", Gzip, 0, gzipped(long), long, nil},
		{"a payload that cannot be compressed", Gzip, 0, gzipped(random), random, nil},
		{"several members", Gzip, 0, hello + gzipped("") + hello, "hello, worldhello, world", nil},
		{"one of zlib", zlib.NewReader, 0, zlibbed("hello, world"), "hello, world", nil},
		{"less than there may be", Gzip, 13, hello, "hello, world", nil},
		{"exactly as much as there may be", Gzip, 12, hello, "hello, world", nil},
		{"one byte more", Gzip, 11, hello, "hello, worl", ErrTooLarge},
		{"one byte at the most", Gzip, 1, hello, "h", ErrTooLarge},
		{"exactly as much, in members", Gzip, 24, hello + gzipped("") + hello, "hello, worldhello, world", nil},
		{"one byte more, in members", Gzip, 12, hello + gzipped("") + hello, "hello, world", ErrTooLarge},
		{"far more", Gzip, 100_000, gzipped(long), long[:100_000], ErrTooLarge},
		{"exactly as much, and long", Gzip, int64(len(long)), gzipped(long), long, nil},
		{"less than no limit", Gzip, -1, gzipped(long), long, nil},
		{"far more, and malformed after that", Gzip, 5, hello[:len(hello)-8], "hello", ErrTooLarge},

		{"nothing at all", Gzip, 0, "", "", ErrProtocol},
		{"something else", Gzip, 0, "hello, world", "", ErrProtocol},
		{"a byte", Gzip, 0, hello[:1], "", ErrProtocol},
		{"a part of the header", Gzip, 0, hello[:9], "", ErrProtocol},
		{"no more than the header", Gzip, 0, hello[:10], "", ErrProtocol},
		{"another method", Gzip, 0, hello[:2] + "\x07" + hello[3:], "", ErrProtocol},
		{"a member without its checksum", Gzip, 0, hello[:len(hello)-8], "hello, world", ErrProtocol},
		{"a member without its end", Gzip, 0, hello[:len(hello)-1], "hello, world", ErrProtocol},
		{"a member with another checksum", Gzip, 0, string(broken), "hello, world", ErrProtocol},
		{"a member of the size of another", Gzip, 0, hello[:len(hello)-4] + "\x0d\x00\x00\x00", "hello, world", ErrProtocol},
		{"a member with something after it", Gzip, 0, hello + "x", "hello, world", ErrProtocol},
		{"a member with zeros after it", Gzip, 0, hello + strings.Repeat("\x00", 512), "hello, world", ErrProtocol},
		{"a member with a part of one after it", Gzip, 0, hello + hello[:5], "hello, world", ErrProtocol},
		{"one of zlib with something after it", zlib.NewReader, 0, zlibbed("hello, world") + "x", "hello, world", ErrProtocol},
		{"a name without an end", Gzip, 0, "\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x00" + strings.Repeat("x", 1<<16), "", ErrProtocol},
	}
	ways := map[string]func(t *testing.T, h Handler, in string) error{
		"at once": func(t *testing.T, h Handler, in string) error {
			server, client := net.Pipe()
			done := play(client, says(in), ends)
			err := Serve(t.Context(), server, 1, h)
			<-done
			return err
		},
		"over TCP": func(t *testing.T, h Handler, in string) error {
			server, client := tcpPair(t)
			done := play(client, says(in), ends)
			err := Serve(t.Context(), server, 1, h)
			<-done
			return err
		},
		"byte for byte": func(t *testing.T, h Handler, in string) error {
			return h.Serve(t.Context(), &Conn{In: iotest.OneByteReader(strings.NewReader(in)), Out: io.Discard})
		},
		"with the end at the last byte": func(t *testing.T, h Handler, in string) error {
			return h.Serve(t.Context(), &Conn{In: iotest.DataErrReader(strings.NewReader(in)), Out: io.Discard})
		},
	}
	for way, serve := range ways {
		for handler, h := range receivers {
			for _, tt := range tests {
				t.Run(fmt.Sprintf("%s, %s, with %s", tt.name, way, handler), func(t *testing.T) {
					var got bytes.Buffer
					err := serve(t, Chain{into(&got), Decompress{Open: tt.open, MaxBytes: tt.max}}.Then(h), tt.in)
					if !errors.Is(err, tt.err) {
						t.Errorf("ended with %v, want %v", err, tt.err)
					}
					if got.String() != tt.want {
						t.Errorf("expanded to %d bytes, want %d", got.Len(), len(tt.want))
					}
				})
			}
		}
	}
}

// More than there may be is an error as soon as it is there, though the peer goes on.
func TestABombIsNoticedAtOnce(t *testing.T) {
	server, client := net.Pipe()
	var bomb bytes.Buffer
	w := gzip.NewWriter(&bomb)
	w.Write(make([]byte, 1<<20))
	w.Flush() // and no end
	done := play(client, says(bomb.String()))
	var got bytes.Buffer
	err := Serve(t.Context(), server, 1, Chain{into(&got), Decompress{Open: Gzip, MaxBytes: 1000}}.Then(Receive))
	if !errors.Is(err, ErrTooLarge) || !errors.Is(err, ErrLimit) || got.Len() != 1000 {
		t.Errorf("ended with %v, after %d bytes", err, got.Len())
	}
	client.Close()
	<-done
}

// flushed are pieces of one gzip stream, each of which can be expanded by itself.
func flushed(payloads ...string) (pieces []string) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for _, p := range payloads {
		io.WriteString(w, p)
		w.Flush()
		pieces = append(pieces, b.String())
		b.Reset()
	}
	w.Close()
	return append(pieces, b.String())
}

// What becomes of the connection is not the decompressor's to tell, and a limit of time
// holds whether it is outside or inside.
func TestDecompressLeavesTheCausesOfTheConnection(t *testing.T) {
	stage := Decompress{Open: Gzip}
	pieces := flushed("hello, ", "world")
	slowly := []act{says(pieces[0]), pauses(idleLimit - 1), says(pieces[1]), pauses(idleLimit - 1), says(pieces[2])}
	for _, tt := range []limits{
		{"a peer that says nothing", Chain{Idle{Limit: idleLimit}, stage}, nil, ErrIdle, idleLimit},
		{"a peer that says a byte, for Idle outside", Chain{Idle{Limit: idleLimit}, stage}, []act{says(pieces[0][:1])}, ErrIdle, idleLimit},
		{"a peer that says a byte, for Idle inside", Chain{stage, Idle{Limit: idleLimit}}, []act{says(pieces[0][:1])}, ErrIdle, idleLimit},
		{"a peer that is silent within the header, for Idle outside", Chain{Idle{Limit: idleLimit}, stage}, []act{says(pieces[0][:5])}, ErrIdle, idleLimit},
		{"a peer that is silent in between, for Idle outside", Chain{Idle{Limit: idleLimit}, stage}, []act{says(pieces[0]), pauses(time.Second), says(pieces[1])}, ErrIdle, idleLimit + time.Second},
		{"a peer that is silent in between, for Idle inside", Chain{stage, Idle{Limit: idleLimit}}, []act{says(pieces[0]), pauses(time.Second), says(pieces[1])}, ErrIdle, idleLimit + time.Second},
		{"a peer that is slow, for Idle outside", Chain{Idle{Limit: idleLimit}, stage}, append(slowly, ends), nil, 2*idleLimit - 2},
		{"a peer that is slow, for Idle inside", Chain{stage, Idle{Limit: idleLimit}}, append(slowly, ends), nil, 2*idleLimit - 2},
		{"a peer that does not end its stream, for Idle inside", Chain{stage, Idle{Limit: idleLimit}}, slowly, ErrIdle, 2*idleLimit - 2 + idleLimit - (idleLimit - 1)},
		{"a peer that takes too long, outside", Chain{MaxDuration{Limit: idleLimit}, stage}, slowly, ErrTooLong, idleLimit},
		{"a peer that takes too long, inside", Chain{stage, MaxDuration{Limit: idleLimit}}, slowly, ErrTooLong, idleLimit},
		{"a peer that is too slow, inside", Chain{stage, MinRate{BytesPerSecond: 1, Grace: idleLimit}}, []act{says(pieces[0])}, ErrTooSlow, idleLimit},
	} {
		tt.test(t)
	}
}

func TestDecompressOfAConnectionThatBreaks(t *testing.T) {
	pieces := flushed("hello, ", "world")
	for _, said := range []string{"", pieces[0][:1], pieces[0][:5], pieces[0], pieces[0] + pieces[1], pieces[0] + pieces[1] + pieces[2]} {
		for name, tt := range map[string]struct {
			end func(stop context.CancelFunc, client net.Conn)
			err error
		}{
			"a reset": {func(_ context.CancelFunc, client net.Conn) { resets(client) }, ErrReset},
			"a stop":  {func(stop context.CancelFunc, _ net.Conn) { stop() }, ErrShutdown},
		} {
			t.Run(fmt.Sprintf("%s after %d bytes", name, len(said)), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server, client := wire()
					ctx, stop := context.WithCancel(t.Context())
					defer stop()
					ended := make(chan error)
					go func() {
						ended <- Serve(ctx, server, 1, Decompress{Open: Gzip}.Wrap(Receive))
					}()
					if said != "" {
						says(said)(client)
					}
					synctest.Wait()
					tt.end(stop, client)
					if err := <-ended; !errors.Is(err, tt.err) || errors.Is(err, ErrProtocol) {
						t.Errorf("ended with %v, want %v", err, tt.err)
					}
				})
			})
		}
	}
}

// Each read may fail, and be tried again, wherever it is in the stream.
func TestDecompressGoesOnAfterAnError(t *testing.T) {
	const payload = "hello, world"
	in := gzipped(payload)
	src := &parts{}
	for i := range len(in) {
		src.left = append(src.left, part{"", os.ErrDeadlineExceeded}, part{in[i : i+1], os.ErrDeadlineExceeded})
	}
	src.left = append(src.left, part{"", os.ErrDeadlineExceeded}, part{"", io.EOF})
	r := NewDecompressReader(src, Gzip, 0)
	defer r.Close()
	var got []byte
	failed := 0
	for {
		b := make([]byte, 1+failed%7) // never the same
		n, err := r.Read(b)
		got = append(got, b[:n]...)
		if err == io.EOF {
			break
		}
		if err != nil && err != os.ErrDeadlineExceeded {
			t.Fatal(err)
		}
		if err != nil {
			failed++
		}
	}
	if string(got) != payload || failed <= len(in) {
		t.Errorf("read %q, after %d failures", got, failed)
	}
}

func TestAClosedDecompressReaderReadsNoMore(t *testing.T) {
	in := gzipped(string(noise(1<<20, 1)))
	for _, read := range []int{0, 1, 1000, 1 << 20} {
		r := NewDecompressReader(strings.NewReader(in), Gzip, 0)
		if _, err := io.ReadFull(r, make([]byte, read)); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrClosed) {
				t.Errorf("after a close: %d, %v", n, err)
			}
		}
	}
}

// spyReader is a decompressor that does nothing, and is looked at.
type spyReader struct {
	io.Reader
	closed *int
}

func (s spyReader) Close() error {
	*s.closed++
	return errTwo
}

func TestADecompressorIsClosedWhenItsConnectionHasEnded(t *testing.T) {
	for name, tt := range map[string]struct {
		in     string
		h      Handler
		opened int
	}{
		"well":                  {"hello", Receive, 1},
		"with an error":         {"hello", HandlerFunc(func(_ context.Context, c *Conn) error { io.ReadFull(c.In, make([]byte, 1)); return errOne }), 1},
		"in a panic":            {"hello", HandlerFunc(func(_ context.Context, c *Conn) error { io.ReadFull(c.In, make([]byte, 1)); panic(errOne) }), 1},
		"without a read":        {"hello", stops(nil), 0},
		"without a byte":        {"", Receive, 0},
		"in a panic of its own": {"!", Receive, 1},
	} {
		t.Run(name, func(t *testing.T) {
			opened, closed := 0, 0
			h := Chain{Recover{}, Decompress{Open: func(r io.Reader) (io.ReadCloser, error) {
				opened++
				return spyReader{readerFunc(func(p []byte) (int, error) {
					n, err := r.Read(p)
					if n > 0 && p[0] == '!' {
						panic(errOne)
					}
					return n, err
				}), &closed}, nil
			}}}.Then(tt.h)
			h.Serve(t.Context(), &Conn{In: strings.NewReader(tt.in), Out: io.Discard})
			if opened != tt.opened || closed != opened {
				t.Errorf("opened %d times and closed %d times, want %d", opened, closed, tt.opened)
			}
		})
	}
}

func TestADecompressorThatMakesNoProgressIsAnError(t *testing.T) {
	open := func(io.Reader) (io.ReadCloser, error) {
		return io.NopCloser(readerFunc(func([]byte) (int, error) { return 0, nil })), nil
	}
	err := Decompress{Open: open}.Wrap(Receive).Serve(t.Context(), &Conn{In: strings.NewReader("x"), Out: io.Discard})
	if !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

// What Open gets can be read byte for byte, so that a decompressor takes no more than
// it needs.
func TestWhatIsOpenedIsBuffered(t *testing.T) {
	var _ flate.Reader = (*bufio.Reader)(nil)
	Decompress{Open: func(r io.Reader) (io.ReadCloser, error) {
		if _, ok := r.(*bufio.Reader); !ok {
			t.Errorf("it is a %T", r)
		}
		return io.NopCloser(r), nil
	}}.Wrap(Receive).Serve(t.Context(), &Conn{In: strings.NewReader("x"), Out: io.Discard})
}

// Before the first byte there is no goroutine, and nothing inside has begun.
func TestASessionIsLeftBeforeADecompressor(t *testing.T) {
	store := newMapStore()
	entered := false
	g := newGuest(t, t.Context(), Chain{
		Save{Store: store, Name: NumberedFile},
		Idle{Limit: time.Hour},
		Decompress{Open: Gzip},
		Bracket(func(context.Context, *Conn) (func(error) error, error) { entered = true; return nil, nil }),
	}.Then(Receive))
	g.waits(t)
	g.waits(t) // too early
	if entered {
		t.Error("what is inside has been entered")
	}
	g.does(t, says(gzipped("hello")), ends)
	g.ends(t, nil)
	if got := store.files["1.file"]; got != "hello" || !entered {
		t.Errorf("stored %q", got)
	}
}

func TestDecompressWithoutOpenIsAFaultOfTheProgram(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("it was accepted")
		}
	}()
	Decompress{}.Wrap(Receive)
}

func FuzzDecompress(f *testing.F) {
	hello := gzipped("hello, world")
	for _, s := range []string{"", hello, hello + hello, hello[:len(hello)/2], hello + "x", gzipped(strings.Repeat("ab", 1<<16)), gzipped(string(noise(1000, 1)))} {
		f.Add([]byte(s), int64(10), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, max int64, cut uint8) {
		src := &parts{}
		for step := int(cut) + 1; len(in) > step; in = in[step:] {
			src.left = append(src.left, part{string(in[:step]), nil}, part{"", os.ErrDeadlineExceeded})
		}
		src.left = append(src.left, part{string(in), nil}, part{"", io.EOF})
		again := testGate{passed: func(_ int, err error) error {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				return nil
			}
			return err
		}}
		r := NewDecompressReader(src, Gzip, max)
		defer r.Close()
		// What nobody limits a fuzzer may make as long as it likes.
		n, err := Copy(io.Discard, io.LimitReader(NewReader(r, again), 16<<20))
		if max > 0 && n > max {
			t.Errorf("%d bytes, and %d were allowed", n, max)
		}
		if err != nil && !errors.Is(err, ErrProtocol) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("ended with %v", err)
		}
		if errors.Is(err, ErrTooLarge) && n != max {
			t.Errorf("%d bytes are too many, where %d are allowed", n, max)
		}
	})
}

func BenchmarkDecompress(b *testing.B) {
	in := gzipped(strings.Repeat("0123456789", 1<<17))
	b.Run("gzip alone", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(10 << 17)
		buf := make([]byte, bufferSize)
		for b.Loop() {
			r, err := Gzip(bufio.NewReaderSize(strings.NewReader(in), inputSize))
			if err != nil {
				b.Fatal(err)
			}
			io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf)
			r.Close()
		}
	})
	b.Run("DecompressReader", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(10 << 17)
		for b.Loop() {
			r := NewDecompressReader(strings.NewReader(in), Gzip, 0)
			if n, err := Copy(io.Discard, r); n != 10<<17 || err != nil {
				b.Fatal(n, err)
			}
			r.Close()
		}
	})
}
