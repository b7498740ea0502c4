package stage

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// allAreQuick has each connection be read by calls that block once it has sent some 128 KiB.
func allAreQuick(t *testing.T) {
	size, within, procs := quickSize, quickTime, runtime.GOMAXPROCS(0)
	quickSize, quickTime = 64<<10, time.Hour
	runtime.GOMAXPROCS(max(procs, 2)) // or none would block
	t.Cleanup(func() {
		quickSize, quickTime = size, within
		runtime.GOMAXPROCS(procs)
		if n := blockers.Load(); n != 0 {
			t.Errorf("%d connections still block", n)
		}
	})
}

// much is more than it takes to be quick.
var much = strings.Repeat("0123456789abcdef", 1<<18)

// watched is a sink that tells how far it has come, and whether its connection is read by
// calls that block by then.
type watched struct {
	*os.File
	c       *Conn
	reached chan struct{} // closed when all of much has come
	n       int
	blocked bool
}

func (w *watched) Allow(max int) (int, error) { return max, nil }

func (w *watched) Passed(n int, err error) error {
	_, b := w.c.now()
	w.blocked = w.blocked || b != nil
	if w.n += n; w.n >= len(much) && w.reached != nil {
		close(w.reached)
		w.reached = nil
	}
	return err
}

// seenBy has a connection's payload go to a file, and w see it pass.
func seenBy(w *watched) Stage {
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		w.c = c
		c.SetSink(NewWriter(w.File, w))
		return nil, nil
	})
}

func newWatched(t *testing.T) *watched {
	return &watched{File: tempFile(t, 0), reached: make(chan struct{})}
}

// runToEnd runs a session until it has ended, as a server does that cannot leave it.
func runToEnd(s *Session) {
	wake := func() {}
	for {
		if _, waits := s.Run(wake); !waits {
			return
		}
		wake = nil
	}
}

// A quick peer's connection leaves the poller, comes back when the peer pauses, and does so
// again; with all bytes, no more descriptors, and an answer at the end.
func TestAQuickPeerIsReadByCallsThatBlock(t *testing.T) {
	allAreQuick(t)
	before := descriptors(t)
	server, client := tcpPair(t)
	w := newWatched(t)
	reached := w.reached
	moves := 0
	h := Chain{seenBy(w), Idle{Limit: patience}}.Then(HandlerFunc(func(ctx context.Context, c *Conn) error {
		for range 3 {
			w.n, w.blocked = 0, false
			if _, err := Copy(c.Out, io.LimitReader(c.In, 5)); err != nil { // a word before it
				return err
			}
			n, err := Copy(c.Out, NewReader(c.In, &frameGate{left: int64(len(much))}))
			if err != nil || n != int64(len(much)) {
				t.Errorf("Copy = %d, %v", n, err)
			}
			if w.blocked {
				moves++
			}
			if _, err := io.WriteString(c.Reply, "thanks"); err != nil {
				return err
			}
		}
		return nil
	}))
	var err error
	s := NewSession(t.Context(), server, 1, h, func(end error) { err = end })
	done := make(chan struct{})
	go func() {
		defer close(done)
		runToEnd(s)
	}()
	for range 3 {
		io.WriteString(client, "word:"+much)
		var answer [6]byte
		client.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(client, answer[:]); err != nil || string(answer[:]) != "thanks" {
			t.Fatalf("%q, %v", answer, err)
		}
	}
	<-reached
	<-done
	if err != nil {
		t.Errorf("it ended with %v", err)
	}
	if moves != 3 {
		t.Errorf("%d of 3 transfers blocked", moves)
	}
	if got, want := contentOf(t, w.File), strings.Repeat("word:"+much, 3); string(got) != want {
		t.Errorf("%d of %d bytes have arrived, or others", len(got), len(want))
	}
	if n, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read = %d, %v; want the end of the stream", n, err)
	}
	client.Close()
	w.Close()
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors are open; %d were", after, before)
	}
}

