package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/spf13/afero"
)

// What a Store does with a filesystem.
const (
	opCreate   = "the creation of a file"
	opWrite    = "a write"
	opSync     = "the sync of a file"
	opClose    = "the close of a file"
	opRename   = "the rename"
	opOpenDir  = "the opening of the directory"
	opSyncDir  = "the sync of the directory"
	opCloseDir = "the close of the directory"
	opList     = "the list of the directory"
	opRemove   = "a removal"
)

// faulty is a filesystem that fails as it is told.
type faulty struct {
	afero.Fs
	mu     sync.Mutex
	before func(op string) error // its error is the operation's
	after  func(op string)
	open   int // files, to see that none is forgotten
}

func newFaulty(afs afero.Fs) *faulty { return &faulty{Fs: afs} }

// fail has the k-th call of each kind in ops fail from now on; k of 0 stands
// for all.
func (f *faulty) fail(err error, k int, ops ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	seen := make(map[string]int)
	f.before = func(op string) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		seen[op]++
		if slices.Contains(ops, op) && (k == 0 || seen[op] == k) {
			return &os.PathError{Op: op, Path: "x", Err: err}
		}
		return nil
	}
}

func (f *faulty) do(op string, do func() error) error {
	f.mu.Lock()
	before, after := f.before, f.after
	f.mu.Unlock()
	if before != nil {
		if err := before(op); err != nil {
			return err
		}
	}
	err := do()
	if after != nil {
		after(op)
	}
	return err
}

func (f *faulty) opened(file afero.File, err error, dir bool) (afero.File, error) {
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open++
	return &faultyFile{File: file, fs: f, dir: dir}, nil
}

func (f *faulty) OpenFile(name string, flag int, perm os.FileMode) (file afero.File, err error) {
	err = f.do(opCreate, func() error {
		file, err = f.Fs.OpenFile(name, flag, perm)
		return err
	})
	return f.opened(file, err, false)
}

func (f *faulty) Open(name string) (file afero.File, err error) {
	err = f.do(opOpenDir, func() error {
		file, err = f.Fs.Open(name)
		return err
	})
	return f.opened(file, err, true)
}

func (f *faulty) Rename(from, to string) error {
	return f.do(opRename, func() error { return f.Fs.Rename(from, to) })
}

func (f *faulty) Remove(name string) error {
	return f.do(opRemove, func() error { return f.Fs.Remove(name) })
}

type faultyFile struct {
	afero.File
	fs  *faulty
	dir bool
}

func (f *faultyFile) op(file, dir string) string {
	if f.dir {
		return dir
	}
	return file
}

// A write that fails has written half, as on a disk that fills.
func (f *faultyFile) Write(p []byte) (n int, err error) {
	ferr := f.fs.do(opWrite, func() error {
		n, err = f.File.Write(p)
		return err
	})
	if ferr != nil && err == nil {
		n, _ = f.File.Write(p[:len(p)/2])
	}
	return n, ferr
}

func (f *faultyFile) Sync() error {
	return f.fs.do(f.op(opSync, opSyncDir), f.File.Sync)
}

// A close that fails has closed all the same.
func (f *faultyFile) Close() error {
	err := f.File.Close()
	if ferr := f.fs.do(f.op(opClose, opCloseDir), func() error { return nil }); ferr != nil {
		err = ferr
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.open--
	return err
}

func (f *faultyFile) Readdirnames(n int) (names []string, err error) {
	err = f.fs.do(opList, func() error {
		names, err = f.File.Readdirnames(n)
		return err
	})
	return names, err
}

var errnos = []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EACCES, syscall.EROFS, syscall.EMFILE}

// faultyKinds are the kinds of a filesystem that can be told to fail.
func faultyKinds() []kind {
	var faultyKinds []kind
	for _, k := range kinds[1:] {
		faultyKinds = append(faultyKinds, kind{k.name, func(t *testing.T) (afero.Fs, string) {
			afs, base := k.room(t)
			return newFaulty(afs), base
		}, New})
	}
	return faultyKinds
}

func upload(p *place, name string) error {
	f, err := p.Create(context.TODO(), name)
	if err != nil {
		return err
	}
	for _, piece := range []string{"some ", "payload"} {
		if _, err := io.WriteString(f, piece); err != nil {
			return errors.Join(err, f.Abort())
		}
	}
	return f.Commit()
}

