package chain

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

const (
	greeting     = "accio\r\n"
	confirm      = "confirm-accio\r\n"
	confirmAgain = "confirm-accio-again\r\n\r\n"
	header       = confirm + confirmAgain
	silence      = 10 * time.Second
	earlier      = "of an earlier run"
)

// chain is that of the program server.
func chain(store stage.Store) stage.Handler {
	return stage.Chain{
		stage.Save{Store: store, Name: stage.NumberedFile, Mark: stage.ErrorMark},
		stage.Count{},
		stage.Idle{Limit: silence},
		stage.Handshake{Script: stage.Accio},
	}.Then(stage.Receive)
}

// step is something that happens to a connection, as two bytes of a script have it.
type step struct{ what, how byte }

const (
	says     byte = iota // how+1 bytes as the protocol has them
	says4096             // 4096 times how%64 of them
	blurts               // how%64 bytes, which are those of the script that follow
	pauses               // 700 ms, how%16+1 times; so ten seconds and their slack are never met exactly
	fills                // the disk is full now, or is no longer
	ends                 // ends its stream
	resets               // resets the connection
	stops                // the server is stopped
	kinds
)

// A script is read as far as there are so many steps and bytes: more of the same tells
// nothing new, and takes the fuzzer's time.
const (
	maxSteps = 50
	maxSent  = 1 << 20
)

// moves reads a script. tell is called for each step, with the bytes that the peer
// sends, until it returns false.
func moves(script []byte, tell func(s step, sends []byte) bool) {
	sent := 0
	for n := 0; n < maxSteps && sent < maxSent && len(script) >= 2; n++ {
		s := step{script[0] % kinds, script[1]}
		script = script[2:]
		var sends []byte
		switch s.what {
		case says:
			sends = right(sent, int(s.how)+1)
		case says4096:
			sends = right(sent, int(s.how%64)<<12)
		case blurts:
			n := min(int(s.how%64), len(script))
			sends, script = script[:n], script[n:]
		}
		sent += len(sends)
		if !tell(s, sends) {
			return
		}
	}
}

// right is n bytes of a client that does as it should, from the so-and-so-manieth on.
func right(from, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		if at := from + i; at < len(header) {
			b[i] = header[at]
		} else {
			b[i] = byte(at * 7)
		}
	}
	return b
}

// model is what is to become of a connection.
type model struct {
	sent   []byte
	silent time.Duration // since the last byte
	full   bool          // the disk is

	over   bool
	failed bool
	file   string // (none) if there is to be none
	close  string // how the server closes
}

const none = "(none)"

// does says what a step leads to.
func (m *model) does(s step, sends []byte) {
	if len(sends) > 0 {
		m.sent, m.silent = append(m.sent, sends...), 0
	}
	inHeader := len(m.sent) < len(header)
	switch {
	case !strings.HasPrefix(header, m.begin(len(header))):
		m.fails("RST")
	case len(sends) > 0 && len(m.sent) > len(header) && m.full:
		m.fails("RST")
	case s.what == ends && inHeader:
		m.ends("", "FIN")
	case s.what == ends:
		m.ends(string(m.sent[len(header):]), "FIN")
	case s.what == resets, s.what == stops:
		m.fails("RST")
	case s.what == fills:
		m.full = !m.full
	case s.what == pauses:
		if m.silent += s.pause(); m.silent > silence {
			m.fails("FIN")
		}
	}
}

func (s step) pause() time.Duration { return time.Duration(s.how%16+1) * 700 * time.Millisecond }

func (m *model) ends(file, close string) { m.over, m.file, m.close = true, file, close }

// fails is the end of a connection whose file is ERROR, for which there has to be room.
func (m *model) fails(close string) {
	m.failed = true
	if m.full {
		m.ends(none, "RST")
	} else {
		m.ends(stage.ErrorMark, close)
	}
}

// begin is the first n bytes that were sent, or as many as there are.
func (m *model) begin(n int) string { return string(m.sent[:min(n, len(m.sent))]) }

