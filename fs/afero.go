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
// renamed, and synced by way of their handles and that of the directory; how safe
// that is, and how durable, is the filesystem's matter.
// afero's MemMapFs alone is not safe enough: use [NewMemory].
//
// The Store's Close does not close the filesystem.
func New(afs afero.Fs, dir string, opts ...Option) (*Store, error) {
	o := newOptions(opts)
	// MemMapFs would make a directory of a file that is in the way.
	var made []string
	for path := filepath.Clean(dir); ; path = filepath.Dir(path) {
		fi, err := afs.Stat(path)
		if err == nil && !fi.IsDir() {
			return nil, &os.PathError{Op: "mkdir", Path: path, Err: errNotDir}
		}
		if path == filepath.Dir(path) {
			break
		}
		if errors.Is(err, os.ErrNotExist) {
			made = append(made, path)
		}
	}
	if err := afs.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	if _, err := afs.Stat(dir); err != nil {
		return nil, err
	}
	if o.durability == Full {
		for _, path := range made {
			if err := o.synced((&anyDir{afs, filepath.Dir(path)}).sync()); err != nil && !errors.Is(err, os.ErrPermission) {
				return nil, fmt.Errorf("sync the directory that holds %s: %w", path, err)
			}
		}
	}
	return newStore(&anyDir{afs, dir}, o), nil
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
		t := &anyFile{File: f, dir: d, tempName: temp}
		if osf, ok := f.(*os.File); ok {
			return &anyOSFile{t, osf}, nil
		}
		return t, nil
	}
}

// maxAttempts is how many random names may be taken before there is something
// wrong with the filesystem rather than with them.
const maxAttempts = 10_000

func (d *anyDir) append(name string) (afero.File, error) {
	return d.afs.OpenFile(d.join(name), appending, 0o666)
}

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
	err = f.Sync()
	if cerr := f.Close(); cerr != nil && (err == nil || cannotSync(err)) {
		return cerr
	}
	return err
}

func (d *anyDir) close() error { return nil }

// anyFile is a pending file on an afero filesystem. Its name is kept as a
// string: what a handle of MemMapFs says of it changes with a rename.
type anyFile struct {
	afero.File
	dir      *anyDir
	tempName string
	closed   bool
}

// anyOSFile is one on afero's OsFs.
type anyOSFile struct {
	*anyFile
	osf *os.File
}

func (f *anyOSFile) File() *os.File { return f.osf }

func (f *anyFile) temp() string { return f.tempName }

func (f *anyFile) reset() error { return emptyFile(f.File) }

func (f *anyFile) sync() error {
	if err := f.File.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", f.tempName, err)
	}
	return nil
}

func (f *anyFile) rename(name string, replace bool) error {
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
		return &os.PathError{Op: "rename", Path: f.dir.join(name), Err: errIsDir}
	}
	return f.dir.afs.Rename(f.dir.join(f.tempName), f.dir.join(name))
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