// Whatever fails, and whenever: it is told, nothing of the file is visible or
// left, and the files before and after it are there.
func TestAFaultFailsOneUploadAndLeavesNothing(t *testing.T) {
	const uploads = 3
	ops := []struct {
		op    string
		calls int // in an upload
	}{{opCreate, 1}, {opWrite, 2}, {opSync, 1}, {opClose, 1}, {opRename, 1}, {opOpenDir, 1}, {opSyncDir, 1}, {opCloseDir, 1}}
	for _, k := range faultyKinds() {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			errnos := errnos
			if k.name == kinds[1].name { // which makes no difference, and takes its time
				errnos = errnos[:1]
			}
			for _, op := range ops {
				for _, errno := range errnos {
					for at := 1; at <= uploads*op.calls; at++ {
						t.Run(fmt.Sprintf("%s fails with %q at call %d", op.op, errno.Error(), at), func(t *testing.T) {
							p := k.place(t)
							afs := p.afs.(*faulty)
							afs.fail(errno, at, op.op)
							want := make(files)
							failed := (at - 1) / op.calls
							for i := range uploads {
								name := fmt.Sprintf("%d.file", i)
								err := upload(p, name)
								if i == failed {
									if !errors.Is(err, errno) {
										t.Errorf("upload %d: %v", i, err)
									}
									continue
								}
								if err != nil {
									t.Errorf("upload %d: %v", i, err)
								}
								want[name] = "some payload"
							}
							afs.before = nil
							if afs.open != 0 {
								t.Errorf("%d files are still open", afs.open)
							}
							p.holds(t, want)
						})
					}
				}
			}
		})
	}
}

// Before the rename there is still the earlier file, and it is the truth: what
// was to replace it never came.
func TestAFaultBeforeTheRenameLeavesTheEarlierFile(t *testing.T) {
	for _, op := range []string{opCreate, opWrite, opSync, opClose, opRename} {
		t.Run(op, func(t *testing.T) {
			p := faultyKinds()[1].place(t)
			afs := p.afs.(*faulty)
			p.commit(t, "1.file", "from before")
			afs.fail(syscall.EIO, 1, op)
			if err := upload(p, "1.file"); !errors.Is(err, syscall.EIO) {
				t.Error(err)
			}
			afs.before = nil
			p.holds(t, files{"1.file": "from before"})
		})
	}
}

func TestWhatCannotBeRemovedIsToldAndSweptLater(t *testing.T) {
	ends := []struct {
		name string
		ops  []string
		end  func(Pending) error
	}{
		{"an abort", []string{opRemove}, Pending.Abort},
		{"an abort whose close fails too", []string{opClose, opRemove}, Pending.Abort},
		{"a commit whose sync fails", []string{opSync, opRemove}, Pending.Commit},
		{"a commit whose close fails", []string{opClose, opRemove}, Pending.Commit},
		{"a commit whose rename fails", []string{opRename, opRemove}, Pending.Commit},
	}
	for _, k := range faultyKinds() {
		for _, end := range ends {
			t.Run(end.name+" "+k.name, func(t *testing.T) {
				p := k.place(t)
				afs := p.afs.(*faulty)
				f := p.begin(t, "1.file", "payload")
				afs.fail(syscall.EROFS, 0, end.ops...)
				if err := end.end(f); !errors.Is(err, syscall.EROFS) {
					t.Errorf("it ends with %v", err)
				}
				if err := p.Sweep(numbered); !errors.Is(err, syscall.EROFS) {
					t.Errorf("a sweep that cannot remove it: %v", err)
				}
				if got := p.names(t); len(got) != 1 || !isTemp(got[0], numbered) {
					t.Errorf("the directory holds %q", got)
				}
				afs.before = nil
				if err := p.Sweep(numbered); err != nil {
					t.Error(err)
				}
				p.holds(t, files{})
				if afs.open != 0 {
					t.Errorf("%d files are still open", afs.open)
				}
				p.commit(t, "1.file", "the next")
				p.holds(t, files{"1.file": "the next"})
			})
		}
	}
}

// Its close fails, but it is gone, and that is all that is asked of an abort.
func TestAnAbortRemovesAFileThatCannotBeClosed(t *testing.T) {
	p := faultyKinds()[1].place(t)
	f := p.begin(t, "1.file", "payload")
	p.afs.(*faulty).fail(syscall.EIO, 0, opClose)
	if err := f.Abort(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the abort: %v", err)
	}
	p.holds(t, files{})
}

