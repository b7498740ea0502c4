package stage

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// MinFree is a stage that ends a connection with [ErrNoSpace] when its next bytes
// might leave less than Bytes free where the sink puts them (what is being
// stored just then counts twice, for a moment). It is asked before
// they are stored, so the space that is left alone stays free however many
// connections there are and however fast they are. A connection that stores
// nothing at the time is not concerned, and those that come when there is space
// again are served. What [Save] puts in the place of a payload is not asked about.
//
// Free is asked now and then rather than for each write: what it said is shared out
// among all connections that pass through the handler which Wrap returns, less what
// they have been allowed and not stored yet, and asked again when it is used up, and
// after a tenth of a second or 64 MiB in any case, since others may use the disk as
// well. What they take in between is the one thing that may be lacking. If Free fails,
// the connection that has asked ends with [ErrStorage].
//
// It sees no bytes, so zero-copy survives it.
type MinFree struct {
	// Bytes is what is to be left. 0 or less means no limit.
	Bytes int64

	// Free returns how many bytes can still be stored. It is called by one
	// goroutine at a time. It must not be nil, unless there is no limit.
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
	// spaceAge is for how long an answer of Free holds.
	spaceAge = 100 * time.Millisecond

	// spaceShare is how much of it is given away at the most.
	spaceShare = 64 << 20
)

// space is what connections may take.
type space struct {
	MinFree

	mu     sync.Mutex
	left   int64     // to be given away
	given  int64     // and not yet stored
	looked time.Time // when left was found out
}

// take gives away from 1 to max bytes.
func (s *space) take(max int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.left < int64(max) || now.Sub(s.looked) >= spaceAge {
		free, err := s.Free()
		if err != nil {
			s.left, s.looked = 0, time.Time{}
			return 0, because(ErrStorage, err)
		}
		s.left, s.looked = 0, now
		if free -= s.given; free > s.Bytes {
			s.left = min(free-s.Bytes, spaceShare)
		}
	}
	if s.left == 0 {
		return 0, fmt.Errorf("%w: %d bytes are to be left free", ErrNoSpace, s.Bytes)
	}
	n := int(min(int64(max), s.left))
	s.left -= int64(n)
	s.given += int64(n)
	return n, nil
}

// store takes back n bytes that were given away. That they are stored, or are not,
// Free will tell.
func (s *space) store(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given -= int64(n)
}

// spaceGate is a connection's part of a space.
type spaceGate struct {
	space *space
	given int // to be stored next
}

func (g *spaceGate) Allow(max int) (int, error) {
	g.settle() // a gate after this one may have refused
	n, err := g.space.take(max)
	g.given = n
	return n, err
}

func (g *spaceGate) Passed(_ int, err error) error {
	g.settle()
	return err
}

func (g *spaceGate) settle() {
	if g.given > 0 {
		g.space.store(g.given)
		g.given = 0
	}
}

// after is for a connection that has ended.
func (g *spaceGate) after(err error) error {
	g.settle()
	return err
}

var _ Gate = (*spaceGate)(nil)
