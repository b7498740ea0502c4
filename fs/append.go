package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/afero"
)

// Appender is a store of lines: what is begun under a name and committed becomes a line
// more of the file of that name, whole and at once, and what is aborted leaves nothing.
// No line is torn by another, whoever commits at the same time. So one file an hour is
// a name that changes every hour, which package stage's Save may choose when the line is
// complete:
//
//	lines := fs.Append(store, fs.SyncEvery(time.Second))
//	…
//	stage.Save{
//		Store: lines,
//		Name:  func(*stage.Conn) string { return "line" },
//		Final: func(*stage.Conn) (string, error) {
//			return time.Now().UTC().Format("2006-01-02T15") + ".log", nil
//		},
//	}
//
// It is safe for concurrent use. It keeps up to 16 files open, those used last, and nobody
// else writes to them meanwhile. They can be read at any time: what they hold are
// lines, the last of which may be on its way. One of which a loss of power or a full disk
// has left a part is ended, before the next, by a line feed.
type Appender struct {
	store *Store
	every time.Duration
	quit  chan struct{}
	over  sync.WaitGroup

	mu     sync.Mutex
	files  map[string]*appendFile
	uses   uint64
	closed bool
	failed error // what a sync in the background has met, for the next who commits
}

// maxAppending is how many files an Appender keeps open.
const maxAppending = 16

// maxPooledLine is how large a buffer may be that is used again.
const maxPooledLine = 64 << 10

// AppendOption is how an [Appender] is to differ from one without.
type AppendOption func(*Appender)

// SyncEvery has the Appender sync what was appended that often, in the background, and at
// its Close, and a Commit not wait for it. So a loss of power may take the lines of
// the last such time; a process that is killed loses none. A sync that fails is the error
// of the Commit that comes next, of which nothing is appended, or of Close. 0 or less is as
// without it.
func SyncEvery(d time.Duration) AppendOption {
	return func(a *Appender) { a.every = d }
}

// Append returns an Appender of files in the directory of s. A Commit is as durable
// as those of s ([Durability]), unless [SyncEvery] says otherwise; commits to a file at
// the same time share a sync. NoReplace is of no matter to it. The caller closes the
// Appender, and s after that.
func Append(s *Store, opts ...AppendOption) *Appender {
	a := &Appender{store: s, quit: make(chan struct{}), files: make(map[string]*appendFile)}
	for _, opt := range opts {
		opt(a)
	}
	if a.every > 0 && s.durability != None {
		a.over.Go(a.background)
	}
	return a
}

// Create begins a line of the file that is, or is to be, visible as name. It is held in
// memory until it is committed, so whoever writes it bounds it. A line feed at its end
// is the line's own; one within it is replaced by "#012", as rsyslog does, so that
// nobody who writes one line can make it look like several. A line without a byte is an
// empty line.
//
// Rename, of what Create returns, chooses another file. After a Commit that failed, the
// line is not to be seen, unless it was a sync that failed: others may have been
// appended after it. ctx is not used.
func (a *Appender) Create(_ context.Context, name string) (Pending, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, errAppenderClosed
	}
	return &line{to: a, name: name, buf: lineBuffers.Get().(*bytes.Buffer)}, nil
}

var errAppenderClosed = fmt.Errorf("the appender is closed: %w", os.ErrClosed)

// Remove removes nothing, and is an errors.ErrUnsupported: what is visible as name are
// also the lines of others.
func (a *Appender) Remove(name string) error {
	return fmt.Errorf("remove %s, which is appended to: %w", name, errors.ErrUnsupported)
}

// Close syncs what is not, if that is to be, and closes the files. It waits for commits
// under way; those that come later are an os.ErrClosed.
func (a *Appender) Close() error {
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return nil
	}
	a.closed = true
	a.mu.Unlock()
	close(a.quit)
	a.over.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	errs := []error{a.failed}
	for _, f := range a.files {
		errs = append(errs, a.drop(f))
	}
	return errors.Join(errs...)
}

// appendFile is a file that is appended to. Its fields are Appender.mu's.
type appendFile struct {
	name  string
	file  afero.File
	group groupSync
	named bool   // its name has been synced; the sync's own
	users int    // who sync it; it is not to be closed
	used  uint64 // the Appender's uses at the last
	dirty bool   // there is something that was not synced
	torn  bool   // a part of a line may be at its end
}

