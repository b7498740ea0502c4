package proc

import (
	"bufio"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The name of a process, which stands before its state, does not shift the fields.
func TestStatOfAProcessWithANameOfFields(t *testing.T) {
	const comm = "/proc/self/comm"
	name, err := os.ReadFile(comm)
	check(t, err)
	check(t, os.WriteFile(comm, []byte(") Z 1 ("), 0))
	defer os.WriteFile(comm, name, 0)
	stat, err := Stat(os.Getpid())
	check(t, err)
	if stat[0] == "Z" || stat[1] != strconv.Itoa(os.Getppid()) || stat[2] != strconv.Itoa(unix.Getpgrp()) {
		t.Errorf("%q", stat)
	}
}

func TestField(t *testing.T) {
	for _, tt := range []struct {
		file, name string
		want       int64 // or an error, if negative
	}{
		{"status", "Pid", int64(os.Getpid())},
		{"status", "Uid", int64(os.Getuid())}, // the first of four
		{"status", "Pi", -1},
		{"status", "id", -1},
		{"status", "State", -1},
		{"statuses", "Pid", -1},
	} {
		got, err := Field(os.Getpid(), tt.file, tt.name)
		if (err != nil) != (tt.want < 0) || err == nil && got != tt.want {
			t.Errorf("%s of %s: %d, %v", tt.name, tt.file, got, err)
		}
	}
}

func TestDescriptors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	f, err := os.Create(path)
	check(t, err)
	defer f.Close()
	if open := Descriptors(os.Getpid()); !slices.Contains(open, path) {
		t.Errorf("%q, without %s", open, path)
	}
	f.Close()
	if open := Descriptors(os.Getpid()); slices.Contains(open, path) {
		t.Errorf("%q, with %s, which is closed", open, path)
	}
}

// Each shell says its number, the inner one when both are there. They end when there
// is nothing more to read.
func TestDescendants(t *testing.T) {
	cmd := exec.Command("sh", "-c", `sh -c 'sh -c "echo \$\$; read x"; :'; :`)
	stdin, err := cmd.StdinPipe()
	check(t, err)
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	defer cmd.Wait()
	defer stdin.Close()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	check(t, err)
	innermost, err := strconv.Atoi(strings.TrimSpace(line))
	check(t, err)

	all := Descendants(cmd.Process.Pid)
	if len(all) != 2 || all[1] != innermost {
		t.Errorf("%v; want two, %d the last", all, innermost)
	}
	if all := Descendants(innermost); len(all) != 0 {
		t.Errorf("%v of one without children", all)
	}
	for pid := range Processes() {
		if pid == innermost {
			return // and is asked for no more
		}
	}
	t.Errorf("%d is none of the processes", innermost)
}

func TestListener(t *testing.T) {
	for _, tt := range []struct{ network, at, address string }{
		{"tcp4", "0.0.0.0:0", "00000000"},
		{"tcp4", "127.0.0.1:0", ""},
		{"tcp6", "[::]:0", strings.Repeat("0", 32)},
	} {
		ln, err := net.Listen(tt.network, tt.at)
		if err != nil && tt.network == "tcp6" {
			continue // there is no IPv6
		}
		check(t, err)
		defer ln.Close()
		port := ln.Addr().(*net.TCPAddr).Port
		address, socket := Listener(os.Getpid(), port)
		if address == "" || tt.address != "" && address != tt.address || tt.address == "" && len(address) != 8 {
			t.Errorf("%s: %q", ln.Addr(), address)
		}
		if !slices.Contains(Descriptors(os.Getpid()), socket) {
			t.Errorf("%s: %q is not open", ln.Addr(), socket)
		}
		c, err := net.Dial(tt.network, ln.Addr().String())
		check(t, err)
		defer c.Close()
		if address, socket := Listener(os.Getpid(), c.LocalAddr().(*net.TCPAddr).Port); address != "" || socket != "" {
			t.Errorf("%q listens where a client is", address)
		}
		ln.Close()
		if address, socket := Listener(os.Getpid(), port); address != "" || socket != "" {
			t.Errorf("%q listens and is closed", address)
		}
	}
}

func TestFreePort(t *testing.T) {
	port, err := FreePort()
	check(t, err)
	ln, err := net.Listen("tcp4", ":"+strconv.Itoa(port))
	check(t, err)
	ln.Close()
}

func TestAProcessThatHasGone(t *testing.T) {
	ln, err := net.Listen("tcp4", "0.0.0.0:0")
	check(t, err)
	defer ln.Close()
	cmd := exec.Command("sleep", "1000")
	check(t, cmd.Start())
	pid := cmd.Process.Pid
	check(t, cmd.Process.Kill())
	check(t, unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil))
	stat, err := Stat(pid)
	check(t, err)
	if stat[0] != "Z" {
		t.Errorf("%q, which has ended", stat)
	}
	for _, state := range []string{"ended", "gone"} {
		if n, err := Field(pid, "status", "VmHWM"); err == nil {
			t.Errorf("%s: %d KiB", state, n)
		}
		if open := Descriptors(pid); len(open) != 0 {
			t.Errorf("%s: %q is open", state, open)
		}
		if all := Descendants(pid); len(all) != 0 {
			t.Errorf("%s: %v are its children", state, all)
		}
		if address, socket := Listener(pid, ln.Addr().(*net.TCPAddr).Port); address != "" || socket != "" {
			t.Errorf("%s: %s listens", state, socket)
		}
		cmd.Wait() // says that it was killed
	}
	if stat, err := Stat(pid); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%q, %v of a process that has gone", stat, err)
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