// words is what the server has said.
func (m *model) words() string {
	if m.begin(len(confirm)) == confirm {
		return greeting + greeting
	}
	return greeting
}

// disk is a filesystem in memory that can be full.
type disk struct {
	afero.Fs
	full atomic.Bool
}

func (d *disk) OpenFile(name string, flag int, perm os.FileMode) (afero.File, error) {
	f, err := d.Fs.OpenFile(name, flag, perm)
	return diskFile{f, d}, err
}

type diskFile struct {
	afero.File
	disk *disk
}

func (f diskFile) Write(p []byte) (int, error) {
	if f.disk.full.Load() {
		return 0, syscall.ENOSPC
	}
	return f.File.Write(p)
}

// seed adds scripts from which the fuzzer begins.
func seed(f *testing.F) {
	b := func(steps ...byte) { f.Add(steps) }
	const hear1, hear2 = byte(len(confirm)) - 1, byte(len(confirmAgain)) - 1
	b()
	b(ends, 0)
	b(resets, 0)
	b(stops, 0)
	b(pauses, 15)
	b(says, hear1, says, hear2, ends, 0)
	b(says, hear1, says, hear2, says, 99, ends, 0)
	b(says, hear1, pauses, 0, says, hear2, pauses, 13, says, 9, pauses, 13, says, 200, ends, 0)
	b(says, 255, ends, 0)
	b(says, 255, resets, 0)
	b(says, 255, stops, 0)
	b(says, 255, pauses, 14)
	b(says4096, 63, says4096, 5, ends, 0)
	b(says, 5, says, 0, says, 30, ends, 0)
	b(says, 3, pauses, 7, pauses, 7)
	b(says, hear1, blurts, 4, 'o', 'o', 'p', 's')
	b(blurts, 3, 'G', 'E', 'T')
	b(says, hear1, says, hear2, blurts, 5, 'E', 'R', 'R', 'O', 'R', ends, 0)
	b(fills, 0, ends, 0)
	b(says, 255, fills, 0, ends, 0)
	b(says, 255, fills, 0, says, 0)
	b(says, 255, fills, 0, resets, 0)
	b(fills, 0, says, 255)
	b(fills, 0, says, 9, pauses, 15)
	b(says, 255, fills, 0, fills, 0, says, 255, ends, 0)
	b(says, 255, pauses, 0, says4096, 40, pauses, 3, fills, 0, stops, 0)
}

// FuzzConnection drives a whole connection, from its first byte to its close, through
// the chain of the program server. At every step the directory holds either what was
// there before or what the connection has come to, and nothing of it; when it has ended,
// the peer was told which.
func FuzzConnection(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, script []byte) {
		synctest.Test(t, func(t *testing.T) {
			memory := &disk{Fs: fs.NewMemory()}
			store, err := fs.New(memory, "/save")
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			if err := afero.WriteFile(memory, "/save/1.file", []byte(earlier), 0o666); err != nil {
				t.Fatal(err)
			}
			server, peer := newWire()
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			served := make(chan error, 1)
			go func() { served <- stage.Serve(ctx, server, 1, chain(store)) }()
			synctest.Wait() // for the first greeting

			var m model
			play := func(s step, sends []byte) bool {
				peer.Write(sends)
				switch s.what {
				case ends:
					peer.halfClose()
				case resets:
					peer.reset()
				case stops:
					stop()
				case fills:
					memory.full.Store(!memory.full.Load())
				case pauses:
					time.Sleep(s.pause())
				}
				synctest.Wait()
				m.does(s, sends)
				want := map[string]string{"1.file": earlier}
				if m.over {
					want["1.file"] = m.file
				}
				holds(t, memory, "/save", want, m.over)
				words, closed := peer.heard()
				if words != m.words() && s.what != resets {
					t.Errorf("after %v the server has said %q, want %q", s, words, m.words())
				}
				if closed != m.close && s.what != resets {
					t.Errorf("after %v the server has closed by %q, want %q", s, closed, m.close)
				}
				return !m.over && !t.Failed()
			}
			moves(script, play)
			if !m.over && !t.Failed() {
				play(step{pauses, 15}, nil)
			}
			select {
			case err := <-served:
				if (err != nil) != m.failed {
					t.Errorf("it ended with %v", err)
				}
			default:
				t.Error("the connection has not ended")
				peer.reset()
				<-served
			}
		})
	})
}

