package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"github.com/accio-go/accio/cmd/examples/exampletest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// receiver is the program under test.
type receiver struct {
	*exampletest.Run
	t    *testing.T
	addr net.Addr
	dir  string
}

func start(t *testing.T, rate int64) *receiver {
	ln := exampletest.Listen(t)
	r := &receiver{t: t, addr: ln.Addr(), dir: filepath.Join(t.TempDir(), "backups")}
	r.Run = exampletest.Start(t, func(ctx context.Context) error { return receive(ctx, ln, r.dir, rate) })
	return r
}

func (r *receiver) dial() *net.TCPConn { return exampletest.Dial(r.t, r.addr) }

// send sends what is compressed already, and returns what it is told.
func (r *receiver) send(compressed []byte) (string, error) {
	return exampletest.Send(r.t, r.addr, compressed)
}

func compress(t *testing.T, b []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	return enc.EncodeAll(b, nil)
}

// payload compresses somewhat, and is of many blocks.
func payload(n int) []byte {
	b := make([]byte, 0, n+20)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "%d %x\n", i, i*i)
	}
	return b[:n]
}

// stored are the backups there are, of which each has the right sum beside it, and there
// is nothing else at all. The program has ended then.
func (r *receiver) stored() (backups [][]byte) {
	r.t.Helper()
	r.End()
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		r.t.Fatal(err)
	}
	var names, want []string
	for _, e := range entries {
		names = append(names, e.Name())
		if !strings.HasSuffix(e.Name(), ".backup") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(r.dir, e.Name()))
		if err != nil {
			r.t.Fatal(err)
		}
		sum, err := os.ReadFile(filepath.Join(r.dir, e.Name()+".sha256"))
		if right := fmt.Sprintf("%x  %s\n", sha256.Sum256(b), e.Name()); string(sum) != right || err != nil {
			r.t.Errorf("its sum is %q, %v; want %q", sum, err, right)
		}
		backups = append(backups, b)
		want = append(want, e.Name(), e.Name()+".sha256")
	}
	if !slices.Equal(names, want) {
		r.t.Errorf("the directory holds %q, want %q", names, want)
	}
	return backups
}

func TestABackupIsKeptAsItWas(t *testing.T) {
	r := start(t, 0)
	for _, n := range []int{0, 5, 3 << 20} {
		if told, err := r.send(compress(t, payload(n))); told != fmt.Sprintf("%d bytes are stored\n", n) || err != nil {
			t.Errorf("the sender of %d bytes is told %q, %v", n, told, err)
		}
	}
	var sizes []int
	for _, b := range r.stored() {
		sizes = append(sizes, len(b))
		if !bytes.Equal(b, payload(len(b))) {
			t.Errorf("one of %d bytes holds something else", len(b))
		}
	}
	slices.Sort(sizes)
	if !slices.Equal(sizes, []int{0, 5, 3 << 20}) {
		t.Errorf("there are backups of %d bytes", sizes)
	}
}

func TestWhatIsNoWholeBackupIsNotKept(t *testing.T) {
	whole := compress(t, payload(3<<20))
	damaged := slices.Clone(whole)
	damaged[len(damaged)/2] ^= 0xff
	for name, sent := range map[string][]byte{
		"cut":              whole[:len(whole)/2],
		"cut at the end":   whole[:len(whole)-1],
		"damaged":          damaged,
		"followed by more": append(slices.Clone(whole), "more"...),
		"not compressed":   []byte("hello"),
		"nothing":          nil,
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, 0)
			told, err := r.send(sent)
			if told != "" || !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("the sender is told %q, %v", told, err)
			}
			if got := r.stored(); len(got) != 0 {
				t.Errorf("%d backups are kept", len(got))
			}
		})
	}
}

// A throttle takes time, which is not measured here beyond what no machine can do.
func TestABackupIsThrottled(t *testing.T) {
	const rate = 1 << 20
	r := start(t, rate)
	random := make([]byte, 3*rate/2)
	for i, x := 0, uint32(1); i < len(random); i++ {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		random[i] = byte(x)
	}
	begun := time.Now()
	told, err := r.send(compress(t, random))
	if told != fmt.Sprintf("%d bytes are stored\n", len(random)) || err != nil {
		t.Errorf("the sender is told %q, %v", told, err)
	}
	// What a second allows comes at once, and the rest takes half a second.
	if took := time.Since(begun); took < 400*time.Millisecond {
		t.Errorf("it took %v", took)
	}
}

func TestWhoIsSendingAtAStopFinishes(t *testing.T) {
	r := start(t, 0)
	sent := compress(t, payload(1<<20))
	conn := r.dial()
	if _, err := r.send(compress(t, nil)); err != nil { // so conn is served
		t.Fatal(err)
	}
	conn.Write(sent[:len(sent)/2])
	r.Stop()
	exampletest.AwaitClosed(r.addr)
	conn.Write(sent[len(sent)/2:])
	conn.CloseWrite()
	if told, err := io.ReadAll(conn); string(told) != fmt.Sprintf("%d bytes are stored\n", 1<<20) || err != nil {
		t.Errorf("the sender is told %q, %v", told, err)
	}
	if n := len(r.stored()); n != 2 {
		t.Errorf("%d backups are kept, want 2", n)
	}
}

func TestADirectoryThatCannotBeIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := receive(t.Context(), nil, file, 0); !errors.Is(err, syscall.ENOTDIR) {
		t.Errorf("got %v", err)
	}
}

func TestTheCommandZstdCompresses(t *testing.T) {
	if _, err := exec.LookPath("zstd"); err != nil {
		t.Skip(err)
	}
	for _, flags := range [][]string{{"-c"}, {"-c", "-19"}, {"-c", "--no-check"}} {
		cmd := exec.CommandContext(t.Context(), "zstd", flags...)
		cmd.Stdin = bytes.NewReader(payload(1 << 20))
		compressed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		r := start(t, 0)
		if told, err := r.send(compressed); told != fmt.Sprintf("%d bytes are stored\n", 1<<20) || err != nil {
			t.Errorf("%q: the sender is told %q, %v", flags, told, err)
		}
		if got := r.stored(); len(got) != 1 || !bytes.Equal(got[0], payload(1<<20)) {
			t.Errorf("%q: %d backups are kept, or something else", flags, len(got))
		}
		if _, err := exec.LookPath("sha256sum"); err != nil {
			continue
		}
		check := exec.CommandContext(t.Context(), "sh", "-c", "sha256sum -c *.sha256")
		check.Dir = r.dir
		if out, err := check.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
}
