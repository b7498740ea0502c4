package decompress

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
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// gzipped returns s as one member of a gzip stream.
func gzipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

// zlibbed returns s in the format of zlib, which has no members.
func zlibbed(s string) string {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	io.WriteString(w, s)
	w.Close()
	return b.String()
}

// flushed returns the parts of one gzip stream that expand to payloads, and its end.
func flushed(payloads ...string) (parts []string) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	for _, p := range payloads {
		io.WriteString(w, p)
		w.Flush()
		parts = append(parts, b.String())
		b.Reset()
	}
	w.Close()
	return append(parts, b.String())
}

func noise(n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}

// into is a stage whose sink is w.
func into(w io.Writer) stage.Stage {
	return stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		c.SetSink(w)
		return nil, nil
	})
}

// readAll is a handler that does what stage.Receive does, by Read.
var readAll = stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error {
	b, err := io.ReadAll(struct{ io.Reader }{c.In})
	if _, werr := c.Out.Write(b); werr != nil {
		return werr
	}
	return err
})

func TestDecompress(t *testing.T) {
	hello, long, random := gzipped("hello, world"), strings.Repeat("0123456789", 1<<14), noise(1<<17)
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
		{"one byte more", Gzip, 11, hello, "hello, worl", stage.ErrTooLarge},
		{"one byte at the most", Gzip, 1, hello, "h", stage.ErrTooLarge},
		{"exactly as much, in members", Gzip, 24, hello + gzipped("") + hello, "hello, worldhello, world", nil},
		{"one byte more, in members", Gzip, 12, hello + gzipped("") + hello, "hello, world", stage.ErrTooLarge},
		{"far more", Gzip, 100_000, gzipped(long), long[:100_000], stage.ErrTooLarge},
		{"exactly as much, and long", Gzip, int64(len(long)), gzipped(long), long, nil},
		{"less than no limit", Gzip, -1, gzipped(long), long, nil},
		{"far more, and malformed after that", Gzip, 5, hello[:len(hello)-8], "hello", stage.ErrTooLarge},

		{"nothing at all", Gzip, 0, "", "", stage.ErrProtocol},
		{"something else", Gzip, 0, "hello, world", "", stage.ErrProtocol},
		{"a byte", Gzip, 0, hello[:1], "", stage.ErrProtocol},
		{"a part of the header", Gzip, 0, hello[:9], "", stage.ErrProtocol},
		{"no more than the header", Gzip, 0, hello[:10], "", stage.ErrProtocol},
		{"another method", Gzip, 0, hello[:2] + "\x07" + hello[3:], "", stage.ErrProtocol},
		{"a member without its checksum", Gzip, 0, hello[:len(hello)-8], "hello, world", stage.ErrProtocol},
		{"a member without its end", Gzip, 0, hello[:len(hello)-1], "hello, world", stage.ErrProtocol},
		{"a member with another checksum", Gzip, 0, string(broken), "hello, world", stage.ErrProtocol},
		{"a member of the size of another", Gzip, 0, hello[:len(hello)-4] + "\x0d\x00\x00\x00", "hello, world", stage.ErrProtocol},
		{"a member with something after it", Gzip, 0, hello + "x", "hello, world", stage.ErrProtocol},
		{"a member with zeros after it", Gzip, 0, hello + strings.Repeat("\x00", 512), "hello, world", stage.ErrProtocol},
		{"a member with a part of one after it", Gzip, 0, hello + hello[:5], "hello, world", stage.ErrProtocol},
		{"one of zlib with something after it", zlib.NewReader, 0, zlibbed("hello, world") + "x", "hello, world", stage.ErrProtocol},
		{"a name without an end", Gzip, 0, "\x1f\x8b\x08\x08\x00\x00\x00\x00\x00\x00" + strings.Repeat("x", 1<<16), "", stage.ErrProtocol},
	}
	for way, in := range map[string]func(string) io.Reader{
		"at once":                       func(s string) io.Reader { return strings.NewReader(s) },
		"byte for byte":                 func(s string) io.Reader { return iotest.OneByteReader(strings.NewReader(s)) },
		"with the end at the last byte": func(s string) io.Reader { return iotest.DataErrReader(strings.NewReader(s)) },
	} {
		for handler, h := range map[string]stage.Handler{"Receive": stage.Receive, "ReadAll": readAll} {
			for _, tt := range tests {
				t.Run(fmt.Sprintf("%s, %s, with %s", tt.name, way, handler), func(t *testing.T) {
					var got bytes.Buffer
					h := stage.Chain{into(&got), Decompress{Open: tt.open, MaxBytes: tt.max}}.Then(h)
					err := h.Serve(t.Context(), &stage.Conn{In: in(tt.in), Out: io.Discard})
					if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
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

// A stream that expands to too much ends at once, though the client does not end it.
func TestDecompressBomb(t *testing.T) {
	bomb := flushed(strings.Repeat("\x00", 1<<20))[0]
	complete := zlibbed(strings.Repeat("\x00", 1001))
	for name, tt := range map[string]struct {
		open func(io.Reader) (io.ReadCloser, error)
		sent string
	}{
		"no end":                   {Gzip, bomb},
		"the end at the last byte": {zlib.NewReader, complete},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := memnet.Pair()
			end := memnet.Peer{memnet.Say(tt.sent), memnet.Rst}.Start(client)
			var got bytes.Buffer
			err := stage.Serve(t.Context(), server, 1, stage.Chain{into(&got), Decompress{Open: tt.open, MaxBytes: 1000}}.Then(stage.Receive))
			if !errors.Is(err, stage.ErrTooLarge) || got.Len() != 1000 {
				t.Errorf("ended with %v, after %d bytes", err, got.Len())
			}
			if err := end(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A limit of time holds outside and inside, and keeps its cause.
func TestDecompressTime(t *testing.T) {
	const limit = 10 * time.Second
	gz, idle := Decompress{Open: Gzip}, stage.Idle{Limit: limit}
	say, pause := func(s string) memnet.Step { return memnet.Say(s) }, memnet.Pause
	parts := flushed("hello, ", "world")
	slow := memnet.Peer{say(parts[0]), pause(limit - 1), say(parts[1]), pause(limit - 1), say(parts[2])}
	for _, tt := range []struct {
		name   string
		chain  stage.Chain
		client memnet.Peer
		err    error
		after  time.Duration
	}{
		{"no byte, Idle outside", stage.Chain{idle, gz}, nil, stage.ErrIdle, limit},
		{"one byte, Idle outside", stage.Chain{idle, gz}, memnet.Peer{say(parts[0][:1])}, stage.ErrIdle, limit},
		{"one byte, Idle inside", stage.Chain{gz, idle}, memnet.Peer{say(parts[0][:1])}, stage.ErrIdle, limit},
		{"a part of the header, Idle outside", stage.Chain{idle, gz}, memnet.Peer{say(parts[0][:5])}, stage.ErrIdle, limit},
		{"silence, Idle outside", stage.Chain{idle, gz}, memnet.Peer{say(parts[0]), pause(time.Second), say(parts[1])}, stage.ErrIdle, limit + time.Second},
		{"silence, Idle inside", stage.Chain{gz, idle}, memnet.Peer{say(parts[0]), pause(time.Second), say(parts[1])}, stage.ErrIdle, limit + time.Second},
		{"slow, Idle outside", stage.Chain{idle, gz}, append(slow[:5:5], memnet.HalfClose), nil, 2*limit - 2},
		{"slow, Idle inside", stage.Chain{gz, idle}, append(slow[:5:5], memnet.HalfClose), nil, 2*limit - 2},
		{"no end, Idle inside", stage.Chain{gz, idle}, slow, stage.ErrIdle, 2*limit - 1},
		{"MaxDuration outside", stage.Chain{stage.MaxDuration{Limit: limit}, gz}, slow, stage.ErrTooLong, limit},
		{"MaxDuration inside", stage.Chain{gz, stage.MaxDuration{Limit: limit}}, slow, stage.ErrTooLong, limit},
		{"MinRate inside", stage.Chain{gz, stage.MinRate{BytesPerSecond: 1, Grace: limit}}, memnet.Peer{say(parts[0])}, stage.ErrTooSlow, limit},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := memnet.Pair()
				start := time.Now()
				end := tt.client.Start(client)
				err := stage.Serve(t.Context(), server, 1, tt.chain.Then(stage.Receive))
				if took := time.Since(start); !errors.Is(err, tt.err) || errors.Is(err, stage.ErrProtocol) || took < tt.after || took > tt.after+time.Second/2 {
					t.Errorf("ended with %v after %v, want %v after %v", err, took, tt.err, tt.after)
				}
				client.Close()
				end()
			})
		})
	}
}

// An error of the connection is not malformed data, wherever it comes in the stream.
func TestDecompressConnectionError(t *testing.T) {
	parts := flushed("hello, ", "world")
	for _, sent := range []string{"", parts[0][:1], parts[0][:5], parts[0], parts[0] + parts[1], parts[0] + parts[1] + parts[2]} {
		for name, tt := range map[string]struct {
			end func(stop context.CancelFunc, client net.Conn)
			err error
		}{
			"reset":    {func(_ context.CancelFunc, client net.Conn) { memnet.Reset(client) }, stage.ErrReset},
			"shutdown": {func(stop context.CancelFunc, _ net.Conn) { stop() }, stage.ErrShutdown},
		} {
			t.Run(fmt.Sprintf("%s after %d bytes", name, len(sent)), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server, client := memnet.Pair()
					ctx, stop := context.WithCancel(t.Context())
					defer stop()
					ended := make(chan error)
					go func() { ended <- stage.Serve(ctx, server, 1, Decompress{Open: Gzip}.Wrap(stage.Receive)) }()
					io.WriteString(client, sent)
					synctest.Wait()
					tt.end(stop, client)
					if err := <-ended; !errors.Is(err, tt.err) || errors.Is(err, stage.ErrProtocol) {
						t.Errorf("ended with %v, want %v", err, tt.err)
					}
				})
			})
		}
	}
}

var errTest = errors.New("an error of the test")

// The error of the connection wins over the error that a decompressor makes of it, and stays.
func TestDecompressErrorReplaced(t *testing.T) {
	for name, replace := range map[string]error{"another error": errors.New("corrupt"), "an end": io.EOF} {
		t.Run(name, func(t *testing.T) {
			open := func(r io.Reader) (io.ReadCloser, error) {
				return io.NopCloser(readerFunc(func(p []byte) (int, error) {
					n, err := r.Read(p)
					if err != nil {
						err = replace
					}
					return n, err
				})), nil
			}
			h := Decompress{Open: open}.Wrap(stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error {
				for range 3 {
					if _, err := io.ReadAll(c.In); err != errTest {
						t.Errorf("read fails with %v", err)
					}
				}
				return nil
			}))
			in := io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(errTest))
			if err := h.Serve(t.Context(), &stage.Conn{In: in, Out: io.Discard}); err != nil {
				t.Error(err)
			}
		})
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// closeCounter is a decompressor that counts its closes.
type closeCounter struct {
	io.Reader
	closed *int
}

func (s closeCounter) Close() error {
	*s.closed++
	return errTest
}

// The decompressor is closed when the connection ends, and its input is given back.
func TestDecompressClose(t *testing.T) {
	one := func(c *stage.Conn) { io.ReadFull(c.In, make([]byte, 1)) }
	for name, tt := range map[string]struct {
		in     string
		h      stage.Handler
		opened int
	}{
		"success":               {"hello", stage.Receive, 1},
		"error":                 {"hello", stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error { one(c); return errTest }), 1},
		"panic":                 {"hello", stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error { one(c); panic(errTest) }), 1},
		"no read":               {"hello", stage.HandlerFunc(func(context.Context, *stage.Conn) error { return nil }), 0},
		"no byte":               {"", stage.Receive, 0},
		"panic of decompressor": {"!", stage.Receive, 1},
	} {
		t.Run(name, func(t *testing.T) {
			opened, closed := 0, 0
			var in io.Reader
			h := stage.Chain{stage.Recover{}, Decompress{Open: func(r io.Reader) (io.ReadCloser, error) {
				opened++
				return closeCounter{readerFunc(func(p []byte) (int, error) {
					n, err := r.Read(p)
					if n > 0 && p[0] == '!' {
						panic(errTest)
					}
					return n, err
				}), &closed}, nil
			}}}.Then(stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) error {
				in = c.In
				return tt.h.Serve(ctx, c)
			}))
			h.Serve(t.Context(), &stage.Conn{In: strings.NewReader(tt.in), Out: io.Discard})
			if opened != tt.opened || closed != opened {
				t.Errorf("opened %d times and closed %d times, want %d", opened, closed, tt.opened)
			}
			if in == nil {
				return
			}
			if n, err := in.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrClosed) {
				t.Errorf("read %d bytes after the end, %v", n, err)
			}
		})
	}
}

