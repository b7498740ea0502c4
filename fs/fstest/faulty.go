package fstest

import (
	"os"
	"slices"
	"sync"
	"time"

	"github.com/spf13/afero"
)

// Op is a kind of call of a filesystem, or of a file of it.
type Op string

// The kinds of calls.
const (
	Create     Op = "create"         // OpenFile with os.O_CREATE, and Create
	Open       Op = "open"           // Open and OpenFile of a file that is to be there
	OpenDir    Op = "open directory" // the same of a directory
	Read       Op = "read"           // and ReadAt
	Write      Op = "write"          // and WriteAt, WriteString; nothing is written
	ShortWrite Op = "short write"    // the same calls; half of it is written, as on a disk that fills
	Seek       Op = "seek"
	Truncate   Op = "truncate"
	Sync       Op = "sync" // of a file; nothing is synced
	SyncDir    Op = "sync directory"
	Close      Op = "close" // of a file; it is closed all the same (close(2))
	CloseDir   Op = "close directory"
	List       Op = "list" // Readdir and Readdirnames
	Stat       Op = "stat" // of a name or a file, and Lstat
	Rename     Op = "rename"
	Remove     Op = "remove" // and RemoveAll
	Mkdir      Op = "mkdir"  // and MkdirAll
	Change     Op = "change" // Chmod, Chown and Chtimes
)

// Faulty is a filesystem that fails as it is told, and does otherwise what the one
// behind it does. A call that fails has not reached that, but for the half of a
// [ShortWrite], and a [Close]. It is as safe for concurrent use as the one behind it.
type Faulty struct {
	inner afero.Fs

	mu      sync.Mutex
	faults  []func(op Op, name string) error
	calls   map[Op]int
	handles int
}

// NewFaulty returns a Faulty over inner that does not yet fail.
func NewFaulty(inner afero.Fs) *Faulty {
	return &Faulty{inner: inner, calls: make(map[Op]int)}
}

// Fail has the nth call of each of these kinds, counted from 1 and from now on, fail
// with err, in an *os.PathError; an nth of 0 stands for every call. It adds to what
// has been said before.
func (f *Faulty) Fail(err error, nth int, ops ...Op) {
	var mu sync.Mutex
	seen := make(map[Op]int)
	f.FailIf(func(op Op, _ string) error {
		mu.Lock()
		defer mu.Unlock()
		seen[op]++
		if slices.Contains(ops, op) && (nth == 0 || nth == seen[op]) {
			return err
		}
		return nil
	})
}

// FailIf has each call fail for which fault returns an error: it is asked with the
// kind of the call and the name that the file was opened by or the call is about, by
// all callers at the same time, and may have them wait. It adds to what has been said
// before: all are asked, and the first error counts.
func (f *Faulty) FailIf(fault func(op Op, name string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(slices.Clip(f.faults), fault)
}

// Mend ends all faults.
func (f *Faulty) Mend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

// Calls returns how many calls of this kind there were, those that failed included.
func (f *Faulty) Calls(op Op) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[op]
}

// Handles returns how many files and directories are open.
func (f *Faulty) Handles() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.handles
}

// fault counts a call and returns the error that it is to fail with.
func (f *Faulty) fault(op Op, name string) error {
	f.mu.Lock()
	f.calls[op]++
	faults := f.faults
	f.mu.Unlock()
	var first error
	for _, fault := range faults {
		if err := fault(op, name); err != nil && first == nil {
			first = &os.PathError{Op: string(op), Path: name, Err: err}
		}
	}
	return first
}

func (f *Faulty) do(op Op, name string, do func() error) error {
	if err := f.fault(op, name); err != nil {
		return err
	}
	return do()
}

// Name returns the name of the filesystem.
func (f *Faulty) Name() string { return "Faulty " + f.inner.Name() }

// Create creates a file, or empties it.
func (f *Faulty) Create(name string) (afero.File, error) {
	return f.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
}

// Open opens a file or directory to read it.
func (f *Faulty) Open(name string) (afero.File, error) { return f.OpenFile(name, os.O_RDONLY, 0) }

// OpenFile opens a file as os.OpenFile does.
func (f *Faulty) OpenFile(name string, flag int, perm os.FileMode) (afero.File, error) {
	op, dir := Open, false
	if flag&os.O_CREATE != 0 {
		op = Create
	} else if fi, err := f.inner.Stat(name); err == nil && fi.IsDir() {
		op, dir = OpenDir, true
	}
	if err := f.fault(op, name); err != nil {
		return nil, err
	}
	file, err := f.inner.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.handles++
	return &faultyFile{File: file, fs: f, name: name, dir: dir}, nil
}

// Mkdir creates a directory.
func (f *Faulty) Mkdir(name string, perm os.FileMode) error {
	return f.do(Mkdir, name, func() error { return f.inner.Mkdir(name, perm) })
}

// MkdirAll creates a directory with its parents.
func (f *Faulty) MkdirAll(path string, perm os.FileMode) error {
	return f.do(Mkdir, path, func() error { return f.inner.MkdirAll(path, perm) })
}

