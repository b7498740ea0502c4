package fs

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/sys/unix"
)

// fakeDisk is a fakeDir whose files are ones of the system's.
type fakeDisk struct {
	fakeDir
	path    string
	renames func() // nil: at once
	groups  bool
}

func newFakeDisk(t *testing.T) *fakeDisk {
	d := &fakeDisk{path: t.TempDir(), groups: true}
	d.syncs = func() error { return nil }
	return d
}

func (d *fakeDisk) groupsCommits() bool { return d.groups }

func (d *fakeDisk) create(name string) (temporary, error) {
	f, err := os.Create(filepath.Join(d.path, name))
	return &fakeDiskFile{fakeFile{dir: &d.fakeDir, name: name}, d, f}, err
}

type fakeDiskFile struct {
	fakeFile
	disk   *fakeDisk
	osFile *os.File
}

func (f *fakeDiskFile) Write(p []byte) (int, error) { return f.osFile.Write(p) }
func (f *fakeDiskFile) file() *os.File              { return f.osFile }
func (f *fakeDiskFile) abort() error                { return f.osFile.Close() }

func (f *fakeDiskFile) rename(string, bool) error {
	if f.disk.renames != nil {
		f.disk.renames()
	}
	return f.osFile.Close()
}

// crowded is a Store in which so many files are being committed that the next are
// synced together.
func crowded(d directory, o *options) *Store {
	s := newStore(d, o)
	for range minGroup - 1 {
		s.committing.acquire()
	}
	return s
}

// committing commits a file of so many bytes in a bubble, and returns when it waits.
func committing(s *Store, name string, size int) (done chan error) {
	done = make(chan error, 1)
	go func() { done <- s.WriteFile(name, make([]byte, size)) }()
	synctest.Wait()
	return done
}

// isDone expects that a commit has ended, and how.
func isDone(t *testing.T, done chan error, want error) {
	t.Helper()
	select {
	case err := <-done:
		if !errors.Is(err, want) {
			t.Errorf("a commit ended with %v, want %v", err, want)
		}
	default:
		t.Error("a commit is not done")
	}
}

func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDisk(t)
		var syncing atomic.Int32
		disk, names := make(chan error), make(chan struct{})
		d.syncsFile = func(string) error {
			syncing.Add(1)
			defer syncing.Add(-1)
			return <-disk
		}
		d.renames = func() { <-names }
		s := crowded(d, &options{durability: File})
		expect := func(want int32) {
			t.Helper()
			synctest.Wait()
			if got := syncing.Load(); got != want {
				t.Errorf("%d files are being synced, want %d", got, want)
			}
		}
		commit := func(name string, n int) (all []chan error) {
			for i := range n {
				all = append(all, committing(s, name+strconv.Itoa(i), 1))
			}
			return all
		}

		first := committing(s, "first", maxGrouped)
		expect(1)
		second := commit("second", 8)
		expect(1)
		disk <- nil
		expect(0) // the first has no name yet
		names <- struct{}{}
		expect(8)
		isDone(t, first, nil)
		failure := errors.New("failed")
		disk <- failure
		for range 7 {
			disk <- nil
		}
		third := commit("third", 3)
		expect(0)
		close(names)
		expect(3)
		failed := 0
		for _, done := range second {
			if err := <-done; errors.Is(err, failure) {
				failed++
			} else if err != nil {
				t.Error(err)
			}
		}
		if failed != 1 {
			t.Errorf("%d commits failed, want that whose sync did", failed)
		}
		for range third {
			disk <- nil
		}
		synctest.Wait()
		for _, done := range third {
			isDone(t, done, nil)
		}
	})
}

func TestGroupCommitBeginsAllBeforeSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDisk(t)
		begun, synced := errors.New("begun"), errors.New("synced")
		first := make(chan error)
		var pushed []string
		pushes := func(f *os.File, _, _ int64) error {
			name := filepath.Base(f.Name())
			pushed = append(pushed, name)
			if name == "is not begun" || name == "neither" {
				return begun
			}
			return nil
		}
		want := []string{"well", "is not begun", "neither", "is not synced"}
		d.syncsFile = func(name string) error {
			if name == "first" {
				return <-first
			}
			if !slices.Equal(pushed, append([]string{"first"}, want...)) {
				t.Errorf("%s is synced when %q have been begun", name, pushed)
			}
			if name == "well" {
				return nil
			}
			return synced
		}
		s := crowded(d, new(options))
		s.writeBack = pushes
		alone := committing(s, "first", 1)
		var all []chan error
		for _, name := range want {
			all = append(all, committing(s, name, 1))
		}
		first <- nil
		synctest.Wait()
		isDone(t, alone, nil)
		for i, err := range []error{nil, begun, begun, synced} {
			isDone(t, all[i], err)
		}
	})
}

