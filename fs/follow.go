package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/djherbis/stream"
)

// Follower is a [Store] whose files can be read while they arrive: by any
// number of readers, each from the start and at its own pace, without holding
// up the writer. It is safe for concurrent use.
//
// A followed file passes through user space, and takes one more descriptor, so
// a Follower is for where somebody may want to follow.
type Follower struct {
	store *Store

	mu   sync.Mutex
	live map[string][]*followed // in order of their beginning
}

// Follow returns a Follower over s. The caller closes s.
func Follow(s *Store) *Follower { return &Follower{store: s, live: make(map[string][]*followed)} }

// ErrAborted is what readers get of a file that was given up for no stated
// cause.
var ErrAborted = errors.New("given up before it was complete")

// Create begins a file, as [Store.Create] does, that [Follower.Open] opens
// until it is committed or aborted. The cause of an abort is that of ctx
// (context.Cause), if it has been cancelled.
func (f *Follower) Create(ctx context.Context, name string) (Pending, error) {
	p, err := f.store.create(name)
	if err != nil {
		return nil, err
	}
	h, err := p.reopen()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s to be followed: %w", name, err), p.Abort())
	}
	u := &followed{follower: f, ctx: ctx, pending: p, handle: &sharedHandle{handle: h}}
	if u.Stream, err = stream.NewStream(name, (*streamFiles)(u)); err != nil {
		return nil, errors.Join(err, h.Close(), p.Abort())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live[name] = append(f.live[name], u)
	return u, nil
}

// Remove removes the file that is visible as name, as [Store.Remove] does.
// Files that are pending are not touched.
func (f *Follower) Remove(name string) error { return f.store.Remove(name) }

// Open opens the file that is arriving under name; if there are several, the
// one begun last. What it reads waits for bytes that have not yet arrived, and
// ends with io.EOF only if the file has been committed; if it was not, Read
// returns the cause. The caller closes it, which also ends a Read that waits.
//
// If no file is arriving under name, the error is an os.ErrNotExist: one that
// is complete is opened from where the Store keeps it.
func (f *Follower) Open(name string) (io.ReadCloser, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if arriving := f.live[name]; len(arriving) > 0 {
		r, err := arriving[len(arriving)-1].NextReader()
		if err == nil {
			return &followReader{r}, nil
		}
	}
	return nil, &os.PathError{Op: "follow", Path: name, Err: os.ErrNotExist}
}

// followed is a file that is arriving.
type followed struct {
	*stream.Stream // Write goes to the pending file, and wakes the readers
	follower       *Follower
	ctx            context.Context
	pending        *pending
	handle         *sharedHandle
}

// Commit lets readers have their end of file only after the commit: a Stream's
// Close alone would give it to them whatever became of the file.
func (u *followed) Commit() error {
	if u.pending.ended {
		return u.pending.Commit() // says so, and is no matter of the readers
	}
	if err := u.pending.Commit(); err != nil {
		u.cancel(err)
		return err
	}
	u.leave()
	return u.Stream.Close()
}

func (u *followed) Abort() error {
	if u.pending.ended {
		return nil
	}
	cause := context.Cause(u.ctx)
	if cause == nil {
		cause = ErrAborted
	}
	u.cancel(cause)
	return u.pending.Abort()
}

func (u *followed) cancel(cause error) {
	u.leave()
	u.CancelWithErr(cause)
}

func (u *followed) leave() {
	f, name := u.follower, u.pending.name
	f.mu.Lock()
	defer f.mu.Unlock()
	f.live[name] = slices.DeleteFunc(f.live[name], func(o *followed) bool { return o == u })
	if len(f.live[name]) == 0 {
		delete(f.live, name)
	}
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

// sharedHandle is a handle that its last user closes. It is locked because
// ReadAt of a MemMapFs file moves the handle's offset, and it says EOF where
// that says io.ErrUnexpectedEOF: past the end.
type sharedHandle struct {
	mu     sync.Mutex
	handle handle
	users  int
}

func (h *sharedHandle) ReadAt(p []byte, off int64) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := h.handle.ReadAt(p, off)
	if n == 0 && err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
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

// followReader is a Stream's reader, less its habit of waiting for ever for no
// bytes at all.
type followReader struct{ r *stream.Reader }

func (r *followReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return r.r.Read(p)
}

func (r *followReader) Close() error { return r.r.Close() }