// descriptors counts those of the process, but for pipes, which are kept.
func descriptors(t *testing.T) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil && !strings.HasPrefix(to, "pipe:") {
			n++
		}
	}
	return n
}

// What ends a connection ends one that is read so, as it is read or when its peer pauses.
func TestTheEndsOfAConnectionThatBlocks(t *testing.T) {
	const limit = 300 * time.Millisecond
	for _, pauses := range []bool{true, false} {
		tests := map[string]struct {
			end    func(client *net.TCPConn, cancel func())
			want   error
			pauses bool
		}{
			"its end":         {func(c *net.TCPConn, _ func()) { c.CloseWrite() }, nil, false},
			"a reset":         {func(c *net.TCPConn, _ func()) { c.SetLinger(0); c.Close() }, ErrReset, false},
			"a stop":          {func(_ *net.TCPConn, cancel func()) { cancel() }, ErrShutdown, false},
			"silence":         {func(*net.TCPConn, func()) {}, ErrIdle, true},
			"a limit of time": {func(*net.TCPConn, func()) {}, ErrTooLong, true},
		}
		for name, tt := range tests {
			name := name
			if pauses {
				name += " after a pause"
			} else if tt.pauses {
				continue
			}
			t.Run(name, func(t *testing.T) {
				allAreQuick(t)
				server, client := tcpPair(t)
				w := newWatched(t)
				reached := w.reached
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				chain := Chain{seenBy(w)}
				switch tt.want {
				case ErrIdle:
					chain = append(chain, Idle{Limit: limit})
				case ErrTooLong:
					chain = append(chain, MaxDuration{Limit: limit})
				default:
					chain = append(chain, Idle{Limit: patience})
				}
				begun := time.Now()
				done := make(chan error, 1)
				s := NewSession(ctx, server, 1, chain.Then(Receive), func(err error) { done <- err })
				go runToEnd(s)
				io.WriteString(client, much)
				<-reached
				if pauses {
					// Until it is back with the poller.
					for raw, b := w.c.now(); raw == net.Conn(server) || b != nil; raw, b = w.c.now() {
						time.Sleep(time.Millisecond)
					}
				}
				tt.end(client, cancel)
				var err error
				select {
				case err = <-done:
				case <-time.After(patience):
					t.Fatal("it does not end")
				}
				if !errors.Is(err, tt.want) {
					t.Errorf("it ended with %v; want %v", err, tt.want)
				}
				if took := time.Since(begun); tt.pauses && took < limit {
					t.Errorf("it ended after %v; want %v", took, limit)
				}
				if !w.blocked {
					t.Error("it was never read by calls that block")
				}
				if got := contentOf(t, w.File); string(got) != much {
					t.Errorf("%d of %d bytes have arrived, or others", len(got), len(much))
				}
				client.SetReadDeadline(time.Now().Add(patience))
				_, rerr := client.Read(make([]byte, 1))
				switch {
				case tt.want == ErrReset: // and closed by ourselves
				case tt.want == nil || tt.want == ErrIdle:
					if rerr != io.EOF {
						t.Errorf("the peer saw %v; want an orderly end", rerr)
					}
				case !errors.Is(rerr, syscall.ECONNRESET):
					t.Errorf("the peer saw %v; want a reset", rerr)
				}
			})
		}
	}
}

// A sink that hangs keeps nobody from resetting its connection.
func TestResetReachesAConnectionThatBlocks(t *testing.T) {
	for _, pauses := range []bool{true, false} {
		allAreQuick(t)
		server, client := tcpPair(t)
		hangs, goesOn := make(chan struct{}), make(chan struct{})
		w := newWatched(t)
		hang := Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
			c.SetSink(NewWriter(w.File, &hangingGate{w: w, hangs: hangs, goesOn: goesOn, pauses: pauses}))
			return nil, nil
		})
		done := make(chan error, 1)
		s := NewSession(t.Context(), server, 1, Chain{seenBy(w), hang}.Then(Receive), func(err error) { done <- err })
		go runToEnd(s)
		sent := startSending(client, much+much)
		<-hangs
		s.Reset()
		s.Reset()
		wantReset(t, client, sent)
		close(goesOn)
		if err := <-done; !errors.Is(err, ErrReset) {
			t.Errorf("it ended with %v", err)
		}
		s.Reset()
	}
}

