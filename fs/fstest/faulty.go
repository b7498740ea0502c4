package fstest

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/afero"
)

// Faulty makes calls of a filesystem fail. A failing call does not reach the filesystem below,
// except for the first half of a "short write", and "close". It is as safe for concurrent
// use as the filesystem below.
//
// Kinds of calls are:
//
//	create            OpenFile with os.O_CREATE, Create
//	open              Open or OpenFile of an existing file
//	open directory    the same of a directory
//	read              Read, ReadAt
//	write             Write, WriteAt, WriteString: writes nothing
//	short write       the same calls: writes half, like a disk that fills up
//	seek, truncate
//	sync              of a file: syncs nothing
//	sync directory
//	close             of a file: closes it nevertheless, like close(2)
//	close directory
//	list              Readdir, Readdirnames
//	stat              of a name or an open file, and Lstat
//	rename
//	remove            Remove, RemoveAll
//	mkdir             Mkdir, MkdirAll
//	change            Chmod, Chown, Chtimes
type Faulty struct {
	inner afero.Fs

	mu      sync.Mutex
	faults  []func(op, name string) error
	calls   map[string]int
	handles int
}

var ops = strings.Split("create,open,open directory,read,write,short write,seek,truncate,sync,sync directory,"+
	"close,close directory,list,stat,rename,remove,mkdir,change", ",")

// NewFaulty returns a Faulty over inner. No call fails yet.
func NewFaulty(inner afero.Fs) *Faulty {
	return &Faulty{inner: inner, calls: make(map[string]int)}
}

// Fs returns the filesystem.
func (f *Faulty) Fs() afero.Fs { return faultyFs{inner: f.inner, Faulty: f} }

// Fail makes the nth call of each of these kinds fail with err, in an *os.PathError. It
// counts from 1, from now on; an nth of 0 stands for every call. Earlier faults stay. It panics
// if a kind is unknown.
func (f *Faulty) Fail(err error, nth int, kinds ...string) {
	for _, kind := range kinds {
		checkOp(kind)
	}
	var mu sync.Mutex
	seen := make(map[string]int)
	f.FailIf(func(op, _ string) error {
		mu.Lock()
		defer mu.Unlock()
		seen[op]++
		if slices.Contains(kinds, op) && (nth == 0 || nth == seen[op]) {
			return err
		}
		return nil
	})
}

func checkOp(kind string) {
	if !slices.Contains(ops, kind) {
		panic("fstest: unknown kind of call " + strconv.Quote(kind))
	}
}

// FailIf makes each call fail for which fault returns an error. fault receives the kind of
// the call and the name in it, or the name that the file was opened by. It runs in the
// goroutine of the caller and may block. Earlier faults stay: all are called, and the
// first error wins.
func (f *Faulty) FailIf(fault func(kind, name string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = append(slices.Clip(f.faults), fault)
}

// Mend removes all faults.
func (f *Faulty) Mend() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults = nil
}

// Calls returns how many calls of this kind there were, failed ones included. It panics if
// the kind is unknown.
func (f *Faulty) Calls(kind string) int {
	checkOp(kind)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[kind]
}

// Handles returns how many files and directories are open.
func (f *Faulty) Handles() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.handles
}

// fault counts a call, and returns the error that it fails with.
func (f *Faulty) fault(op, name string) error {
	f.mu.Lock()
	f.calls[op]++
	faults := f.faults
	f.mu.Unlock()
	var first error
	for _, fault := range faults {
		if err := fault(op, name); err != nil && first == nil {
			first = &os.PathError{Op: op, Path: name, Err: err}
		}
	}
	return first
}

func (f *Faulty) do(op, name string, do func() error) error {
	if err := f.fault(op, name); err != nil {
		return err
	}
	return do()
}

// doValue is do for a call that also returns a value.
func doValue[T any](f *Faulty, op, name string, do func() (T, error)) (v T, err error) {
	if err := f.fault(op, name); err != nil {
		return v, err
	}
	return do()
}

// faultyFs is the filesystem of a Faulty.
type faultyFs struct {
	inner afero.Fs
	*Faulty
}

func (f faultyFs) Name() string { return "Faulty " + f.inner.Name() }

func (f faultyFs) Create(name string) (afero.File, error) {
	return f.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
}

