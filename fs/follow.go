package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/djherbis/stream"
)

// Follower is a [Store] whose files can be read while they arrive: by any
// number of readers, each from the start and at its own pace, without holding
// up the writer. It is safe for concurrent use.
//
// Others may read every file, and have a say in whether it is committed: see
// [WithConsumer].
//
// A followed file passes through user space, and takes one more descriptor, so
// a Follower is for where somebody may want to follow. Of what else a [Pending] may have,
// it has no File, since whoever follows has to hear of each Write, and no Reset: what was
// written may have been read, and what is written instead is a file that its Consumers
// have not seen from its start. So package stage's Save puts its Mark in another.
type Follower struct {
	store     *Store
	consumers []Consumer
	limit     time.Duration

	mu   sync.Mutex
	live map[string][]*followed // by the first name, in order of their beginning
}

// Follow returns a Follower over s. The caller closes s, when all files are
// committed or aborted.
func Follow(s *Store, opts ...FollowOption) *Follower {
	f := &Follower{store: s, live: make(map[string][]*followed)}
	for _, opt := range opts {
		opt(f)
	}
	return f
}

// ErrAborted is what readers get of a file that was given up for no stated
// cause.
var ErrAborted = errors.New("given up before it was complete")

// Create begins a file, as [Store.Create] does, that [Follower.Open] opens
// until it is committed or aborted. The cause of an abort is that of ctx
// (context.Cause), if it has been cancelled. Write returns the cause of a file
// that has failed already: see [Consumer].
//
// On a disk the file has Wrote and CommitUnsynced. To those who read it, the latter is as
// Commit is: it waits for the same Consumers, and then the file is visible, though not yet
// synced.
func (f *Follower) Create(ctx context.Context, name string) (Pending, error) {
	p, err := f.store.create(name)
	if err != nil {
		return nil, err
	}
	r, err := p.reopen()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s to be followed: %w", name, err), p.Abort())
	}
	h := &sharedHandle{handle: r}
	h.retain()
	u := &followed{follower: f, ctx: ctx, pending: p, name: name, handle: h, end: make(chan struct{})}
	u.consuming, u.cancel = context.WithCancelCause(ctx)
	if u.Stream, err = stream.NewStream(name, (*streamFiles)(u)); err != nil {
		u.cancel(err)
		return nil, errors.Join(err, h.release(), p.Abort())
	}
	f.enter(u)
	if err := u.begin(); err != nil {
		u.fail(err)
		return nil, errors.Join(err, p.Abort())
	}
	if file, ok := p.temporary.(filer); ok {
		return &followedFile{u, &pendingFile{pending: p, filer: file}}, nil
	}
	return u, nil
}

// Remove removes the file that is visible as name, as [Store.Remove] does.
// Files that are pending are not touched.
func (f *Follower) Remove(name string) error { return f.store.Remove(name) }

// Replaces reports whether a Commit replaces files, as [Store.Replaces] does.
func (f *Follower) Replaces() bool { return f.store.Replaces() }

// Open opens the file that is arriving under name; if there are several, the
// one begun last. What it reads waits for bytes that have not yet arrived, and
// ends with io.EOF only if the file has been committed; if it was not, Read
// returns the cause. The caller closes it, which also ends a Read that waits.
//
// With [NoReplace], the cause is an os.ErrExist if the name under which the file was to be
// visible is taken. That is so even where it counts as stored, and its sender is told so,
// because what is there is the same (Dedupe of package stage's Save): this file is not what
// is visible. Some of it may then not have been read; whoever wants the rest opens what is
// there.
//
// If no file is arriving under name, the error is an os.ErrNotExist: one that
// is complete is opened from where the Store keeps it.
func (f *Follower) Open(name string) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if arriving := f.live[name]; len(arriving) > 0 {
		u := arriving[len(arriving)-1]
		if r, err := u.NextReader(); err == nil {
			return u.guest(r), nil
		}
	}
	return nil, &os.PathError{Op: "follow", Path: name, Err: os.ErrNotExist}
}

func (f *Follower) enter(u *followed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live[u.name] = append(f.live[u.name], u)
}

func (f *Follower) leave(u *followed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live[u.name] = slices.DeleteFunc(f.live[u.name], func(o *followed) bool { return o == u })
	if len(f.live[u.name]) == 0 {
		delete(f.live, u.name)
	}
}

// followed is a file that is arriving. Its Stream is closed when all has been
// received; whoever is to know how it has ended waits for end.
type followed struct {
	*stream.Stream // Write goes to the pending file, and wakes the readers
	follower       *Follower
	ctx            context.Context // of Create
	pending        *pending
	name           string // under which it was begun
	handle         *sharedHandle

	consumers []*consumption
	consuming context.Context // theirs
	cancel    context.CancelCauseFunc

	decided atomic.Bool   // by who is to settle it
	end     chan struct{} // closed when it is settled
	err     error         // nil if it is committed; to be read after end
}

// Write ends a file early that has been rejected.
func (u *followed) Write(p []byte) (int, error) {
	select {
	case <-u.end:
		if u.err != nil {
			return 0, u.err
		}
	default:
	}
	return u.Stream.Write(p)
}

func (u *followed) Commit() error { return u.commit(u.pending.Commit) }

