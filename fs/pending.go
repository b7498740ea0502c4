package fs

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/afero"
)

// pending is a Pending of a Store.
type pending struct {
	store *Store
	name  string
	ended bool
	temporary

	written      int64 // bytes, as counted by Wrote
	writtenBack  int64 // bytes for which write-back has begun
	writeBackErr error
}

// pendingFile is a pending on a disk.
type pendingFile struct{ *pending }

func (p pendingFile) File() *os.File { return p.file() }

// writeBackSize is how much is written back at a time. It keeps a disk busy, and leaves
// small files and the end of a large one to the sync.
const writeBackSize = 8 << 20

func (p *pending) Wrote(n int) {
	p.written += int64(n)
	end := p.written &^ (writeBackSize - 1) // a page that is still being filled would be written twice
	if end == p.writtenBack || p.file() == nil || !p.store.syncsFiles() || p.writeBackErr != nil {
		return
	}
	p.writeBackErr = p.store.writeBack(p.file(), p.writtenBack, end-p.writtenBack)
	p.writtenBack = end
}

func (p *pending) Reset() error {
	p.written, p.writtenBack = 0, 0
	return p.store.change(p.truncate)
}

func (p *pending) Reopen() (afero.File, error) { return p.reopen() }

func (p *pending) Commit() error { return p.CommitAs(p.name, true) }

func (p *pending) CommitAs(name string, sync bool) error {
	if p.ended {
		return fmt.Errorf("commit %s: %w", name, os.ErrClosed)
	}
	err := checkName(name)
	if err == nil {
		// The sync would not report again an error that the write-back was the first to meet.
		err = p.writeBackErr
	}
	if err != nil {
		return errors.Join(err, p.Abort())
	}
	defer p.end()
	if !sync && p.store.syncsFiles() {
		return p.commitDeferred(name)
	}
	return p.commitSynced(name)
}

func (p *pending) commitSynced(name string) error {
	s := p.store
	s.claim(name)
	defer s.release(name)
	s.committing.acquire()
	defer s.committing.release()
	if s.closed.Load() {
		return errors.Join(errClosed, p.abort())
	}
	leave, err := p.syncFile()
	defer leave()
	mark := s.dirSync.Mark()
	if err == nil {
		err = p.rename(name, !s.noReplace)
	}
	if err != nil {
		if errors.Is(err, os.ErrExist) {
			// The caller may rely on the file that is there.
			if serr := s.syncNames(mark); serr != nil {
				err = serr
			}
		}
		return errors.Join(err, p.abort())
	}
	if err := s.syncNames(mark); err != nil {
		return errors.Join(err, s.dir.remove(name))
	}
	return nil
}

// syncFile syncs the file, if the Store syncs files. leave must be called when the commit
// has ended.
func (p *pending) syncFile() (leave func(), err error) {
	s, leave := p.store, func() {}
	if !s.syncsFiles() {
		return leave, nil
	}
	if s.commits != nil && len(s.committing) >= minGroup && p.isSmall() {
		leave, err = s.commits.sync(p)
	} else {
		err = p.sync()
	}
	return leave, s.fileSyncError(err)
}

// isSmall reports whether other commits may wait for the sync of the file.
func (p *pending) isSmall() bool {
	if p.file() == nil {
		return false
	}
	size, err := p.file().Seek(0, io.SeekEnd) // nothing is written any more
	return err == nil && size <= maxGrouped
}

func (p *pending) Abort() error {
	if p.ended {
		return nil
	}
	defer p.end()
	err := p.store.change(p.abort)
	if errors.Is(err, os.ErrClosed) {
		p.abort() // closes the file, which Close has removed
		return nil
	}
	return err
}

func (p *pending) end() {
	p.ended = true
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	delete(p.store.temps, p.temp())
}
