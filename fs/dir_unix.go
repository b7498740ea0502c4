//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"
	"github.com/spf13/afero"
	"golang.org/x/sys/unix"
)

// OpenDir returns a Store in a directory of the disk, which it creates, with
// its parents, if it is missing. The caller closes it when the last file is
// committed or aborted.
//
// Files are written by renameio into pending files in the directory itself, and
// renamed; their mode is 0666 less the umask. The directory is held open
// (os.Root): the Store stays with it when it is moved, and no symbolic link
// leads out of it. A symbolic link that stands where a file is to appear is
// replaced, never followed.
//
// It fails if path is not a directory or cannot be written.
func OpenDir(path string, opts ...Option) (*Store, error) {
	o := newOptions(opts)
	if err := makeDir(path, o); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	self, err := root.Open(".")
	if err != nil {
		root.Close()
		return nil, err
	}
	return newProbedStore(&disk{root: root, self: self}, o)
}

// disk is a directory on a disk.
//
// Who has a pending file open holds a lock on it (flock(2)), which the system
// takes back when the process dies, however it dies. So a sweep can tell what
// was left from what is in use. To close the gap between creating a file and
// locking it, the sweeper removes a file under the lock, and the creator, once
// it has the lock, makes sure that the file is still there.
type disk struct {
	root *os.Root
	self *os.File // the directory, to be synced
}

func (d *disk) create(name string) (temporary, error) {
	for {
		pf, err := renameio.NewPendingFile(name, renameio.WithRoot(d.root), renameio.WithPermissions(0o666))
		if err != nil {
			return nil, err
		}
		if hasRandom(filepath.Base(pf.Name()), name) {
			mine, err := lockNew(pf.File)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("lock %s: %w", pf.Name(), err), pf.Cleanup())
			}
			if mine {
				return &diskFile{pf, d.self}, nil
			}
		}
		pf.Cleanup() // a sweep was quicker and may have removed it already
	}
}

func (d *disk) append(name string) (afero.File, error) {
	f, err := d.root.OpenFile(name, appending|syscall.O_NONBLOCK, 0o666) // a FIFO is not waited for
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d *disk) remove(name string) error {
	switch fi, err := d.root.Lstat(name); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case fi.IsDir():
		return &os.PathError{Op: "remove", Path: name, Err: syscall.EISDIR}
	}
	return ignoreNotExist(d.root.Remove(name))
}

func (d *disk) names() ([]string, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

func (d *disk) sweep(temp string) error {
	// To write, if one may: where a lock is the network's (NFS), it takes that.
	f, err := d.openRegular(temp, os.O_RDWR, os.O_RDONLY)
	if f == nil {
		return err
	}
	defer f.Close()
	if !tryLock(f) {
		return nil // in use, or nobody can know
	}
	// Under the lock: is the name still that of the file?
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	if fi, err := d.root.Lstat(temp); err != nil || !os.SameFile(fi, opened) {
		return ignoreNotExist(err)
	}
	return ignoreNotExist(d.root.Remove(temp))
}

func (d *disk) sync() error { return d.self.Sync() }

func (d *disk) free() (int64, error) { return freeOn(d.self) }

func (d *disk) syncFile(name string) error {
	// The umask may have it that not even its owner may read it.
	f, err := d.openRegular(name, os.O_RDONLY, os.O_WRONLY)
	if f == nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// openRegular opens a file in a way that one may, or in another. It is nil without an error
// if there is none of that name, or what is there is no regular file.
func (d *disk) openRegular(name string, way, other int) (*os.File, error) {
	fi, err := d.root.Lstat(name)
	if err != nil || !fi.Mode().IsRegular() {
		return nil, ignoreNotExist(err)
	}
	const flags = syscall.O_NONBLOCK | syscall.O_NOFOLLOW
	f, err := d.root.OpenFile(name, way|flags, 0)
	if errors.Is(err, os.ErrPermission) {
		f, err = d.root.OpenFile(name, other|flags, 0)
	}
	if err != nil {
		return nil, ignoreNotExist(err)
	}
	return f, nil
}

func (d *disk) close() error { return errors.Join(d.self.Close(), d.root.Close()) }

func syncPath(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		// A directory that may be searched and written but not read cannot
		// be opened, and so not synced.
		if errors.Is(err, os.ErrPermission) {
			return nil
		}
		return err
	}
	defer f.Close()
	return f.Sync()
}

// diskFile is a pending file on a disk.
type diskFile struct {
	pf  *renameio.PendingFile
	dir *os.File
}

func (f *diskFile) temp() string { return filepath.Base(f.pf.Name()) }

func (f *diskFile) Write(p []byte) (int, error) { return f.pf.Write(p) }

func (f *diskFile) File() *os.File { return f.pf.File }

func (f *diskFile) reset() error { return emptyFile(f.pf) }

func (f *diskFile) sync() error { return f.pf.Sync() }

func (f *diskFile) reopen() (handle, error) {
	fd, err := dup(f.pf.File)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.pf.Name()), nil
}

// rename is renameat(2) as it is: what os.Root would look at first is nothing to a
// file that replaces a file.
//
// It gives the file its name before it is closed, and not after as renameio
// would: so its lock lasts until then. A close has nothing left to tell of once the
// file is synced (close(2)).
func (f *diskFile) rename(name string, replace bool) error {
	var err error
	cerr := control(f.dir, func(fd int) {
		if replace {
			err = unix.Renameat(fd, f.temp(), fd, name)
		} else {
			err = renameNew(fd, f.temp(), name)
		}
	})
	if err != nil {
		return &os.LinkError{Op: "renameat", Old: f.temp(), New: name, Err: err}
	}
	if cerr != nil {
		return cerr
	}
	f.pf.File.Close()
	return nil
}

func (f *diskFile) abort() error { return ignoreNotExist(f.pf.Cleanup()) }
