package zstd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/decompress"
)

// expand passes in through a chain that expands it into w.
func expand(t testing.TB, w io.Writer, in io.Reader, max int64) error {
	sink := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		c.SetSink(w)
		return nil, nil
	})
	return stage.Chain{sink, decompress.Decompress{Open: Open, MaxBytes: max}}.Then(stage.Receive).
		Serve(t.Context(), &stage.Conn{In: in, Out: io.Discard})
}

// compress returns s as one frame.
func compress(t testing.TB, s string, opts ...zstd.EOption) string {
	t.Helper()
	var b bytes.Buffer
	w, err := zstd.NewWriter(&b, append([]zstd.EOption{zstd.WithEncoderConcurrency(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func noise(n int) string {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}

const magic = "\x28\xb5\x2f\xfd"

// declares is a frame that declares a window of 1<<log bytes, and holds one byte that
// comes n times.
func declares(log int, n int) string {
	block := uint32(n)<<3 | 1<<1 | 1 // RLE, the last
	return magic + "\x00" + string(byte(log-10)<<3) + string(binary.LittleEndian.AppendUint32(nil, block)[:3]) + "x"
}

// segment is a frame of one segment that declares n bytes, and holds one.
func segment(n uint64) string {
	return magic + "\xe0" + string(binary.LittleEndian.AppendUint64(nil, n)) + "\x0b\x00\x00x"
}

var skippable = "\x50\x2a\x4d\x18\x03\x00\x00\x00abc"

func TestOpen(t *testing.T) {
	hello, long := compress(t, "hello, world"), strings.Repeat("0123456789", 1<<20)
	random := noise(3 << 20)
	tests := []struct {
		name string
		in   string
		max  int64
		want string
		err  error
	}{
		{"a frame", hello, 0, "hello, world", nil},
		{"an empty frame", magic + "\x20\x00\x01\x00\x00", 0, "", nil},
		{"several frames", hello + hello, 0, "hello, worldhello, world", nil},
		{"a frame that is to be skipped, in between", hello + skippable + hello, 0, "hello, worldhello, world", nil},
		{"nothing but a frame that is to be skipped", skippable, 0, "", nil},
		{"a payload longer than the window", compress(t, long, zstd.WithWindowSize(1<<20)), 0, long, nil},
		{"a payload that cannot be compressed", compress(t, random), 0, random, nil},
		{"exactly as much as there may be", compress(t, long), int64(len(long)), long, nil},
		{"one byte more", compress(t, long), int64(len(long)) - 1, long[:len(long)-1], stage.ErrTooLarge},
		{"far more", compress(t, strings.Repeat("x", 64<<20)), 10, "xxxxxxxxxx", stage.ErrTooLarge},
		{"far more, in frames", strings.Repeat(hello, 1000), 13, "hello, worldh", stage.ErrTooLarge},

		{"nothing at all", "", 0, "", stage.ErrProtocol},
		{"something else", "hello, world", 0, "", stage.ErrProtocol},
		{"a byte", magic[:1], 0, "", stage.ErrProtocol},
		{"half of the magic number", magic[:2], 0, "", stage.ErrProtocol},
		{"no more than the magic number", magic, 0, "", stage.ErrProtocol},
		{"a frame without its end", hello[:len(hello)-1], 0, "hello, world", stage.ErrProtocol},
		{"a frame that is to be skipped, without its end", skippable[:len(skippable)-1], 0, "", stage.ErrProtocol},
		{"a frame with something after it", hello + "x", 0, "hello, world", stage.ErrProtocol},
		{"a frame with more after it", hello + "hello, world", 0, "hello, world", stage.ErrProtocol},
		{"a frame with another checksum", hello[:len(hello)-1] + string(hello[len(hello)-1]^1), 0, "hello, world", stage.ErrProtocol},
		{"a reserved bit", magic + "\x08\x00", 0, "", stage.ErrProtocol},
		{"a dictionary that nobody has", magic + "\x21\x07\x00\x01\x00\x00", 0, "", stage.ErrProtocol},

		{"the largest window", declares(23, 7), 0, "xxxxxxx", nil},
		{"a window that is too large", declares(24, 7), 0, "", stage.ErrProtocol},
		{"a window of terabytes", declares(41, 7), 0, "", stage.ErrProtocol},
		{"a segment that is too large", segment(maxWindow + 1), 0, "", stage.ErrProtocol},
		{"a segment of more than there is memory", segment(1 << 62), 0, "", stage.ErrProtocol},
		{"a segment that is shorter than it says", segment(2), 0, "", stage.ErrProtocol},
	}
	for _, tt := range tests {
		for how, in := range map[string]func(io.Reader) io.Reader{
			"": func(r io.Reader) io.Reader { return r }, ", in pieces": func(r io.Reader) io.Reader { return &pieces{r, 1} },
		} {
			t.Run(tt.name+how, func(t *testing.T) {
				var got strings.Builder
				err := expand(t, &got, in(strings.NewReader(tt.in)), tt.max)
				if !errors.Is(err, tt.err) {
					t.Errorf("ended with %v, want %v", err, tt.err)
				}
				// A broken frame may give a part of its content.
				if got.String() != tt.want && !(tt.err == stage.ErrProtocol && strings.HasPrefix(tt.want, got.String())) {
					t.Errorf("%d bytes, want %d", got.Len(), len(tt.want))
				}
			})
		}
	}
}

// pieces is a reader that gives little at a time, and now and then more.
type pieces struct {
	r io.Reader
	n int
}

func (p *pieces) Read(b []byte) (int, error) {
	p.n = p.n%7919 + 1
	return p.r.Read(b[:min(len(b), p.n)])
}

// Open takes no memory for a window beyond the limit, and takes it once up to the limit.
func TestOpenMemory(t *testing.T) {
	const limit = 1 << 20
	for _, tt := range []struct {
		name  string
		open  func(io.Reader) (io.ReadCloser, error)
		in    string
		fails bool
		most  uint64
	}{
		{"at the default limit", Open, declares(23, 128<<10), false, maxWindow + 1<<20},
		{"beyond the default limit", Open, declares(24, 1), true, 256 << 10},
		{"of terabytes", Open, declares(41, 1), true, 256 << 10},
		{"in a segment beyond the default limit", Open, segment(maxWindow + 1), true, 256 << 10},
		{"in a segment of exabytes", Open, segment(1 << 62), true, 256 << 10},
		{"at a limit", WithMaxWindow(limit), declares(20, 128<<10), false, limit + 1<<20},
		{"beyond a limit", WithMaxWindow(limit), declares(21, 1), true, 256 << 10},
		{"in many frames", WithMaxWindow(limit), strings.Repeat(declares(20, 128<<10), 100), false, limit + 1<<20},
		{"in many frames, each larger", WithMaxWindow(limit), declares(16, 1) + declares(17, 1) + declares(18, 1) + declares(19, 1) + declares(20, 1), false, 2*limit + 2<<20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			// So that nothing is there already.
			runtime.GC()
			runtime.GC()
			var before, after runtime.MemStats
			in := strings.NewReader(tt.in)
			runtime.ReadMemStats(&before)
			r, err := tt.open(in)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, struct{ io.Reader }{r})
			runtime.ReadMemStats(&after)
			r.Close()
			if (err != nil) != tt.fails {
				t.Error(err)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > tt.most {
				t.Errorf("it has taken %d bytes, and may take %d", got, tt.most)
			}
		})
	}
}

func TestWithMaxWindowInvalid(t *testing.T) {
	for bytes, ok := range map[uint64]bool{0: false, 1023: false, 1024: true, maxWindow: true, 1 << 62: true} {
		func() {
			defer func() {
				if (recover() == nil) != ok {
					t.Errorf("%d bytes: accepted is not %t", bytes, ok)
				}
			}()
			r, err := WithMaxWindow(bytes)(strings.NewReader(""))
			if err != nil {
				t.Error(err)
				return
			}
			r.Close()
		}()
	}
}

// A malformed or unfinished stream has no effect on the next.
func TestOpenAfterBadStream(t *testing.T) {
	open := WithMaxWindow(1 << 20)
	hello, long := compress(t, "hello, world"), compress(t, noise(1<<20), zstd.WithWindowSize(1<<17))
	for range 20 {
		for _, in := range []string{hello, long[:len(long)/2], "nonsense", long, magic, hello + "x", ""} {
			r, err := open(strings.NewReader(in))
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 12)
			n, _ := io.ReadFull(r, got)
			r.Close()
			if in == hello && string(got[:n]) != "hello, world" {
				t.Fatalf("read %q", got[:n])
			}
		}
	}
}

// A connection that ends within a frame leaves no goroutine behind (see TestMain).
func TestOpenShutdown(t *testing.T) {
	for _, cut := range []int{1, 4, 6, 1000, 100_000} {
		server, client := net.Pipe()
		in := compress(t, noise(1<<20))
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			io.WriteString(client, in[:cut])
			cancel()
		}()
		err := stage.Serve(ctx, server, 1, decompress.Decompress{Open: Open}.Wrap(stage.Receive))
		if !errors.Is(err, stage.ErrShutdown) {
			t.Errorf("after %d bytes it ended with %v", cut, err)
		}
		client.Close()
	}
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
	hello := compress(f, "hello, world")
	for _, s := range []string{"", hello, hello + hello, hello[:len(hello)/2], skippable + hello, compress(f, strings.Repeat("ab", 1<<16)),
		compress(f, noise(1000)), declares(23, 128<<10), declares(41, 1), segment(1 << 62), segment(2)} {
		f.Add([]byte(s), int64(10))
	}
	f.Fuzz(func(t *testing.T, in []byte, max int64) {
		var w limitWriter
		err := expand(t, &w, bytes.NewReader(in), max)
		n := int64(w)
		if max > 0 && n > max {
			t.Errorf("%d bytes, more than %d", n, max)
		}
		if err != nil && err != errEnough && !errors.Is(err, stage.ErrProtocol) && !errors.Is(err, stage.ErrTooLarge) {
			t.Errorf("ended with %v", err)
		}
		if errors.Is(err, stage.ErrTooLarge) && n != max {
			t.Errorf("%d bytes are too many, where %d are allowed", n, max)
		}
	})
}
