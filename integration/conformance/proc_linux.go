package conformance

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/accio-go/accio/integration/proc"
)

// listening reports whether a program listens on a port, without the program
// noticing: a connection, if only to try, would be its first.
func listening(pid, port int) (bool, error) {
	address, _ := proc.Listener(pid, port)
	return address != "", nil
}

func descendants(pid int) []int { return proc.Descendants(pid) }

// usage is what a program and those that descend from it, or are in its group,
// have used so far: processor time, and memory at the peak of each. Those that
// have ended do not count.
func usage(root int) (cpu time.Duration, peak int64, err error) {
	family := append(descendants(root), root)
	found := false
	for pid, f := range proc.Processes() {
		if f[2] != strconv.Itoa(root) && !slices.Contains(family, pid) {
			continue
		}
		found = true
		for _, ticks := range f[11:13] { // utime, stime
			n, err := strconv.Atoi(ticks)
			if err != nil {
				return 0, 0, err
			}
			cpu += time.Duration(n) * time.Second / 100
		}
		if kib, err := proc.Field(pid, "status", "VmHWM"); err == nil { // or it has ended meanwhile
			peak += kib << 10
		}
	}
	if !found {
		return 0, 0, fmt.Errorf("process %d: %w", root, os.ErrNotExist)
	}
	return cpu, peak, nil
}

// room is how many bytes can be written in a directory.
func room(dir string) (int64, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, err
	}
	return int64(fs.Bavail) * int64(fs.Bsize), nil
}
