package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/spf13/afero"
)

var errnos = []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EDQUOT, syscall.EACCES, syscall.EROFS, syscall.EMFILE}

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
	}{{"create", 1}, {"short write", 2}, {"sync", 1}, {"close", 1}, {"rename", 1}, {"open directory", 1}, {"sync directory", 1}, {"close directory", 1}}
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
							afs := p.afs.(*faultyFs)
							afs.Fail(errno, at, op.op)
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
							afs.Mend()
							if afs.Handles() != 0 {
								t.Errorf("%d files are still open", afs.Handles())
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
	for _, op := range []string{"create", "short write", "sync", "close", "rename"} {
		t.Run(op, func(t *testing.T) {
			p := faultyKinds()[1].place(t)
			afs := p.afs.(*faultyFs)
			p.commit(t, "1.file", "from before")
			afs.Fail(syscall.EIO, 1, op)
			if err := upload(p, "1.file"); !errors.Is(err, syscall.EIO) {
				t.Error(err)
			}
			afs.Mend()
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
		{"an abort", []string{"remove"}, Pending.Abort},
		{"an abort whose close fails too", []string{"close", "remove"}, Pending.Abort},
		{"a commit whose sync fails", []string{"sync", "remove"}, Pending.Commit},
		{"a commit whose close fails", []string{"close", "remove"}, Pending.Commit},
		{"a commit whose rename fails", []string{"rename", "remove"}, Pending.Commit},
	}
	for _, k := range faultyKinds() {
		for _, end := range ends {
			t.Run(end.name+" "+k.name, func(t *testing.T) {
				p := k.place(t)
				afs := p.afs.(*faultyFs)
				f := p.begin(t, "1.file", "payload")
				afs.Fail(syscall.EROFS, 0, end.ops...)
				if err := end.end(f); !errors.Is(err, syscall.EROFS) {
					t.Errorf("it ends with %v", err)
				}
				if err := p.Sweep(numbered); !errors.Is(err, syscall.EROFS) {
					t.Errorf("a sweep that cannot remove it: %v", err)
				}
				if got := p.names(t); len(got) != 1 || !isTemp(got[0], numbered) {
					t.Errorf("the directory holds %q", got)
				}
				afs.Mend()
				if err := p.Sweep(numbered); err != nil {
					t.Error(err)
				}
				p.holds(t, files{})
				if afs.Handles() != 0 {
					t.Errorf("%d files are still open", afs.Handles())
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
	p.afs.(*faultyFs).Fail(syscall.EIO, 0, "close")
	if err := f.Abort(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the abort: %v", err)
	}
	p.holds(t, files{})
}

// The name stands, and cannot be taken back: both are told.
func TestAFileThatCanNeitherBeSyncedNorRemovedIsTold(t *testing.T) {
	p := faultyKinds()[1].place(t)
	afs := p.afs.(*faultyFs)
	f := p.begin(t, "1.file", "payload")
	both := map[string]error{"sync directory": syscall.EIO, "remove": syscall.EROFS}
	afs.FailIf(func(op, _ string) error { return both[op] })
	if err := f.Commit(); !errors.Is(err, syscall.EIO) || !errors.Is(err, syscall.EROFS) {
		t.Errorf("the commit: %v", err)
	}
}

func TestASweepThatCannotListIsAnError(t *testing.T) {
	for _, op := range []string{"open directory", "list"} {
		t.Run(op, func(t *testing.T) {
			p := faultyKinds()[1].place(t)
			afs := p.afs.(*faultyFs)
			p.put(t, left("1.file"), "left")
			afs.Fail(syscall.EACCES, 1, op)
			if err := p.Sweep(numbered); !errors.Is(err, syscall.EACCES) {
				t.Error(err)
			}
			if afs.Handles() != 0 {
				t.Errorf("%d files are still open", afs.Handles())
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
	p.afs.(*faultyFs).Fail(syscall.EACCES, 3, "remove")
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
	p.afs.(*faultyFs).Fail(syscall.EACCES, 1, "remove")
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