// commit gives guests their end of file only after the commit, and consumers that it
// has to wait for before that.
func (u *followed) commit(commit func() error) error {
	if u.pending.ended {
		return commit() // says so, and is no matter of the readers
	}
	u.Stream.Close() // all has been received
	u.await(true, u.fail)
	if !u.decided.CompareAndSwap(false, true) {
		<-u.end
		defer u.dismiss()
		return errors.Join(u.err, u.pending.Abort())
	}
	err := ErrAborted // for the readers, if the store panics
	defer func() {
		u.settle(err)
		if err == nil {
			u.await(false, u.cancel)
		}
		u.dismiss()
	}()
	err = commit()
	return err
}

func (u *followed) Abort() error {
	if u.pending.ended {
		return nil
	}
	u.fail(ErrAborted)
	defer u.dismiss()
	return u.pending.Abort()
}

// Rename changes nothing for readers: as long as the file arrives it is opened by the
// name it was created for.
func (u *followed) Rename(name string) error { return u.pending.Rename(name) }

// followedFile is a followed on a disk.
type followedFile struct {
	*followed
	file *pendingFile
}

func (u *followedFile) Wrote(n int)           { u.file.Wrote(n) }
func (u *followedFile) Commit() error         { return u.commit(u.file.Commit) }
func (u *followedFile) CommitUnsynced() error { return u.commit(u.file.CommitUnsynced) }

// fail ends the file for all who read or write it, with the cause of its context if
// there is one, unless that has been decided already.
func (u *followed) fail(cause error) {
	if !u.decided.CompareAndSwap(false, true) {
		return
	}
	if c := context.Cause(u.ctx); c != nil {
		cause = c
	}
	u.settle(cause)
}

// settle is called once, by who has decided.
func (u *followed) settle(err error) {
	u.follower.leave(u)
	u.err = err
	close(u.end)
	if err != nil {
		u.handle.fail(err)
		u.CancelWithErr(err)
		u.cancel(err)
	}
	u.handle.release()
}

// guest is a reader that has its end of file when the file is committed.
func (u *followed) guest(r *stream.Reader) *followReader {
	return &followReader{file: u, r: r, closed: make(chan struct{})}
}

// streamFiles gives a Stream its files. A Stream opens a reader's file by name;
// here all readers share one handle, which stays with the file when that is
// renamed or replaced.
type streamFiles followed

func (s *streamFiles) Create(name string) (stream.File, error) {
	s.handle.retain()
	return &streamFile{name: name, w: s.pending, handle: s.handle}, nil
}

func (s *streamFiles) Open(name string) (stream.File, error) {
	s.handle.retain()
	return &streamFile{name: name, handle: s.handle}, nil
}

func (s *streamFiles) Remove(string) error { return stream.ErrUnsupported }

// streamFile is the writer's file (w is not nil) or a reader's.
type streamFile struct {
	name   string
	w      io.Writer
	handle *sharedHandle
}

func (f *streamFile) Name() string                            { return f.name }
func (f *streamFile) Write(p []byte) (int, error)             { return f.w.Write(p) }
func (f *streamFile) Read([]byte) (int, error)                { return 0, stream.ErrUnsupported }
func (f *streamFile) ReadAt(p []byte, off int64) (int, error) { return f.handle.ReadAt(p, off) }
func (f *streamFile) Close() error                            { return f.handle.release() }

// handle is a file open for reading.
type handle interface {
	io.ReaderAt
	io.Closer
}

// sharedHandle is a handle that its last user closes. Unless it is a file of the system,
// one reads at a time, because ReadAt of a MemMapFs file moves the handle's offset. It says
// EOF where that says io.ErrUnexpectedEOF: past the end.
type sharedHandle struct {
	handle  handle
	reading sync.Mutex // held to read what is no file of the system

	mu    sync.Mutex
	users int
	cause error // why the file was given up, or nil
}

func (h *sharedHandle) ReadAt(p []byte, off int64) (int, error) {
	n, err := h.readAt(p, off)
	if n == 0 && err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cause != nil {
		err = h.cause // the Stream closes it before all readers know that
	}
	return n, err
}

func (h *sharedHandle) readAt(p []byte, off int64) (int, error) {
	if _, ok := h.handle.(*os.File); !ok {
		h.reading.Lock()
		defer h.reading.Unlock()
	}
	return h.handle.ReadAt(p, off)
}

// fail says why the file was given up.
func (h *sharedHandle) fail(cause error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cause = cause
}

func (h *sharedHandle) retain() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users++
}

func (h *sharedHandle) release() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.users--; h.users > 0 {
		return nil
	}
	return h.handle.Close()
}

// followReader is a Stream's reader that has its end of file when the file is
// committed, less its habit of waiting for ever for no bytes at all.
type followReader struct {
	file   *followed
	r      *stream.Reader
	once   sync.Once
	closed chan struct{}
}

func (r *followReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := r.r.Read(p)
	if err != io.EOF {
		return n, err
	}
	select {
	case <-r.closed:
		return n, os.ErrClosed
	case <-r.file.end:
	}
	if r.file.err != nil {
		return n, r.file.err
	}
	return n, io.EOF
}

func (r *followReader) Close() error {
	r.once.Do(func() { close(r.closed) })
	return r.r.Close()
}
