package stage

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// volume is a disk of a size: what is written to it is missing then.
type volume struct {
	mu          sync.Mutex
	free, least int64
	looks       int
	err         error
}

func (v *volume) Free() (int64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.looks++
	return v.free, v.err
}

func (v *volume) Write(p []byte) (int, error) {
	v.takes(int64(len(p)))
	return len(p), nil
}

func (v *volume) takes(n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.free -= n
	v.least = min(v.least, v.free)
}

func newVolume(free int64) *volume { return &volume{free: free, least: free} }

// payloadOf is what a peer sends of so many bytes.
func payloadOf(n int) act {
	return func(c net.Conn) error {
		_, err := c.Write(make([]byte, n))
		return err
	}
}

func TestMinFree(t *testing.T) {
	for _, tt := range []struct {
		name    string
		limit   int64
		free    int64
		payload int
		left    int64
		err     error
	}{
		{"room for all", 100, 1000, 500, 500, nil},
		{"exactly as much as there is room for", 100, 1000, 900, 100, nil},
		{"one more", 100, 1000, 901, 100, ErrNoSpace},
		{"far more", 100, 1000, 1 << 20, 100, ErrNoSpace},
		{"no room", 100, 100, 1, 100, ErrNoSpace},
		{"less than no room", 100, 50, 1, 50, ErrNoSpace},
		{"a disk that says less than nothing", 100, -50, 1, -50, ErrNoSpace},
		{"no room and no payload", 100, 50, 0, 50, nil},
		{"no limit", 0, 10, 10, 0, nil},
		{"less than no limit", -1, 10, 10, 0, nil},
		{"the largest limit", math.MaxInt64, 1 << 40, 1, 1 << 40, ErrNoSpace},
		{"more than is given away at once", 100, 3*spaceShare + 200, 3*spaceShare + 100, 100, nil},
		{"more than that, and one too many", 100, 3*spaceShare + 200, 3*spaceShare + 101, 100, ErrNoSpace},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := newVolume(tt.free)
			server, client := net.Pipe()
			done := play(client, payloadOf(tt.payload), ends)
			err := Serve(t.Context(), server, 1, Chain{into(v), MinFree{Bytes: tt.limit, Free: v.Free}}.Then(Receive))
			if !errors.Is(err, tt.err) {
				t.Errorf("ended with %v, want %v", err, tt.err)
			}
			if v.free != tt.left {
				t.Errorf("%d bytes are left, want %d", v.free, tt.left)
			}
			<-done
		})
	}
}

// However many store at the same time, and refuse or fail half-way, the rest stays
// free, all of what may be used is, and all of it can be used again.
func TestMinFreeOfManyConnections(t *testing.T) {
	const limit, room, conns = 1000, 5 << 20, 20
	v := newVolume(limit + room)
	flaky := writerFunc(func(p []byte) (int, error) {
		if rand.IntN(100) == 0 {
			return 0, errOne
		}
		return v.Write(p)
	})
	var sink io.Writer = flaky
	h := Chain{
		StageFunc(func(next Handler) Handler {
			return HandlerFunc(func(ctx context.Context, c *Conn) error {
				c.Out = sink
				return next.Serve(ctx, c)
			})
		}),
		MinFree{Bytes: limit, Free: v.Free},
		MaxSize{Bytes: room},
	}.Then(Receive)
	var wg sync.WaitGroup
	for i := range conns {
		wg.Go(func() {
			server, client := net.Pipe()
			done := play(client, payloadOf(room/4), ends)
			err := Serve(t.Context(), server, uint64(i), h)
			if err != nil && !errors.Is(err, errOne) && !errors.Is(err, ErrNoSpace) {
				t.Error(err)
			}
			<-done
		})
	}
	wg.Wait()
	if v.least < limit {
		t.Errorf("at a time only %d bytes were left, want %d", v.least, limit)
	}
	sink = v
	server, client := net.Pipe()
	done := play(client, payloadOf(room), ends)
	if err := Serve(t.Context(), server, 1, h); v.least != limit {
		t.Errorf("with all that may be used %d bytes are left, want %d (%v)", v.least, limit, err)
	}
	<-done
}

