//go:build linux

package integration

import (
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// described is a payload of a given size that tells by itself whether it is
// whole, and from which client it is.
func described(client uint64, size int) string {
	body := strings.Repeat(fmt.Sprintf("%016x", client), size/16+1)[:size]
	return fmt.Sprintf("%016x %08x %08x\n", client, size, crc32.ChecksumIEEE([]byte(body))) + body
}

// describes reports from which client the payload is, or what it lacks.
func describes(payload []byte) (client uint64, err error) {
	const head = 16 + 1 + 8 + 1 + 8 + 1
	var size int
	var sum uint32
	if len(payload) < head {
		return 0, fmt.Errorf("%d bytes, %.40q", len(payload), payload)
	}
	if _, err := fmt.Sscanf(string(payload[:head]), "%016x %08x %08x\n", &client, &size, &sum); err != nil {
		return 0, fmt.Errorf("%d bytes, %.40q…: %w", len(payload), payload, err)
	}
	if body := payload[head:]; len(body) != size || crc32.ChecksumIEEE(body) != sum {
		return 0, fmt.Errorf("of client %x, %d of %d bytes", client, len(body), size)
	}
	return client, nil
}

// load is many clients that upload one payload after the other, for as long as
// the server lets them.
type load struct {
	workers sync.WaitGroup

	mu     sync.Mutex
	told   map[uint64]ending // how the clients have seen the server close that had sent all
	saved  int               // how many of them were told that all is saved
	enough chan struct{}     // closed when that are enough
}

var lastClient atomic.Uint64

// load begins a load. enough is closed when so many uploads have succeeded.
func (s *service) load(workers, enough int) *load {
	l := &load{told: map[uint64]ending{}, enough: make(chan struct{})}
	for range workers {
		l.workers.Go(func() {
			for l.upload(s.port, enough) {
			}
		})
	}
	return l
}

func (l *load) upload(port, enough int) bool {
	client := lastClient.Add(1)
	size := rand.IntN(1000)
	if rand.IntN(3) == 0 {
		size = rand.IntN(1 << 18)
	}
	payload := described(client, size)
	c := connect(port).greet().send(payload[:len(payload)/2], payload[len(payload)/2:]).halfClose()
	end, err := c.ended()
	if err != nil {
		return false // the server is gone
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told[client] = end
	if end == fin {
		if l.saved++; l.saved == enough {
			close(l.enough)
		}
	}
	return end == fin
}

// waits until enough have succeeded.
func (l *load) waits(t *testing.T) {
	t.Helper()
	select {
	case <-l.enough:
	case <-time.After(patience):
		t.Fatal("the uploads make no progress")
	}
}

// refused is how many clients have sent all and seen a reset so far.
func (l *load) refused() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, end := range l.told {
		if end == rst {
			n++
		}
	}
	return n
}

// judge checks, when the server is gone, that every file is the whole payload of
// a client, or what else it may be, and that whoever was told that its payload
// is saved finds it there. It returns the clients of which there is a payload.
func (l *load) judge(dir *directory, mayBe ...string) (saved map[uint64]bool) {
	dir.t.Helper()
	l.workers.Wait()
	saved = map[uint64]bool{}
	for _, name := range dir.names() {
		if name[0] == '.' {
			continue
		}
		err := examine(dir.join(name), func(content []byte) error {
			if slices.Contains(mayBe, string(content)) {
				return nil
			}
			client, err := describes(content)
			saved[client] = true
			return err
		})
		if err != nil {
			dir.t.Errorf("%s is not whole: %v", name, err)
		}
	}
	for client, end := range l.told {
		if end == fin && !saved[client] {
			dir.t.Errorf("client %x has seen %s, but its payload is not there", client, end)
		}
	}
	return saved
}

func TestAKillAtAnyMomentLeavesWholeFilesOnly(t *testing.T) {
	busy(t)
	dir := newDirectory(t)
	left := 0
	for range 15 {
		s := serve(t, "server", plain, in(dir))
		l := s.load(8, 5+rand.IntN(30))
		l.waits(t)
		// What the last one has left is swept by now.
		for _, name := range dir.hidden() {
			if fi, err := os.Lstat(dir.join(name)); err == nil && fi.ModTime().Before(s.begun) {
				t.Errorf("%s is left from before", name)
			}
		}
		s.kill()
		s.silent()
		l.judge(dir)
		left += len(dir.hidden())
	}
	if left == 0 {
		t.Error("no upload was ever broken off")
	}
	s := serve(t, "server", plain, in(dir))
	check(t, upload(s.port, "hello"))
	dir.holdsAt("1.file", "hello")
	if hidden := dir.hidden(); len(hidden) > 0 {
		t.Errorf("%q is left", hidden)
	}
	s.halt(os.Interrupt)
	s.silent()
}

func TestAStopAtAnyMomentTellsEveryClientTheTruth(t *testing.T) {
	busy(t)
	for range 8 {
		s := serve(t, "server")
		l := s.load(20, 5+rand.IntN(30))
		l.waits(t)
		s.halt(syscall.SIGTERM)
		s.silent()
		saved := l.judge(s.dir, "ERROR", "")
		for client, end := range l.told {
			if end == rst && saved[client] {
				t.Errorf("client %x has seen %s, but its payload is there", client, end)
			}
		}
		if hidden := s.dir.hidden(); len(hidden) > 0 {
			t.Errorf("%q is left", hidden)
		}
	}
}
