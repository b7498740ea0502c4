package fs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

func TestDurabilityUnmarshalText(t *testing.T) {
	for _, d := range []Durability{Full, File, None} {
		var got Durability
		if err := got.UnmarshalText([]byte(d)); err != nil || got != d {
			t.Errorf("%q is %q, %v", d, got, err)
		}
	}
	for _, word := range []string{"", "Full", "half", "full "} {
		d := File
		if err := d.UnmarshalText([]byte(word)); err == nil || d != File {
			t.Errorf("%q is %q, %v", word, d, err)
		}
	}
}

func TestDurabilitySyncs(t *testing.T) {
	tests := []struct {
		opts       []Option
		file, dirs int // for each commit; one more of a directory where the store's is made
	}{
		{nil, 1, 1},
		{[]Option{WithDurability(Full)}, 1, 1},
		{[]Option{WithDurability(File)}, 1, 0},
		{[]Option{WithDurability(None)}, 0, 0},
	}
	for _, test := range tests {
		t.Run(string(newOptions(test.opts).durability), func(t *testing.T) {
			const commits = 3
			afs := newFaulty(NewMemory())
			p := (kind{open: New}).placeAt(t, afs, filepath.FromSlash("/store"), test.opts...)
			if got := afs.Calls("sync directory"); got != test.dirs {
				t.Errorf("%d directories were synced for the one that was made", got)
			}
			for range commits {
				p.commit(t, "1.file", "payload")
			}
			if got := afs.Calls("sync"); got != commits*test.file {
				t.Errorf("%d files were synced in %d commits", got, commits)
			}
			if got := afs.Calls("sync directory"); got != (1+commits)*test.dirs {
				t.Errorf("directories were synced %d times in %d commits", got, commits)
			}
			p.holds(t, files{"1.file": "payload"})
		})
	}
}

func TestNoReplace(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		p := k.place(t, NoReplace())
		ends := []struct {
			name string
			end  func(Pending) error
		}{
			{"by a commit", Pending.Commit},
			{"by one that defers its sync", func(f Pending) error { return commitAs(f, "1.file", false) }},
		}
		for _, end := range ends {
			t.Run(end.name, func(t *testing.T) {
				if err := p.dir.remove("1.file"); err != nil {
					t.Fatal(err)
				}
				first, second := p.begin(t, "1.file", "first"), p.begin(t, "1.file", "second")
				if err := end.end(first); err != nil {
					t.Fatal(err)
				}
				if err := end.end(second); !errors.Is(err, os.ErrExist) {
					t.Errorf("the second: %v", err)
				}
				if err := second.Abort(); err != nil {
					t.Errorf("its abort: %v", err)
				}
				p.holds(t, files{"1.file": "first"})
			})
		}
		if err := p.dir.remove("1.file"); err != nil {
			t.Fatal(err)
		}
		t.Run("not even a directory", func(t *testing.T) {
			if err := p.afs.Mkdir(p.join("dir"), 0o777); err != nil {
				t.Fatal(err)
			}
			if err := p.begin(t, "dir", "payload").Commit(); !errors.Is(err, os.ErrExist) {
				t.Error(err)
			}
			if err := p.afs.Remove(p.join("dir")); err != nil {
				t.Error(err)
			}
			p.holds(t, files{})
		})
		t.Run("and of many at once one wins", func(t *testing.T) {
			const writers = 20
			results := make(chan error)
			for range writers {
				f := p.begin(t, "1.file", "payload")
				go func() { results <- f.Commit() }()
			}
			won := 0
			for range writers {
				switch err := <-results; {
				case err == nil:
					won++
				case !errors.Is(err, os.ErrExist):
					t.Error(err)
				}
			}
			if won != 1 {
				t.Errorf("%d were committed", won)
			}
			p.holds(t, files{"1.file": "payload"})
		})
	})
}

func TestNoReplaceStatFails(t *testing.T) {
	afs := newFaulty(NewMemory())
	p := (kind{open: New}).placeAt(t, afs, filepath.FromSlash("/store"), NoReplace())
	f := p.begin(t, "1.file", "payload")
	afs.Fail(syscall.EIO, 1, "stat")
	if err := f.Commit(); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	p.holds(t, files{})
}

