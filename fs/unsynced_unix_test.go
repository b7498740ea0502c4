//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package fs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
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
