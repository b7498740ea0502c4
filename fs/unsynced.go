package fs

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
)

// unsynced are names of files that were committed and have yet to be synced, each with the
// failures that there were before it had its name.
//
// They are synced each by itself. To sync the whole filesystem would be half the work, but
// waits for what anybody else has written to it, be it gigabytes, and a process cannot end
// before that has: a thread in syncfs(2), or in fsync(2), sleeps uninterruptibly.
type unsynced struct {
	files   map[string]failures
	syncing bool  // somebody does, since there were too many
	err     error // of that
}

// maxUnsynced is how many a Store keeps before somebody syncs them: it may live for long, with
// ever more of them.
const maxUnsynced = 8192

func (u *unsynced) add(name string, before failures) {
	if u.files == nil {
		u.files = make(map[string]failures)
	}
	u.files[name] = before
}

func (u *unsynced) full() bool { return len(u.files) >= maxUnsynced }

// takesUnsynced reports whether a sync can be left for later. It cannot where nothing is
// to be synced, or nobody keeps up with it.
func (s *Store) takesUnsynced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.dir.(syncer)
	return ok && s.durability != None && !s.unsynced.full()
}

// syncMany syncs what has been left for later if that is too much. What goes wrong is for Close
// to tell.
func (s *Store) syncMany() {
	s.life.RLock()
	defer s.life.RUnlock()
	files := s.takeMany()
	if files == nil {
		return
	}
	err := s.syncFiles(files, maxChanges) // others have commits to make meanwhile
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unsynced.syncing = false
	if s.unsynced.err == nil {
		s.unsynced.err = err
	}
}

func (s *Store) takeMany() map[string]failures {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := &s.unsynced
	if !u.full() || u.syncing || s.closed.Load() {
		return nil
	}
	files := u.files
	u.files, u.syncing = nil, true
	return files
}

// syncUnsynced syncs what has been left for later, when nothing can be added to it.
func (s *Store) syncUnsynced() error {
	s.mu.Lock()
	u := s.unsynced
	s.unsynced = unsynced{}
	s.mu.Unlock()
	return errors.Join(u.err, s.syncFiles(u.files, maxCommits))
}

// syncFiles syncs the files of these names, so many at a time, and then the names. Of several
// failures one is returned: the others would say the same.
func (s *Store) syncFiles(files map[string]failures, atOnce int) error {
	if len(files) == 0 {
		return nil
	}
	names := slices.Collect(maps.Keys(files))
	errs := make([]error, len(names))
	turns := make(slots, atOnce)
	var wg sync.WaitGroup
	for i, name := range names {
		turns.acquire()
		wg.Go(func() {
			defer turns.release()
			errs[i] = s.dir.(syncer).syncFile(name)
		})
	}
	wg.Wait()
	var first error
	note := func(name string, err error) {
		if err != nil && first == nil {
			first = fmt.Errorf("sync %s: %w", name, err)
		}
	}
	for i, name := range names {
		note(name, s.syncedFile(errs[i]))
	}
	if s.durability == Full {
		s.group.Sync()
		for name, before := range files {
			note(name, before.since()) // the error of this sync, too
		}
	}
	return first
}