func TestOnWarning(t *testing.T) {
	tests := []struct {
		name string
		err  error
		ops  []string
		warn bool
		want error // of a commit
	}{
		{"the directory, with EINVAL", syscall.EINVAL, []string{"sync directory"}, true, nil},
		{"the directory, with ENOTSUP", syscall.ENOTSUP, []string{"sync directory"}, true, nil},
		{"a file", syscall.EINVAL, []string{"sync"}, true, nil},
		{"either", syscall.ENOTSUP, []string{"sync", "sync directory"}, true, nil},
		{"the directory, and nobody is to be warned", syscall.EINVAL, []string{"sync directory"}, false, nil},
		{"a file, and nobody is to be warned", syscall.EINVAL, []string{"sync"}, false, syscall.EINVAL},
		{"the directory fails otherwise", syscall.EIO, []string{"sync directory"}, true, syscall.EIO},
		{"a file fails otherwise", syscall.EIO, []string{"sync"}, true, syscall.EIO},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var warnings []error
			var opts []Option
			if test.warn {
				opts = append(opts, OnWarning(func(err error) { warnings = append(warnings, err) }))
			}
			afs := newFaulty(NewMemory())
			p := (kind{open: New}).placeAt(t, afs, filepath.FromSlash("/store"), opts...)
			afs.Fail(test.err, 0, test.ops...)
			for range 3 {
				if err := p.begin(t, "1.file", "payload").Commit(); !errors.Is(err, test.want) {
					t.Errorf("the commit: %v", err)
				}
			}
			want := 0
			if test.warn && test.want == nil {
				want = 1
			}
			if len(warnings) != want {
				t.Errorf("the warnings: %v", warnings)
			}
			for _, err := range warnings {
				if !errors.Is(err, test.err) {
					t.Errorf("the warning: %v", err)
				}
			}
		})
	}
}

// The handle of the directory may fail in another way after it could not be synced.
func TestADirectoryThatCannotBeSyncedOrClosedIsAFailure(t *testing.T) {
	afs := newFaulty(NewMemory())
	p := (kind{open: New}).placeAt(t, afs, filepath.FromSlash("/store"))
	afs.Fail(syscall.EINVAL, 0, "sync directory")
	afs.Fail(syscall.EIO, 1, "close directory")
	if err := p.begin(t, "1.file", "payload").Commit(); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	p.holds(t, files{})
}

// The name of the second was there when the sync for the first failed, and nobody
// knows what that has left of it. That its own sync succeeds proves nothing.
func TestASyncOfTheDirectoryThatFailsFailsAllThatItWasToCover(t *testing.T) {
	afs := newFaulty(NewMemory())
	p := (kind{open: New}).placeAt(t, afs, filepath.FromSlash("/store"))
	first, second := p.begin(t, "1.file", "first"), p.begin(t, "2.file", "second")
	result := make(chan error, 1)
	syncs := 0
	afs.FailIf(func(op, _ string) error {
		if op != "sync directory" {
			return nil
		}
		if syncs++; syncs > 1 {
			return nil
		}
		go func() { result <- second.Commit() }()
		for blockedIn("(*Group).Sync(") == 0 { // it has its name, and waits for its sync
			runtime.Gosched()
		}
		return syscall.EIO
	})
	if err := first.Commit(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the first: %v", err)
	}
	if err := <-result; !errors.Is(err, syscall.EIO) {
		t.Errorf("the second: %v", err)
	}
	p.holds(t, files{})
	p.commit(t, "3.file", "after it")
	p.holds(t, files{"3.file": "after it"})
}

func TestWriteBack(t *testing.T) {
	tests := []struct {
		name string
		d    Durability
		n    []int
		want int64
	}{
		{"a small file is not", Full, []int{1, 100_000, 1 << 20}, 0},
		{"one that is nearly large is not", Full, []int{writeBackSize - 1}, 0},
		{"one of that size is", Full, []int{writeBackSize - 1, 1}, writeBackSize},
		{"a large one is, but for the end", File, []int{writeBackSize + 1, writeBackSize + 1}, 2 * writeBackSize},
		{"and in one piece as well", Full, []int{5*writeBackSize + 7}, 5 * writeBackSize},
		{"nothing is that need not be durable", None, []int{writeBackSize, writeBackSize}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := kinds[0].place(t, WithDurability(test.d)).begin(t, "1.file", "payload")
			defer f.Abort()
			file := f.(pendingFile)
			for _, n := range test.n {
				file.Wrote(n)
			}
			if file.writtenBack != test.want || file.writeBackErr != nil {
				t.Errorf("%d bytes are written back, want %d (%v)", file.writtenBack, test.want, file.writeBackErr)
			}
			if err := file.Reset(); err != nil {
				t.Fatal(err)
			}
			file.Wrote(1)
			if file.writtenBack != 0 {
				t.Errorf("after a reset %d bytes are written back", file.writtenBack)
			}
			io.WriteString(f, "ERROR")
			if err := f.Commit(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWriteBackFails(t *testing.T) {
	for _, sync := range []bool{true, false} {
		t.Run(fmt.Sprintf("sync: %t", sync), func(t *testing.T) {
			commit := func(f pendingFile) error { return f.CommitAs("1.file", sync) }
			p := kinds[0].place(t)
			f := p.begin(t, "1.file", "payload").(pendingFile)
			f.writeBackErr = syscall.ENOSPC
			if err := commit(f); !errors.Is(err, syscall.ENOSPC) {
				t.Error(err)
			}
			if err := commit(f); !errors.Is(err, os.ErrClosed) {
				t.Errorf("once more: %v", err)
			}
			p.holds(t, files{})
		})
	}
}