// Remove removes a file or an empty directory.
func (f *Faulty) Remove(name string) error {
	return f.do(Remove, name, func() error { return f.inner.Remove(name) })
}

// RemoveAll removes a directory with all that is in it.
func (f *Faulty) RemoveAll(path string) error {
	return f.do(Remove, path, func() error { return f.inner.RemoveAll(path) })
}

// Rename gives a file another name.
func (f *Faulty) Rename(oldname, newname string) error {
	return f.do(Rename, oldname, func() error { return f.inner.Rename(oldname, newname) })
}

// Stat describes what has the name.
func (f *Faulty) Stat(name string) (fi os.FileInfo, err error) {
	err = f.do(Stat, name, func() error {
		fi, err = f.inner.Stat(name)
		return err
	})
	return fi, err
}

// LstatIfPossible does not follow a symbolic link, if the filesystem has such.
func (f *Faulty) LstatIfPossible(name string) (fi os.FileInfo, lstat bool, err error) {
	l, ok := f.inner.(afero.Lstater)
	if !ok {
		fi, err = f.Stat(name)
		return fi, false, err
	}
	err = f.do(Stat, name, func() error {
		fi, lstat, err = l.LstatIfPossible(name)
		return err
	})
	return fi, lstat, err
}

// Chmod changes the mode.
func (f *Faulty) Chmod(name string, mode os.FileMode) error {
	return f.do(Change, name, func() error { return f.inner.Chmod(name, mode) })
}

// Chown changes the owner.
func (f *Faulty) Chown(name string, uid, gid int) error {
	return f.do(Change, name, func() error { return f.inner.Chown(name, uid, gid) })
}

// Chtimes changes the times.
func (f *Faulty) Chtimes(name string, atime, mtime time.Time) error {
	return f.do(Change, name, func() error { return f.inner.Chtimes(name, atime, mtime) })
}

// faultyFile is an open file or directory of a Faulty.
type faultyFile struct {
	afero.File
	fs     *Faulty
	name   string
	dir    bool
	closed sync.Once
}

func (f *faultyFile) op(file, dir Op) Op {
	if f.dir {
		return dir
	}
	return file
}

func (f *faultyFile) count(op Op, do func() (int, error)) (n int, err error) {
	err = f.fs.do(op, f.name, func() error {
		n, err = do()
		return err
	})
	return n, err
}

func (f *faultyFile) Read(p []byte) (int, error) {
	return f.count(Read, func() (int, error) { return f.File.Read(p) })
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	return f.count(Read, func() (int, error) { return f.File.ReadAt(p, off) })
}

func (f *faultyFile) write(p []byte, write func([]byte) (int, error)) (int, error) {
	err, short := f.fs.fault(Write, f.name), f.fs.fault(ShortWrite, f.name)
	if err != nil {
		return 0, err
	}
	if short == nil {
		return write(p)
	}
	n, err := write(p[:len(p)/2])
	if err != nil {
		return n, err
	}
	return n, short
}

func (f *faultyFile) Write(p []byte) (int, error) { return f.write(p, f.File.Write) }

func (f *faultyFile) WriteString(s string) (int, error) { return f.Write([]byte(s)) }

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	return f.write(p, func(p []byte) (int, error) { return f.File.WriteAt(p, off) })
}

func (f *faultyFile) Seek(offset int64, whence int) (n int64, err error) {
	err = f.fs.do(Seek, f.name, func() error {
		n, err = f.File.Seek(offset, whence)
		return err
	})
	return n, err
}

func (f *faultyFile) Truncate(size int64) error {
	return f.fs.do(Truncate, f.name, func() error { return f.File.Truncate(size) })
}

func (f *faultyFile) Sync() error { return f.fs.do(f.op(Sync, SyncDir), f.name, f.File.Sync) }

func (f *faultyFile) Close() error {
	ferr := f.fs.fault(f.op(Close, CloseDir), f.name)
	err := f.File.Close()
	f.closed.Do(func() {
		f.fs.mu.Lock()
		defer f.fs.mu.Unlock()
		f.fs.handles--
	})
	if ferr != nil {
		return ferr
	}
	return err
}

func (f *faultyFile) Stat() (fi os.FileInfo, err error) {
	err = f.fs.do(Stat, f.name, func() error {
		fi, err = f.File.Stat()
		return err
	})
	return fi, err
}

func (f *faultyFile) Readdir(n int) (infos []os.FileInfo, err error) {
	err = f.fs.do(List, f.name, func() error {
		infos, err = f.File.Readdir(n)
		return err
	})
	return infos, err
}

func (f *faultyFile) Readdirnames(n int) (names []string, err error) {
	err = f.fs.do(List, f.name, func() error {
		names, err = f.File.Readdirnames(n)
		return err
	})
	return names, err
}

var (
	_ afero.Fs      = (*Faulty)(nil)
	_ afero.Lstater = (*Faulty)(nil)
)
