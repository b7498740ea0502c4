//go:build linux

package integration

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

// soak is for make soak.
var soak = flag.Duration("soak", 0, "how long TestSoak has clients of all kinds go on; 0 is not at all")

const (
	// A soak is of rounds. Each is a load, and then a rest, in which the server is
	// looked at: what it still has then, it keeps.
	soakRound = 20 * time.Second

	// After the first rounds, a quarter of all, nothing is to grow any longer.
	warmUp = 4

	// What may be more at the end than after the warm-up. Memory is now more and now
	// less, by some MiB, as it is collected and goes back to the system; eight more are 32
	// bytes of each connection in ten minutes. Threads, which never end, are as many as
	// there ever were in system calls at a time, to which there is a bound (fs.Store).
	moreMemory     = 8 << 10 // KiB
	moreThreads    = 10
	moreGoroutines = 5
	moreOpen       = 20 // pipes that are kept to be used again
)

// unheard is the payload of a client that does not wait for what becomes of it.
const unheard = "never heard of again"

// soaked is a server that is soaked.
type soaked struct {
	name string
	port int
	dir  *directory
	load *load

	hostile atomic.Int64 // clients that were not honest

	saved map[uint64]bool // the clients of this round whose payload was found
	files int64           // in this round
}

// rest is what a server has when it has nothing to do.
type rest struct {
	saved, hostile, files int64
	memory, peak, threads int64 // the program's, in KiB
	open, sockets         int64
	goroutines            int64 // of the library's server
}

// TestSoak has honest and hostile clients at two servers: the program as users have it,
// of which the system tells the memory, descriptors and threads, and the library in this
// process, of which the runtime tells the goroutines. It holds them to all of README's
// "What is promised" but for the cut of the power. It is the program without
// the race detector, whose memory is not what users have.
func TestSoak(t *testing.T) {
	if *soak == 0 {
		t.Skip("make soak, or -soak=10m, runs this")
	}
	program := serve(t, "server", plain)
	check(t, upload(program.port, "hello"))
	program.dir.await("1.file")
	library, stop := serveLibrary(t)
	servers := []*soaked{{name: "server", port: program.port, dir: program.dir}, library}
	const idle = 1 // the socket that listens
	rounds := max(int(*soak/soakRound), 2*warmUp)
	begun := time.Now()
	var all []rest
	for n := range rounds {
		end := time.Now().Add(soakRound)
		for _, s := range servers {
			s.begin()
		}
		var wg sync.WaitGroup
		for _, s := range servers {
			wg.Go(func() { s.round(t, end) })
		}
		wg.Wait()
		var r rest
		for _, s := range servers {
			s.judge(t)
			r.saved += int64(s.load.saved)
			r.files += s.files
			r.hostile += s.hostile.Swap(0)
		}
		if !poll(func() bool { return sockets(program.descriptors()) == idle }) {
			t.Errorf("%d sockets are open, and there are no clients", sockets(program.descriptors()))
		}
		if !poll(func() bool { r.goroutines = int64(runtime.NumGoroutine()); return r.goroutines < 100 }) {
			t.Errorf("%d goroutines, and there are no clients", r.goroutines)
		}
		r.memory, r.peak, r.threads = program.field("status", "VmRSS"), program.field("status", "VmHWM"), program.field("status", "Threads")
		open := program.descriptors()
		r.open, r.sockets = int64(len(open)), int64(sockets(open))
		all = append(all, r)
		if n == 0 {
			t.Log("round    time   saved  hostile    files  RSS KiB  peak KiB  threads  open  sockets  goroutines")
		}
		t.Logf("%5d %7v %7d %8d %8d %8d %9d %8d %5d %8d %11d", n+1, time.Since(begun).Round(time.Second),
			r.saved, r.hostile, r.files, r.memory, r.peak, r.threads, r.open, r.sockets, r.goroutines)
		if t.Failed() {
			break
		}
	}
	program.halt(syscall.SIGTERM)
	program.silent()
	stop()
	for _, s := range servers {
		if left := s.dir.names(); len(left) > 0 {
			t.Errorf("%s has left %s", s.name, enumerate(left))
		}
	}
	if !t.Failed() {
		compare(t, all[len(all)/warmUp:])
	}
}

// compare compares the last third of the rounds with the first.
func compare(t *testing.T, all []rest) {
	t.Helper()
	third := (len(all) + 2) / 3
	for _, of := range []struct {
		what string
		is   func(rest) int64
		more int64
	}{
		{"KiB of memory", func(r rest) int64 { return r.memory }, moreMemory},
		{"KiB at most", func(r rest) int64 { return r.peak }, moreMemory},
		{"threads", func(r rest) int64 { return r.threads }, moreThreads},
		{"descriptors", func(r rest) int64 { return r.open }, moreOpen},
		{"sockets", func(r rest) int64 { return r.sockets }, 0},
		{"goroutines", func(r rest) int64 { return r.goroutines }, moreGoroutines},
	} {
		first, last := median(all[:third], of.is), median(all[len(all)-third:], of.is)
		verdict := "no growth"
		if last > first+of.more {
			verdict = "GROWTH"
			t.Errorf("the %s have become more", of.what)
		}
		t.Logf("%-14s %8d at first, %8d at last (bound %+d): %s", of.what, first, last, of.more, verdict)
	}
}

