package conformance

import "runtime"

// thread is a thread of the system's that runs what it is given and nothing else,
// until it is closed. A nil thread is whichever the caller has.
type thread struct {
	work chan func()
	done chan struct{}
}

// newThread returns a thread on which setUp, if not nil, has been run. The thread
// is ended if that fails.
func newThread(setUp func() error) (*thread, error) {
	t := &thread{work: make(chan func()), done: make(chan struct{})}
	ready := make(chan error)
	go func() {
		defer close(t.done)
		// Never unlocked: the runtime ends the thread with the goroutine, and
		// whatever was done to it is of no consequence to anything else.
		runtime.LockOSThread()
		var err error
		if setUp != nil {
			err = setUp()
		}
		ready <- err
		if err != nil {
			return
		}
		for f := range t.work {
			f()
		}
	}()
	if err := <-ready; err != nil {
		<-t.done
		return nil, err
	}
	return t, nil
}

// do runs f on the thread.
func (t *thread) do(f func() error) error {
	if t == nil {
		return f()
	}
	result := make(chan error, 1)
	t.work <- func() { result <- f() }
	return <-result
}

func (t *thread) close() {
	close(t.work)
	<-t.done
}
