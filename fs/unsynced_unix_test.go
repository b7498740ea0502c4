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
	"syscall"
	"testing"

	"github.com/spf13/afero"
)

type unsyncedCommitter interface{ CommitUnsynced() error }

func TestCommitUnsynced(t *testing.T) {
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
			path := p.(filer).File().Name()
			if _, err := io.WriteString(p, "ERROR"); err != nil {
				t.Fatal(err)
			}
			if err := p.(unsyncedCommitter).CommitUnsynced(); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(filepath.Dir(path), "1.file")); string(got) != "ERROR" || err != nil {
				t.Errorf("the file holds %q, %v", got, err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the pending file: %v", err)
			}
			if err := p.(unsyncedCommitter).CommitUnsynced(); !errors.Is(err, os.ErrClosed) {
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

func TestCommitUnsyncedAfterTheCloseLeavesNothing(t *testing.T) {
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
	if err := p.(unsyncedCommitter).CommitUnsynced(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("the commit: %v", err)
	}
	if left, err := os.ReadDir(dir); len(left) != 0 || err != nil {
		t.Errorf("left: %v, %v", left, err)
	}
}

// syncedDisk is a disk that records what is synced.
type syncedDisk struct {
	*disk
	fail func(name string) error // what the sync of a file comes to

	mu     sync.Mutex
	synced []string // names of files, "." for the directory, "*" for all
}

func (d *syncedDisk) record(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.synced = append(d.synced, name)
}

func (d *syncedDisk) sync() error    { d.record("."); return d.disk.sync() }
func (d *syncedDisk) syncAll() error { d.record("*"); return d.disk.syncAll() }

func (d *syncedDisk) syncFile(name string) error {
	d.record(name)
	return errors.Join(d.disk.syncFile(name), d.fail(name))
}

func newSyncedDisk(t *testing.T, opts ...Option) (*Store, *syncedDisk) {
	t.Helper()
	s, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	d := &syncedDisk{disk: s.dir.(*disk), fail: func(string) error { return nil }}
	return newStore(d, newOptions(opts)), d
}

func commitUnsynced(t *testing.T, s *Store, name string) {
	t.Helper()
	p, err := s.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	write(t, p, "ERROR")
	if err := p.(unsyncedCommitter).CommitUnsynced(); err != nil {
		t.Fatal(err)
	}
}

// To sync the filesystem would wait for what others have written.
func TestACloseSyncsWhatIsUnsyncedAndNothingElse(t *testing.T) {
	few := []string{"1.file", "2.file", "3.file"}
	many := make([]string, maxUnsynced+1)
	for i := range many {
		many[i] = fmt.Sprintf("%d.file", i)
	}
	for _, test := range []struct {
		name       string
		durability Durability
		files      []string
		want       []string // in any order, but for the last
	}{
		{"nothing", Full, nil, nil},
		{"few", Full, few, append(slices.Clone(few), ".")},
		{"few, by their files", File, few, few},
		{"few that need none", None, few, nil},
		{"as many as are known", Full, many[:maxUnsynced-1], append(slices.Clone(many[:maxUnsynced-1]), ".")},
		{"too many to be known", Full, many, []string{"*"}},
		{"too many that need none", None, many, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s, d := newSyncedDisk(t, WithDurability(test.durability))
			for _, name := range test.files {
				commitUnsynced(t, s, name)
			}
			if len(d.synced) > 0 {
				t.Errorf("synced before the close: %q", d.synced)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
			got, want := d.synced, slices.Clone(test.want)
			if test.durability == Full && len(got) > 0 && got[len(got)-1] != want[len(want)-1] {
				t.Errorf("the last to be synced is %q", got[len(got)-1])
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("%d were synced, %q; want %d", len(got), got[:min(len(got), 9)], len(want))
			}
		})
	}
}

func TestACloseTellsOfASyncThatFails(t *testing.T) {
	s, d := newSyncedDisk(t)
	d.fail = func(name string) error {
		if name == "2.file" {
			return syscall.EIO
		}
		return nil
	}
	for _, name := range []string{"1.file", "2.file", "3.file"} {
		commitUnsynced(t, s, name)
	}
	if err := s.Close(); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "2.file") {
		t.Errorf("the close: %v", err)
	}
}

func TestACloseNeedNotSyncWhatIsGone(t *testing.T) {
	s, _ := newSyncedDisk(t)
	commitUnsynced(t, s, "1.file")
	if err := s.Remove("1.file"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("the close: %v", err)
	}
}

func TestACloseWarnsOfAFilesystemThatCannotSync(t *testing.T) {
	var warnings []error
	s, d := newSyncedDisk(t, OnWarning(func(err error) { warnings = append(warnings, err) }))
	d.fail = func(string) error { return syscall.EINVAL }
	commitUnsynced(t, s, "1.file")
	if err := s.Close(); err != nil {
		t.Errorf("the close: %v", err)
	}
	if len(warnings) != 1 || !errors.Is(warnings[0], ErrCannotSync) {
		t.Errorf("warnings: %v", warnings)
	}
}
