package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/transport/transporttest/memnet"
)

func TestSocketErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		do   func(server, client memnet.Conn)
		is   error
		many bool // broken adds the cause
	}{
		"end":    {func(_, client memnet.Conn) { client.CloseWrite() }, io.EOF, false},
		"reset":  {func(_, client memnet.Conn) { memnet.Reset(client) }, syscall.ECONNRESET, true},
		"closed": {func(server, _ memnet.Conn) { server.Close() }, net.ErrClosed, true},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := memnet.Pair()
			tt.do(server, client)
			_, err := New(server, broken).Read(make([]byte, 1))
			if !errors.Is(err, tt.is) || errors.Is(err, errBroken) != tt.many {
				t.Errorf("ended with %v", err)
			}
		})
	}
}

func TestInterrupt(t *testing.T) {
	for name, prepare := range map[string]func(s *Socket, set func(*Deadline, time.Time)){
		"no deadline":            func(*Socket, func(*Deadline, time.Time)) {},
		"deadline at its moment": func(s *Socket, set func(*Deadline, time.Time)) { set(s.NewDeadline(nil), time.Now().Add(time.Minute)) },
		"deadline that moves": func(s *Socket, set func(*Deadline, time.Time)) {
			set(s.NewDeadline(moves(1<<30, time.Second, nil)), time.Now().Add(time.Second))
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachCall(t, func(t *testing.T, s *Socket, client net.Conn, do func() error, set func(*Deadline, time.Time)) {
				interrupted := time.Minute
				if name == "deadline at its moment" {
					interrupted -= 1 // or either may be first
				}
				start := time.Now()
				prepare(s, set)
				time.AfterFunc(interrupted, func() { s.Interrupt(errOne); s.Interrupt(errTwo) })
				if err := do(); err != errOne || time.Since(start) != interrupted {
					t.Errorf("ended with %v after %v", err, time.Since(start))
				}
				late := s.NewDeadline(moves(0, 0, errTwo))
				for _, at := range []time.Time{{}, time.Now().Add(time.Hour), time.Now().Add(-time.Hour)} {
					set(late, at)
					if err := do(); err != errOne {
						t.Errorf("later ended with %v", err)
					}
				}
				s.Close()
				if err := do(); err != errOne || s.Interrupted() != errOne {
					t.Errorf("after the close ended with %v", err)
				}
			})
		})
	}
}

func TestRelease(t *testing.T) {
	eachCall(t, func(t *testing.T, s *Socket, client net.Conn, do func() error, set func(*Deadline, time.Time)) {
		set(s.NewDeadline(nil), time.Now().Add(time.Second))
		s.Interrupt(errOne)
		if err := do(); err != errOne {
			t.Errorf("ended with %v", err)
		}
		s.Release()
		s.Interrupt(errTwo) // has no effect
		start := time.Now()
		if err := do(); err != os.ErrDeadlineExceeded || time.Since(start) != time.Second {
			t.Errorf("after the release ended with %v after %v", err, time.Since(start))
		}
	})
}

func TestClose(t *testing.T) {
	for name, tt := range map[string]struct {
		close func(s *Socket)
		want  error
	}{
		"without release": {(*Socket).Close, syscall.ECONNRESET},
		"after release":   {func(s *Socket) { s.Release(); s.Close() }, nil},
		"reset":           {(*Socket).Reset, syscall.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := memnet.Pair()
				tt.close(New(server, broken))
				if _, err := io.Copy(io.Discard, client); !errors.Is(err, tt.want) {
					t.Errorf("the client saw %v", err)
				}
			})
		})
	}
}
