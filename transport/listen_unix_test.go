//go:build unix

package transport

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// sendUrgent sends bytes the last of which is urgent.
func sendUrgent(t *testing.T, conn *net.TCPConn, text string) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var serr error
	if err := raw.Write(func(fd uintptr) bool {
		serr = syscall.Sendto(int(fd), []byte(text), syscall.MSG_OOB, nil)
		return serr != syscall.EAGAIN
	}); err != nil || serr != nil {
		t.Fatal(err, serr)
	}
}

func TestListenUrgentData(t *testing.T) {
	ln, _ := listen(t)
	client := dial(t, ln)
	conn := accept(t, ln)
	io.WriteString(client, "a")
	sendUrgent(t, client, "b")
	io.WriteString(client, "c")
	sendUrgent(t, client, "de")
	client.CloseWrite()
	if got, err := io.ReadAll(conn); string(got) != "abcde" || err != nil {
		t.Errorf("there came %q, %v", got, err)
	}
}

// socketDir is a directory with a short name: that of a socket has room for some 100 bytes.
func socketDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// leaveSocket leaves a socket as a program does that is killed.
func leaveSocket(t *testing.T, path string) {
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	ln.Close()
}

func TestListenOnUnix(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(t *testing.T, path string)
	}{
		{"that is new", func(*testing.T, string) {}},
		{"that was left", leaveSocket},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(socketDir(t), "sock")
			tt.before(t, path)
			ln, err := ListenOn(t.Context(), "unix", path)
			if err != nil {
				t.Fatal(err)
			}
			client, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			conn, err := ln.Accept()
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				defer conn.Close()
				io.WriteString(conn, "hello")
			}()
			if got, err := io.ReadAll(client); string(got) != "hello" || err != nil {
				t.Errorf("there came %q, %v", got, err)
			}
			ln.Close()
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after the close: %v", err)
			}
		})
	}
}

func TestListenOnUnixKeepsOtherFiles(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(t *testing.T, path string)
	}{
		{"a socket in use", func(t *testing.T, path string) {
			ln, err := ListenOn(t.Context(), "unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ln.Close() })
		}},
		{"a file", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte("mine"), 0o666); err != nil {
				t.Fatal(err)
			}
		}},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o777); err != nil {
				t.Fatal(err)
			}
		}},
		{"a link to a socket that was left", func(t *testing.T, path string) {
			leaveSocket(t, path+".left")
			if err := os.Symlink(path+".left", path); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(socketDir(t), "sock")
			tt.before(t, path)
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			ln, err := ListenOn(t.Context(), "unix", path)
			if err == nil {
				ln.Close()
			}
			if !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "choose another path") {
				t.Errorf("got %v", err)
			}
			if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
				t.Errorf("it has not stayed: %v", err)
			}
		})
	}
}

func TestListenOnUnixWithoutDirectory(t *testing.T) {
	ln, err := ListenOn(t.Context(), "unix", filepath.Join(socketDir(t), "none", "sock"))
	if err == nil {
		ln.Close()
	}
	if !errors.Is(err, syscall.ENOENT) {
		t.Errorf("got %v", err)
	}
}
