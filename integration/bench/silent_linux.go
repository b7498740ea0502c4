package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// maxConns is how many connections this process can hold beside what else it has
// open, and a server that may have as many descriptors, and needs so many for each.
func maxConns(descriptors int) int {
	var lim unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &lim)
	const others = 64
	return (int(lim.Max) - others) / descriptors
}

func (b *bench) silent() error {
	const few, some, many, crowd = 1_000, 2_000, 10_000, 100_000
	src, err := newSource(b.size())
	if err != nil {
		return err
	}
	defer src.close()
	t := &table{
		title:  "Silent connections, after the handshake",
		notes:  []string{fmt.Sprintf("Beside them a file of %d MiB is received, as without them. CPU is what the silent ones take in a second.", src.size>>20)},
		header: []string{"server", "connections", "KiB resident each", "CPU ms/s", "an upload beside them, wall s/GiB", "and alone"},
	}
	all := append(append(b.withBefore(b.server(), "server"), b.peer("chain+5", "with five more stages"), b.bare()), b.pythons()...)
	for _, c := range all {
		n := many
		switch {
		case c.threads:
			n = few
		case b.quick:
			n = some
		}
		if err := b.silentBeside(t, c, min(n, maxConns(max(c.descriptors, 2))), src); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	if most := maxConns(2); most < crowd {
		t.notes = append(t.notes, fmt.Sprintf("The limit of descriptors (ulimit -Hn) allows %d here, and so not %d.", most, crowd))
	} else if !b.quick {
		if err := b.silentBeside(t, b.server(), crowd, src); err != nil {
			return err
		}
	}
	fmt.Println(t)
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
			stop, err := silent(p.port, n)
			if err != nil {
				return err
			}
			defer stop()
			each = append(each, float64(p.resident()-before)/1024/float64(n))
			time.Sleep(time.Second) // the last of them are silent for that long, too
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
	t.row(c.name, fmt.Sprint(n), spreadOf(each).String(), spreadOf(idle).String(), of(beside, wall).String(), of(alone, wall).String())
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
				conn, err := connect(port, i)
				ready.Done()
				if err != nil {
					return err
				}
				defer conn.Close()
				ready.Wait()
				if _, err := conn.Write(payload); err != nil {
					return err
				}
				return end(conn)
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
