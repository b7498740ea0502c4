//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package fs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/spf13/afero"
)

func TestDeferredSync(t *testing.T) {
	osfs, err := New(afero.NewOsFs(), filepath.Join(t.TempDir(), "os"))
	if err != nil {
		t.Fatal(err)
	}
	disk, err := OpenDir(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]*Store{"on a disk": disk, "on any filesystem of the system": osfs} {
		t.Run(name, func(t *testing.T) {
			p, err := s.Create(t.Context(), "1.file")
			if err != nil {
				t.Fatal(err)
			}
			path := p.(pendingFile).File().Name()
			if _, err := io.WriteString(p, "ERROR"); err != nil {
				t.Fatal(err)
			}
			if err := commitAs(p, "1.file", false); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(filepath.Dir(path), "1.file")); string(got) != "ERROR" || err != nil {
				t.Errorf("the file holds %q, %v", got, err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the pending file: %v", err)
			}
			if err := commitAs(p, "1.file", false); !errors.Is(err, os.ErrClosed) {
				t.Errorf("once more: %v", err)
			}
			if err := p.Abort(); err != nil {
				t.Errorf("an abort after it: %v", err)
			}
			if err := s.Close(); err != nil {
				t.Errorf("the close: %v", err)
			}
			if got, err := os.ReadFile(filepath.Join(filepath.Dir(path), "1.file")); string(got) != "ERROR" || err != nil {
				t.Errorf("after the close the file holds %q, %v", got, err)
			}
		})
	}
}

func TestDeferredSyncAfterClose(t *testing.T) {
	dir := t.TempDir()
	s, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Create(t.Context(), "1.file")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := commitAs(p, "1.file", false); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the commit: %v", err)
	}
	if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

// syncedDisk is a disk that records what is synced.
type syncedDisk struct {
	*disk
	file func(name string) error // called by a sync of a file
	self func() error            // called by one of the directory

	mu     sync.Mutex
	synced []string // names of files, "." for the directory
}

func (d *syncedDisk) record(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.synced = append(d.synced, name)
}

func (d *syncedDisk) sync() error {
	d.record(".")
	return errors.Join(d.self(), d.disk.sync())
}

func (d *syncedDisk) syncFile(name string) error {
	d.record(name)
	return errors.Join(d.file(name), d.disk.syncFile(name))
}

// has checks what was synced since it was last called: files in any order, and then the
// directory, if at all.
func (d *syncedDisk) has(t *testing.T, when string, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	sorted := func(names []string) []string {
		names = slices.Clone(names)
		files := names
		if n := len(names) - 1; n >= 0 && names[n] == "." {
			files = names[:n]
		}
		slices.Sort(files)
		return names
	}
	got, want := sorted(d.synced), sorted(want)
	d.synced = nil
	if !slices.Equal(got, want) {
		t.Errorf("%s: synced are %d, %.100q; want %d, %.100q", when, len(got), got, len(want), want)
	}
}

// failingOf is the sync of files of which one cannot be.
func failingOf(one string) func(name string) error {
	return func(name string) error {
		if name == one {
			return syscall.EIO
		}
		return nil
	}
}

func newSyncedDisk(t *testing.T, opts ...Option) (*Store, *syncedDisk) {
	t.Helper()
	s, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d := &syncedDisk{disk: s.dir.(*disk), file: func(string) error { return nil }, self: func() error { return nil }}
	return newStore(d, newOptions(opts)), d
}

func commitDeferred(t *testing.T, s *Store, names ...string) {
	t.Helper()
	for _, name := range names {
		p, err := s.Create(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(p, "ERROR"); err != nil {
			t.Fatal(err)
		}
		if err := commitAs(p, name, false); err != nil {
			t.Fatal(err)
		}
	}
}

var few = []string{"1.file", "2.file", "3.file"}

// To sync the filesystem would wait for what others have written.
func TestDeferredSyncClose(t *testing.T) {
	for _, test := range []struct {
		name       string
		durability Durability
		files      []string
		want       []string
	}{
		{"nothing", Full, nil, nil},
		{"few", Full, few, append(slices.Clone(few), ".")},
		{"one again and again", Full, []string{"1.file", "1.file", "1.file"}, []string{"1.file", "."}},
		{"few, but no names", File, few, few},
		{"few that need none", None, few, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, d := newSyncedDisk(t, WithDurability(test.durability))
			commitDeferred(t, s, test.files...)
			d.has(t, "before the close")
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			d.has(t, "at the close", test.want...)
		})
	}
}

