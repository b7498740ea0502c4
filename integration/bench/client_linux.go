package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

// client measures programs that send, beside a loop of sendfile, to a server
// that drops what it receives.
func (b *bench) client() error {
	src, err := newSource(2 * b.size())
	if err != nil {
		return err
	}
	defer src.close()
	sink, err := b.peer("truncate", "").start(b.tmpfs)
	if err != nil {
		return err
	}
	defer sink.stop()
	port := strconv.Itoa(sink.port)
	all := []struct {
		name string
		argv []string
	}{
		{"floor: a loop of sendfile", []string{b.self, "peer", "sendfile", port, src.path()}},
		{"**client**", []string{filepath.Join(b.bin, "client"), "127.0.0.1", port, src.path()}},
	}
	if b.before != "" {
		old := all[1]
		old.name, old.argv = "client before", slices.Clone(old.argv)
		old.argv[0] = filepath.Join(b.before, "client")
		all = append(all, old)
	}
	samples, err := rounds(b.rounds, len(all), func(i int) (sample, error) {
		cmd := exec.Command(all[i].argv[0], all[i].argv[1:]...)
		cmd.Stderr = os.Stderr
		begun := time.Now()
		err := cmd.Run()
		if err != nil {
			return sample{}, fmt.Errorf("%s: %w", all[i].name, err)
		}
		return sample{time.Since(begun), cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}, nil
	})
	if err != nil {
		return err
	}
	wall, cpu := perGiB(src.size)
	t := &table{
		title:  fmt.Sprintf("Sending a file: %d MiB from memory", src.size>>20),
		notes:  []string{"From the start of the program to its end. The server drops what it receives."},
		header: []string{"client", "wall s/GiB", "× floor", "CPU s/GiB", "× floor"},
	}
	for i, c := range all {
		t.row(c.name, of(samples[i], wall).String(), ratio(samples[i], samples[0], wall).short(),
			of(samples[i], cpu).String(), ratio(samples[i], samples[0], cpu).short())
	}
	fmt.Println(t)
	return nil
}

// sendfileOnce is the client as a loop of system calls: it sends a file, and
// waits for the close.
func sendfileOnce(port int, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	fi, err := file.Stat()
	if err != nil {
		return err
	}
	return (&source{file, fi.Size()}).send(port, 0)
}
