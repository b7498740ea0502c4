package transport

import (
	"sync"
	"sync/atomic"
)

// maxIdleWorkers is the number of goroutines that wait for another connection. The stack of
// a new goroutine must grow, which is a good part of the cost of a short connection.
const maxIdleWorkers = 32

// workers are goroutines that serve connections.
type workers struct {
	tasks   chan func() // to an idle worker
	idle    atomic.Int64
	stopped chan struct{} // closed when no more tasks follow
	group   sync.WaitGroup
}

func newWorkers() *workers {
	return &workers{tasks: make(chan func()), stopped: make(chan struct{})}
}

// run runs task on an idle worker, or on a new one.
func (w *workers) run(task func()) {
	select {
	case w.tasks <- task:
	default:
		w.group.Go(func() {
			for task := task; task != nil; task = w.next() {
				task()
			}
		})
	}
}

// next waits for a task. It returns nil if enough workers are idle, or after stop.
func (w *workers) next() func() {
	defer w.idle.Add(-1)
	if w.idle.Add(1) > maxIdleWorkers {
		return nil
	}
	select {
	case task := <-w.tasks:
		return task
	case <-w.stopped:
		return nil
	}
}

// stop ends idle workers. Do not call run after it.
func (w *workers) stop() { close(w.stopped) }

// wait waits until all workers have ended.
func (w *workers) wait() { w.group.Wait() }
