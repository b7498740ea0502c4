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

// OpenDir returns a Store in a directory of the disk. It creates the directory and its
// parents if they are missing, and fails if path is not a directory or cannot be written.
// The caller closes the Store when the last file is committed or aborted.
//
// renameio creates the pending files in the directory itself. The mode of files is 0666
// less the umask. The Store holds the directory open (os.Root): it stays with a directory
// that is moved, and no symbolic link leads out of it. A symbolic link under the name of a
// file is replaced, never followed.
func OpenDir(path string, opts ...Option) (*Store, error) {
	o := newOptions(opts)
	if err := makeDir(afero.NewOsFs(), path, o); err != nil {
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
// The process that has a pending file open holds a lock on it (flock(2)), which the system
// releases when the process dies. So a sweep can tell a file that was left from one in use.
// A sweep may see a new file before its lock. So it removes a file only while it holds the
// lock, and create checks after locking that the file still exists.
type disk struct {
	root *os.Root
	self *os.File // the directory, to sync it
}

func (d *disk) create(name string) (temporary, error) {
	for {
		pf, err := renameio.NewPendingFile(name, renameio.WithRoot(d.root), renameio.WithPermissions(0o666))
		if err != nil {
			return nil, err
		}
		if hasDigits(filepath.Base(pf.Name()), name) {
			mine, err := lockNew(pf.File)
			if err != nil {
				return nil, errors.Join(fmt.Errorf("lock %s: %w", pf.Name(), err), pf.Cleanup())
			}
			if mine {
				return &diskFile{pf, d.self}, nil
			}
		}
		pf.Cleanup() // a sweep was faster and may have removed the file
	}
}

func (d *disk) openAppend(name string) (afero.File, error) {
	f, err := d.root.OpenFile(name, appendFlags|syscall.O_NONBLOCK, 0o666) // does not wait for the reader of a FIFO
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
	// NFS locks only files that are open for writing.
	f, err := d.openRegular(temp, os.O_RDWR, os.O_RDONLY)
	if f == nil {
		return err
	}
	defer f.Close()
	if !tryLock(f) {
		return nil // in use, or the filesystem has no locks
	}
	opened, err := f.Stat()
	if err != nil {
		return err
	}
	// Another process may have committed the file before the lock was taken.
	if fi, err := d.root.Lstat(temp); err != nil || !os.SameFile(fi, opened) {
		return ignoreNotExist(err)
	}
	return ignoreNotExist(d.root.Remove(temp))
}

func (d *disk) sync() error { return d.self.Sync() }

func (d *disk) free() (int64, error) { return freeSpace(d.self) }

func (d *disk) syncFile(name string) error {
	// With some umasks not even the owner may read the file.
	f, err := d.openRegular(name, os.O_RDONLY, os.O_WRONLY)
	if f == nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// openRegular opens a regular file with the first access mode, or with the second if the
// first is forbidden. It returns nil, nil if name is missing or not a regular file.
func (d *disk) openRegular(name string, first, second int) (*os.File, error) {
	fi, err := d.root.Lstat(name)
	if err != nil || !fi.Mode().IsRegular() {
		return nil, ignoreNotExist(err)
	}
	const flags = syscall.O_NONBLOCK | syscall.O_NOFOLLOW
	f, err := d.root.OpenFile(name, first|flags, 0)
	if errors.Is(err, os.ErrPermission) {
		f, err = d.root.OpenFile(name, second|flags, 0)
	}
	if err != nil {
		return nil, ignoreNotExist(err)
	}
	return f, nil
}

func (d *disk) close() error { return errors.Join(d.self.Close(), d.root.Close()) }

// diskFile is a pending file on a disk.
type diskFile struct {
	pf  *renameio.PendingFile
	dir *os.File
}

func (f *diskFile) temp() string { return filepath.Base(f.pf.Name()) }

func (f *diskFile) Write(p []byte) (int, error) { return f.pf.Write(p) }

func (f *diskFile) file() *os.File { return f.pf.File }

func (f *diskFile) truncate() error { return truncateFile(f.pf) }

func (f *diskFile) sync() error { return f.pf.Sync() }

func (f *diskFile) reopen() (afero.File, error) {
	fd, err := dup(f.pf.File)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.pf.Name()), nil
}

// rename calls renameat(2) itself: the checks of os.Root do not matter for a rename within a
// directory.
//
// It renames the file before it closes it, unlike renameio, so that the lock lasts until the
// file has its name. After a sync, close reports no more errors (close(2)).
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
