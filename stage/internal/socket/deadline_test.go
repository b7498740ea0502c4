package socket

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/transport/transporttest/memnet"
)

var (
	errOne    = errors.New("one failure")
	errTwo    = errors.New("another failure")
	errBroken = errors.New("broken")
)

func broken(err error) error { return fmt.Errorf("%w: %w", errBroken, err) }

// networks are connections that take no real time. A write waits, as does a read.
var networks = map[string]func() (server, client net.Conn){
	"net.Pipe": net.Pipe,
	"memnet": func() (net.Conn, net.Conn) {
		server, client := memnet.Pair()
		client.SetReadBuffer(1)
		return server, client
	},
}

// calls are a read and a write that wait for the client.
var calls = map[string]struct {
	do  func(s *Socket) error
	set func(d *Deadline, t time.Time)
}{
	"read":  {func(s *Socket) error { _, err := s.Read(make([]byte, 1)); return err }, (*Deadline).SetRead},
	"write": {func(s *Socket) error { _, err := s.Write([]byte("xx")); return err }, (*Deadline).SetWrite},
}

// eachCall calls f for a read and a write on each network, in a bubble.
func eachCall(t *testing.T, f func(t *testing.T, s *Socket, client net.Conn, do func() error, set func(*Deadline, time.Time))) {
	for network, open := range networks {
		for what, call := range calls {
			t.Run(what+" on "+network, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server, client := open()
					s := New(server, broken)
					f(t, s, client, func() error { return call.do(s) }, call.set)
					s.Close()
					client.Close()
				})
			})
		}
	}
}

// moves returns the function of a deadline that is moved by d so many times.
func moves(n int, d time.Duration, err error) func(time.Time) (time.Time, error) {
	return func(now time.Time) (time.Time, error) {
		if n--; n < 0 {
			return time.Time{}, err
		}
		return now.Add(d), nil
	}
}

func TestDeadlineNearestApplies(t *testing.T) {
	const none = -1
	for _, tt := range []struct {
		name string
		set  [][]time.Duration // for each deadline, in seconds
		want time.Duration
	}{
		{"none", nil, none},
		{"one", [][]time.Duration{{5}}, 5},
		{"not set", [][]time.Duration{{}}, none},
		{"removed", [][]time.Duration{{5, none}}, none},
		{"removed before it was set", [][]time.Duration{{none, none}}, none},
		{"put off", [][]time.Duration{{5, 7}}, 7},
		{"brought forward", [][]time.Duration{{5, 3}}, 3},
		{"set again", [][]time.Duration{{5, none, 7}}, 7},
		{"first of two", [][]time.Duration{{3}, {5}}, 3},
		{"second of two", [][]time.Duration{{5}, {3}}, 3},
		{"first removed", [][]time.Duration{{3, none}, {5}}, 5},
		{"second removed", [][]time.Duration{{5}, {3, none}}, 5},
		{"nearer put off", [][]time.Duration{{5}, {3, 7}}, 5},
		{"three", [][]time.Duration{{7}, {5, none, 4}, {6}}, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachCall(t, func(t *testing.T, s *Socket, client net.Conn, do func() error, set func(*Deadline, time.Time)) {
				start := time.Now()
				for _, times := range tt.set {
					d := s.NewDeadline(nil)
					for _, after := range times {
						at := time.Time{}
						if after != none {
							at = start.Add(after * time.Second)
						}
						set(d, at)
					}
				}
				end := time.AfterFunc(time.Hour, func() { client.Close() })
				defer end.Stop()
				err, took := do(), time.Since(start)
				if tt.want == none {
					if errors.Is(err, os.ErrDeadlineExceeded) || took != time.Hour {
						t.Errorf("ended with %v after %v, want the end of the stream", err, took)
					}
				} else if err != os.ErrDeadlineExceeded || took != tt.want*time.Second {
					t.Errorf("ended with %v after %v, want a deadline of %d s", err, took, tt.want)
				}
			})
		})
	}
}

func TestDeadlineIsMovedByItsOwner(t *testing.T) {
	eachCall(t, func(t *testing.T, s *Socket, client net.Conn, do func() error, set func(*Deadline, time.Time)) {
		start := time.Now()
		set(s.NewDeadline(moves(5, 2*time.Second, errOne)), start.Add(time.Second))
		if err := do(); err != errOne || time.Since(start) != 11*time.Second {
			t.Errorf("ended with %v after %v", err, time.Since(start))
		}
		// The next call asks again, at once or after the second look.
		if err := do(); err != errOne || time.Since(start) > 11*time.Second+secondLook {
			t.Errorf("then ended with %v after %v", err, time.Since(start))
		}
	})
}

