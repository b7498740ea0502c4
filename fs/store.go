package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/spf13/afero"
)

// ErrName is returned for a name that is no plain file name: one that is empty,
// begins with a dot (such names are those of pending files) or has a separator
// in it.
var ErrName = errors.New("not the plain name of a file")

// Pending is a file that is not yet to be seen under its name. It is for one
// goroutine at a time; Commit or Abort ends it, and until then it holds a descriptor.
//
// More methods may be there, which package stage makes use of. Reset() error
// throws away what was written, so that something else can be written instead;
// only a followed file ([Follow]) has none. On a disk, File() *os.File is the file
// itself, so that the kernel can move bytes into it without going through Write;
// Wrote(n int) is told of n bytes more in it, whichever way they came, so that a long
// file is on its way to the disk while it arrives, and Commit need not wait for all
// of it; and CommitUnsynced() error commits but leaves the sync to the Store's Close.
// Every file has Rename(name string) error: from then on it is to be visible as that
// name, which may depend on what it holds, and not as the one it was created for. A name
// that is none is an [ErrName], and the one before stays. What the file is called while
// it is pending does not change, so [Store.Sweep] asks for the first.
type Pending = interface {
	io.Writer

	// Commit makes the file visible under its name, whole and at once, in place
	// of what was there. When it returns nil, the file and its name have been
	// synced: they survive a loss of power (unless the Store has another
	// [Durability]). When it returns an error, nothing of the file is to be seen
	// or left. The Pending is at its end either way; to commit twice is an
	// os.ErrClosed.
	Commit() error

	// Abort removes the file. After Commit, whether that succeeded or not, and
	// after Abort it does nothing.
	Abort() error
}

// Store keeps files in one directory: see [OpenDir] and [New]. It is safe for
// concurrent use. Two Stores, also of different processes, may share a directory
// of a disk if they do not commit to the same names at the same time.
type Store struct {
	*options
	dir     directory
	group   groupSync
	batches *batches                                 // nil: files are synced each by itself
	push    func(f *os.File, from, size int64) error // pushOut
	changes slots                                    // held by who creates, empties or removes a pending file
	commits slots                                    // held by who commits one

	life   sync.RWMutex // held to change the directory, and by Close to end that
	closed atomic.Bool  // true from before Close waits for that

	mu         sync.Mutex
	temps      map[string]struct{} // the names of the pending files
	committing map[string]struct{} // the names that are being committed
	committed  sync.Cond           // one of them is no longer
	leaving    bool                // the directory is to be closed when there are none
	unsynced   unsynced            // what was committed by CommitUnsynced
}

// slots bounds how many do something at a time that waits for the disk. Whoever
// waits in a system call holds a thread, and without a bound a slow disk and many
// connections would be the end of the process, at 10,000 threads
// (runtime/debug.SetMaxThreads). Nor is anything gained by more: changes to one
// directory wait for each other in the kernel, and with many threads at it they
// take longer than with one.
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
		group:      groupSync{sync: func() error { return o.synced(d.sync()) }},
		push:       pushOut,
		changes:    make(slots, maxChanges),
		commits:    make(slots, maxCommits),
		temps:      make(map[string]struct{}),
		committing: make(map[string]struct{}),
	}
	s.committed.L = &s.mu
	if b, ok := d.(batcher); ok && b.batches() {
		s.batches = newBatches()
	}
	return s
}

// directory is what a Store needs of a directory. Names are plain file names.
type directory interface {
	create(name string) (temporary, error)
	append(name string) (afero.File, error) // opens the file, or creates it, to append to it and read it
	remove(name string) error               // nil if there is none
	names() ([]string, error)
	sweep(temp string) error // nil if the pending file is in use
	sync() error
	close() error
}

// temporary is a pending file of a directory.
type temporary interface {
	io.Writer
	temp() string                           // its own name, as long as it is pending
	reset() error                           // makes it empty again
	sync() error                            // makes what it holds durable
	rename(name string, replace bool) error // closes it and gives it its name; who claims that calls it
	abort() error                           // closes, removes; also after a failed sync or rename
	reopen() (handle, error)                // opens the file once more, to read
}

// What else there is on a disk.
type (
	// filer is a temporary that is one with a file of the system.
	filer interface{ File() *os.File }

	// freer is a directory that knows what is free.
	freer interface{ free() (int64, error) }

	// batcher is a directory that knows whether its small files are synced sooner in batches.
	batcher interface{ batches() bool }

	// syncer is a directory that can make up for what was not synced: of a file by its name,
	// unless that is no file's, or nobody's, any longer.
	syncer interface{ syncFile(name string) error }
)

// Create begins a file that is to be visible as name once it is committed. The
// caller commits or aborts it. After Close the error is an os.ErrClosed. ctx is
// not used: a disk does not listen.
func (s *Store) Create(_ context.Context, name string) (Pending, error) {
	p, err := s.create(name)
	if err != nil {
		return nil, err
	}
	if f, ok := p.temporary.(filer); ok {
		return &pendingFile{pending: p, filer: f}, nil
	}
	return p, nil
}