// Nor is there an end to what a store would have to keep in mind.
func TestDeferredSyncTooMany(t *testing.T) {
	s, d := newSyncedDisk(t)
	names := make([]string, maxDeferred)
	for i := range names {
		names[i] = fmt.Sprintf("%d.file", i)
	}
	var wg sync.WaitGroup
	for some := range slices.Chunk(names[1:], 1000) {
		wg.Go(func() { commitDeferred(t, s, some...) })
	}
	wg.Wait()
	d.has(t, "when there is room for one more")
	d.file = failingOf("7.file")
	commitDeferred(t, s, names[0])
	d.has(t, "when there is none", append(names, ".")...)
	commitDeferred(t, s, few...)
	d.has(t, "begun anew")
	if err := s.Close(); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "7.file") {
		t.Errorf("the close: %v", err)
	}
	d.has(t, "at the close", append(slices.Clone(few), ".")...)
}

func TestDeferredSyncLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d := newSyncedDisk(t)
		for i := range 3 * maxCommits {
			commitDeferred(t, s, fmt.Sprintf("%d.file", i))
		}
		var begun atomic.Int64
		goOn := make(chan struct{})
		d.file = func(string) error { begun.Add(1); <-goOn; return nil }
		closed := make(chan error)
		go func() { closed <- s.Close() }()
		synctest.Wait()
		if n := begun.Load(); n != maxCommits {
			t.Errorf("%d files are synced at a time; want %d", n, maxCommits)
		}
		close(goOn)
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

// What does fail is told, and all else is synced nevertheless.
func TestDeferredSyncFails(t *testing.T) {
	for _, test := range []struct {
		name string
		fail func(d *syncedDisk)
		says string
	}{
		{"of a file", func(d *syncedDisk) { d.file = failingOf("2.file") }, "2.file"},
		{"of the directory", func(d *syncedDisk) { d.self = func() error { return syscall.EIO } }, ".file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, d := newSyncedDisk(t)
			test.fail(d)
			commitDeferred(t, s, few...)
			if err := s.Close(); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("the close: %v", err)
			}
			d.has(t, "at the close", append(slices.Clone(few), ".")...)
		})
	}
}

// The system has forgotten then what it could not write.
func TestDeferredSyncEarlierFailure(t *testing.T) {
	s, d := newSyncedDisk(t)
	commitDeferred(t, s, "1.file")
	failOnce := func() {
		t.Helper()
		d.self = func() error { return syscall.EIO }
		if err := s.WriteFile("2.file", nil); !errors.Is(err, syscall.EIO) {
			t.Errorf("the commit: %v", err)
		}
		d.self = func() error { return nil }
	}
	failOnce()
	if err := s.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the close: %v", err)
	}

	s, d = newSyncedDisk(t)
	failOnce()
	commitDeferred(t, s, "1.file")
	if err := s.Close(); err != nil {
		t.Errorf("the close, where nothing was left at that time: %v", err)
	}
}

// The last of those closes the directory, and not a sync.
func TestDeferredSyncDuringCommit(t *testing.T) {
	s, d := newSyncedDisk(t)
	commitDeferred(t, s, "1.file")
	syncing, goOn := make(chan struct{}), make(chan struct{})
	d.self = sync.OnceValue(func() error { close(syncing); <-goOn; return nil })
	committed := make(chan error)
	go func() { committed <- s.WriteFile("2.file", nil) }()
	<-syncing
	d.file = func(name string) error { close(goOn); return nil }
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-committed; err != nil {
		t.Error(err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.synced, []string{".", "1.file", "."}) {
		t.Errorf("synced are %q", d.synced)
	}
}

// Others do what they like with what is in the directory.
func TestDeferredSyncForeignFiles(t *testing.T) {
	s, d := newSyncedDisk(t, OnWarning(func(err error) { t.Error(err) }))
	commitDeferred(t, s, "gone.file", "link.file", "fifo.file", "dir.file", "1.file")
	at := func(name string) string { return filepath.Join(d.root.Name(), name) }
	for _, name := range []string{"gone.file", "link.file", "fifo.file", "dir.file"} {
		if err := os.Remove(at(name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{os.Symlink("/", at("link.file")), syscall.Mkfifo(at("fifo.file"), 0o666), os.Mkdir(at("dir.file"), 0o777)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("the close: %v", err)
	}
}

func TestDeferredSyncWarning(t *testing.T) {
	var warnings []error
	s, d := newSyncedDisk(t, OnWarning(func(err error) { warnings = append(warnings, err) }))
	d.file = func(string) error { return syscall.EINVAL }
	commitDeferred(t, s, few...)
	if err := s.Close(); err != nil {
		t.Errorf("the close: %v", err)
	}
	if len(warnings) != 1 || !errors.Is(warnings[0], syscall.EINVAL) {
		t.Errorf("warnings: %v", warnings)
	}
}

// What is there in place of a file that must not be replaced is as durable as that would be.
func TestDeferredSyncNoReplace(t *testing.T) {
	s, d := newSyncedDisk(t, NoReplace())
	commitDeferred(t, s, "1.file")
	p, err := s.Create(t.Context(), "2.file")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.root.Name(), "2.file"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := commitAs(p, "2.file", false); !errors.Is(err, os.ErrExist) {
		t.Errorf("the commit: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	d.has(t, "at the close", "1.file", "2.file", ".")
}
