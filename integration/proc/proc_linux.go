// Package proc tells what Linux knows of processes, and of who listens on a port: it
// looks, in /proc, and touches nothing, while a connection, if only to try, would be
// a server's first. It is for what tests and measures programs.
//
// A process that has ended but that its parent has not waited for still has a Stat,
// in state Z, and no memory, descriptors or network any longer.
package proc

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Stat is the fields of a process's stat file from the third on, which is its state
// (proc_pid_stat(5)): there are at least 15, times are in hundredths of a second. It
// is an error if the process has gone.
func Stat(pid int) ([]string, error) {
	b, err := os.ReadFile(path(pid, "stat"))
	if err != nil {
		return nil, err
	}
	// The second, the name in parentheses, can hold anything.
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(f) < 15 {
		return nil, fmt.Errorf("%s: %w", path(pid, "stat"), io.ErrUnexpectedEOF)
	}
	return f, nil
}

// Field is a number from a process's file of lines such as "VmRSS:   1234 kB", the
// first of its line, in the unit that it has there: KiB where that is kB. It is an
// error if the file has no such number or may not be read, or the process has gone.
func Field(pid int, file, name string) (int64, error) {
	b, err := os.ReadFile(path(pid, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			number := append(strings.Fields(rest), "")[0]
			return strconv.ParseInt(number, 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s in %s", name, path(pid, file))
}

// Descriptors is what a process has open, each as proc_pid_fd(5) has it: a path, or
// such as "socket:[1234]". It is nothing if the process has gone, or may not be
// looked at.
func Descriptors(pid int) (open []string) {
	entries, _ := os.ReadDir(path(pid, "fd"))
	for _, e := range entries {
		if target, err := os.Readlink(path(pid, "fd/"+e.Name())); err == nil {
			open = append(open, target)
		}
	}
	return open
}

// Processes are those that there are, each with its [Stat].
func Processes() iter.Seq2[int, []string] {
	return func(yield func(int, []string) bool) {
		names, _ := filepath.Glob("/proc/[0-9]*") // fails for bad patterns only
		for _, name := range names {
			pid, err := strconv.Atoi(filepath.Base(name))
			if err != nil {
				continue
			}
			if stat, err := Stat(pid); err == nil && !yield(pid, stat) { // or it has gone meanwhile
				return
			}
		}
	}
}

// Descendants are the children of a process, and theirs, as far as their parents are
// still there: of a process that has gone, none.
func Descendants(pid int) []int {
	children := make(map[string][]int)
	for child, f := range Processes() {
		children[f[1]] = append(children[f[1]], child)
	}
	all := []int{pid}
	for i := 0; i < len(all); i++ {
		all = append(all, children[strconv.Itoa(all[i])]...)
	}
	return all[1:]
}

// Listener is the TCP socket that listens on a port in the network that a process is
// in, whoever has it: its address in hexadecimal as proc_pid_net(5) has it, "00000000"
// for every one of IPv4, and the socket as in [Descriptors]. If there are several it is
// one of them, of IPv4 rather than of IPv6. Both are "" if there is none, or the
// process has gone.
func Listener(pid, port int) (address, socket string) {
	for _, name := range []string{"net/tcp", "net/tcp6"} {
		if address, socket = listener(path(pid, name), port); address != "" {
			break
		}
	}
	return address, socket
}

// listener looks in a table of IPv4 or IPv6. Listeners come first; the many
// connections after them, which the kernel makes up only when they are read, are left
// alone.
func listener(name string, port int) (address, socket string) {
	table, err := os.Open(name)
	if err != nil {
		return "", "" // the process has gone, or there is no IPv6
	}
	defer table.Close()
	lines := bufio.NewReader(table)
	lines.ReadString('\n') // the heads of the columns
	for {
		line, err := lines.ReadString('\n')
		const listens = "0A"
		f := strings.Fields(line)
		if err != nil || len(f) < 10 || f[3] != listens {
			return "", ""
		}
		if address, ok := strings.CutSuffix(f[1], fmt.Sprintf(":%04X", port)); ok {
			return address, "socket:[" + f[9] + "]"
		}
	}
}

// FreePort is a port of IPv4 that nobody uses. It is one of those that the system
// gives to clients, too: who is to have it should not wait for long.
func FreePort() (int, error) {
	ln, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

func path(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }
