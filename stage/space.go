package stage

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// MinFree is a stage that ends a connection with [ErrNoSpace] when its next bytes might leave
// less than Bytes free where the sink stores them. It asks before they are stored, so that
// space stays free however many connections there are and however fast they are. Bytes that
// are being stored count twice for a moment. A connection that stores nothing at the time is
// not affected, and new ones are served once there is space again. The Mark of [Save] is
// not limited.
//
// MinFree does not call Free for each write. The connections of one Wrap share its result,
// less the bytes that they may still store. The result lasts for at most 100 milliseconds
// and 64 MiB, since other programs may use the disk as well. If Free fails, the connection
// that called it ends with [ErrStorage].
//
// MinFree sees no bytes, so zero-copy survives it.
type MinFree struct {
	// Bytes is how much must stay free. 0 or less means no limit.
	Bytes int64

	// Free returns how many bytes can still be stored. One goroutine at a time calls it. It
	// must not be nil, unless there is no limit.
	Free func() (int64, error)
}

// Wrap puts the limit before the sink of next.
func (s MinFree) Wrap(next Handler) Handler {
	if s.Bytes <= 0 {
		return next
	}
	if s.Free == nil {
		panic("stage: MinFree without Free")
	}
	shared := &space{MinFree: s}
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		g := &spaceGate{space: shared}
		c.Out = NewWriter(c.Out, g)
		return g.after, nil
	}).Wrap(next)
}

const (
	// spaceAge is how long a result of Free is valid.
	spaceAge = 100 * time.Millisecond

	// spaceShare is how many bytes of it are reserved at most.
	spaceShare = 64 << 20
)

// space is the free space that connections share.
type space struct {
	MinFree

	mu       sync.Mutex
	left     int64     // can still be reserved
	reserved int64     // and not yet stored
	asked    time.Time // when left was computed
}

// reserve reserves from 1 to max bytes.
func (s *space) reserve(max int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.left < int64(max) || now.Sub(s.asked) >= spaceAge {
		free, err := s.Free()
		if err != nil {
			s.left, s.asked = 0, time.Time{}
			return 0, because(ErrStorage, err)
		}
		s.left, s.asked = 0, now
		if free -= s.reserved; free > s.Bytes {
			s.left = min(free-s.Bytes, spaceShare)
		}
	}
	if s.left == 0 {
		return 0, fmt.Errorf("%w: %d bytes must stay free", ErrNoSpace, s.Bytes)
	}
	n := int(min(int64(max), s.left))
	s.left -= int64(n)
	s.reserved += int64(n)
	return n, nil
}

// release ends the reservation of n bytes, stored or not. The next Free sees the stored
// ones.
func (s *space) release(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved -= int64(n)
}

// spaceGate is one connection's part of a space.
type spaceGate struct {
	space    *space
	reserved int // for the next transfer
}

func (g *spaceGate) Allow(max int) (int, error) {
	g.release() // a gate after this one may have refused
	n, err := g.space.reserve(max)
	g.reserved = n
	return n, err
}

func (g *spaceGate) Passed(_ int, err error) error {
	g.release()
	return err
}

func (g *spaceGate) release() {
	if g.reserved > 0 {
		g.space.release(g.reserved)
		g.reserved = 0
	}
}

// after releases the bytes still reserved at the end of the connection.
func (g *spaceGate) after(err error) error {
	g.release()
	return err
}

var _ Gate = (*spaceGate)(nil)
