// Package appendlog appends lines to files, such as log files.
//
// A [Log] is a store for package stage's Save. Each payload becomes one line of the file
// that is named at the commit, so one file an hour is a name that changes every hour:
//
//	lines := &appendlog.Log{Store: store, SyncEvery: time.Second}
//	…
//	stage.Save{
//		Store: lines,
//		Name:  func(*stage.Conn) string { return "line" },
//		Final: func(*stage.Conn) (string, error) {
//			return time.Now().UTC().Format("2006-01-02T15") + ".log", nil
//		},
//	}
//
// Readers may read the files at any time; the last line may be incomplete then.
package appendlog

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

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/internal/groupsync"
)

// Log appends lines to files of a store. A line is appended complete or not at all, and
// lines of concurrent commits do not mix.
//
// If a loss of power or a full disk left a part of a line, Log adds a line feed before the
// next line. No other process may write to the files. Log keeps up to 16 files open. It is
// safe for concurrent use, and must not be copied.
type Log struct {
	// Store keeps the files. The caller closes it after the Log. Its Durability applies
	// to each commit; its NoReplace does not matter.
	Store *fs.Store

	// SyncEvery, if positive, syncs files in the background at this interval, and in
	// Close, so that no commit waits for a sync. A loss of power may then take the lines
	// of one interval. If a sync fails, the next commit returns its error and appends
	// nothing, or Close returns it. Set it before the first commit.
	SyncEvery time.Duration

	mu      sync.Mutex
	files   map[string]*file
	uses    uint64 // appends so far
	closed  bool
	syncErr error          // of a sync in the background
	quit    chan struct{}  // ends the background goroutine; nil if it is not running
	running sync.WaitGroup // it, and the commits that wait for a sync
}

// maxOpen is how many files a Log keeps open.
const maxOpen = 16

var errClosed = fmt.Errorf("the log is closed: %w", os.ErrClosed)

// Create begins a line for the file name. The line is held in memory until it is committed,
// so the caller must limit its length. A line feed at its end is the line's own. Log replaces
// others by "#012", as rsyslog does, so that a client cannot forge lines.
//
// The Pending also has CommitAs, to choose another file. A commit returns an
// os.ErrInvalid if the name is not a plain file name. After a commit that failed, the line
// is not visible, unless a sync failed: other lines may come after it then. Create ignores
// ctx.
func (l *Log) Create(_ context.Context, name string) (fs.Pending, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, errClosed
	}
	return &line{log: l, name: name}, nil
}

// Remove returns an errors.ErrUnsupported: the file also contains other lines.
func (l *Log) Remove(name string) error {
	return fmt.Errorf("remove %s, which has other lines: %w", name, errors.ErrUnsupported)
}

// Close syncs the lines that are not yet synced, and closes the files. It waits for commits
// under way. Later commits return an os.ErrClosed.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	if l.quit != nil {
		close(l.quit)
	}
	l.mu.Unlock()
	l.running.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	errs := []error{l.syncErr}
	for _, f := range l.files {
		errs = append(errs, l.closeFile(f))
	}
	return errors.Join(errs...)
}

// file is an open file. Log.mu guards its fields.
type file struct {
	afero.File
	name    string
	group   *groupsync.Group
	syncing int    // goroutines in group.Sync; the file must stay open
	used    uint64 // Log.uses at the last append
	dirty   bool   // a line is not synced
	partial bool   // the last line may be incomplete
}

// open returns the file of that name. The caller holds l.mu.
func (l *Log) open(name string) (*file, error) {
	l.uses++
	if f := l.files[name]; f != nil {
		f.used = l.uses
		return f, nil
	}
	if len(l.files) >= maxOpen {
		for _, f := range l.files {
			if f.syncing > 0 {
				continue
			}
			if err := l.closeFile(f); err != nil {
				return nil, err
			}
		}
	}
	opened, err := l.Store.OpenAppend(name)
	if err != nil {
		return nil, err
	}
	f := &file{File: opened, name: name, group: groupsync.New(opened.Sync), used: l.uses, partial: true}
	if l.files == nil {
		l.files = make(map[string]*file)
	}
	l.files[name] = f
	return f, nil
}

// closeFile closes a file that no goroutine syncs. The caller holds l.mu.
func (l *Log) closeFile(f *file) error {
	delete(l.files, f.name)
	var err error
	if f.dirty {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// append appends a line, and syncs it unless the sync is deferred.
func (l *Log) append(name string, line []byte, sync bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	if err := l.syncErr; err != nil {
		l.syncErr = nil
		return err
	}
	if l.SyncEvery > 0 && l.quit == nil {
		l.quit = make(chan struct{})
		l.running.Go(l.syncInBackground)
	}
	f, err := l.open(name)
	if err != nil {
		return err
	}
	mark := f.group.Mark()
	if err := f.append(line); err != nil {
		return err
	}
	if !sync || l.SyncEvery > 0 {
		f.dirty = true
		return nil
	}
	f.syncing++
	l.running.Add(1)
	l.mu.Unlock()
	err = f.group.SyncSince(mark)
	l.mu.Lock()
	l.running.Done()
	f.syncing--
	return err
}

// append writes a complete line, or nothing.
func (f *file) append(line []byte) error {
	if f.partial {
		if err := f.endLine(); err != nil {
			return err
		}
		f.partial = false
	}
	n, err := f.Write(line)
	if err != nil && n > 0 {
		terr := f.truncateBy(n)
		f.partial = terr != nil
		err = errors.Join(err, terr)
	}
	return err
}

// endLine appends a line feed if the last line has none.
func (f *file) endLine() error {
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

// truncateBy removes the last n bytes.
func (f *file) truncateBy(n int) error {
	end, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		err = f.Truncate(end - int64(n))
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekEnd)
	}
	return err
}

// syncInBackground syncs every SyncEvery, and closes files without new lines.
func (l *Log) syncInBackground() {
	ticker := time.NewTicker(l.SyncEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			l.syncFiles()
		case <-l.quit:
			return
		}
	}
}

func (l *Log) syncFiles() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var dirty []*file
	for _, f := range l.files {
		switch {
		case f.dirty:
			f.dirty = false
			f.syncing++
			dirty = append(dirty, f)
		case f.used < l.uses: // keeps the file that was used last
			if err := l.closeFile(f); err != nil {
				l.syncErr = err
			}
		}
	}
	for _, f := range dirty {
		l.mu.Unlock()
		err := f.group.Sync()
		l.mu.Lock()
		f.syncing--
		if err != nil {
			l.syncErr = err
		}
	}
}

// line is a line that is being written.
type line struct {
	log   *Log
	name  string
	buf   bytes.Buffer
	ended bool
}

func (l *line) Write(p []byte) (int, error) {
	if l.ended {
		return 0, os.ErrClosed
	}
	return l.buf.Write(p)
}

func (l *line) Commit() error { return l.CommitAs(l.name, true) }

func (l *line) CommitAs(name string, sync bool) error {
	if l.ended {
		return fmt.Errorf("append to %s: %w", name, os.ErrClosed)
	}
	l.ended = true
	b := bytes.TrimSuffix(l.buf.Bytes(), []byte{'\n'})
	b = append(bytes.ReplaceAll(b, []byte{'\n'}, []byte("#012")), '\n')
	if err := l.log.append(name, b, sync); err != nil {
		return fmt.Errorf("append to %s: %w", name, err)
	}
	return nil
}

func (l *line) Abort() error {
	l.ended = true
	return nil
}
