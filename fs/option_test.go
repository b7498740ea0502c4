package fs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/accio-go/accio/fs/fstest"
)

func TestDurabilityIsReadAndWrittenAsAWord(t *testing.T) {
	for d, word := range map[Durability]string{Full: "full", File: "file", None: "none"} {
		var got Durability = -1
		if err := got.UnmarshalText([]byte(word)); err != nil || got != d {
			t.Errorf("%q is read as %v, %v", word, got, err)
		}
		if got := d.String(); got != word {
			t.Errorf("%s is written as %q", word, got)
		}
	}
	for _, word := range []string{"", "Full", "half", "full "} {
		d := File
		if err := d.UnmarshalText([]byte(word)); !errors.Is(err, ErrDurability) || d != File {
			t.Errorf("%q is read as %v, %v", word, d, err)
		}
	}
	if got := Durability(7).String(); got != "Durability(7)" {
		t.Errorf("another is written as %q", got)
	}
}

func TestNoMoreIsSyncedThanWasAskedFor(t *testing.T) {
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
		t.Run(newOptions(test.opts).durability.String(), func(t *testing.T) {
			const commits = 3
			afs := fstest.NewFaulty(NewMemory())
			p := (kind{open: New}).placeAt(t, afs, filepath.FromSlash("/store"), test.opts...)
			if got := afs.Calls(fstest.SyncDir); got != test.dirs {
				t.Errorf("%d directories were synced for the one that was made", got)
			}
			for range commits {
				p.commit(t, "1.file", "payload")
			}
			if got := afs.Calls(fstest.Sync); got != commits*test.file {
				t.Errorf("%d files were synced in %d commits", got, commits)
			}
			if got := afs.Calls(fstest.SyncDir); got != (1+commits)*test.dirs {
				t.Errorf("directories were synced %d times in %d commits", got, commits)
			}
			p.holds(t, files{"1.file": "payload"})
		})
	}
}