func TestDecompressNoProgress(t *testing.T) {
	open := func(io.Reader) (io.ReadCloser, error) {
		return io.NopCloser(readerFunc(func([]byte) (int, error) { return 0, nil })), nil
	}
	err := Decompress{Open: open}.Wrap(stage.Receive).Serve(t.Context(), &stage.Conn{In: strings.NewReader("x"), Out: io.Discard})
	if !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

// The input of Open can be read byte by byte, so a decompressor takes no byte too many.
func TestDecompressInput(t *testing.T) {
	var _ flate.Reader = (*bufio.Reader)(nil)
	Decompress{Open: func(r io.Reader) (io.ReadCloser, error) {
		if _, ok := r.(*bufio.Reader); !ok {
			t.Errorf("it is a %T", r)
		}
		return io.NopCloser(r), nil
	}}.Wrap(stage.Receive).Serve(t.Context(), &stage.Conn{In: strings.NewReader("x"), Out: io.Discard})
}

// An Open that fails with io.EOF does not make an empty payload.
func TestDecompressOpenError(t *testing.T) {
	for _, oerr := range []error{errTest, io.EOF} {
		open := func(io.Reader) (io.ReadCloser, error) { return nil, oerr }
		err := Decompress{Open: open}.Wrap(stage.Receive).Serve(t.Context(), &stage.Conn{In: strings.NewReader("x"), Out: io.Discard})
		if !errors.Is(err, stage.ErrProtocol) {
			t.Errorf("%v: ended with %v", oerr, err)
		}
	}
}

// The stages inside are entered with the first byte.
func TestDecompressFirstByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		entered := false
		enter := stage.Bracket(func(context.Context, *stage.Conn) (func(error) error, error) {
			entered = true
			return nil, nil
		})
		server, client := memnet.Pair()
		ended := make(chan error)
		go func() {
			ended <- stage.Serve(t.Context(), server, 1, stage.Chain{Decompress{Open: Gzip}, enter}.Then(stage.Receive))
		}()
		synctest.Wait()
		if entered {
			t.Error("entered without a byte")
		}
		io.WriteString(client, gzipped("hello")[:1])
		synctest.Wait()
		if !entered {
			t.Error("not entered with the first byte")
		}
		client.Close()
		if err := <-ended; !errors.Is(err, stage.ErrProtocol) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestDecompressInvalidFields(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Decompress without Open was accepted")
		}
	}()
	Decompress{}.Wrap(stage.Receive)
}