func TestGroupCommitOnlyManySmallFiles(t *testing.T) {
	tests := []struct {
		name  string
		store func(directory, *options) *Store
		size  int
	}{
		{"few", newStore, 1},
		{"large", crowded, maxGrouped + 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newFakeDisk(t)
				disk := make(chan error)
				d.syncsFile = func(name string) error {
					if name == "slow" {
						return <-disk
					}
					return nil
				}
				s := tt.store(d, new(options))
				slow := committing(s, "slow", tt.size)
				isDone(t, committing(s, "quick", 1), nil)
				disk <- nil
				synctest.Wait()
				isDone(t, slow, nil)
			})
		})
	}
}

// No bubble: who waits for a sync.Once is not seen by it.
func TestGroupCommitHangingSync(t *testing.T) {
	for _, tt := range []struct {
		name  string
		push  bool
		order []string
	}{
		{"in its sync", false, []string{"beside it", "hangs"}},
		{"before its sync", true, []string{"beside it", "hangs"}},
		{"in its sync, and leads", false, []string{"hangs", "beside it"}},
		{"before its sync, and leads", true, []string{"hangs", "beside it"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newFakeDisk(t)
			disk, first, begun := make(chan error), make(chan error), make(chan struct{})
			d.syncsFile = func(name string) error {
				switch {
				case name == "first":
					close(begun)
					return <-first
				case name == "hangs" && !tt.push:
					return <-disk
				}
				return nil
			}
			s := crowded(d, new(options))
			s.writeBack = func(f *os.File, _, _ int64) error {
				if filepath.Base(f.Name()) == "hangs" && tt.push {
					return <-disk
				}
				return nil
			}
			done := make(map[string]chan error)
			begin := func(name string) {
				result := make(chan error, 1)
				done[name] = result
				go func() { result <- s.WriteFile(name, []byte{1}) }()
			}
			end := func(name string) {
				t.Helper()
				if err := <-done[name]; err != nil {
					t.Error(err)
				}
			}

			begin("first")
			<-begun
			for i, name := range tt.order {
				begin(name)
				for s.commits.waiting() <= i {
					runtime.Gosched()
				}
			}
			first <- nil
			end("first")
			end("beside it")
			begin("after it")
			end("after it")
			disk <- nil
			end("hangs")
		})
	}
}

func (c *groupCommit) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		return 0
	}
	return len(c.next.files)
}

func TestGroupCommitFilesystems(t *testing.T) {
	for kind, want := range map[int64]bool{
		unix.EXT4_SUPER_MAGIC: true, unix.XFS_SUPER_MAGIC: true,
		unix.BTRFS_SUPER_MAGIC: false, unix.TMPFS_MAGIC: false, unix.NFS_SUPER_MAGIC: false,
	} {
		if got := gainsByGroups(kind); got != want {
			t.Errorf("on filesystem %#x: %v, want %v", kind, got, want)
		}
	}
	memory, err := os.MkdirTemp("/dev/shm", "")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(memory)
	for _, path := range []string{t.TempDir(), memory} {
		kind, err := exec.Command("stat", "-f", "-c", "%T", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		s, err := OpenDir(path)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Contains([]string{"ext2/ext3\n", "xfs\n"}, string(kind))
		if got := s.commits != nil; got != want {
			t.Errorf("in %s, on %s: %v, want %v", path, bytes.TrimSpace(kind), got, want)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	d := newFakeDisk(t)
	for _, want := range []bool{true, false} {
		d.groups = want
		if got := newStore(d, newOptions(nil)).commits != nil; got != want {
			t.Errorf("where groupsCommits is %v: %v", want, got)
		}
	}
}

func TestGroupCommitPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDisk(t)
		s := crowded(d, new(options))
		d.renames = func() { panic("rename") }
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			s.WriteFile("first", []byte{1})
		}()
		d.renames = nil
		isDone(t, committing(s, "second", 1), nil)
	})
}