// The name stands, and cannot be taken back: both are told.
func TestAFileThatCanNeitherBeSyncedNorRemovedIsTold(t *testing.T) {
	p := faultyKinds()[1].place(t)
	afs := p.afs.(*faulty)
	f := p.begin(t, "1.file", "payload")
	both := map[string]error{opSyncDir: syscall.EIO, opRemove: syscall.EROFS}
	afs.before = func(op string) error { return both[op] }
	if err := f.Commit(); !errors.Is(err, syscall.EIO) || !errors.Is(err, syscall.EROFS) {
		t.Errorf("the commit: %v", err)
	}
}

func TestASweepThatCannotListIsAnError(t *testing.T) {
	for _, op := range []string{opOpenDir, opList} {
		t.Run(op, func(t *testing.T) {
			p := faultyKinds()[1].place(t)
			afs := p.afs.(*faulty)
			p.put(t, left("1.file"), "left")
			afs.open = 0 // put's own
			afs.fail(syscall.EACCES, 1, op)
			if err := p.Sweep(numbered); !errors.Is(err, syscall.EACCES) {
				t.Error(err)
			}
			if afs.open != 0 {
				t.Errorf("%d files are still open", afs.open)
			}
		})
	}
}

// One that cannot be removed does not keep the others.
func TestASweepGoesOnAfterAFailure(t *testing.T) {
	p := faultyKinds()[1].place(t)
	for i := range 5 {
		p.put(t, left(fmt.Sprintf("%d.file", i+1)), "left")
	}
	p.afs.(*faulty).fail(syscall.EACCES, 3, opRemove)
	if err := p.Sweep(numbered); !errors.Is(err, syscall.EACCES) {
		t.Error(err)
	}
	if got := p.names(t); len(got) != 1 {
		t.Errorf("left are %q", got)
	}
}

func TestRemoveTellsOfItsFailure(t *testing.T) {
	p := faultyKinds()[1].place(t)
	p.commit(t, "1.file", "one")
	p.afs.(*faulty).fail(syscall.EACCES, 1, opRemove)
	if err := p.Remove("1.file"); !errors.Is(err, syscall.EACCES) {
		t.Error(err)
	}
	p.holds(t, files{"1.file": "one"})
}

// squatted is a filesystem on which somebody else is quicker, so many times.
type squatted struct {
	afero.Fs
	times int
	taken files
}

func (s *squatted) OpenFile(name string, flag int, perm os.FileMode) (afero.File, error) {
	if s.times > 0 {
		s.times--
		s.taken[filepath.Base(name)] = "somebody else's"
		if err := afero.WriteFile(s.Fs, name, []byte("somebody else's"), 0o666); err != nil {
			return nil, err
		}
	}
	return s.Fs.OpenFile(name, flag, perm)
}

func TestATemporaryNameThatIsTakenIsNotUsed(t *testing.T) {
	for _, k := range kinds[1:] {
		t.Run(k.name, func(t *testing.T) {
			afs, base := k.room(t)
			squatters := &squatted{afs, 3, make(files)}
			p := k.placeAt(t, squatters, filepath.Join(base, "store"))
			p.commit(t, "1.file", "one")
			if len(squatters.taken) != 3 {
				t.Errorf("taken were %v", squatters.taken)
			}
			squatters.taken["1.file"] = "one"
			p.holds(t, squatters.taken)
		})
	}
}

func TestAFilesystemWithoutTheDirectoryIsAnError(t *testing.T) {
	readOnly := afero.NewReadOnlyFs(NewMemory())
	if _, err := New(readOnly, filepath.FromSlash("/missing")); !errors.Is(err, syscall.EPERM) {
		t.Errorf("of a filesystem that cannot be written: %v", err)
	}
	if _, err := New(statless{NewMemory()}, filepath.FromSlash("/made")); !errors.Is(err, syscall.EIO) {
		t.Errorf("of a directory that cannot be looked at: %v", err)
	}
}

type statless struct{ afero.Fs }

func (statless) Stat(string) (os.FileInfo, error) { return nil, syscall.EIO }

// Whose filesystem it is closes it.
func TestCloseLeavesTheFilesystem(t *testing.T) {
	afs := NewMemory()
	s, err := New(afs, "/store")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := afero.WriteFile(afs, filepath.FromSlash("/store/other"), nil, 0o666); err != nil {
		t.Error(err)
	}
}
