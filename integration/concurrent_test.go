//go:build linux

package integration

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestServerServesManyClientsAtTheSameTime(t *testing.T) {
	busy(t)
	for _, n := range []int{10, 300} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			s := serve(t, "server")
			clients := queue(t, s.port, n)
			payload := func(i int) string { return fmt.Sprintf("I am %d of %d", i+1, n) }
			// All are at the same step at the same time; nobody is done before
			// everybody has begun.
			for _, c := range clients {
				c.hear(greeting).must(t)
			}
			for i, c := range clients {
				c.send(confirm).hear(greeting).send(again, payload(i)).must(t)
			}
			s.dir.awaitHidden(n)
			together(t, n, func(i int) error {
				if err := clients[i].halfClose().fin(); err != nil {
					return err
				}
				// The orderly close says that the file is there.
				return s.dir.has(numbered(i+1), payload(i))
			})
			var want []outcome
			for i := range n {
				want = append(want, received(payload(i)))
			}
			s.dir.awaitHidden(0)
			s.stop(want...)
		})
	}
}

func TestServerServesAThousandClientsInARow(t *testing.T) {
	busy(t)
	s := serve(t, "server", plain)
	var want []outcome
	for n := 1; n <= 1000; n++ {
		payload := fmt.Sprintf("the payload of client %d", n)
		check(t, upload(s.port, payload))
		check(t, s.dir.has(numbered(n), payload))
		want = append(want, received(payload))
	}
	s.stop(want...)
}

func TestServerSavesLargeFilesSideBySide(t *testing.T) {
	busy(t)
	s := serve(t, "server")
	const n, size = 10, 10 << 20
	payloads, sums := make([][]byte, n), make([][sha256.Size]byte, n)
	for i := range payloads {
		payloads[i] = memory(size)
		rand.NewChaCha8([32]byte{byte(i)}).Read(payloads[i])
		sums[i] = sha256.Sum256(payloads[i])
	}
	clients := queue(t, s.port, n)
	together(t, n, func(i int) error {
		if err := clients[i].greet().pour(1, payloads[i]).halfClose().fin(); err != nil {
			return err
		}
		return examine(s.dir.join(numbered(i+1)), func(b []byte) error {
			if sha256.Sum256(b) != sums[i] {
				return fmt.Errorf("%s holds %d other bytes than were sent", numbered(i+1), len(b))
			}
			return nil
		})
	})
	s.halt(syscall.SIGTERM)
	s.silent()
	if names := s.dir.names(); len(names) != n {
		t.Errorf("the directory holds %q", names)
	}
}

func TestServerNumbersConnectionsInOrderOfAcceptanceWhateverBecomesOfThem(t *testing.T) {
	busy(t)
	s := serve(t, "server")
	const n = 60
	clients := queue(t, s.port, n)
	for _, c := range clients {
		c.hear(greeting).must(t)
	}
	want := make([]outcome, n)
	// They end in another order than they came.
	for _, i := range rand.Perm(n) {
		c := clients[i]
		var err error
		switch payload := fmt.Sprintf("client %d", i+1); i % 6 {
		case 0:
			want[i] = received(payload)
			err = c.send(confirm).hear(greeting).send(again, payload).halfClose().fin()
		case 1:
			want[i] = received("")
			err = c.send(confirm).hear(greeting).send(again).halfClose().fin()
		case 2:
			want[i] = received("")
			err = c.halfClose().fin()
		case 3:
			want[i] = failed
			_, err = c.send("nonsense").ended()
		case 4:
			want[i] = failed
			err = c.reset().err
		case 5:
			want[i] = failed
			err = c.send(confirm).hear(greeting).send(again, payload).taken().reset().err
		}
		check(t, err)
	}
	for _, w := range want {
		s.outcome(w)
	}
	s.stop()
}

// Who is slow, or does nothing, is no hindrance to others.
func TestServerServesTheQuickWhileOthersAreSlow(t *testing.T) {
	busy(t)
	s := serve(t, "server")
	slow := queue(t, s.port, 100)
	for i, c := range slow {
		switch i % 4 {
		case 0: // says nothing, and listens to nothing
		case 1:
			c.send(confirm[:7])
		case 2:
			c.send(confirm)
		case 3:
			c.send(header, "begun")
		}
		check(t, c.err)
	}
	var quick []outcome
	for n := range 20 {
		payload := strings.Repeat("quick", n)
		check(t, upload(s.port, payload))
		quick = append(quick, received(payload))
	}
	s.fail(slow...)
	s.stop(quick...)
}

func TestWhoReadsAFileWhileItIsReplacedSeesItWhole(t *testing.T) {
	busy(t)
	dir := newDirectory(t)
	// What is saved in one run of the server can be told from what is saved in
	// another, and a part of it from the whole.
	const files, runs, size = 3, 8, 200_000
	content := func(run int) string { return strings.Repeat(strconv.Itoa(run), size+run) }
	whole := func(b []byte) bool {
		run := len(b) - size
		return 0 <= run && run <= runs && bytes.Count(b, []byte(strconv.Itoa(run))) == len(b)
	}
	for n := range files {
		dir.put(numbered(n+1), content(0))
	}
	var stop atomic.Bool
	seen := make([]int, files)
	read := make(chan error)
	for i := range files {
		go func() {
			var err error
			for ; err == nil && !stop.Load(); seen[i]++ {
				err = examine(dir.join(numbered(i+1)), func(b []byte) error {
					if !whole(b) {
						return fmt.Errorf("%s was seen with %d bytes, %.20q…", numbered(i+1), len(b), b)
					}
					return nil
				})
			}
			read <- err
		}()
	}
	for run := 1; run <= runs; run++ {
		s := serve(t, "server", plain, in(dir))
		clients := queue(t, s.port, files)
		together(t, files, func(i int) error {
			halves := cutAt(content(run), size/2)
			return clients[i].greet().sendApart(halves[0]).send(halves[1]).halfClose().fin()
		})
		var want []outcome
		for range files {
			want = append(want, received(content(run)))
		}
		s.stop(want...)
	}
	stop.Store(true)
	for range files {
		check(t, <-read)
	}
	for i, n := range seen {
		if n < runs {
			t.Errorf("%s was read %d times only", numbered(i+1), n)
		}
	}
}