func (f faultyFs) Open(name string) (afero.File, error) { return f.OpenFile(name, os.O_RDONLY, 0) }

func (f faultyFs) OpenFile(name string, flag int, perm os.FileMode) (afero.File, error) {
	op, dir := "open", false
	if flag&os.O_CREATE != 0 {
		op = "create"
	} else if fi, err := f.inner.Stat(name); err == nil && fi.IsDir() {
		op, dir = "open directory", true
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
	return &faultyFile{File: file, fs: f.Faulty, name: name, dir: dir}, nil
}

func (f faultyFs) Mkdir(name string, perm os.FileMode) error {
	return f.do("mkdir", name, func() error { return f.inner.Mkdir(name, perm) })
}

func (f faultyFs) MkdirAll(path string, perm os.FileMode) error {
	return f.do("mkdir", path, func() error { return f.inner.MkdirAll(path, perm) })
}

func (f faultyFs) Remove(name string) error {
	return f.do("remove", name, func() error { return f.inner.Remove(name) })
}

func (f faultyFs) RemoveAll(path string) error {
	return f.do("remove", path, func() error { return f.inner.RemoveAll(path) })
}

func (f faultyFs) Rename(oldname, newname string) error {
	return f.do("rename", oldname, func() error { return f.inner.Rename(oldname, newname) })
}

func (f faultyFs) Stat(name string) (os.FileInfo, error) {
	return doValue(f.Faulty, "stat", name, func() (os.FileInfo, error) { return f.inner.Stat(name) })
}

func (f faultyFs) LstatIfPossible(name string) (fi os.FileInfo, lstat bool, err error) {
	l, ok := f.inner.(afero.Lstater)
	if !ok {
		fi, err = f.Stat(name)
		return fi, false, err
	}
	if err := f.fault("stat", name); err != nil {
		return nil, false, err
	}
	return l.LstatIfPossible(name)
}

func (f faultyFs) Chmod(name string, mode os.FileMode) error {
	return f.do("change", name, func() error { return f.inner.Chmod(name, mode) })
}

func (f faultyFs) Chown(name string, uid, gid int) error {
	return f.do("change", name, func() error { return f.inner.Chown(name, uid, gid) })
}

func (f faultyFs) Chtimes(name string, atime, mtime time.Time) error {
	return f.do("change", name, func() error { return f.inner.Chtimes(name, atime, mtime) })
}

// faultyFile is an open file or directory of a Faulty.
type faultyFile struct {
	afero.File
	fs     *Faulty
	name   string
	dir    bool
	closed sync.Once
}

func (f *faultyFile) op(file, dir string) string {
	if f.dir {
		return dir
	}
	return file
}

func (f *faultyFile) Read(p []byte) (int, error) {
	return doValue(f.fs, "read", f.name, func() (int, error) { return f.File.Read(p) })
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	return doValue(f.fs, "read", f.name, func() (int, error) { return f.File.ReadAt(p, off) })
}

func (f *faultyFile) write(p []byte, write func([]byte) (int, error)) (int, error) {
	err, short := f.fs.fault("write", f.name), f.fs.fault("short write", f.name)
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

func (f *faultyFile) Seek(offset int64, whence int) (int64, error) {
	return doValue(f.fs, "seek", f.name, func() (int64, error) { return f.File.Seek(offset, whence) })
}

func (f *faultyFile) Truncate(size int64) error {
	return f.fs.do("truncate", f.name, func() error { return f.File.Truncate(size) })
}

func (f *faultyFile) Sync() error {
	return f.fs.do(f.op("sync", "sync directory"), f.name, f.File.Sync)
}

func (f *faultyFile) Close() error {
	ferr := f.fs.fault(f.op("close", "close directory"), f.name)
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

func (f *faultyFile) Stat() (os.FileInfo, error) { return doValue(f.fs, "stat", f.name, f.File.Stat) }

func (f *faultyFile) Readdir(n int) ([]os.FileInfo, error) {
	return doValue(f.fs, "list", f.name, func() ([]os.FileInfo, error) { return f.File.Readdir(n) })
}

func (f *faultyFile) Readdirnames(n int) ([]string, error) {
	return doValue(f.fs, "list", f.name, func() ([]string, error) { return f.File.Readdirnames(n) })
}

var (
	_ afero.Fs      = faultyFs{}
	_ afero.Lstater = faultyFs{}
)