func (s *Store) create(name string) (*pending, error) {
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
	return p, err
}

// change calls do, which changes the directory, unless the Store is closed.
func (s *Store) change(do func() error) error {
	s.changes.acquire()
	defer s.changes.release()
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed.Load() {
		return errClosed
	}
	return do()
}

var errClosed = fmt.Errorf("the store is closed: %w", os.ErrClosed)

// WriteFile has a file that holds data be visible as name, by one Create, Write and
// Commit.
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

// Remove removes the file that is visible as name. It is no error if there is
// none. A directory of that name is left alone, and is an error.
func (s *Store) Remove(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	return s.dir.remove(name)
}

// Replaces reports whether a Commit replaces the file that is visible under its name: it
// does unless the Store was opened with [NoReplace].
func (s *Store) Replaces() bool { return !s.noReplace }

// Free returns how many bytes can still be written on the filesystem that the
// directory is on, by a user who is not root (statfs(2)); on FreeBSD that is less than 0
// if those who are have taken of what is reserved for them. Where there is no way to tell
// it is an errors.ErrUnsupported.
func (s *Store) Free() (int64, error) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed.Load() {
		return 0, errClosed
	}
	f, ok := s.dir.(freer)
	if !ok {
		return 0, fmt.Errorf("what is free: %w", errors.ErrUnsupported)
	}
	n, err := f.free()
	if err != nil {
		err = fmt.Errorf("what is free: %w", err)
	}
	return n, err
}

