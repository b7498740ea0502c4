package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// maxSilent is how many connections this process can hold beside what else it
// has open, and a server beside a file for each.
func maxSilent() int {
	var lim unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &lim)
	const others = 64
	return (int(lim.Max) - others) / 2
}

func (b *bench) silent() error {
	n := min(10_000, maxSilent())
	if b.quick {
		n = min(n, 2_000)
	}
	src, err := newSource(b.size())
	if err != nil {
		return err
	}
	defer src.close()
	t := &table{
		title:  fmt.Sprintf("Silent connections: %d of them, after the handshake", n),
		notes:  []string{fmt.Sprintf("Beside them a file of %d MiB is received, as without them. CPU is what the silent ones take in a second.", src.size>>20)},
		header: []string{"server", "KiB resident each", "CPU ms/s", "an upload beside them, wall s/GiB", "and alone"},
	}
	all := append([]contestant{b.server(), b.peer("chain+5", "with five more stages"), b.peer("bare", "Go, bare")}, b.pythons()...)
	for i, c := range all {
		n := n
		if i == 3 {
			n = min(n, 1_000) // a thread each
		}
		if err := b.silentBeside(t, c, n, src); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	b.print(t)
	return nil
}

func (b *bench) silentBeside(t *table, c contestant, n int, src *source) error {
	wall, _ := perGiB(src.size)
	var each, idle []float64
	var alone, beside []sample
	for range b.rounds {
		p, err := c.start(b.tmpfs)
		if err != nil {
			return err
		}
		err = func() error {
			defer p.stop()
			upload := func() (sample, error) {
				defer p.clear()
				return p.once(func() error { return src.send(p.port, 0) })
			}
			if _, err := upload(); err != nil { // to warm up
				return err
			}
			s, err := upload()
			if err != nil {
				return err
			}
			alone = append(alone, s)
			before := p.resident()
			end, err := silent(p.port, n)
			if err != nil {
				return err
			}
			defer end()
			each = append(each, float64(p.resident()-before)/1024/float64(n))
			cpu := p.cpu()
			time.Sleep(time.Second) // it is the second that is measured
			idle = append(idle, float64((p.cpu()-cpu).Microseconds())/1000)
			if s, err = upload(); err != nil {
				return err
			}
			beside = append(beside, s)
			return nil
		}()
		if err != nil {
			return err
		}
	}
	t.row(c.name, spreadOf(each).String(), spreadOf(idle).String(), of(beside, wall).String(), of(alone, wall).String())
	return nil
}

// sendTogether uploads the payload n times, at the same time: all are connected
// before the first sends anything.
func sendTogether(port, n int, payload []byte) error {
	var wg, ready sync.WaitGroup
	var failed atomic.Pointer[error]
	ready.Add(n)
	for i := range n {
		wg.Go(func() {
			if err := func() error {
				conn, err := dial(port, i)
				if err == nil {
					defer conn.Close()
					err = greet(conn)
				}
				ready.Done()
				if err != nil {
					return err
				}
				ready.Wait()
				_, err = conn.Write(payload)
				if err := errors.Join(err, conn.CloseWrite()); err != nil {
					return err
				}
				var b [1]byte
				if _, err := conn.Read(b[:]); err != io.EOF {
					return fmt.Errorf("no close by the server: %w", err)
				}
				return nil
			}(); err != nil {
				failed.Store(&err)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

// syncLoop does what a durable server of small files must, without a network.
func syncLoop(parent string, total, atOnce int, payload []byte) (sample, error) {
	dir, err := os.MkdirTemp(parent, "accio-bench-")
	if err != nil {
		return sample{}, err
	}
	defer os.RemoveAll(dir)
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, atOnce)
	begun := time.Now()
	for range atOnce {
		wg.Go(func() {
			for n := next.Add(1); n <= int64(total); n = next.Add(1) {
				temp := filepath.Join(dir, fmt.Sprintf(".%d", n))
				file, err := unix.Open(temp, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o666)
				if err == nil {
					_, err = unix.Write(file, payload)
				}
				if err == nil {
					err = commit(file, temp, dir, int(n))
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	wall := time.Since(begun)
	close(errs)
	return sample{wall: wall / time.Duration(total)}, <-errs
}