func median(all []rest, is func(rest) int64) int64 {
	var values []int64
	for _, r := range all {
		values = append(values, is(r))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// serveLibrary is the chain of the program, in this process, until stop.
func serveLibrary(t *testing.T) (s *soaked, stop func()) {
	t.Helper()
	s = &soaked{name: "library", dir: newDirectory(t)}
	ln := listen(t, "127.0.0.1:0")
	ln.SetDeadline(time.Time{})
	s.port = ln.Addr().(*net.TCPAddr).Port
	store, err := fs.OpenDir(s.dir.path)
	check(t, err)
	chain := stage.Chain{
		stage.Save{Store: store, Name: stage.NumberedFile, Mark: stage.ErrorMark},
		stage.Count{},
		stage.Idle{Limit: 10 * time.Second},
		stage.Handshake{Script: stage.Accio},
	}.Then(stage.Receive)
	srv := transport.Server{
		Scheduler: transport.NewPool(1000),
		OnError:   func(err error) { t.Errorf("library: %v", err) },
		Handler: func(ctx context.Context, conn net.Conn, number uint64) {
			if err := stage.Serve(ctx, conn, number, chain); errors.Is(err, stage.ErrStorage) {
				t.Errorf("library: %v", err)
			}
		},
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ctx, ln) }()
	return s, sync.OnceFunc(func() {
		cancel()
		check(t, errors.Join(<-served, store.Close()))
	})
}

func (s *soaked) begin() {
	s.load, s.saved, s.files = newLoad(), map[uint64]bool{}, 0
}

// round is one round of clients of all kinds, until end, and the silence of the last
// that are silent.
func (s *soaked) round(t *testing.T, end time.Time) {
	goOn := func() bool { return time.Now().Before(end) && !t.Failed() }
	var clients sync.WaitGroup
	repeat := func(n int, client func() error) {
		for range n {
			clients.Go(func() {
				for goOn() {
					if err := client(); err != nil {
						t.Errorf("%s: %v", s.name, err)
					}
				}
			})
		}
	}
	hostile := func(n int, client func() error) {
		repeat(n, func() error {
			s.hostile.Add(1)
			return client()
		})
	}
	repeat(8, func() error {
		if !s.load.upload(s.port, -1) {
			return errors.New("an honest client was not served")
		}
		return nil
	})
	// One that trickles, and one that does not read before it has sent all.
	repeat(4, func() error {
		client := lastClient.Add(1)
		c := connect(s.port)
		for b := range strings.SplitSeq(header+described(client, 20), "") {
			c.send(b)
			time.Sleep(rand.N(20 * time.Millisecond))
		}
		if !s.load.ends(client, -1, c.halfClose().hearAll(greeting+greeting)) {
			return fmt.Errorf("one that trickles: %v", c.err)
		}
		return nil
	})
	repeat(2, func() error {
		client := lastClient.Add(1)
		c := connect(s.port).send(header, described(client, anySize())).halfClose().hearAll(greeting + greeting)
		if !s.load.ends(client, -1, c) {
			return fmt.Errorf("one that reads late: %v", c.err)
		}
		time.Sleep(10 * time.Millisecond)
		return nil
	})
	hostile(2, func() error {
		flood(s.port)
		return nil
	})
	// One that never reads, and is gone.
	hostile(1, func() error {
		connect(s.port).send(header, unheard).close()
		time.Sleep(10 * time.Millisecond)
		return nil
	})
	// A thousand at once, that are dropped in one way or another.
	hostile(1, func() error {
		var crowd []*client
		for range 1000 {
			crowd = append(crowd, connect(s.port))
		}
		s.hostile.Add(int64(len(crowd)) - 1)
		for i, c := range crowd {
			if i%2 == 0 {
				c.reset()
			} else {
				c.close()
			}
		}
		time.Sleep(min(rand.N(10*time.Second), time.Until(end)))
		return nil
	})
	// Those that are silent, in the handshake or after it, until they are dropped.
	repeat(60, func() error {
		if time.Until(end) < 11*time.Second {
			time.Sleep(time.Until(end))
			return nil
		}
		s.hostile.Add(1)
		time.Sleep(rand.N(time.Second))
		c := connect(s.port).hear(greeting)
		switch rand.IntN(4) {
		case 0:
			c.send(confirm).hear(greeting)
		case 1:
			c.send(confirm).hear(greeting).send(again)
		case 2:
			c.send(confirm).hear(greeting).send(again, strings.Repeat("x", rand.IntN(1<<17)))
		}
		if err := c.fin(); err != nil {
			return fmt.Errorf("one that is silent: %w", err)
		}
		return nil
	})

	over := make(chan struct{})
	var janitor sync.WaitGroup
	janitor.Go(func() {
		for {
			select {
			case <-over:
				return
			case <-time.After(50 * time.Millisecond):
				s.collect(t)
			}
		}
	})
	clients.Wait()
	close(over)
	janitor.Wait()
	if !poll(func() bool { return len(s.dir.hidden()) == 0 }) {
		t.Errorf("%s has pending files, and no clients: %s", s.name, enumerate(s.dir.hidden()))
	}
	s.collect(t)
}

// collect looks at what was saved, and removes it.
func (s *soaked) collect(t *testing.T) {
	for _, name := range s.dir.names() {
		if name[0] == '.' {
			continue
		}
		path := s.dir.join(name)
		err := examine(path, func(content []byte) error {
			switch text := string(content); {
			case text == "", text == "ERROR", text == "hello", text == unheard, strings.Trim(text, "x") == "":
				return nil
			}
			client, err := describes(content)
			s.saved[client] = true
			return err
		})
		if err = errors.Join(err, os.Remove(path)); err != nil {
			t.Errorf("%s: %s: %v", s.name, name, err)
		}
		s.files++
	}
}

// judge checks what the clients of a round were told.
func (s *soaked) judge(t *testing.T) {
	t.Helper()
	if n := s.load.refused(); n > 0 {
		t.Errorf("%s: %d uploads were refused", s.name, n)
	}
	s.load.compare(t, s.saved)
}
