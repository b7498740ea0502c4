//go:build linux

package integration

import (
	"flag"
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

// kills is for make torture.
var kills = flag.Int("kills", 15, "how often the server is killed at a random moment; it is stopped at half as many")

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
	if client == 0 || client > lastClient.Load() {
		return 0, fmt.Errorf("of client %x, which there never was", client)
	}
	return client, nil
}

// load is many clients that upload one payload after the other, for as long as
// the server lets them. Some of them break off.
type load struct {
	workers sync.WaitGroup

	mu     sync.Mutex
	told   map[uint64]ending // how the clients have seen the server close that had sent all
	saved  int               // how many of them were told that all is saved
	enough chan struct{}     // closed when that are enough
	broken map[uint64]bool   // those that did not end their stream
}

var lastClient atomic.Uint64

func newLoad() *load {
	return &load{told: map[uint64]ending{}, enough: make(chan struct{}), broken: map[uint64]bool{}}
}

// load begins a load. enough is closed when so many uploads have succeeded.
func (s *service) load(workers, enough int) *load {
	l := newLoad()
	for range workers {
		l.workers.Go(func() {
			for l.upload(s.port, enough) {
			}
		})
	}
	return l
}

// anySize is the size of a payload: most are small.
func anySize() int {
	switch n := rand.IntN(40); {
	case n == 0:
		return rand.IntN(1 << 22)
	case n < 14:
		return rand.IntN(1 << 18)
	default:
		return rand.IntN(1000)
	}
}

// upload is one client's. It reports whether all went as the client has it.
func (l *load) upload(port, enough int) bool {
	client := lastClient.Add(1)
	payload := described(client, anySize())
	switch rand.IntN(12) {
	case 0:
		return l.breakOff(client, connect(port).greet().send(payload[:rand.IntN(len(payload)+1)]))
	case 1:
		return l.breakOff(client, connect(port).send(header, payload).hearAll(greeting+greeting))
	case 2:
		n := rand.IntN(len(header))
		end, err := connect(port).send(header[:n]).halfClose().endedAfter(greeting + greeting)
		return err == nil && end == fin
	case 3:
		end, err := connect(port).send("in" + header + payload[:100%len(payload)]).endedAfter(greeting)
		return err == nil && end == rst
	}
	half := rand.IntN(len(payload))
	return l.ends(client, enough, connect(port).greet().send(payload[:half], payload[half:]).halfClose())
}

// breakOff resets the connection of a client that has not ended its stream.
func (l *load) breakOff(client uint64, c *client) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken[client] = true
	c.reset()
	return c.err == nil && c.end == ""
}

// ends waits for what a client is told that has sent all.
func (l *load) ends(client uint64, enough int, c *client) bool {
	end, err := c.endedAfter("")
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
	l.compare(dir.t, saved)
	return saved
}

// compare checks what the clients were told by what is saved.
func (l *load) compare(t *testing.T, saved map[uint64]bool) {
	t.Helper()
	for client, end := range l.told {
		if end == fin && !saved[client] {
			t.Errorf("client %x has seen %s, but its payload is not there", client, end)
		}
	}
	for client := range l.broken {
		if saved[client] {
			t.Errorf("client %x has broken off, but its payload is there", client)
		}
	}
}

// README, "What is promised": what was confirmed is kept, there is never part of a
// file, and what a killed server left is removed by the next start.
func TestAKillAtAnyMomentLeavesWholeFilesOnly(t *testing.T) {
	busy(t)
	dir := newDirectory(t)
	left, saved := 0, 0
	for range *kills {
		before := dir.hidden()
		s := serve(t, "server", plain, in(dir))
		l := s.load(12, 5+rand.IntN(30))
		l.waits(t)
		// What the last one has left is swept by now.
		for _, name := range dir.hidden() {
			if slices.Contains(before, name) {
				t.Errorf("%s is left from before", name)
			}
		}
		time.Sleep(rand.N(20 * time.Millisecond)) // and not always just after a success
		s.kill()
		s.silent()
		l.judge(dir, "ERROR", "")
		left += len(dir.hidden())
		saved += l.saved
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
	t.Logf("%d kills, %d uploads confirmed and found whole, %d files that were pending and are gone", *kills, saved, left)
}

func TestAStopAtAnyMomentTellsEveryClientTheTruth(t *testing.T) {
	busy(t)
	saved := 0
	stops := (*kills + 1) / 2
	for range stops {
		s := serve(t, "server")
		l := s.load(20, 5+rand.IntN(30))
		l.waits(t)
		s.halt(syscall.SIGTERM)
		s.silent()
		found := l.judge(s.dir, "ERROR", "")
		for client, end := range l.told {
			if end == rst && found[client] {
				t.Errorf("client %x has seen %s, but its payload is there", client, end)
			}
		}
		if hidden := s.dir.hidden(); len(hidden) > 0 {
			t.Errorf("%q is left", hidden)
		}
		saved += l.saved
	}
	t.Logf("%d stops, %d uploads confirmed and found whole", stops, saved)
}
