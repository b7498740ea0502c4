package fs

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// maxUnsynced is how many names of files that have yet to be synced a Store keeps. It may
// live for long, with ever more of them.
const maxUnsynced = 1024

// leaveUnsynced leaves it to Close to sync the file. s.mu is held.
func (s *Store) leaveUnsynced(name string) {
	if len(s.unsynced) < maxUnsynced {
		s.unsynced = append(s.unsynced, name)
	}
}

// syncUnsynced syncs what has been left to Close. That is each file by itself as long as
// all are known: to sync the whole filesystem is less work for many of them, but waits for what
// anybody else has written to it, be it gigabytes, and a process cannot end before that has
// (a thread in syncfs(2) sleeps uninterruptibly). s.mu is held.
func (s *Store) syncUnsynced() error {
	switch {
	case len(s.unsynced) == 0 || s.durability == None:
		return nil
	case len(s.unsynced) == maxUnsynced:
		return s.dir.(syncer).syncAll()
	}
	before := s.group.failures()
	errs := make([]error, len(s.unsynced))
	atOnce := make(slots, maxCommits)
	var wg sync.WaitGroup
	for i, name := range s.unsynced {
		atOnce.acquire()
		wg.Go(func() {
			defer atOnce.release()
			errs[i] = s.syncFile(name)
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err // many more would say the same
		}
	}
	return s.syncNames(before)
}

func (s *Store) syncFile(name string) error {
	err := s.syncedFile(s.dir.(syncer).syncFile(name))
	if errors.Is(err, os.ErrNotExist) {
		return nil // somebody has removed it since
	}
	if err != nil {
		return fmt.Errorf("sync %s: %w", name, err)
	}
	return nil
}