// startSending has a client send what, and tells how that ended.
func startSending(client net.Conn, what string) <-chan error {
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(client, what)
		sent <- err
	}()
	return sent
}

// wantReset expects that a client which is sending is told of a reset: when it reads or when
// it writes, since a connection tells of its reset once.
func wantReset(t *testing.T, client net.Conn, sent <-chan error) {
	t.Helper()
	client.SetReadDeadline(time.Now().Add(patience))
	_, err := client.Read(make([]byte, 1))
	if err := errors.Join(err, <-sent); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer saw %v; want a reset", err)
	}
}

// hangingGate hangs as soon as its connection is read by calls that block, or has been.
type hangingGate struct {
	w             *watched
	hangs, goesOn chan struct{}
	pauses        bool
	once          sync.Once
}

func (g *hangingGate) Allow(max int) (int, error) {
	if _, b := g.w.c.now(); b != nil {
		if g.pauses {
			g.w.c.unblock()
		}
		g.once.Do(func() { close(g.hangs) })
		<-g.goesOn
	}
	return max, nil
}

func (g *hangingGate) Passed(n int, err error) error { return err }

// Another goroutine may write to the peer all the while.
func TestRepliesWhileAConnectionIsReadQuickly(t *testing.T) {
	allAreQuick(t)
	server, client := tcpPair(t)
	const times, words = 20, 500
	w := newWatched(t)
	h := Chain{seenBy(w), Idle{Limit: patience}}.Then(HandlerFunc(func(ctx context.Context, c *Conn) error {
		var replies sync.WaitGroup
		replies.Go(func() {
			for range words {
				if _, err := io.WriteString(c.Reply, "word"); err != nil {
					t.Error(err)
				}
			}
		})
		defer replies.Wait()
		return Receive.Serve(ctx, c)
	}))
	done := make(chan error, 1)
	go runToEnd(NewSession(t.Context(), server, 1, h, func(err error) { done <- err }))
	heard := make(chan []byte, 1)
	go func() {
		all, err := io.ReadAll(client)
		if err != nil {
			t.Error(err)
		}
		heard <- all
	}()
	for range times {
		io.WriteString(client, much)
	}
	client.CloseWrite()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := <-heard; string(got) != strings.Repeat("word", words) {
		t.Errorf("the peer has heard %d bytes, or others", len(got))
	}
	if got := contentOf(t, w.File); !bytes.Equal(got, bytes.Repeat([]byte(much), times)) {
		t.Errorf("%d bytes have arrived, or others", len(got))
	}
}

// A reader that begins one call after the other leaves a writer its turn.
func TestAReaderThatBlocksMakesWayForAWriter(t *testing.T) {
	allAreQuick(t)
	server, client := tcpPair(t)
	c := NewConn(server, 1)
	rc, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if !c.block(rc) {
		t.Fatal("it does not block")
	}
	if c.block(rc) {
		t.Error("it blocks twice")
	}
	b, _, err := c.beginCall()
	if b == nil || err != nil {
		t.Fatal(b, err)
	}
	wrote := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c.Reply, "word")
		wrote <- err
	}()
	for writers := 0; writers == 0; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		writers = int(c.writers)
		c.mu.Unlock()
	}
	c.endCall(b)
	if b, raw, err := c.beginCall(); b != nil || raw == nil || err != nil {
		t.Error("another call comes before it: ", b, raw, err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	client.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, 4)
	if _, err := io.ReadFull(client, got); err != nil || string(got) != "word" {
		t.Errorf("%q, %v", got, err)
	}
	raw, _ := c.now()
	raw.Close()
}

