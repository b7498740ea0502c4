// Package groupsync shares one fsync among all callers that ask for it at the same time.
package groupsync

import (
	"errors"
	"sync"
)

// Group calls a sync function for its callers, one call at a time. It is safe for
// concurrent use.
type Group struct {
	sync    func() error
	running sync.Mutex // held during a call of sync

	mu       sync.Mutex
	next     *run // the call that has not begun, or nil
	failures int  // calls that failed
	last     error
}

type run struct {
	once sync.Once
	err  error
}

// New returns a Group that calls sync.
func New(sync func() error) *Group { return &Group{sync: sync} }

var errPanic = errors.New("the sync panicked")

// Sync returns when a call of the sync function has ended that began after Sync was
// called. Such a call covers every change that the caller made before.
func (g *Group) Sync() error {
	g.mu.Lock()
	if g.next == nil {
		g.next = new(run)
	}
	r := g.next
	g.mu.Unlock()
	r.once.Do(func() {
		g.running.Lock()
		defer g.running.Unlock()
		g.mu.Lock()
		g.next = nil
		g.mu.Unlock()
		r.err = errPanic // for the callers that share the call
		defer func() {
			if r.err != nil {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.failures, g.last = g.failures+1, r.err
			}
		}()
		r.err = g.sync()
	})
	return r.err
}

// Mark is a moment in the history of a Group.
type Mark struct {
	group    *Group
	failures int
}

// Mark returns the present moment. Take it before a change that a Sync will cover.
//
// A failed sync may have covered the change. A later sync that succeeds then proves
// nothing, since the system drops data that it could not write (fsync(2)). So a change
// is durable if a Sync after it succeeds and no sync has failed since the Mark.
func (g *Group) Mark() Mark {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Mark{g, g.failures}
}

// Err returns the error of a sync that has failed since the Mark, or nil.
func (m Mark) Err() error {
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	if m.group.failures != m.failures {
		return m.group.last
	}
	return nil
}

// SyncSince calls Sync, and also fails if a sync has failed since m.
func (g *Group) SyncSince(m Mark) error {
	if err := g.Sync(); err != nil {
		return err
	}
	return m.Err()
}