func TestDeadlineIsRemovedByItsOwner(t *testing.T) {
	eachCall(t, func(t *testing.T, s *Socket, client net.Conn, do func() error, set func(*Deadline, time.Time)) {
		start, asked := time.Now(), 0
		set(s.NewDeadline(func(time.Time) (time.Time, error) { asked++; return time.Time{}, nil }), start.Add(time.Second))
		end := time.AfterFunc(time.Hour, func() { client.Close() })
		defer end.Stop()
		if err := do(); errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Hour || asked != 1 {
			t.Errorf("ended with %v after %v, asked %d times", err, time.Since(start), asked)
		}
	})
}

func TestDeadlineOfSeveralOwners(t *testing.T) {
	eachCall(t, func(t *testing.T, s *Socket, client net.Conn, do func() error, set func(*Deadline, time.Time)) {
		at := time.Now().Add(time.Second)
		var asked []int
		for i, expired := range []func(time.Time) (time.Time, error){
			moves(1, time.Minute, errOne), moves(3, time.Second, errTwo), moves(9, time.Minute, errOne),
		} {
			set(s.NewDeadline(func(now time.Time) (time.Time, error) { asked = append(asked, i); return expired(now) }), at)
		}
		if err := do(); err != errTwo || time.Since(at) != 3*time.Second {
			t.Errorf("ended with %v, %v after the first time", err, time.Since(at))
		}
		if got := fmt.Sprint(asked); got != "[0 1 2 1 1 1]" {
			t.Errorf("asked %v", got)
		}
	})
}

func TestDeadlineSetByAnotherGoroutine(t *testing.T) {
	for name, times := range map[string][]time.Duration{ // one a second, 0 for none
		"while none is set": {5 * time.Second},
		"brought forward":   {time.Hour, 5 * time.Second},
		"put off":           {2 * time.Second, time.Hour, 3 * time.Second},
		"removed":           {2 * time.Second, 0, 3 * time.Second},
		"in the past":       {0, 0, 0, 0, -time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			eachCall(t, func(t *testing.T, s *Socket, client net.Conn, do func() error, set func(*Deadline, time.Time)) {
				d, start := s.NewDeadline(nil), time.Now()
				ended := make(chan error, 1)
				go func() { ended <- do() }()
				synctest.Wait()
				for i, after := range times {
					if i > 0 {
						time.Sleep(time.Second)
					}
					if after == 0 {
						set(d, time.Time{})
					} else {
						set(d, time.Now().Add(after))
					}
				}
				if err := <-ended; err != os.ErrDeadlineExceeded {
					t.Errorf("ended with %v", err)
				}
				if took, want := time.Since(start), max(time.Duration(len(times)-1)*time.Second+times[len(times)-1], 4*time.Second); took != want && name != "in the past" {
					t.Errorf("ended after %v, want %v", took, want)
				}
			})
		})
	}
}

// A caller sees no error of a deadline that another goroutine moves as it passes.
func TestDeadlineMovedAsItPasses(t *testing.T) {
	eachCall(t, func(t *testing.T, s *Socket, client net.Conn, do func() error, set func(*Deadline, time.Time)) {
		d := s.NewDeadline(moves(1<<30, time.Second, nil))
		set(d, time.Now().Add(time.Second))
		ended := make(chan error, 1)
		go func() { ended <- do() }()
		for i := range 2000 {
			time.Sleep(time.Second)
			if i%2 == 0 {
				set(d, time.Now().Add(time.Hour))
			}
			set(d, time.Now().Add(time.Second))
		}
		client.Close()
		if err := <-ended; errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("ended with %v", err)
		}
	})
}

