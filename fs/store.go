package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs/internal/groupsync"
)

// Pending is a file that is not yet visible under its name. It holds a descriptor until
// Commit or Abort ends it. It is for one goroutine at a time.
//
// A Pending of a [Store] has more methods, which package stage and package follow use:
//
//   - CommitAs(name string, sync bool) error is Commit under another name. If sync is
//     false, the file is visible at once and the Store syncs it later: in its Close, or
//     when there are thousands of such files. The Store syncs it by its name, so do not
//     rename it before.
//   - Reset() error removes the bytes written so far.
//   - Wrote(n int) says that n more bytes are in the file, written by Write or past it.
//     On Linux the system then begins to write long files back to the disk.
//   - Reopen() (afero.File, error) opens the file once more, to read it. The caller closes
//     the handle, which stays with the file after a commit or an abort.
//   - File() *os.File is the file itself, so that the kernel can move bytes into it. Only
//     a Pending on a disk has it.
type Pending = interface {
	io.Writer

	// Commit makes the file visible under its name, complete and at once, in place of
	// an earlier file. When it returns nil, the file and its name have been synced:
	// they survive a loss of power (see [Durability]). When it returns an error, the
	// file is removed. Either way the Pending has ended; a second Commit returns an
	// os.ErrClosed.
	Commit() error

	// Abort removes the file. After a Commit or an Abort it does nothing.
	Abort() error
}

// Store keeps files in one directory: see [OpenDir] and [New]. It is safe for concurrent
// use. Two Stores, also of different processes, may share a directory of a disk if they
// do not commit to the same names at the same time.
type Store struct {
	*options
	dir       directory
	dirSync   *groupsync.Group
	commits   *groupCommit // nil: each file is synced by itself
	writeBack func(f *os.File, from, size int64) error

	changing   slots // held to create, reset or remove a pending file
	committing slots // held to commit one

	life   sync.RWMutex // held to change the directory; Close takes the write lock
	closed atomic.Bool

	mu       sync.Mutex
	temps    map[string]struct{} // names of the pending files in the directory
	claimed  map[string]struct{} // final names of the commits under way
	released sync.Cond           // a name was removed from claimed
	closeDir bool                // the last commit under way closes the directory
	deferred deferredSyncs
}

// slots bounds how many goroutines do something at a time that waits for the disk. A
// goroutine in a system call holds a thread, and the runtime ends a process that has
// 10,000 threads (runtime/debug.SetMaxThreads). Many threads also take longer than few:
// changes to one directory wait for each other in the kernel.
type slots chan struct{}

const (
	maxChanges = 4
	maxCommits = 32
)

func (s slots) acquire() { s <- struct{}{} }
func (s slots) release() { <-s }

func newStore(d directory, o *options) *Store {
	s := &Store{
		options:    o,
		dir:        d,
		dirSync:    groupsync.New(func() error { return o.dirSyncError(d.sync()) }),
		writeBack:  startWriteBack,
		changing:   make(slots, maxChanges),
		committing: make(slots, maxCommits),
		temps:      make(map[string]struct{}),
		claimed:    make(map[string]struct{}),
	}
	s.released.L = &s.mu
	if d.groupsCommits() {
		s.commits = newGroupCommit()
	}
	return s
}

// directory is a directory of a Store. Names are plain file names.
type directory interface {
	create(name string) (temporary, error)
	openAppend(name string) (afero.File, error) // creates the file if it is missing
	remove(name string) error                   // nil if there is none
	names() ([]string, error)
	sweep(temp string) error // does nothing if the pending file is in use
	sync() error
	syncFile(name string) error // does nothing if the name is no longer a regular file's
	free() (int64, error)
	groupsCommits() bool // small files are durable sooner if they are synced together
	close() error
}

// temporary is a pending file of a directory.
type temporary interface {
	io.Writer
	temp() string    // its name while it is pending
	file() *os.File  // nil if it is not on a disk
	truncate() error // makes it empty
	sync() error
	rename(name string, replace bool) error // also closes it; the caller has claimed name
	abort() error                           // closes and removes it, also after a failed sync or rename
	reopen() (afero.File, error)
}