func TestNothingIsReplacedThatIsNotToBe(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		p := k.place(t, NoReplace())
		ends := []struct {
			name string
			end  func(Pending) error
		}{
			{"by a commit", Pending.Commit},
			{"by one that is not synced", func(f Pending) error {
				if u, ok := f.(interface{ CommitUnsynced() error }); ok {
					return u.CommitUnsynced()
				}
				return f.Commit()
			}},
		}
		for _, end := range ends {
			t.Run(end.name, func(t *testing.T) {
				if err := p.Remove("1.file"); err != nil {
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
		if err := p.Remove("1.file"); err != nil {
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

func TestWhereNobodyCanLookNothingIsReplaced(t *testing.T) {
	afs := fstest.NewFaulty(NewMemory())
	p := (kind{open: New}).placeAt(t, afs, filepath.FromSlash("/store"), NoReplace())
	f := p.begin(t, "1.file", "payload")
	afs.Fail(syscall.EIO, 1, fstest.Stat)
	if err := f.Commit(); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	p.holds(t, files{})
}

func TestAFilesystemThatCannotSyncIsWarnedOfOnce(t *testing.T) {
	tests := []struct {
		name string
		err  error
		ops  []fstest.Op
		warn bool
		want error // of a commit
	}{
		{"the directory, with EINVAL", syscall.EINVAL, []fstest.Op{fstest.SyncDir}, true, nil},
		{"the directory, with ENOTSUP", syscall.ENOTSUP, []fstest.Op{fstest.SyncDir}, true, nil},
		{"a file", syscall.EINVAL, []fstest.Op{fstest.Sync}, true, nil},
		{"either", syscall.ENOTSUP, []fstest.Op{fstest.Sync, fstest.SyncDir}, true, nil},
		{"the directory, and nobody is to be warned", syscall.EINVAL, []fstest.Op{fstest.SyncDir}, false, nil},
		{"a file, and nobody is to be warned", syscall.EINVAL, []fstest.Op{fstest.Sync}, false, syscall.EINVAL},
		{"the directory fails otherwise", syscall.EIO, []fstest.Op{fstest.SyncDir}, true, syscall.EIO},
		{"a file fails otherwise", syscall.EIO, []fstest.Op{fstest.Sync}, true, syscall.EIO},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var warnings []error
			var opts []Option
			if test.warn {
				opts = append(opts, OnWarning(func(err error) { warnings = append(warnings, err) }))
			}
			afs := fstest.NewFaulty(NewMemory())
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
				if !errors.Is(err, ErrCannotSync) || !errors.Is(err, test.err) {
					t.Errorf("the warning: %v", err)
				}
			}
		})
	}
}

// The handle of the directory may fail in another way after it could not be synced.
func TestADirectoryThatCannotBeSyncedOrClosedIsAFailure(t *testing.T) {
	afs := fstest.NewFaulty(NewMemory())
	p := (kind{open: New}).placeAt(t, afs, filepath.FromSlash("/store"))
	afs.Fail(syscall.EINVAL, 0, fstest.SyncDir)
	afs.Fail(syscall.EIO, 1, fstest.CloseDir)
	if err := p.begin(t, "1.file", "payload").Commit(); !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
	p.holds(t, files{})
}

// The name of the second was there when the sync for the first failed, and nobody
// knows what that has left of it. That its own sync succeeds proves nothing.
func TestASyncOfTheDirectoryThatFailsFailsAllThatItWasToCover(t *testing.T) {
	afs := fstest.NewFaulty(NewMemory())
	p := (kind{open: New}).placeAt(t, afs, filepath.FromSlash("/store"))
	first, second := p.begin(t, "1.file", "first"), p.begin(t, "2.file", "second")
	result := make(chan error, 1)
	syncs := 0
	afs.FailIf(func(op fstest.Op, _ string) error {
		if op != fstest.SyncDir {
			return nil
		}
		if syncs++; syncs > 1 {
			return nil
		}
		go func() { result <- second.Commit() }()
		for blockedIn("(*groupSync).Sync(") == 0 { // it has its name, and waits for its sync
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

func TestWhatIsWrittenIsPushedOutInLargePieces(t *testing.T) {
	tests := []struct {
		name string
		d    Durability
		n    []int
		want int64
	}{
		{"a small file is not", Full, []int{1, 100_000, 1 << 20}, 0},
		{"one that is nearly large is not", Full, []int{pushSize - 1}, 0},
		{"one of that size is", Full, []int{pushSize - 1, 1}, pushSize},
		{"a large one is, but for the end", File, []int{pushSize + 1, pushSize + 1}, 2 * pushSize},
		{"and in one piece as well", Full, []int{5*pushSize + 7}, 5 * pushSize},
		{"nothing is that need not be durable", None, []int{pushSize, pushSize}, 0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := kinds[0].place(t, WithDurability(test.d)).begin(t, "1.file", "payload")
			defer f.Abort()
			file := f.(*pendingFile)
			for _, n := range test.n {
				file.Wrote(n)
			}
			if file.pushed != test.want || file.pushErr != nil {
				t.Errorf("%d bytes are pushed out, want %d (%v)", file.pushed, test.want, file.pushErr)
			}
			if err := file.Reset(); err != nil {
				t.Fatal(err)
			}
			file.Wrote(1)
			if file.pushed != 0 {
				t.Errorf("after a reset %d bytes are pushed out", file.pushed)
			}
			io.WriteString(f, "ERROR")
			if err := f.Commit(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAFileThatCouldNotBePushedOutIsNotCommitted(t *testing.T) {
	commits := map[string]func(*pendingFile) error{
		"by a commit":                   (*pendingFile).Commit,
		"nor by one that is not synced": (*pendingFile).CommitUnsynced,
	}
	for name, commit := range commits {
		t.Run(name, func(t *testing.T) {
			p := kinds[0].place(t)
			f := p.begin(t, "1.file", "payload").(*pendingFile)
			f.pushErr = syscall.ENOSPC
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