// If a deadline is set while its owner is asked, the answer does not undo that.
func TestDeadlineSetWhileItsOwnerIsAsked(t *testing.T) {
	eachCall(t, func(t *testing.T, s *Socket, client net.Conn, do func() error, set func(*Deadline, time.Time)) {
		var d *Deadline
		asked := 0
		d = s.NewDeadline(func(now time.Time) (time.Time, error) {
			asked++
			set(d, time.Time{})
			return now.Add(time.Second), nil
		})
		set(d, time.Now().Add(time.Second))
		end := time.AfterFunc(time.Hour, func() { client.Close() })
		defer end.Stop()
		if do(); asked != 1 {
			t.Errorf("asked %d times", asked)
		}
	})
}

func TestDeadlineSecondLook(t *testing.T) {
	for _, tt := range []struct {
		name string
		send time.Duration // after the read has begun
		err  error
		took time.Duration
	}{
		{"bytes have arrived", -time.Second, nil, 0},
		{"bytes arrive", secondLook / 2, nil, secondLook / 2},
		{"bytes arrive later", 2 * secondLook, errOne, secondLook},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := memnet.Pair()
				s, asked := New(server, broken), 0
				d := s.NewDeadline(func(now time.Time) (time.Time, error) { asked++; return now, errOne })
				send := time.AfterFunc(time.Minute+tt.send, func() { client.Write([]byte("x")) })
				defer send.Stop()
				d.SetRead(time.Now().Add(time.Second))
				time.Sleep(time.Minute)
				start := time.Now()
				if _, err := s.Read(make([]byte, 1)); err != tt.err || time.Since(start) != tt.took {
					t.Errorf("ended with %v after %v, want %v after %v", err, time.Since(start), tt.err, tt.took)
				}
				if want := map[bool]int{true: 1}[tt.err != nil]; asked != want {
					t.Errorf("asked %d times, want %d", asked, want)
				}
				// There is no third look.
				time.Sleep(time.Minute)
				client.Write([]byte("x"))
				if _, err := s.Read(make([]byte, 1)); err != errOne {
					t.Errorf("then ended with %v", err)
				}
			})
		})
	}
}

// lateConn reports a deadline a second late, as if the process had been stopped.
type lateConn struct{ net.Conn }

func (c lateConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		time.Sleep(time.Second)
	}
	return n, err
}

func TestDeadlineSecondLookOfAStoppedProcess(t *testing.T) {
	for sent, want := range map[time.Duration]error{time.Second / 2: nil, time.Hour: errOne} {
		synctest.Test(t, func(t *testing.T) {
			server, client := memnet.Pair()
			s := New(lateConn{server}, broken)
			s.NewDeadline(moves(0, 0, errOne)).SetRead(time.Now().Add(time.Second))
			send := time.AfterFunc(time.Second+sent, func() { client.Write([]byte("x")) })
			defer send.Stop()
			if _, err := s.Read(make([]byte, 1)); err != want {
				t.Errorf("ended with %v, want %v", err, want)
			}
		})
	}
}

func TestDeadlineWithinAWrite(t *testing.T) {
	for network, open := range networks {
		t.Run(network, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := open()
				s, payload := New(server, broken), bytes.Repeat([]byte("0123456789"), 10)
				s.NewDeadline(moves(1<<30, time.Second, nil)).SetWrite(time.Now().Add(time.Second))
				var got []byte
				done := make(chan struct{})
				go func() {
					defer close(done)
					for b := make([]byte, 3); ; time.Sleep(1500 * time.Millisecond) {
						n, err := client.Read(b)
						if got = append(got, b[:n]...); err != nil {
							return
						}
					}
				}()
				if n, err := s.Write(payload); n != len(payload) || err != nil {
					t.Errorf("wrote %d, %v", n, err)
				}
				s.Release()
				s.Close()
				<-done
				if !bytes.Equal(got, payload) {
					t.Errorf("the client got %q", got)
				}
			})
		})
	}
}

// A connection may have deadlines of its own.
func TestDeadlineOfTheConnection(t *testing.T) {
	eachCall(t, func(t *testing.T, s *Socket, client net.Conn, do func() error, set func(*Deadline, time.Time)) {
		set(s.NewDeadline(nil), time.Now().Add(time.Hour))
		start := time.Now()
		timer := time.AfterFunc(time.Second, func() { s.Conn().SetDeadline(time.Now()) })
		defer timer.Stop()
		if err := do(); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("ended with %v after %v", err, time.Since(start))
		}
	})
}

// noDeadlines is a connection whose read deadline cannot be set.
type noDeadlines struct{ net.Conn }

func (noDeadlines) SetReadDeadline(time.Time) error { return errOne }

