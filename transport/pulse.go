package transport

import (
	"sync/atomic"
	"time"
)

// turns are those of a loop that waits and works in turn: one that is at the same
// work for too long is stuck. The loop is one goroutine; any may look.
type turns struct{ n atomic.Uint64 } // odd while it works

func (t *turns) work() { t.n.Add(1) }
func (t *turns) wait() { t.n.Add(1) }

// stuck reports whether the loop has been at the same work since the last call,
// whose turn was last, which it sets.
func (t *turns) stuck(last *uint64) bool {
	n := t.n.Load()
	same := n == *last
	*last = n
	return same && n%2 == 1
}

// pulse calls OnPulse as long as the loop is alive, until stop is called.
func (l *loop) pulse() (stop func()) {
	stopped, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		ticker := time.NewTicker(l.Pulse)
		defer ticker.Stop()
		var accepting, waiting uint64
		for {
			select {
			case <-ticker.C:
			case <-stopped:
				return
			}
			open := l.open() // which takes its lock
			stuck := l.turns.stuck(&accepting)
			if l.lot != nil {
				stuck = l.lot.stuck(&waiting) || stuck
			}
			if !stuck {
				l.OnPulse(open)
			}
		}
	}()
	return func() {
		close(stopped)
		<-over
	}
}

// stuck is that of its goroutine. It waits for who has its lock.
func (l *lot) stuck(last *uint64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.turns.stuck(last)
}
