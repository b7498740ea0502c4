package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/afero"
)

// New returns a Store in the directory dir of any afero filesystem, which it
// creates if it is missing. Files are written under a temporary name and
// renamed; how safe that is, and how durable, is the filesystem's matter.
// afero's MemMapFs alone is not safe enough: use [NewMemory].
//
// The Store's Close does not close the filesystem.
func New(afs afero.Fs, dir string) (*Store, error) {
	// MemMapFs would make a directory of a file that is in the way.
	for path := filepath.Clean(dir); ; path = filepath.Dir(path) {
		if fi, err := afs.Stat(path); err == nil && !fi.IsDir() {
			return nil, &os.PathError{Op: "mkdir", Path: path, Err: errNotDir}
		}
		if path == filepath.Dir(path) {
			break
		}
	}
	if err := afs.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	if _, err := afs.Stat(dir); err != nil {
		return nil, err
	}
	return newStore(&anyDir{afs, dir}), nil
}

var (
	errNotDir = errors.New("not a directory")
	errIsDir  = errors.New("is a directory")
)

// anyDir is a directory on an afero filesystem.
type anyDir struct {
	afs  afero.Fs
	path string
}

func (d *anyDir) join(name string) string { return filepath.Join(d.path, name) }

func (d *anyDir) create(name string) (temporary, error) {
	for attempt := 1; ; attempt++ {
		temp := tempName(name)
		f, err := d.afs.OpenFile(d.join(temp), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
		if errors.Is(err, os.ErrExist) && attempt < maxAttempts {
			continue
		}
		if err != nil {
			return nil, err
		}
		t := &anyFile{File: f, dir: d, tempName: temp, name: name}
		if osf, ok := f.(*os.File); ok {
			return &anyOSFile{t, osf}, nil
		}
		return t, nil
	}
}

// maxAttempts is how many random names may be taken before there is something
// wrong with the filesystem rather than with them.
const maxAttempts = 10_000

func (d *anyDir) remove(name string) error {
	switch fi, err := d.lstat(name); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.IsDir():
		return &os.PathError{Op: "remove", Path: d.join(name), Err: errIsDir}
	}
	return ignoreNotExist(d.afs.Remove(d.join(name)))
}

// lstat does not follow a symbolic link, where the filesystem has such.
func (d *anyDir) lstat(name string) (os.FileInfo, error) {
	if l, ok := d.afs.(afero.Lstater); ok {
		fi, _, err := l.LstatIfPossible(d.join(name))
		return fi, err
	}
	return d.afs.Stat(d.join(name))
}

func (d *anyDir) names() ([]string, error) {
	f, err := d.afs.Open(d.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (d *anyDir) sweep(temp string) error {
	fi, err := d.lstat(temp)
	if err == nil && fi.Mode().IsRegular() {
		err = d.afs.Remove(d.join(temp))
	}
	return ignoreNotExist(err)
}

func (d *anyDir) sync() error {
	if runtime.GOOS == "windows" {
		return nil // which has no such thing
	}
	f, err := d.afs.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(syncDir(f), f.Close())
}

func (d *anyDir) close() error { return nil }

// anyFile is a pending file on an afero filesystem. Its names are kept as
// strings: what a handle of MemMapFs says of its name changes with a rename.
type anyFile struct {
	afero.File
	dir            *anyDir
	tempName, name string
	closed         bool
}

// anyOSFile is one on afero's OsFs.
type anyOSFile struct {
	*anyFile
	osf *os.File
}

func (f *anyOSFile) File() *os.File { return f.osf }

func (f *anyFile) temp() string { return f.tempName }

func (f *anyFile) reset() error { return emptyFile(f.File) }

func (f *anyFile) commit() error {
	if err := f.File.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", f.tempName, err)
	}
	f.closed = true
	if err := f.File.Close(); err != nil {
		return fmt.Errorf("close %s: %w", f.tempName, err)
	}
	// A disk refuses to rename a file over a directory; MemMapFs does not.
	if fi, err := f.dir.lstat(f.name); err == nil && fi.IsDir() {
		return &os.PathError{Op: "rename", Path: f.dir.join(f.name), Err: errIsDir}
	}
	return f.dir.afs.Rename(f.dir.join(f.tempName), f.dir.join(f.name))
}

func (f *anyFile) reopen() (handle, error) { return f.dir.afs.Open(f.dir.join(f.tempName)) }

func (f *anyFile) abort() error {
	var cerr error
	if !f.closed {
		f.closed = true
		cerr = f.File.Close()
	}
	return errors.Join(cerr, ignoreNotExist(f.dir.afs.Remove(f.dir.join(f.tempName))))
}
