// Package follow reads files of a store while they arrive.
//
// A [Store] is an [fs.Store] whose pending files have readers. [Store.Open] returns a reader
// for a file that is arriving; it may open and close at any time. A [Consumer] reads every
// file, and may decide whether it is committed: a checksum, an index, a virus scanner. Each
// reader starts at the beginning of the file and reads at its own pace, without delaying the
// writer:
//
//	store := &follow.Store{Store: files}
//	…
//	stage.Save{Store: store, Name: stage.NumberedFile}
//	…
//	r, err := store.Open("7.file")
//
// It is built on djherbis/stream. A followed file passes through user space, and each reader
// takes a descriptor.
package follow

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
	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
)

// Store is a store whose files can be read while they arrive. It is safe for concurrent use,
// and must not be copied. Set its fields before the first Create.
type Store struct {
	// Store keeps the files. The caller closes it when all files are committed or
	// aborted.
	Store *fs.Store

	// Consumers read every file.
	Consumers []Consumer

	// ConsumerLimit, if positive, limits how long Commit waits for Consumers. A decisive
	// Consumer has that long after the last byte was received; then its ctx is done, and
	// Commit fails with a context.DeadlineExceeded. Another one has that long after the
	// commit; then its ctx is done. Without a limit, a Consumer that waits for another
	// server delays the client's confirmation, and the end of the program.
	ConsumerLimit time.Duration

	mu       sync.Mutex
	arriving map[string][]*file // by the name that the file was created for, oldest first
}

// Create begins a file, like the Create of [fs.Store]. [Store.Open] opens it until it is
// committed or aborted. If ctx is cancelled, its cause (context.Cause) becomes the error of
// readers after an Abort. After a Consumer has failed the file, Write returns that error.
//
// The Pending has the methods of an fs.Pending except two. It has no File, since readers
// must learn of each Write, and no Reset, since readers may have read the bytes that it
// removes. CommitAs without a sync waits for the same Consumers as Commit.
func (s *Store) Create(ctx context.Context, name string) (fs.Pending, error) {
	created, err := s.Store.Create(ctx, name)
	if err != nil {
		return nil, err
	}
	p := created.(pending)
	f := &file{store: s, ctx: ctx, pending: p, name: name, end: make(chan struct{})}
	f.consuming, f.cancel = context.WithCancelCause(ctx)
	f.stream, _ = stream.NewStream(name, (*streamFiles)(f)) // streamFiles.Create does not fail
	s.add(f)
	if err := f.startConsumers(); err != nil {
		f.fail(err)
		return nil, errors.Join(err, p.Abort())
	}
	return f, nil
}

// pending is the part of a Pending of fs.Store that this package uses.
type pending interface {
	fs.Pending
	CommitAs(name string, sync bool) error
	Wrote(n int)
	Reopen() (afero.File, error)
}

// Remove removes the file that is visible as name, and no pending one.
func (s *Store) Remove(name string) error { return s.Store.Remove(name) }

// Open opens the file that is arriving and was created as name; if there are several, the
// newest. Read waits for bytes that have not arrived. It returns io.EOF only after the file
// was committed. If the file was not, it returns the reason: an io.ErrUnexpectedEOF if it was
// aborted without one. The caller closes the reader, which also ends a Read that waits.
//
// With fs.NoReplace the reason is an os.ErrExist if the final name is taken, also where
// stage.Save counts the file as stored (Dedupe). Read the rest from the visible file then.
//
// If no file is arriving as name, Open returns an os.ErrNotExist: read a complete file from
// where the fs.Store keeps it.
func (s *Store) Open(name string) (io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if files := s.arriving[name]; len(files) > 0 {
		r, err := files[len(files)-1].newReader(context.Background(), true)
		if err == nil {
			return r, nil
		}
		// At its commit a file can no longer be opened.
		if !errors.Is(err, os.ErrClosed) && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return nil, &os.PathError{Op: "follow", Path: name, Err: os.ErrNotExist}
}

func (s *Store) add(f *file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.arriving == nil {
		s.arriving = make(map[string][]*file)
	}
	s.arriving[f.name] = append(s.arriving[f.name], f)
}

func (s *Store) remove(f *file) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arriving[f.name] = slices.DeleteFunc(s.arriving[f.name], func(o *file) bool { return o == f })
	if len(s.arriving[f.name]) == 0 {
		delete(s.arriving, f.name)
	}
}

// file is a file that is arriving.
type file struct {
	store   *Store
	ctx     context.Context // of Create
	pending pending
	name    string // that it was created for
	ended   bool   // Commit or Abort was called
	stream  *stream.Stream

	consumers []*consumption
	consuming context.Context // of the consumers
	cancel    context.CancelCauseFunc

	decided atomic.Bool   // whether the file is committed; set by the goroutine that decides
	end     chan struct{} // closed after err is set
	err     error         // nil if the file is committed
}