// open returns the file of that name. a.mu is held.
func (a *Appender) open(name string) (*appendFile, error) {
	a.uses++
	if f := a.files[name]; f != nil {
		f.used = a.uses
		return f, nil
	}
	for len(a.files) >= maxAppending {
		var last *appendFile
		for _, f := range a.files {
			if f.users == 0 && (last == nil || f.used < last.used) {
				last = f
			}
		}
		if last == nil {
			break // all are in use
		}
		if err := a.drop(last); err != nil {
			return nil, err
		}
	}
	var file afero.File
	err := a.store.change(func() (err error) {
		file, err = a.store.dir.append(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	f := &appendFile{name: name, file: file, used: a.uses, torn: true} // as an earlier process may have left it
	f.group.sync = func() error { return a.sync(f) }
	a.files[name] = f
	return f, nil
}

// appending is how a file is opened: whoever else may write to it, or make it shorter, what is
// appended comes after all there is.
const appending = os.O_APPEND | os.O_CREATE | os.O_RDWR

// endLine ends a line of which there is only a part.
func endLine(f afero.File) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil || end == 0 {
		return err
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], end-1); err != nil && err != io.EOF {
		return err
	}
	if last[0] != '\n' {
		_, err = f.Write([]byte{'\n'})
	}
	return err
}

// sync makes durable what was appended to f, by one at a time.
func (a *Appender) sync(f *appendFile) error {
	if err := a.store.syncedFile(f.file.Sync()); err != nil {
		return fmt.Errorf("sync %s: %w", f.name, err)
	}
	if f.named || a.store.durability != Full {
		return nil
	}
	if err := a.store.group.Sync(); err != nil {
		return err
	}
	f.named = true
	return nil
}

// drop closes a file that nobody uses. a.mu is held.
func (a *Appender) drop(f *appendFile) error {
	delete(a.files, f.name)
	var err error
	if f.dirty {
		err = a.sync(f)
	}
	return errors.Join(err, f.file.Close())
}

// append appends a line to the file of that name, and makes it durable, if that is to be.
func (a *Appender) append(name string, line []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return errAppenderClosed
	}
	if err := a.failed; err != nil {
		a.failed = nil
		return err
	}
	f, err := a.open(name)
	if err != nil {
		return err
	}
	before := f.group.failures()
	if err := f.write(line); err != nil {
		return err
	}
	switch {
	case a.store.durability == None:
		return nil
	case a.every > 0:
		f.dirty = true
		return nil
	}
	f.users++
	a.over.Add(1)
	a.mu.Unlock()
	err = f.group.Sync()
	if err == nil {
		err = before.since()
	}
	a.mu.Lock()
	a.over.Done()
	f.users--
	return err
}

// write writes a line, or nothing.
func (f *appendFile) write(line []byte) error {
	if f.torn {
		if err := endLine(f.file); err != nil {
			return err
		}
		f.torn = false
	}
	n, err := f.file.Write(line)
	if err != nil && n > 0 {
		terr := takeBack(f.file, n)
		f.torn = terr != nil
		err = errors.Join(err, terr)
	}
	return err
}

// takeBack removes the last n bytes.
func takeBack(f afero.File, n int) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		err = f.Truncate(end - int64(n))
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekEnd)
	}
	return err
}

// background syncs now and then, and closes files that have had no line meanwhile.
func (a *Appender) background() {
	ticker := time.NewTicker(a.every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			a.tick()
		case <-a.quit:
			return
		}
	}
}

func (a *Appender) tick() {
	a.mu.Lock()
	defer a.mu.Unlock()
	var dirty []*appendFile
	for _, f := range a.files {
		switch {
		case f.dirty:
			f.dirty = false
			f.users++
			dirty = append(dirty, f)
		case f.used < a.uses: // not the one that is written
			if err := a.drop(f); err != nil {
				a.failed = err
			}
		}
	}
	for _, f := range dirty {
		a.mu.Unlock()
		err := f.group.Sync()
		a.mu.Lock()
		f.users--
		if err != nil {
			a.failed = err
		}
	}
}

// line is one that is being written.
type line struct {
	to   *Appender
	name string
	buf  *bytes.Buffer // nil: at its end
}

var lineBuffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func (l *line) Write(p []byte) (int, error) {
	if l.buf == nil {
		return 0, os.ErrClosed
	}
	return l.buf.Write(p)
}

// Reset throws away what was written, so that something else can be.
func (l *line) Reset() error {
	if l.buf == nil {
		return os.ErrClosed
	}
	l.buf.Reset()
	return nil
}

// Rename has the line be appended to another file.
func (l *line) Rename(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	if l.buf == nil {
		return fmt.Errorf("rename a line of %s: %w", l.name, os.ErrClosed)
	}
	l.name = name
	return nil
}

func (l *line) Commit() error {
	if l.buf == nil {
		return fmt.Errorf("append to %s: %w", l.name, os.ErrClosed)
	}
	defer l.Abort()
	b := bytes.TrimSuffix(l.buf.Bytes(), lineFeed)
	if bytes.Contains(b, lineFeed) {
		return l.append(append(bytes.ReplaceAll(b, lineFeed, []byte("#012")), '\n'))
	}
	if len(b) == l.buf.Len() {
		l.buf.WriteByte('\n')
	}
	return l.append(l.buf.Bytes())
}

func (l *line) append(b []byte) error {
	if err := l.to.append(l.name, b); err != nil {
		return fmt.Errorf("append to %s: %w", l.name, err)
	}
	return nil
}

var lineFeed = []byte{'\n'}

func (l *line) Abort() error {
	if b := l.buf; b != nil {
		l.buf = nil
		if b.Cap() <= maxPooledLine {
			b.Reset()
			lineBuffers.Put(b)
		}
	}
	return nil
}