// Space that comes back is used, and only who wants to store anything is concerned
// meanwhile.
func TestMinFreeRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVolume(150)
		h := Chain{into(v), MinFree{Bytes: 100, Free: v.Free}}.Then(Receive)
		waiting, waiter := net.Pipe()
		waits := play(waiter, pauses(time.Hour), payloadOf(50), ends)
		ended := make(chan error)
		go func() { ended <- Serve(t.Context(), waiting, 1, h) }()
		for i, tt := range []struct {
			freed int64
			err   error
		}{{0, nil}, {0, ErrNoSpace}, {0, ErrNoSpace}, {50, nil}, {0, ErrNoSpace}, {50, nil}} {
			v.takes(-tt.freed)
			server, client := net.Pipe()
			done := play(client, payloadOf(50), ends)
			if err := Serve(t.Context(), server, 1, h); !errors.Is(err, tt.err) {
				t.Errorf("connection %d ended with %v, want %v", i, err, tt.err)
			}
			<-done
		}
		v.takes(-50)
		if err := <-ended; err != nil {
			t.Errorf("who had waited ended with %v", err)
		}
		<-waits
	})
}

// Others may use the disk as well: soon that is found out.
func TestMinFreeLooksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVolume(1 << 20)
		server, client := net.Pipe()
		done := play(client, payloadOf(10), pauses(spaceAge), payloadOf(10), ends)
		time.AfterFunc(spaceAge/2, func() { v.takes(1<<20 - 50) })
		err := Serve(t.Context(), server, 1, Chain{into(v), MinFree{Bytes: 100, Free: v.Free}}.Then(Receive))
		if !errors.Is(err, ErrNoSpace) {
			t.Errorf("ended with %v", err)
		}
		client.Close()
		<-done
	})
}

func TestMinFreeLooksSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVolume(1 << 40)
		server, client := net.Pipe()
		done := play(client, payloadOf(3*spaceShare/2), ends)
		if err := Serve(t.Context(), server, 1, Chain{into(v), MinFree{Bytes: 100, Free: v.Free}}.Then(Receive)); err != nil {
			t.Error(err)
		}
		<-done
		if v.looks > 3 {
			t.Errorf("it looked %d times", v.looks)
		}
	})
}

func TestMinFreeThatCannotLook(t *testing.T) {
	v := newVolume(1 << 20)
	v.err = errOne
	server, client := net.Pipe()
	done := play(client, payloadOf(10), ends)
	err := Serve(t.Context(), server, 1, Chain{into(v), MinFree{Bytes: 100, Free: v.Free}}.Then(Receive))
	if !errors.Is(err, ErrStorage) || !errors.Is(err, errOne) || errors.Is(err, ErrNoSpace) {
		t.Errorf("ended with %v", err)
	}
	<-done
}

func TestMinFreeWithoutFree(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("Wrap did not panic")
		}
	}()
	MinFree{Bytes: 1}.Wrap(Receive)
}

// What was allowed and is not stored yet is not given away once more, until it is
// known not to be stored.
func TestMinFreeReserves(t *testing.T) {
	v := newVolume(1000)
	shared := &space{MinFree: MinFree{Bytes: 100, Free: v.Free}}
	gates := [3]spaceGate{{space: shared}, {space: shared}, {space: shared}}
	allows := func(gate, max, want int) {
		t.Helper()
		n, err := gates[gate].Allow(max)
		if n != want || (want == 0) != errors.Is(err, ErrNoSpace) {
			t.Errorf("gate %d allowed %d of %d, %v; want %d", gate, n, max, err, want)
		}
	}
	allows(0, 600, 600)
	allows(1, 600, 300)
	allows(2, 1, 0)
	allows(0, 600, 600) // another gate has refused what was allowed before
	allows(2, 1, 0)
	v.takes(600)
	gates[0].Passed(600, nil)
	allows(2, 1, 0)
	gates[1].Passed(0, errOne)
	allows(2, 200, 200)
	allows(1, 200, 100)
	gates[1].after(errOne) // and its last transfer has not been told of
	v.takes(200)
	gates[2].Passed(200, nil)
	allows(0, 200, 100)
	if gates[0].after(errOne) != errOne || shared.reserved != 0 {
		t.Errorf("in the end %d bytes are on their way", shared.reserved)
	}
}