// Write writes to the pending file and wakes the readers. It fails if the file has failed.
func (f *file) Write(p []byte) (int, error) {
	if err := f.failure(); err != nil {
		return 0, err
	}
	return f.stream.Write(p)
}

// failure returns why the file has failed, or nil if it has not, or not yet.
func (f *file) failure() error {
	select {
	case <-f.end:
		return f.err
	default:
		return nil
	}
}

func (f *file) Wrote(n int) { f.pending.Wrote(n) }

func (f *file) Commit() error { return f.CommitAs(f.name, true) }

// CommitAs commits after the decisive consumers, and before readers get their io.EOF.
func (f *file) CommitAs(name string, sync bool) error {
	if f.ended {
		return f.pending.CommitAs(name, sync) // an os.ErrClosed, which is not for the readers
	}
	f.ended = true
	f.stream.Close() // everything was received
	f.awaitConsumers(true, f.fail)
	if !f.decided.CompareAndSwap(false, true) {
		<-f.end
		defer f.endConsumers()
		return errors.Join(f.err, f.pending.Abort())
	}
	err := io.ErrUnexpectedEOF // for the readers, if the store panics
	defer func() {
		f.finish(err)
		if err == nil {
			f.awaitConsumers(false, f.cancel)
		}
		f.endConsumers()
	}()
	err = f.pending.CommitAs(name, sync)
	return err
}

func (f *file) Abort() error {
	if f.ended {
		return nil
	}
	f.ended = true
	f.fail(io.ErrUnexpectedEOF)
	defer f.endConsumers()
	return f.pending.Abort()
}

// fail fails the file for its writer and its readers, unless it is decided. The cause of its
// context, if there is one, takes precedence over cause.
func (f *file) fail(cause error) {
	if !f.decided.CompareAndSwap(false, true) {
		return
	}
	if c := context.Cause(f.ctx); c != nil {
		cause = c
	}
	f.finish(cause)
}

// finish ends the file with err. Only the goroutine that has set decided calls it.
func (f *file) finish(err error) {
	f.store.remove(f)
	f.err = err
	close(f.end)
	if err != nil {
		f.stream.CancelWithErr(err)
		f.cancel(err)
	}
}

// streamFiles opens the files of a Stream: one for the writer, and one for each reader. A
// handle of Reopen stays with the file when it is renamed or replaced.
type streamFiles file

func (s *streamFiles) Create(string) (stream.File, error) {
	return writerFile{Writer: s.pending, name: s.name}, nil
}

func (s *streamFiles) Open(string) (stream.File, error) {
	f, err := s.pending.Reopen()
	if err != nil {
		return nil, fmt.Errorf("open %s to follow it: %w", s.name, err)
	}
	return readerFile{f}, nil
}

func (s *streamFiles) Remove(string) error { return stream.ErrUnsupported }

// writerFile is the writer's file of a Stream, which only writes.
type writerFile struct {
	io.Writer
	name string
}

func (f writerFile) Name() string                      { return f.name }
func (f writerFile) Read([]byte) (int, error)          { return 0, stream.ErrUnsupported }
func (f writerFile) ReadAt([]byte, int64) (int, error) { return 0, stream.ErrUnsupported }
func (f writerFile) Close() error                      { return nil }

// readerFile is a reader's file of a Stream. MemMapFs returns io.ErrUnexpectedEOF past the
// end of a file, where readerFile returns io.EOF.
type readerFile struct{ afero.File }

func (f readerFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	if n == 0 && err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}

// reader reads a file for a caller of Open or for a Consumer.
type reader struct {
	r         *stream.Reader
	file      *file
	ctx       context.Context // nil, or the Consumer's
	atCommit  bool            // io.EOF comes after the commit
	closed    chan struct{}
	closeOnce sync.Once

	mu  sync.Mutex
	err error // the first error except io.EOF
}

func (f *file) newReader(ctx context.Context, atCommit bool) (*reader, error) {
	r, err := f.stream.NextReader()
	if err != nil {
		return nil, err
	}
	return &reader{r: r, file: f, ctx: ctx, atCommit: atCommit, closed: make(chan struct{})}, nil
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.read(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

func (r *reader) read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	if len(p) == 0 {
		return 0, nil // a Stream's reader would wait forever
	}
	n, err := r.r.Read(p)
	switch {
	case err == nil, err == io.EOF && !r.atCommit:
		return n, err
	case err == io.EOF:
		select {
		case <-r.closed:
			return n, os.ErrClosed
		case <-r.file.end:
		}
	}
	if cause := r.file.failure(); cause != nil {
		err = cause // not the error of the cancelled Stream
	}
	return n, err
}

// firstErr returns the first error of Read, except io.EOF. A Consumer may have left the
// reader to a goroutine that still reads.
func (r *reader) firstErr() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *reader) Close() error {
	r.closeOnce.Do(func() { close(r.closed) })
	return r.r.Close()
}