// Create begins a file that becomes visible as name when it is committed. The caller
// must commit or abort it. A name that is not a plain file name is an os.ErrInvalid:
// one that is empty, begins with a dot or contains a separator. After Close, Create
// returns an os.ErrClosed. Create ignores ctx, since disk calls cannot be cancelled.
func (s *Store) Create(_ context.Context, name string) (Pending, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	var p *pending
	err := s.change(func() error {
		t, err := s.dir.create(name)
		if err != nil {
			return err
		}
		p = &pending{store: s, name: name, temporary: t}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.temps[t.temp()] = struct{}{}
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case p.file() != nil:
		return pendingFile{p}, nil
	}
	return p, nil
}

// change calls do, which changes the directory, unless the Store is closed.
func (s *Store) change(do func() error) error {
	s.changing.acquire()
	defer s.changing.release()
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed.Load() {
		return errClosed
	}
	return do()
}

var errClosed = fmt.Errorf("the store is closed: %w", os.ErrClosed)

// WriteFile makes a file that contains data visible as name: Create, Write, Commit.
func (s *Store) WriteFile(name string, data []byte) error {
	p, err := s.Create(context.Background(), name)
	if err != nil {
		return err
	}
	defer p.Abort()
	if _, err := p.Write(data); err != nil {
		return err
	}
	return p.Commit()
}

// OpenAppend opens the file name to append to it and to read it, and creates it if it is
// missing. It is for package appendlog. The caller closes the file, before the Store.
//
// Sync makes the bytes written and the name of the file durable, as far as the Store's
// [Durability] requires it. One goroutine at a time may call Sync.
func (s *Store) OpenAppend(name string) (afero.File, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	var f afero.File
	err := s.change(func() (err error) {
		f, err = s.dir.openAppend(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &appendFile{File: f, store: s, name: name}, nil
}

type appendFile struct {
	afero.File
	store      *Store
	name       string
	nameSynced bool
}

func (f *appendFile) Sync() error {
	if !f.store.syncsFiles() {
		return nil
	}
	if err := f.store.fileSyncError(f.File.Sync()); err != nil {
		return fmt.Errorf("sync %s: %w", f.name, err)
	}
	if f.nameSynced || !f.store.syncsNames() {
		return nil
	}
	err := f.store.dirSync.Sync()
	f.nameSynced = err == nil
	return err
}

// Remove removes the file that is visible as name. It returns nil if there is none, and
// an error if it is a directory. With [NoReplace] it returns an errors.ErrUnsupported.
func (s *Store) Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if s.noReplace {
		return fmt.Errorf("remove %s from a store with NoReplace: %w", name, errors.ErrUnsupported)
	}
	return s.dir.remove(name)
}

// Free returns how many bytes a user other than root can still write to the directory's
// filesystem (statfs(2)). On FreeBSD it is negative if root has used its reserve. If
// the system has no such call, Free returns an errors.ErrUnsupported.
func (s *Store) Free() (int64, error) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed.Load() {
		return 0, errClosed
	}
	n, err := s.dir.free()
	if err != nil {
		err = fmt.Errorf("free space: %w", err)
	}
	return n, err
}

// Sweep removes the pending files of killed processes, if own returns true for the name
// that they were created for. It removes nothing else.
//
// On a disk it keeps files that any process has open, and all files if the filesystem has
// no locks. A Store of [New] keeps its own pending files and does not know of others: no
// other process may use the directory then.
func (s *Store) Sweep(own func(name string) bool) error {
	s.life.Lock() // no file is created meanwhile
	defer s.life.Unlock()
	if s.closed.Load() {
		return errClosed
	}
	names, err := s.dir.names()
	if err != nil {
		return err
	}
	ours := func(name string) bool { return name == probeName || own(name) }
	var errs []error
	for _, name := range names {
		s.mu.Lock()
		_, pending := s.temps[name]
		s.mu.Unlock()
		if !pending && isTemp(name, ours) {
			errs = append(errs, s.dir.sweep(name))
		}
	}
	return errors.Join(errs...)
}

// Close removes the pending files, syncs the files whose sync was deferred, and closes
// the directory. Commit of a removed file returns an os.ErrClosed; Abort closes it.
// Close does not wait for commits under way: each succeeds or fails, and the last one
// closes the directory.
func (s *Store) Close() error {
	s.closed.Store(true)
	s.life.Lock()
	defer s.life.Unlock()
	err := s.removePending()
	err = errors.Join(err, s.syncDeferred(maxCommits))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closeDir = true
	return errors.Join(err, s.deferred.err, s.closeUnused())
}

func (s *Store) removePending() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for temp := range s.temps {
		errs = append(errs, s.dir.remove(temp))
	}
	clear(s.temps)
	return errors.Join(errs...)
}

// closeUnused closes the directory if Close was called and no commit is under way. The
// caller holds s.mu.
func (s *Store) closeUnused() error {
	if !s.closeDir || len(s.claimed) > 0 {
		return nil
	}
	s.closeDir = false
	return s.dir.close()
}

// claim reserves name for one commit. A commit that fails after its rename removes the
// file, which must not be another commit's.
func (s *Store) claim(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if _, taken := s.claimed[name]; !taken {
			s.claimed[name] = struct{}{}
			return
		}
		s.released.Wait()
	}
}

func (s *Store) release(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.claimed, name)
	s.closeUnused()
	s.released.Broadcast()
}

// syncNames syncs the directory, if the Store syncs names, after a change since m.
func (s *Store) syncNames(m groupsync.Mark) error {
	if !s.syncsNames() {
		return nil
	}
	return s.dirSync.SyncSince(m)
}