// errEnough ends the payload of a fuzzer.
var errEnough = errors.New("enough")

// limitWriter counts what it is given, up to 16 MiB.
type limitWriter int64

func (w *limitWriter) Write(p []byte) (int, error) {
	if *w += limitWriter(len(p)); *w > 16<<20 {
		return 0, errEnough
	}
	return len(p), nil
}

func FuzzDecompress(f *testing.F) {
	hello := gzipped("hello, world")
	for _, s := range []string{"", hello, hello + hello, hello[:len(hello)/2], hello + "x", gzipped(strings.Repeat("ab", 1<<16)), gzipped(noise(1000))} {
		f.Add([]byte(s), int64(10), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in []byte, max int64, cut uint8) {
		src := readerFunc(func(p []byte) (int, error) {
			n := copy(p[:min(len(p), int(cut)+1)], in)
			if in = in[n:]; n == 0 {
				return 0, io.EOF
			}
			return n, nil
		})
		var got limitWriter
		err := stage.Chain{into(&got), Decompress{Open: Gzip, MaxBytes: max}}.Then(stage.Receive).
			Serve(t.Context(), &stage.Conn{In: src, Out: io.Discard})
		if max > 0 && int64(got) > max {
			t.Errorf("%d bytes, more than %d", got, max)
		}
		if err != nil && err != errEnough && !errors.Is(err, stage.ErrProtocol) && !errors.Is(err, stage.ErrTooLarge) {
			t.Errorf("ended with %v", err)
		}
		if errors.Is(err, stage.ErrTooLarge) && int64(got) != max {
			t.Errorf("%d bytes are too many, where %d are allowed", got, max)
		}
	})
}

func BenchmarkDecompress(b *testing.B) {
	in := gzipped(strings.Repeat("0123456789", 1<<17))
	b.Run("gzip alone", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(10 << 17)
		buf := make([]byte, 64<<10)
		for b.Loop() {
			r, err := Gzip(bufio.NewReaderSize(strings.NewReader(in), 32<<10))
			if err != nil {
				b.Fatal(err)
			}
			io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, buf)
			r.Close()
		}
	})
	b.Run("Decompress", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(10 << 17)
		h := Decompress{Open: Gzip}.Wrap(stage.Receive)
		for b.Loop() {
			if err := h.Serve(b.Context(), &stage.Conn{In: strings.NewReader(in), Out: io.Discard}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
