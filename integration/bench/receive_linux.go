package main

import (
	"fmt"
	"os"
	"slices"
	"time"
)

const gib = 1 << 30

// perGiB are figures of a transfer of size bytes, in seconds for each GiB.
func perGiB(size int64) (wall, cpu func(sample) float64) {
	return func(s sample) float64 { return s.wall.Seconds() * gib / float64(size) },
		func(s sample) float64 { return s.cpu.Seconds() * gib / float64(size) }
}

// transfer has each contestant receive the source, in turn, and prints what that
// took, beside the best of the first floors.
func (b *bench) transfer(title, parent string, src *source, segment, floors int, all []contestant, notes ...string) error {
	servers, stop, err := startAll(all, parent)
	if err != nil {
		return err
	}
	defer stop()
	moved := make([]int64, len(all))
	samples, err := rounds(b.rounds, len(all), func(i int) (sample, error) {
		before := servers[i].moved()
		s, err := servers[i].once(func() error { return src.send(servers[i].port, segment) })
		moved[i] = servers[i].moved() - before
		servers[i].clear()
		return s, err
	})
	if err != nil {
		return err
	}
	wall, cpu := perGiB(src.size)
	quickest, leanest := best(samples[:floors], wall), best(samples[:floors], cpu)
	t := &table{
		title:  title,
		notes:  notes,
		header: []string{"server", "wall s/GiB", "× floor", "CPU s/GiB", "× floor", "through its memory"},
	}
	for i, c := range all {
		t.row(c.name, of(samples[i], wall).String(), ratio(samples[i], samples[quickest], wall).short(),
			of(samples[i], cpu).String(), ratio(samples[i], samples[leanest], cpu).short(),
			fmt.Sprintf("%.0f %%", 100*float64(moved[i])/float64(src.size)))
	}
	fmt.Println(t)
	return nil
}

// best is which of some has the smallest median.
func best(samples [][]sample, figure func(sample) float64) (which int) {
	for i := range samples {
		if of(samples[i], figure).median < of(samples[which], figure).median {
			which = i
		}
	}
	return which
}

// size is that of a transfer.
func (b *bench) size() int64 {
	if b.quick {
		return 128 << 20
	}
	return 512 << 20
}