// A program that has closed its standard output does not get it back as a connection, of which
// a write would end it by a SIGPIPE.
func TestAConnectionThatBlocksIsNoStandardOutput(t *testing.T) {
	server, _ := tcpPair(t)
	rc, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	in, err := syscall.Dup(0)
	if err != nil {
		t.Skip(err)
	}
	defer func() {
		syscall.Dup3(in, 0, syscall.O_CLOEXEC)
		syscall.Close(in)
	}()
	syscall.Close(0)
	rc.Control(func(fd uintptr) {
		n := blockingDuplicate(fd)
		if n < 3 {
			t.Errorf("descriptor %d", n)
		}
		syscall.Close(n)
	})
}

// A session that has gone on with another descriptor can be left, and waited for by that.
func TestASessionOfAQuickPeerCanBeLeft(t *testing.T) {
	allAreQuick(t)
	w := newWatched(t)
	g := newGuest(t, t.Context(), Chain{seenBy(w), Idle{Limit: time.Hour}}.Then(Receive))
	go io.WriteString(g.peer, much)
	for w.n < len(much) {
		g.waits(t)
	}
	if !w.blocked {
		t.Error("it never blocked")
	}
	rc, err := g.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	err = rc.Control(func(fd uintptr) {
		if _, err := syscall.Getpeername(int(fd)); err != nil {
			t.Error(err)
		}
		if n, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT); n != 1 || err != nil {
			t.Errorf("it is woken by %d bytes, %v", n, err)
		}
	})
	if err != nil {
		t.Error(err)
	}
	g.does(t, says("more"), ends)
	g.ends(t, nil)
	if got := contentOf(t, w.File); string(got) != much+"more" {
		t.Errorf("%d bytes have arrived, or others", len(got))
	}
}

// slowing has peers be slow as soon as their connection blocks, and tells whether one was back
// with the poller after that.
type slowing struct {
	c             *Conn
	blocked, back bool
}

func (g *slowing) Allow(max int) (int, error) { return max, nil }

func (g *slowing) Passed(_ int, err error) error {
	_, b := g.c.now()
	g.back = g.back || g.blocked && b == nil
	if g.blocked = g.blocked || b != nil; g.blocked {
		quickSize, quickTime = math.MaxInt64, 0
	}
	return err
}

// A peer that was quick and is slow, but never silent for long, makes way for others.
func TestAPeerThatIsQuickNoMore(t *testing.T) {
	allAreQuick(t)
	w, slow := newWatched(t), new(slowing)
	g := newGuest(t, t.Context(), Chain{seenBy(w)}.Then(HandlerFunc(func(_ context.Context, c *Conn) error {
		slow.c = c
		_, err := Copy(c.Out, NewReader(c.In, slow))
		return err
	})))
	played := play(g.peer, says(much), ends)
	for len(g.ended) == 0 {
		g.run(t) // once more if it has been left meanwhile
	}
	if err := errors.Join(<-played, g.ended[0]); err != nil {
		t.Error(err)
	}
	if !slow.blocked || !slow.back {
		t.Errorf("blocked: %v; with the poller after that: %v", slow.blocked, slow.back)
	}
	if got := contentOf(t, w.File); string(got) != much {
		t.Errorf("%d bytes have arrived, or others", len(got))
	}
}

// answering has a peer told of each part that has come, and counts how often its connection
// has begun to block.
type answering struct {
	c      *Conn
	answer func()
	part   int
	came   int
	blocks bool
	moves  int
}

func (g *answering) Allow(max int) (int, error) { return max, nil }

func (g *answering) Passed(n int, err error) error {
	_, b := g.c.now()
	if b != nil && !g.blocks {
		g.moves++
	}
	g.blocks = b != nil
	for g.came += n; g.came >= g.part; g.came -= g.part {
		g.answer()
	}
	return err
}

