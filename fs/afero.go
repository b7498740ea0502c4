package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"

	"github.com/spf13/afero"
)

// New returns a Store in the directory dir of an afero filesystem. It creates the directory
// and its parents if they are missing. How safe and durable files are depends on the
// filesystem: the Store creates, syncs and renames them, and syncs the directory.
//
// afero's MemMapFs is not safe enough by itself: use [NewMemory]. The Store's Close does not
// close the filesystem.
func New(afs afero.Fs, dir string, opts ...Option) (*Store, error) {
	o := newOptions(opts)
	if err := makeDir(afs, dir, o); err != nil {
		return nil, err
	}
	return newStore(&aferoDir{afs, dir}, o), nil
}

// appendFlags open a file so that every write goes to its end, also if another process
// writes to it.
const appendFlags = os.O_APPEND | os.O_CREATE | os.O_RDWR

// aferoDir is a directory on an afero filesystem.
type aferoDir struct {
	afs  afero.Fs
	path string
}

func (d *aferoDir) join(name string) string { return filepath.Join(d.path, name) }

func (d *aferoDir) create(name string) (temporary, error) {
	for attempt := 1; ; attempt++ {
		temp := tempName(name)
		f, err := d.afs.OpenFile(d.join(temp), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, os.ErrExist) && attempt < maxAttempts {
			continue
		}
		if err != nil {
			return nil, err
		}
		return &aferoFile{File: f, dir: d, tempName: temp}, nil
	}
}

// maxAttempts is how many random names may be taken before create fails: then the
// filesystem is at fault.
const maxAttempts = 10_000

func (d *aferoDir) openAppend(name string) (afero.File, error) {
	return d.afs.OpenFile(d.join(name), appendFlags, 0o666)
}

func (d *aferoDir) remove(name string) error {
	switch fi, err := d.lstat(name); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.IsDir():
		return &os.PathError{Op: "remove", Path: d.join(name), Err: syscall.EISDIR}
	}
	return ignoreNotExist(d.afs.Remove(d.join(name)))
}

// lstat does not follow a symbolic link, if the filesystem has links.
func (d *aferoDir) lstat(name string) (os.FileInfo, error) {
	if l, ok := d.afs.(afero.Lstater); ok {
		fi, _, err := l.LstatIfPossible(d.join(name))
		return fi, err
	}
	return d.afs.Stat(d.join(name))
}

func (d *aferoDir) names() ([]string, error) {
	f, err := d.afs.Open(d.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (d *aferoDir) sweep(temp string) error {
	fi, err := d.lstat(temp)
	if err == nil && fi.Mode().IsRegular() {
		err = d.afs.Remove(d.join(temp))
	}
	return ignoreNotExist(err)
}

func (d *aferoDir) sync() error {
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be synced there
	}
	return syncAndClose(d.afs.Open(d.path))
}

func (d *aferoDir) syncFile(name string) error {
	fi, err := d.lstat(name)
	if err == nil && fi.Mode().IsRegular() {
		err = syncAndClose(d.afs.OpenFile(d.join(name), os.O_RDWR, 0))
	}
	return ignoreNotExist(err)
}

func syncAndClose(f afero.File, err error) error {
	if err != nil {
		return err
	}
	err = f.Sync()
	if cerr := f.Close(); cerr != nil && (err == nil || cannotSync(err)) {
		return cerr
	}
	return err
}

func (d *aferoDir) free() (int64, error) { return 0, errors.ErrUnsupported }
func (d *aferoDir) groupsCommits() bool  { return false }
func (d *aferoDir) close() error         { return nil }

// aferoFile is a pending file on an afero filesystem. It keeps its name: a handle of
// MemMapFs changes its name with a rename.
type aferoFile struct {
	afero.File
	dir      *aferoDir
	tempName string
	closed   bool
}

func (f *aferoFile) temp() string { return f.tempName }

func (f *aferoFile) file() *os.File {
	osFile, _ := f.File.(*os.File) // OsFs
	return osFile
}

func (f *aferoFile) truncate() error { return truncateFile(f.File) }

func (f *aferoFile) sync() error {
	if err := f.File.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", f.tempName, err)
	}
	return nil
}

func (f *aferoFile) rename(name string, replace bool) error {
	f.closed = true
	if err := f.File.Close(); err != nil {
		return fmt.Errorf("close %s: %w", f.tempName, err)
	}
	fi, err := f.dir.lstat(name)
	switch {
	case !replace && err == nil:
		return &os.PathError{Op: "rename", Path: f.dir.join(name), Err: os.ErrExist}
	case !replace && !errors.Is(err, os.ErrNotExist):
		return err
	case err == nil && fi.IsDir():
		// A disk refuses to rename a file over a directory; MemMapFs does not.
		return &os.PathError{Op: "rename", Path: f.dir.join(name), Err: syscall.EISDIR}
	}
	return f.dir.afs.Rename(f.dir.join(f.tempName), f.dir.join(name))
}

func (f *aferoFile) reopen() (afero.File, error) { return f.dir.afs.Open(f.dir.join(f.tempName)) }

func (f *aferoFile) abort() error {
	var cerr error
	if !f.closed {
		f.closed = true
		cerr = f.File.Close()
	}
	return errors.Join(cerr, ignoreNotExist(f.dir.afs.Remove(f.dir.join(f.tempName))))
}
