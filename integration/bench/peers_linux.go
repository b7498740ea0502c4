package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The peers that are a part of this program. Each is run as a process of its own,
// by the arguments "peer NAME PORT DIR", speaks the protocol and saves (or only
// counts) what it receives: fsynced and renamed if it claims to be the floor for
// the server, as a plain server would otherwise.
var peers = map[string]func(port int, dir string) error{
	// A client, with a file in place of the directory.
	"sendfile": sendfileOnce,

	// One connection after the other, as fast as the kernel allows.
	"splice":     rawLoop(1, spliceAll),
	"read-write": rawLoop(1, readWriteAll),
	"truncate":   rawLoop(1, truncateAll),
	"read":       rawLoop(1, readAll),

	// As many threads as small uploads come at a time, that do no more than they must.
	"threads": rawLoop(smallAtOnce, readWriteAll),

	// A goroutine for each connection.
	"bare":    goServer(bareSave),
	"synced":  goServer(syncedSave),
	"io.Copy": goServer(copySave),
	"discard": goServer(copyDiscard),

	// The chain of the server, and more.
	"chain":   chainServer(0),
	"chain+5": chainServer(5),
}

// The words of the protocol.
const (
	greeting     = "accio\r\n"
	confirm      = "confirm-accio\r\n"
	confirmAgain = "confirm-accio-again\r\n\r\n"
)

const (
	pipeSize   = 1 << 20
	bufferSize = 256 << 10
)

// rawLoop is a server whose threads serve one connection after the other by system
// calls that block.
func rawLoop(threads int, receive func(conn int, dir string, number int) error) func(port int, dir string) error {
	return func(port int, dir string) error {
		ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		unix.SetsockoptInt(ln, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
		if err := unix.Bind(ln, &unix.SockaddrInet4{Port: port}); err != nil {
			return err
		}
		if err := unix.Listen(ln, 128); err != nil {
			return err
		}
		unhindered(threads)
		var number atomic.Int64
		loop := func() error {
			runtime.LockOSThread()
			for {
				conn, _, err := unix.Accept4(ln, unix.SOCK_CLOEXEC)
				if err != nil {
					return err
				}
				if err := rawHandshake(conn); err != nil {
					return err
				}
				if err := receive(conn, dir, int(number.Add(1))); err != nil {
					return err
				}
				if err := unix.Close(conn); err != nil {
					return err
				}
			}
		}
		failed := make(chan error)
		for range threads {
			go func() { failed <- loop() }()
		}
		return <-failed // and the process ends
	}
}

func rawHandshake(conn int) error {
	for _, answer := range []string{confirm, confirmAgain} {
		if _, err := unix.Write(conn, []byte(greeting)); err != nil {
			return err
		}
		got := make([]byte, len(answer))
		if n, _, err := unix.Recvfrom(conn, got, unix.MSG_WAITALL); err != nil || !bytes.Equal(got[:n], []byte(answer)) {
			return fmt.Errorf("got %q, %v", got[:max(n, 0)], err)
		}
	}
	return nil
}

// rawSave has receive fill a file, and commits it.
func rawSave(dir string, number int, receive func(file int) error) error {
	temp := filepath.Join(dir, fmt.Sprintf(".%d", number))
	file, err := unix.Open(temp, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return err
	}
	if err := receive(file); err != nil {
		return err
	}
	return commit(file, temp, dir, number)
}

// commit makes a file durable under its name.
func commit(file int, temp, dir string, number int) error {
	if err := unix.Fsync(file); err != nil {
		return err
	}
	if err := unix.Close(file); err != nil {
		return err
	}
	if err := unix.Rename(temp, numbered(dir, number)); err != nil {
		return err
	}
	d, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(d)
	return unix.Fsync(d)
}

// syncLoop does what a durable server of small files must, without a network.
func syncLoop(dir string, total, atOnce int, payload []byte) (sample, error) {
	defer unhindered(atOnce)()
	before, begun := ownCPU(), time.Now()
	err := inTurn(total, atOnce, func(int) error {
		return rawSave(dir, int(looped.Add(1)), func(file int) error {
			_, err := unix.Write(file, payload)
			return err
		})
	})
	n := time.Duration(total)
	return sample{wall: time.Since(begun) / n, cpu: (ownCPU() - before) / n}, err
}

var looped atomic.Int64 // the files of all rounds

// unhindered lets so many threads go on when their system calls return, and not only as
// many as there are processors. What it returns undoes that.
func unhindered(threads int) (undo func()) {
	before := runtime.GOMAXPROCS(threads + 1)
	return func() { runtime.GOMAXPROCS(before) }
}

// ownCPU is the processor time that this process has used so far.
func ownCPU() time.Duration {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) // which cannot fail
	return time.Duration(ts.Nano())
}

