package transport

import (
	"sync"
	"time"
)

// busy marks the start of a step in which the accept loop does not wait.
func (l *acceptLoop) busy() { l.busySince.Store(max(int64(time.Since(l.started)), 1)) }

// isAlive reports whether the accept loop waits, or has been busy for less than AliveInterval.
func (l *acceptLoop) isAlive() bool {
	since := l.busySince.Load()
	return since == 0 || time.Since(l.started)-time.Duration(since) < l.AliveInterval
}

// reportAlive calls OnAlive every AliveInterval while the accept loop is alive, until stop
// is called.
func (l *acceptLoop) reportAlive() (stop func()) {
	stopped := make(chan struct{})
	var reporter sync.WaitGroup
	reporter.Go(func() {
		for ticks := time.Tick(l.AliveInterval); ; {
			select {
			case <-ticks:
			case <-stopped:
				return
			}
			if open := l.open(); l.isAlive() {
				l.OnAlive(open)
			}
		}
	})
	return func() {
		close(stopped)
		reporter.Wait()
	}
}