// holds checks what the directory holds, and that nothing is pending if it is all over.
func holds(t *testing.T, files afero.Fs, dir string, want map[string]string, over bool) {
	t.Helper()
	infos, err := afero.ReadDir(files, dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, fi := range infos {
		if name := fi.Name(); name[0] != '.' {
			content, err := afero.ReadFile(files, filepath.Join(dir, name))
			if err != nil {
				t.Error(err)
			}
			found[name] = string(content)
		} else if over {
			t.Errorf("%s is left", name)
		}
	}
	for name, content := range want {
		got, ok := found[name]
		if !ok {
			got = none
		}
		if got != content {
			t.Errorf("%s holds %d bytes, %.20q; want %d, %.20q", name, len(got), got, len(content), content)
		}
		delete(found, name)
	}
	if len(found) > 0 {
		t.Errorf("there is more: %.100q", found)
	}
}

// FuzzTCPConnection does the same over TCP, on a disk and by the accept loop: where
// payload moves in the kernel, and where a connection is left while it is silent. Time
// is what it is there, so the pauses are as long as that takes, and the peer is never
// silent for too long; nor does the disk become full.
func FuzzTCPConnection(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, script []byte) {
		dir := t.TempDir()
		store, err := fs.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		ended := make(chan error, 1)
		srv := transport.Server{
			Handler: func(ctx context.Context, conn net.Conn, number uint64) {
				ended <- stage.Serve(ctx, conn, number, chain(store))
			},
		}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(ctx, ln) }()
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		tcp := conn.(*net.TCPConn)
		// Only one that is accepted is stopped, rather than never served.
		first := make([]byte, len(greeting))
		if _, err := io.ReadFull(conn, first); err != nil {
			t.Fatal(err)
		}

		var m model
		paused := 0
		play := func(s step, sends []byte) bool {
			switch s.what {
			case fills:
				return true
			case pauses:
				if paused++; paused < 4 {
					time.Sleep(25 * time.Millisecond) // longer than a peer is waited for in place
				}
				return true
			}
			m.does(s, sends)
			_, err := conn.Write(sends)
			if err != nil && !m.over {
				t.Errorf("sending: %v", err)
			}
			switch s.what {
			case ends:
				tcp.CloseWrite()
			case resets:
				tcp.SetLinger(0)
				tcp.Close()
			case stops:
				stop()
			}
			return !m.over && !t.Failed()
		}
		moves(script, play)
		if !m.over && !t.Failed() {
			play(step{ends, 0}, nil)
		}
		conn.SetReadDeadline(time.Now().Add(30 * time.Second))
		words, err := io.ReadAll(conn)
		closed := "FIN"
		if errors.Is(err, syscall.ECONNRESET) {
			closed = "RST"
		} else if err != nil && !errors.Is(err, net.ErrClosed) {
			t.Errorf("expecting the end: %v", err)
		}
		if err == nil || closed == "RST" {
			if want := m.words(); !strings.HasPrefix(want, string(first)+string(words)) {
				t.Errorf("the server has said %q, want %q", words, want)
			}
			if closed != m.close {
				t.Errorf("the server has closed by %q, want %q", closed, m.close)
			}
		}
		if err := <-ended; (err != nil) != m.failed {
			t.Errorf("it ended with %v", err)
		}
		holds(t, afero.NewOsFs(), dir, map[string]string{"1.file": m.file}, true)
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}
