package hook

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
)

// queue calls do for each file, in order, for several files at a time. An empty queue has
// no goroutine.
type queue struct {
	name string // the flag, for errors
	ctx  context.Context
	do   func(context.Context, Saved) error
	jobs int
	most int // waiting files

	onError   func(error) // receives errors of do
	onSkipped func(error) // receives errors about skipped files

	workers sync.WaitGroup
	mu      sync.Mutex
	running int
	waiting []Saved
	closed  bool
	full    skipped // for lack of place, not yet reported
	late    skipped // by the stop
}

// skipped counts skipped files.
type skipped struct {
	n           int
	first, last string // names
}

func (k *skipped) add(s Saved) {
	k.last = filepath.Base(s.Path)
	if k.n++; k.n == 1 {
		k.first = k.last
	}
}

// take returns an error about the skipped files, and resets k.
func (k *skipped) take(name, why string) error {
	files := k.first
	switch k.n {
	case 0:
		return nil
	case 1:
	default:
		files = fmt.Sprintf("%d files, from %s to %s,", k.n, k.first, k.last)
	}
	*k = skipped{}
	return fmt.Errorf("%s: skipped %s %s", name, files, why)
}

// add never waits.
func (q *queue) add(s Saved) {
	var told error
	q.mu.Lock()
	switch most := q.most; {
	case q.closed || q.ctx.Err() != nil:
		q.late.add(s)
	case q.running < q.jobs:
		q.running++
		q.workers.Go(func() { q.work(s) })
	case len(q.waiting) < most/2 || s.Outcome.OK() && len(q.waiting) < most:
		q.waiting = append(q.waiting, s)
	default:
		if q.full.n == 0 {
			told = fmt.Errorf("%s: too many files wait: skipping files from %s on", q.name, filepath.Base(s.Path))
		}
		q.full.add(s)
	}
	q.mu.Unlock()
	q.tell(told)
}

func (q *queue) tell(err error) {
	if err != nil {
		q.onSkipped(err)
	}
}

func (q *queue) work(s Saved) {
	for more := true; more; s, more = q.next() {
		if err := q.do(q.ctx, s); err != nil {
			q.onError(fmt.Errorf("%s: %s: %w", q.name, filepath.Base(s.Path), err))
		}
	}
}

// next returns the next file, or false: then the worker ends.
func (q *queue) next() (s Saved, ok bool) {
	var told error
	q.mu.Lock()
	if q.ctx.Err() != nil {
		for _, s := range q.waiting {
			q.late.add(s)
		}
		q.waiting = nil
	}
	if ok = len(q.waiting) > 0; ok {
		s, q.waiting[0] = q.waiting[0], Saved{}
		q.waiting = q.waiting[1:]
	} else {
		q.running--
		q.waiting = nil // frees the array
	}
	// Not for each free place, to avoid a report for each file.
	if len(q.waiting) <= q.most/4 {
		told = q.full.take(q.name, whyFull)
	}
	q.mu.Unlock()
	q.tell(told)
	return s, ok
}

const (
	whyFull = "since too many waited"
	whyLate = "since the program stops"
)

// close waits until the queue is empty, or ctx is done.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.workers.Wait()
	q.mu.Lock()
	full, late := q.full.take(q.name, whyFull), q.late.take(q.name, whyLate)
	q.mu.Unlock()
	q.tell(full)
	q.tell(late)
}
