package fs

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// asOrdinaryUser calls do on a thread of an ordinary user's, whoever runs the
// test: the superuser may write everywhere.
func asOrdinaryUser(t *testing.T, do func()) {
	t.Helper()
	done := make(chan syscall.Errno)
	go func() {
		runtime.LockOSThread() // and never unlock it: the thread ends with the goroutine
		if os.Getuid() == 0 {
			const nobody = 65534
			if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
				done <- errno
				return
			}
		}
		do()
		done <- 0
	}()
	if errno := <-done; errno != 0 {
		t.Fatal(errno)
	}
}

// openedByOrdinaryUser calls do as asOrdinaryUser does, with a store of theirs.
func openedByOrdinaryUser(t *testing.T, dir string, do func(s *Store)) {
	t.Helper()
	asOrdinaryUser(t, func() {
		s, err := OpenDir(dir)
		if err != nil {
			t.Error(err)
			return
		}
		defer s.Close()
		do(s)
	})
}

// openToAll is a temporary directory that is not the caller's own only.
func openToAll(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, path := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(path, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestADirectoryThatCannotBeWrittenIsAnErrorAtTheOpening(t *testing.T) {
	modes := []struct {
		name string
		mode os.FileMode
		want error
	}{
		{"one that can", 0o777, nil},
		{"not written", 0o555, syscall.EACCES},
		{"not searched", 0o666, syscall.EACCES},
		{"not read, and so not listed or synced", 0o333, syscall.EACCES},
	}
	for _, m := range modes {
		t.Run(m.name, func(t *testing.T) {
			dir := filepath.Join(openToAll(t), "store")
			if err := os.Mkdir(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(dir, m.mode); err != nil {
				t.Fatal(err)
			}
			defer os.Chmod(dir, 0o777) // for it to be removed
			asOrdinaryUser(t, func() {
				s, err := OpenDir(dir)
				if !errors.Is(err, m.want) {
					t.Errorf("OpenDir: %v", err)
				}
				if err != nil {
					return
				}
				defer s.Close()
				p, err := s.Create(t.Context(), "1.file")
				if err != nil {
					t.Error(err)
					return
				}
				if err := p.Commit(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestAMissingDirectoryWhereNoneCanBeMadeIsAnError(t *testing.T) {
	dir := openToAll(t)
	if err := os.Chmod(dir, 0o555); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o777)
	asOrdinaryUser(t, func() {
		for _, path := range []string{"a", "a/b"} {
			if s, err := OpenDir(filepath.Join(dir, path)); !errors.Is(err, syscall.EACCES) {
				t.Errorf("OpenDir = %v, %v", s, err)
			}
		}
	})
}

// The parents may be such that one can make something in them and no more.
func TestAMissingDirectoryIsMadeInAParentThatCannotBeRead(t *testing.T) {
	dir := openToAll(t)
	if err := os.Chmod(dir, 0o333); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(dir, 0o777)
	asOrdinaryUser(t, func() {
		s, err := OpenDir(filepath.Join(dir, "a", "b"))
		if err != nil {
			t.Error(err)
			return
		}
		s.Close()
	})
}

// As the umask may have it.
func TestAFileIsSyncedThatMayBeReadOrWritten(t *testing.T) {
	dir := openToAll(t)
	openedByOrdinaryUser(t, dir, func(s *Store) {
		for mode, want := range map[os.FileMode]error{0o600: nil, 0o400: nil, 0o200: nil, 0: syscall.EACCES} {
			name := mode.String()[1:]
			if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
				t.Error(err)
			}
			if err := s.dir.syncFile(name); !errors.Is(err, want) {
				t.Errorf("%s: %v; want %v", name, err, want)
			}
		}
	})
}

// What others left, and will not let us look into, is not ours to judge.
func TestASweepTellsOfWhatItMayNotOpen(t *testing.T) {
	dir := openToAll(t)
	locked := filepath.Join(dir, left("1.file"))
	if err := os.WriteFile(locked, []byte("another user's"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(locked, 0); err != nil {
		t.Fatal(err)
	}
	openedByOrdinaryUser(t, dir, func(s *Store) {
		if err := s.Sweep(numbered); !errors.Is(err, syscall.EACCES) {
			t.Errorf("Sweep: %v", err)
		}
	})
	if _, err := os.Stat(locked); err != nil {
		t.Error("it is gone:", err)
	}
}

// Not even the superuser can make a file there, whatever the mode says.
func TestADirectoryThatTakesNoFilesIsAnErrorAtTheOpening(t *testing.T) {
	for _, dir := range []string{"/proc/self", "/proc/self/fd", "/sys"} {
		if s, err := OpenDir(dir); err == nil {
			s.Close()
			t.Errorf("%s was opened", dir)
		}
	}
}

// No sync can be seen to work, but one that cannot is one that was tried.
func TestAFileIsSynced(t *testing.T) {
	root, err := os.OpenRoot("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := (&disk{root: root}).syncFile("comm"); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a sync of what cannot be synced: %v", err)
	}
}
