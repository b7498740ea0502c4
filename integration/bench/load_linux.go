package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// source is what is sent: a file in memory, which the kernel sends without
// copying it, so that the sender takes as little as can be from the receiver.
type source struct {
	file *os.File
	size int64
}

func newSource(size int64) (*source, error) {
	fd, err := unix.MemfdCreate("payload", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	s := &source{os.NewFile(uintptr(fd), "payload"), size}
	block := make([]byte, 1<<20)
	for i := range block {
		block[i] = byte(i * 7)
	}
	for left := size; left > 0; left -= int64(len(block)) {
		if _, err := s.file.Write(block[:min(left, int64(len(block)))]); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *source) close() { s.file.Close() }

// path is a name of the file, for programs that this one starts.
func (s *source) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.file.Fd()) }

// dial connects to a server, as the n-th of many that are open: one address has
// ports for less than 30,000 connections to another.
func dial(port, n int) (*net.TCPConn, error) {
	const perAddress = 20_000
	d := net.Dialer{KeepAlive: -1}
	d.SetMultipathTCP(false)
	if n >= perAddress {
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(127, 0, byte(n/perAddress/250), byte(1+n/perAddress%250))}
		d.Control = func(_, _ string, c syscall.RawConn) error {
			return c.Control(func(fd uintptr) { // or the port would be taken for good
				unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
			})
		}
	}
	conn, err := d.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// connect dials, and speaks the client's half of the handshake.
func connect(port, n int) (*net.TCPConn, error) {
	conn, err := dial(port, n)
	if err != nil {
		return nil, err
	}
	var buf [len(greeting)]byte
	for _, answer := range []string{confirm, confirmAgain} {
		_, err := io.ReadFull(conn, buf[:])
		if err == nil && string(buf[:]) != greeting {
			err = fmt.Errorf("got %q for a greeting", buf)
		}
		if err == nil {
			_, err = io.WriteString(conn, answer)
		}
		if err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// end ends the stream, and waits until the server has closed.
func end(conn *net.TCPConn) error {
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	var b [64]byte
	if n, err := conn.Read(b[:]); n > 0 || err != io.EOF {
		return fmt.Errorf("%d bytes instead of the server's close, %w", n, err)
	}
	return nil
}

// inTurn calls do for each number below total, so many at a time, until one fails.
func inTurn(total, atOnce int, do func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, atOnce)
	for range atOnce {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < total; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

// send sends the source, in one go or in segments of so many bytes, and waits
// until the server has closed.
func (s *source) send(port, segment int) error {
	conn, err := connect(port, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var sent int64
	var failed error
	block := make([]byte, segment)
	// Straight to the kernel: nothing here is to take time from the server.
	err = raw.Write(func(fd uintptr) bool {
		for sent < s.size && failed == nil {
			if segment == 0 {
				_, failed = unix.Sendfile(int(fd), int(s.file.Fd()), &sent, int(min(s.size-sent, 1<<30)))
			} else {
				var n int
				n, failed = unix.Write(int(fd), block[:min(s.size-sent, int64(segment))])
				sent += int64(max(n, 0))
			}
			if failed == unix.EAGAIN {
				failed = nil
				return false
			}
		}
		return true
	})
	if err := errors.Join(err, failed); err != nil {
		return err
	}
	return end(conn)
}

// sendSmall uploads total payloads, so many at a time.
func sendSmall(port, total, atOnce int, payload []byte) error {
	return inTurn(total, atOnce, func(int) error {
		conn, err := connect(port, int(uploads.Add(1)))
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := conn.Write(payload); err != nil {
			return err
		}
		return end(conn)
	})
}

// uploads is how many small ones there were: for a minute after its end the port
// of each is not to be had again (TIME_WAIT).
var uploads atomic.Int64

// silent opens n connections that say nothing after the handshake, until the
// function that it returns is called.
func silent(port, n int) (stop func(), err error) {
	conns := make([]*net.TCPConn, n)
	stop = func() {
		for _, c := range conns {
			if c != nil {
				c.SetLinger(0)
				c.Close()
			}
		}
	}
	if err := inTurn(n, 64, func(i int) (err error) {
		conns[i], err = connect(port, i)
		return err
	}); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// once times what do does, in which the server takes part.
func (p *process) once(do func() error) (sample, error) {
	cpu, begun := p.cpu(), time.Now()
	err := do()
	s := sample{wall: time.Since(begun), cpu: p.cpu() - cpu}
	if err != nil {
		err = fmt.Errorf("%s: %w", p.name, err)
	}
	return s, err
}