// A peer that sends a part and waits to be told that it has come would wait for the end of a
// call each time. It is soon left to the poller.
func TestAPeerThatWaitsForAnswersIsLeftToThePoller(t *testing.T) {
	const part, parts = 16 << 10, 512
	for _, by := range []string{"its connection", "another way"} {
		t.Run("by "+by, func(t *testing.T) {
			allAreQuick(t)
			server, client := tcpPair(t)
			answers := make(chan struct{}, parts)
			g := &answering{part: part, answer: func() { answers <- struct{}{} }}
			h := HandlerFunc(func(_ context.Context, c *Conn) error {
				g.c = c
				if by == "its connection" {
					g.answer = func() { c.Reply.Write([]byte{'.'}) }
				}
				_, err := Copy(io.Discard, NewReader(c.In, g))
				return err
			})
			sent := make(chan error, 1)
			go func() {
				defer client.CloseWrite()
				var answer [1]byte
				for range parts {
					if _, err := io.WriteString(client, much[:part]); err != nil {
						sent <- err
						return
					}
					if by == "its connection" {
						io.ReadFull(client, answer[:])
					} else {
						<-answers
					}
				}
				sent <- nil
			}()
			var err error
			runToEnd(NewSession(t.Context(), server, 1, h, func(end error) { err = end }))
			if err := errors.Join(err, <-sent); err != nil {
				t.Error(err)
			}
			if g.moves == 0 || g.moves > 3 {
				t.Errorf("it began to block %d times in %d parts", g.moves, parts)
			}
		})
	}
}

// Of many only so many block; all are received, also those for which there is no
// descriptor left to change to.
func TestOnlySoManyBlock(t *testing.T) {
	for _, scarce := range []bool{false, true} {
		allAreQuick(t)
		const conns = 8
		var all sync.WaitGroup
		var files []*os.File
		var clients []*net.TCPConn
		var sessions []*Session
		for range conns {
			server, client := tcpPair(t)
			w := newWatched(t)
			files, clients = append(files, w.File), append(clients, client)
			bounded := countGate(func() {
				n := 0
				for _, s := range sessions { // all at the same moment
					s.conn.mu.Lock()
					defer s.conn.mu.Unlock()
					if s.conn.blocking != nil {
						n++
					}
				}
				if n > int(maxBlockers()) {
					t.Errorf("%d block", n)
				}
			})
			sessions = append(sessions, NewSession(t.Context(), server, 1, Chain{seenBy(w), Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
				c.In = NewReader(c.In, bounded)
				return nil, nil
			})}.Then(Receive), func(err error) {
				if err != nil {
					t.Error(err)
				}
				if scarce && w.blocked {
					t.Error("one blocks without a descriptor")
				}
			}))
		}
		if scarce {
			exhaust(t)
		}
		for i := range conns {
			all.Go(func() { runToEnd(sessions[i]) })
			all.Go(func() {
				io.WriteString(clients[i], much)
				clients[i].CloseWrite()
			})
		}
		all.Wait()
		for _, f := range files {
			var got bytes.Buffer
			if _, err := io.Copy(&got, io.NewSectionReader(f, 0, 1<<30)); err != nil || got.String() != much {
				t.Errorf("%d bytes have arrived, or others, %v", got.Len(), err)
			}
		}
	}
}

// countGate is called before each transfer.
type countGate func()

func (g countGate) Allow(max int) (int, error) {
	g()
	return max, nil
}

func (countGate) Passed(_ int, err error) error { return err }

// exhaust leaves the process no descriptor until the test ends.
func exhaust(t *testing.T) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) })
}

// A panic leaves nothing behind.
func TestAPanicWhileAConnectionBlocks(t *testing.T) {
	allAreQuick(t)
	server, client := tcpPair(t)
	w := newWatched(t)
	panics := countGate(func() {
		if w.blocked {
			panic("boo")
		}
	})
	h := Chain{Recover{}, seenBy(w), Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		c.In = NewReader(c.In, panics)
		return nil, nil
	})}.Then(Receive)
	done := make(chan error, 1)
	go runToEnd(NewSession(t.Context(), server, 1, h, func(err error) { done <- err }))
	sent := startSending(client, much)
	if err := <-done; !errors.Is(err, ErrPanic) {
		t.Errorf("it ended with %v", err)
	}
	wantReset(t, client, sent)
}
