package conformance

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// listening reports whether a program listens on a port, without the program
// noticing: a connection, if only to try, would be its first.
func listening(pid, port int) (bool, error) {
	want := fmt.Appendf(nil, ":%04X", port)
	for _, name := range []string{"tcp", "tcp6"} {
		// As the program sees the network: it may be in one of its own.
		table, err := os.Open(fmt.Sprintf("/proc/%d/net/%s", pid, name))
		if err != nil {
			continue // it has ended, or there is no IPv6
		}
		found := lists(table, want)
		table.Close()
		if found {
			return true, nil
		}
	}
	return false, nil
}

// lists looks for a listener in a table as proc_pid_net(5) has it: number, local
// address, remote address, state. Listeners come first; the many connections
// after them, which the kernel makes up only when they are read, are left alone.
func lists(table io.Reader, address []byte) bool {
	lines := bufio.NewScanner(table)
	lines.Scan() // the heads of the columns
	for lines.Scan() {
		f := bytes.Fields(lines.Bytes())
		if len(f) < 4 || string(f[3]) != "0A" {
			break
		}
		if bytes.HasSuffix(f[1], address) {
			return true
		}
	}
	return false
}

// processes are those that there are, each with the fields of its stat file from
// the third on (proc_pid_stat(5)).
func processes() iter.Seq2[int, [][]byte] {
	return func(yield func(int, [][]byte) bool) {
		names, _ := filepath.Glob("/proc/[0-9]*") // fails for bad patterns only
		for _, name := range names {
			stat, err := os.ReadFile(filepath.Join(name, "stat"))
			if err != nil {
				continue // it has ended meanwhile
			}
			// The name in parentheses can hold anything.
			fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
			pid, err := strconv.Atoi(filepath.Base(name))
			if err == nil && len(fields) >= 15 && !yield(pid, fields) {
				return
			}
		}
	}
}

// descendants are the children of a process, and theirs, as far as their parents
// are still there.
func descendants(pid int) (all []int) {
	children := make(map[string][]int)
	for child, f := range processes() {
		children[string(f[1])] = append(children[string(f[1])], child)
	}
	all = []int{pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[strconv.Itoa(all[i])]...)
	}
	return all[1:]
}

// usage is what a program and those that descend from it, or are in its group,
// have used so far: processor time, and memory at the peak of each. Those that
// have ended do not count.
func usage(root int) (cpu time.Duration, peak int64, err error) {
	family := append(descendants(root), root)
	found := false
	for pid, f := range processes() {
		if string(f[2]) != strconv.Itoa(root) && !slices.Contains(family, pid) {
			continue
		}
		found = true
		for _, ticks := range f[11:13] { // utime, stime
			n, err := strconv.Atoi(string(ticks))
			if err != nil {
				return 0, 0, err
			}
			cpu += time.Duration(n) * time.Second / 100
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		if _, rest, ok := strings.Cut(string(status), "\nVmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				return 0, 0, err
			}
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