func numbered(dir string, number int) string {
	return filepath.Join(dir, strconv.Itoa(number)+".file")
}

func spliceAll(conn int, dir string, number int) error {
	return rawSave(dir, number, func(file int) error {
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			return err
		}
		defer unix.Close(pipe[0])
		defer unix.Close(pipe[1])
		unix.FcntlInt(uintptr(pipe[0]), unix.F_SETPIPE_SZ, pipeSize)
		for {
			n, err := unix.Splice(conn, nil, pipe[1], nil, pipeSize, unix.SPLICE_F_MOVE)
			if n == 0 || err != nil {
				return err
			}
			for n > 0 {
				m, err := unix.Splice(pipe[0], nil, file, nil, int(n), unix.SPLICE_F_MOVE)
				if err != nil {
					return err
				}
				n -= m
			}
		}
	})
}

var buffers = sync.Pool{New: func() any {
	b := make([]byte, bufferSize)
	return &b
}}

func readWriteAll(conn int, dir string, number int) error {
	return rawSave(dir, number, func(file int) error {
		pooled := buffers.Get().(*[]byte)
		defer buffers.Put(pooled)
		buf := *pooled
		for {
			n, err := unix.Read(conn, buf)
			if n == 0 || err != nil {
				return err
			}
			for b := buf[:n]; len(b) > 0; {
				m, err := unix.Write(file, b)
				if err != nil {
					return err
				}
				b = b[m:]
			}
		}
	})
}

func truncateAll(conn int, _ string, _ int) error { return count(conn, pipeSize, unix.MSG_TRUNC) }

func readAll(conn int, _ string, _ int) error { return count(conn, bufferSize, 0) }

func count(conn, size, flags int) error {
	buf := make([]byte, size)
	for {
		n, _, err := unix.Recvfrom(conn, buf, flags)
		if n == 0 || err != nil {
			return err
		}
	}
}

// goServer is a server with a goroutine for each connection.
func goServer(save func(conn *net.TCPConn, dir string, number int) error) func(port int, dir string) error {
	return func(port int, dir string) error {
		ln, err := net.Listen("tcp4", fmt.Sprintf(":%d", port))
		if err != nil {
			return err
		}
		var number atomic.Int64
		for {
			conn, err := ln.Accept()
			if err != nil {
				return err
			}
			go func() {
				defer conn.Close()
				if err := goHandshake(conn); err != nil {
					return
				}
				save(conn.(*net.TCPConn), dir, int(number.Add(1)))
			}()
		}
	}
}

func goHandshake(conn net.Conn) error {
	var buf [64]byte
	for _, answer := range []string{confirm, confirmAgain} {
		if _, err := io.WriteString(conn, greeting); err != nil {
			return err
		}
		got := buf[:len(answer)]
		if _, err := io.ReadFull(conn, got); err != nil {
			return err
		}
		if string(got) != answer {
			return errors.New("not this protocol")
		}
	}
	return nil
}

// goSave saves a file under a temporary name, and renames it.
func goSave(dir string, number int, receive func(file *os.File) error) error {
	temp := filepath.Join(dir, fmt.Sprintf(".%d", number))
	file, err := os.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	if err := errors.Join(receive(file), file.Close()); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, numbered(dir, number))
}

// bareSave is as little as can be done in Go. The kernel moves the bytes.
func bareSave(conn *net.TCPConn, dir string, number int) error {
	return goSave(dir, number, func(file *os.File) error {
		_, err := file.ReadFrom(conn)
		return err
	})
}

// syncedSave does for the file what the server does.
func syncedSave(conn *net.TCPConn, dir string, number int) error {
	err := goSave(dir, number, func(file *os.File) error {
		if _, err := file.ReadFrom(conn); err != nil {
			return err
		}
		return file.Sync()
	})
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// copySave is as most would write it: a deadline for each read.
func copySave(conn *net.TCPConn, dir string, number int) error {
	return goSave(dir, number, func(file *os.File) error {
		_, err := io.Copy(struct{ io.Writer }{file}, &patient{conn})
		return err
	})
}

type patient struct{ conn net.Conn }

func (p *patient) Read(b []byte) (int, error) {
	p.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	return p.conn.Read(b)
}

func copyDiscard(conn *net.TCPConn, _ string, _ int) error {
	_, err := io.Copy(io.Discard, &patient{conn})
	return err
}