func (b *bench) receive() error {
	src, err := newSource(b.size())
	if err != nil {
		return err
	}
	defer src.close()
	all := slices.Concat([]contestant{
		b.peer("splice", "floor: splice, 1 MiB pipe"),
		b.peer("read-write", "floor: read and write, 256 KiB"),
	}, b.withBefore(b.server(), "server"), []contestant{
		b.bare(),
		b.peer("io.Copy", "Go, `io.Copy`, a deadline per read"),
	}, b.pythons())
	for _, dir := range []string{b.tmpfs, b.disk} {
		for _, load := range []struct {
			name    string
			segment int
		}{{"by sendfile", 0}, {"in segments of 1,400 bytes", 1400}} {
			if b.quick && (dir == b.disk || load.segment > 0) {
				continue
			}
			title := fmt.Sprintf("Receiving a file: %d MiB %s, to %s", src.size>>20, load.name, filesystem(dir))
			if err := b.transfer(title, dir, src, load.segment, 2, all,
				"The floors and the server sync the file and its directory before they close; the others do not."); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) count() error {
	src, err := newSource(b.size())
	if err != nil {
		return err
	}
	defer src.close()
	for _, segment := range []int{0, 1400} {
		load := "by sendfile"
		if segment > 0 {
			if b.quick {
				break
			}
			load = "in segments of 1,400 bytes"
		}
		if err := b.transfer(fmt.Sprintf("Counting: %d MiB %s", src.size>>20, load), b.tmpfs, src, segment, 2, append([]contestant{
			b.peer("truncate", "floor: recv, MSG_TRUNC"),
			b.peer("read", "floor: recv, 256 KiB"),
			b.peer("discard", "Go, `io.Copy` to `io.Discard`"),
		}, b.withBefore(b.serverS(), "server-s")...)); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) compose() error {
	src, err := newSource(b.size())
	if err != nil {
		return err
	}
	defer src.close()
	return b.transfer(fmt.Sprintf("Five stages more: %d MiB by sendfile, to %s", src.size>>20, filesystem(b.tmpfs)), b.tmpfs, src, 0, 1, []contestant{
		b.peer("chain", "the chain of `server`"),
		b.peer("chain+5", "with five more stages"),
	}, "The floor is the chain itself.")
}

func (b *bench) growth() error {
	t := &table{
		title:  fmt.Sprintf("Growth with the size: sendfile to %s", filesystem(b.tmpfs)),
		notes:  []string{"The floor is a loop of splice, for the same files."},
		header: []string{"size of a file", "files", "wall s/GiB", "× floor", "CPU s/GiB", "× floor"},
	}
	servers, stop, err := startAll([]contestant{b.server(), b.peer("splice", "")}, b.tmpfs)
	if err != nil {
		return err
	}
	defer stop()
	for _, of1 := range []struct {
		size  int64
		count int
	}{{1 << 20, 512}, {32 << 20, 16}, {512 << 20, 1}, {8 << 30, 1}} {
		src, err := newSource(of1.size)
		if err != nil {
			return err
		}
		count := b.rounds
		if of1.size > gib {
			count = min(count, 3)
		}
		samples, err := rounds(count, len(servers), func(i int) (sample, error) {
			defer servers[i].clear()
			return servers[i].once(func() error {
				for range of1.count {
					if err := src.send(servers[i].port, 0); err != nil {
						return err
					}
				}
				return nil
			})
		})
		src.close()
		if err != nil {
			return err
		}
		wall, cpu := perGiB(of1.size * int64(of1.count))
		t.row(fmt.Sprintf("%d MiB", of1.size>>20), fmt.Sprint(of1.count),
			of(samples[0], wall).String(), ratio(samples[0], samples[1], wall).short(),
			of(samples[0], cpu).String(), ratio(samples[0], samples[1], cpu).short())
	}
	fmt.Println(t)
	return b.growthAtOnce()
}

// growthAtOnce is what an upload costs when there are many at the same time.
func (b *bench) growthAtOnce() error {
	p, err := b.server().start(b.tmpfs)
	if err != nil {
		return err
	}
	defer p.stop()
	t := &table{
		title:  fmt.Sprintf("Growth with the number: uploads of 1 KiB to %s", filesystem(b.tmpfs)),
		notes:  []string{"All connect and shake hands, and then all send and are saved. What is left is looked at when all have ended."},
		header: []string{"at a time", "uploads/s", "CPU µs each", "descriptors left", "resident MiB"},
	}
	payload := make([]byte, 1<<10)
	if err := sendTogether(p.port, 100, payload); err != nil {
		return err
	}
	fds := p.descriptors()
	for _, n := range []int{10, 100, 1000, min(10_000, maxConns(2))} {
		times := max(1, 2000/n)
		samples, err := rounds(b.rounds, 1, func(int) (sample, error) {
			defer p.clear()
			return p.once(func() error {
				for range times {
					if err := sendTogether(p.port, n, payload); err != nil {
						return err
					}
				}
				return nil
			})
		})
		if err != nil {
			return err
		}
		each := float64(n * times)
		t.row(fmt.Sprint(n), of(samples[0], func(s sample) float64 { return each / s.wall.Seconds() }).String(),
			of(samples[0], func(s sample) float64 { return s.cpu.Seconds() * 1e6 / each }).String(),
			fmt.Sprint(p.descriptors()-fds), fmt.Sprintf("%.1f", float64(p.resident())/(1<<20)))
	}
	fmt.Println(t)
	return nil
}

// smallAtOnce is how many small uploads there are at a time.
const smallAtOnce = 32

func (b *bench) small() error {
	total := 20_000
	if b.quick {
		total = 4_000
	}
	all := append(b.withBefore(b.server(), "server"), b.bare(), b.synced())
	if err := b.smallTo(b.tmpfs, total, append(all, b.pythons()...),
		"Python syncs nothing, and is measured on a quarter of them."); err != nil {
		return err
	}
	all = append(all, b.peer("threads", "a loop of system calls in each of as many threads"))
	return b.smallTo(b.disk, total/5, all, "The loops write, sync and rename a file, and sync the directory.")
}

// smallTo has each contestant receive so many small files, in turn. On a disk there is a
// loop without a network as well, and nothing is removed until all have been
// measured: without a journal ext4 looks for an inode past all those that were freed in the
// last minute, or six (recently_deleted in fs/ext4/ialloc.c). Where thousands were, to create
// a file takes more than ten times as long.
func (b *bench) smallTo(dir string, total int, all []contestant, note string) error {
	onDisk := dir == b.disk
	servers, stop, err := startAll(all, dir)
	if err != nil {
		return err
	}
	defer stop()
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].name
	}
	var loop string
	if onDisk {
		names = append(names, "the same loop, without a network or a client")
		if loop, err = os.MkdirTemp(dir, "accio-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(loop)
	}
	payload := make([]byte, 1<<10)
	samples, err := rounds(b.rounds, len(names), func(i int) (sample, error) {
		if i == len(all) {
			return syncLoop(loop, total, smallAtOnce, payload)
		}
		if !onDisk {
			defer servers[i].clear()
		}
		count := total
		if all[i].threads {
			count /= 4
		}
		s, err := servers[i].once(func() error { return sendSmall(servers[i].port, count, smallAtOnce, payload) })
		s.wall /= time.Duration(count)
		s.cpu /= time.Duration(count)
		return s, err
	})
	if err != nil {
		return err
	}
	rate := func(s sample) float64 { return 1 / s.wall.Seconds() }
	cpu := func(s sample) float64 { return s.cpu.Seconds() * 1e6 }
	t := &table{
		title:  fmt.Sprintf("Small uploads: %d of 1 KiB, %d at a time, to %s", total, smallAtOnce, filesystem(dir)),
		notes:  []string{note},
		header: []string{"server", "uploads/s", "× server's", "CPU µs each", "× server's"},
	}
	for i, name := range names {
		t.row(name, of(samples[i], rate).String(), ratio(samples[i], samples[0], rate).short(),
			of(samples[i], cpu).String(), ratio(samples[i], samples[0], cpu).short())
	}
	fmt.Println(t)
	return nil
}