// Sweep removes the pending files that were left by processes that were killed,
// of files for whose names own reports true, and nothing else. On a disk it
// leaves those alone that are in use, by whatever process, and all of them if the
// filesystem knows no locks. A Store of [New] leaves its own alone but cannot know
// of others': nobody else should use the directory then.
func (s *Store) Sweep(own func(name string) bool) error {
	s.life.Lock() // so that nobody creates one meanwhile
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

// Close closes the directory, and removes the files that are still pending: to
// commit one is an os.ErrClosed then, and to abort it closes it. It does not wait
// for commits under way: each succeeds or fails, and the last closes the
// directory. What was committed without a sync is synced.
func (s *Store) Close() error {
	s.closed.Store(true)
	s.life.Lock()
	defer s.life.Unlock()
	return errors.Join(s.removePending(), s.syncUnsynced(), s.leaveDirectory())
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

func (s *Store) leaveDirectory() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving = true
	return s.leave()
}

// leave closes the directory if nobody needs it any longer. s.mu is held.
func (s *Store) leave() error {
	if !s.leaving || len(s.committing) > 0 {
		return nil
	}
	s.leaving = false
	return s.dir.close()
}

func checkName(name string) error {
	if name == "" || name[0] == '.' || strings.ContainsAny(name, `/\`) || !filepath.IsLocal(name) {
		return fmt.Errorf("%w: %q", ErrName, name)
	}
	return nil
}

type pending struct {
	store *Store
	name  string
	ended bool
	temporary
}

// pendingFile is a pending on a disk.
type pendingFile struct {
	*pending
	filer
	written int64 // as Wrote was told
	pushed  int64 // so much of it is on its way to the disk
	pushErr error
}

// pushSize is how much is pushed out at a time: enough for a disk to be busy with,
// and so much that a small file, and the last of a large one, are left to the sync.
const pushSize = 8 << 20

// Wrote is told that n bytes more are in the file.
func (p *pendingFile) Wrote(n int) {
	p.written += int64(n)
	end := p.written &^ (pushSize - 1) // and no page that is still to be filled
	if end == p.pushed || p.store.durability == None || p.pushErr != nil {
		return
	}
	p.pushErr = p.store.push(p.File(), p.pushed, end-p.pushed)
	p.pushed = end
}

// Reset throws away what was written, so that something else can be.
func (p *pendingFile) Reset() error {
	p.written, p.pushed = 0, 0
	return p.pending.Reset()
}

// Commit fails if what was pushed out met an error: one that it was the first to
// meet, the sync need not tell of again.
func (p *pendingFile) Commit() error {
	if p.pushErr != nil && !p.ended {
		return errors.Join(p.pushErr, p.Abort())
	}
	leave := func() {}
	defer func() { leave() }()
	return p.commit(func() (err error) {
		if b := p.store.batches; b != nil && len(p.store.commits) >= minBatched && p.small() {
			leave, err = b.sync(p)
			return err
		}
		return p.sync()
	})
}

// small reports whether others may wait for the sync of the file.
func (p *pendingFile) small() bool {
	size, err := p.File().Seek(0, io.SeekEnd) // nobody writes any more
	return err == nil && size <= maxBatched
}

// CommitUnsynced makes the file visible as Commit does, but leaves it to the Store's Close
// to sync it, together with all others that were committed so, or to a later
// CommitUnsynced when there are thousands. It is for when a process is about to end, and
// for what nobody waits for. The file is synced by its name: whoever gives it another sees to
// that himself.
func (p *pendingFile) CommitUnsynced() error {
	if p.ended || p.pushErr != nil || !p.store.takesUnsynced() {
		return p.Commit()
	}
	if err := p.commitUnsynced(); err != nil {
		return err
	}
	p.store.syncMany()
	return nil
}

func (p *pendingFile) commitUnsynced() error {
	defer p.end()
	if p.store.noReplace {
		p.store.claim(p.name)
		defer p.store.unclaim(p.name)
	}
	before := p.store.group.failures()
	err := p.store.change(func() error {
		err := p.rename(p.name, !p.store.noReplace)
		if err == nil || errors.Is(err, os.ErrExist) {
			p.store.mu.Lock()
			defer p.store.mu.Unlock()
			p.store.unsynced.add(p.name, before)
		}
		return err
	})
	if err != nil {
		return errors.Join(err, p.abort())
	}
	return nil
}

func (p *pending) Commit() error { return p.commit(p.sync) }

// commit is Commit, by a sync of the file.
func (p *pending) commit(sync func() error) error {
	if p.ended {
		return fmt.Errorf("commit %s: %w", p.name, os.ErrClosed)
	}
	defer p.end()
	p.store.claim(p.name)
	defer p.store.unclaim(p.name)
	p.store.commits.acquire()
	defer p.store.commits.release()
	err := error(errClosed)
	if !p.store.closed.Load() {
		err = p.finish(sync)
	}
	before := p.store.group.failures()
	if err == nil {
		err = p.rename(p.name, !p.store.noReplace)
	}
	if err != nil {
		if errors.Is(err, os.ErrExist) {
			if serr := p.store.syncNames(before); serr != nil {
				err = serr // what is there may not stay
			}
		}
		return errors.Join(err, p.abort())
	}
	if err = p.store.syncNames(before); err != nil {
		return errors.Join(err, p.store.dir.remove(p.name))
	}
	return nil
}

// Rename has the file be visible under another name once it is committed.
func (p *pending) Rename(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if p.ended {
		return fmt.Errorf("rename %s: %w", p.name, os.ErrClosed)
	}
	p.name = name
	return nil
}

// syncNames syncs the directory, if that is to be, after a change since before.
func (s *Store) syncNames(before failures) error {
	if s.durability != Full {
		return nil
	}
	if err := s.group.Sync(); err != nil {
		return err
	}
	return before.since()
}

// finish syncs the file, if that is to be.
func (p *pending) finish(sync func() error) error {
	if p.store.durability == None {
		return nil
	}
	return p.store.syncedFile(sync())
}

// claim takes the name for one commit, unclaim gives it back: a commit that fails
// after its rename removes the file, and that must not be another's.
func (s *Store) claim(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		if _, taken := s.committing[name]; !taken {
			s.committing[name] = struct{}{}
			return
		}
		s.committed.Wait()
	}
}

func (s *Store) unclaim(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.committing, name)
	s.leave()
	s.committed.Broadcast()
}

func (p *pending) Abort() error {
	if p.ended {
		return nil
	}
	defer p.end()
	err := p.store.change(p.abort)
	if errors.Is(err, os.ErrClosed) {
		p.abort() // closes the file; Close has removed it
		return nil
	}
	return err
}

// Reset throws away what was written, so that something else can be.
func (p *pending) Reset() error { return p.store.change(p.reset) }

func (p *pending) end() {
	p.ended = true
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	delete(p.store.temps, p.temp())
}

// groupSync shares one sync among all who ask for it at about the same time:
// a sync covers whatever was done before it began, so whoever asks while one is
// under way waits for the next, with all others who do.
type groupSync struct {
	sync func() error

	mu     sync.Mutex
	next   *syncRun   // the one that has not begun
	failed failures   // of those that have ended
	turn   sync.Mutex // held by the one under way
}

// failures are those that there were at a time.
type failures struct {
	group *groupSync
	count int
	last  error
}

// failures is asked before something is changed that is then to be synced. Once a
// sync has failed, the next may well succeed without what the first was to write: the
// system has forgotten it (fsync(2)). So whatever was changed by then is as lost as
// if its own sync had failed.
func (g *groupSync) failures() failures {
	g.mu.Lock()
	defer g.mu.Unlock()
	return failures{g, g.failed.count, g.failed.last}
}

// since is the error of a sync that has failed since.
func (f failures) since() error {
	if now := f.group.failures(); now.count != f.count {
		return now.last
	}
	return nil
}

type syncRun struct {
	once sync.Once
	err  error
}

var errSyncPanic = errors.New("the sync of the directory panicked")

// Sync returns when a sync has ended that began after Sync was called.
func (g *groupSync) Sync() error {
	g.mu.Lock()
	if g.next == nil {
		g.next = new(syncRun)
	}
	run := g.next
	g.mu.Unlock()
	run.once.Do(func() {
		g.turn.Lock()
		defer g.turn.Unlock()
		g.mu.Lock()
		g.next = nil
		g.mu.Unlock()
		run.err = errSyncPanic // for those who share it
		defer func() {
			if run.err != nil {
				g.mu.Lock()
				defer g.mu.Unlock()
				g.failed.count, g.failed.last = g.failed.count+1, run.err
			}
		}()
		run.err = g.sync()
	})
	return run.err
}