func TestDeadlineThatCannotBeSet(t *testing.T) {
	server, client := memnet.Pair()
	client.Write([]byte("xx"))
	s := New(noDeadlines{server}, broken)
	if _, err := s.Read(make([]byte, 1)); err != nil {
		t.Errorf("without a deadline: %v", err)
	}
	d := s.NewDeadline(nil)
	d.SetRead(time.Now().Add(time.Hour))
	for range 2 {
		if n, err := s.Read(make([]byte, 1)); n != 0 || err != errOne {
			t.Errorf("read %d, %v", n, err)
		}
	}
	if n, err := s.Write([]byte("x")); n != 0 || err != errOne {
		t.Errorf("a write: %d, %v", n, err)
	}
}

func TestDeadlineIsSafeForConcurrentUse(t *testing.T) {
	server, client := memnet.Pair()
	s := New(server, broken)
	var setting, using sync.WaitGroup
	for range 4 {
		setting.Go(func() {
			d := s.NewDeadline(func(now time.Time) (time.Time, error) { return now.Add(time.Millisecond), nil })
			for i := range 500 {
				at := time.Now().Add(time.Duration(i%5-2) * 100 * time.Microsecond)
				d.SetRead(at)
				d.SetWrite(at)
				s.ReadTime()
				s.LastWrite()
			}
			d.SetRead(time.Time{})
			d.SetWrite(time.Time{})
		})
	}
	using.Go(func() { io.Copy(client, client) })
	using.Go(func() {
		for b := make([]byte, 1); ; {
			if _, err := s.Read(b); err != nil {
				if !errors.Is(err, errTwo) {
					t.Errorf("a read ended with %v", err)
				}
				return
			}
		}
	})
	using.Go(func() {
		for {
			if _, err := s.Write([]byte("x")); err != nil {
				if !errors.Is(err, errTwo) {
					t.Errorf("a write ended with %v", err)
				}
				return
			}
		}
	})
	setting.Wait()
	if s.reads.armed.Load() != 0 || s.writes.armed.Load() != 0 || s.deadlines != nil {
		t.Error("deadlines that are removed are left")
	}
	s.Interrupt(errTwo)
	s.Close()
	using.Wait()
}

func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := net.Pipe()
		s := New(server, broken)
		s.NewDeadline(moves(1<<30, time.Second, nil)).SetWrite(time.Now().Add(time.Second))
		check := func(reads, writes, sinceWrite time.Duration) {
			t.Helper()
			if got := s.ReadTime(); got != reads {
				t.Errorf("read for %v, want %v", got, reads)
			}
			if got := s.WriteTime(); got != writes {
				t.Errorf("wrote for %v, want %v", got, writes)
			}
			if got := time.Since(s.LastWrite()); got != sinceWrite {
				t.Errorf("the last write was %v ago, want %v", got, sinceWrite)
			}
		}
		check(0, 0, 0)
		go func() {
			time.Sleep(3 * time.Second)
			client.Write([]byte("x"))
			time.Sleep(4500 * time.Millisecond)
			client.Read(make([]byte, 2))
		}()
		timer := time.AfterFunc(2*time.Second, func() { check(2*time.Second, 0, 2*time.Second) })
		defer timer.Stop()
		s.Read(make([]byte, 1))
		check(3*time.Second, 0, 3*time.Second)
		s.Write([]byte("xx"))
		check(3*time.Second, 4500*time.Millisecond, 0)
		time.Sleep(time.Minute)
		check(3*time.Second, 4500*time.Millisecond, time.Minute)
	})
}

// A read and a write cost no allocation.
func TestSocketAllocations(t *testing.T) {
	server, client := memnet.Pair()
	s := New(server, broken)
	d := s.NewDeadline(nil)
	d.SetRead(time.Now().Add(time.Hour))
	client.Write(make([]byte, 2000))
	buf := make([]byte, 1)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := s.Read(buf); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a read", n)
	}
}

func TestDeadlineThatIsNotMovedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server, client := memnet.Pair()
		defer client.Close()
		s := New(server, func(err error) error { return err })
		defer s.Close()
		s.NewDeadline(func(now time.Time) (time.Time, error) { return now, nil }).SetRead(time.Now().Add(time.Second))
		if n, err := s.Read(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("read %d, %v", n, err)
		}
	})
}
