package fs

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/accio-go/accio/fs/internal/groupsync"
)

// deferredSyncs are the names of files that were committed and are not yet synced.
//
// The Store syncs each file by itself. syncfs(2) would take half as long, but it also
// waits for data of other processes, possibly gigabytes. The process could not end
// before: a thread in syncfs(2) sleeps uninterruptibly.
type deferredSyncs struct {
	names map[string]groupsync.Mark // of the directory, before the file was committed
	err   error                     // of files that were synced before Close
}

// maxDeferred bounds the memory for names in a Store that lives long.
const maxDeferred = 8192

// commitDeferred gives the file its name and defers its sync. It waits for no sync, so it
// claims the name only where rename may have to look first.
func (p *pending) commitDeferred(name string) error {
	s := p.store
	if s.noReplace {
		s.claim(name)
		defer s.release(name)
	}
	mark := s.dirSync.Mark()
	full := false
	err := s.change(func() error {
		err := p.rename(name, !s.noReplace)
		if err == nil || errors.Is(err, os.ErrExist) {
			full = s.deferSync(name, mark)
		}
		return err
	})
	if err != nil {
		return errors.Join(err, p.abort())
	}
	if full {
		s.life.RLock()
		defer s.life.RUnlock()
		err := s.syncDeferred(maxChanges) // leaves the disk to the commits under way
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.deferred.err == nil {
			s.deferred.err = err
		}
	}
	return nil
}

// deferSync adds name, and reports whether the files must be synced now.
func (s *Store) deferSync(name string, mark groupsync.Mark) (full bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := &s.deferred
	if d.names == nil {
		d.names = make(map[string]groupsync.Mark)
	}
	d.names[name] = mark
	return len(d.names) >= maxDeferred
}

// syncDeferred syncs the deferred files, at most limit at a time, and then the directory.
// Of several failures it returns one.
func (s *Store) syncDeferred(limit int) error {
	s.mu.Lock()
	marks := s.deferred.names
	s.deferred.names = nil
	s.mu.Unlock()
	if len(marks) == 0 {
		return nil
	}
	names := slices.Collect(maps.Keys(marks))
	errs := make([]error, len(names))
	syncing := make(slots, limit)
	var wg sync.WaitGroup
	for i, name := range names {
		syncing.acquire()
		wg.Go(func() {
			defer syncing.release()
			errs[i] = s.fileSyncError(s.dir.syncFile(name))
		})
	}
	wg.Wait()
	if s.syncsNames() {
		s.dirSync.Sync() // each Mark reports its error
	}
	for i, name := range names {
		err := errs[i]
		if err == nil && s.syncsNames() {
			err = marks[name].Err()
		}
		if err != nil {
			return fmt.Errorf("sync %s: %w", name, err)
		}
	}
	return nil
}
