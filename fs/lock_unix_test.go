//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package fs

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// twice opens a file two times, as two processes would.
func twice(t *testing.T) (a, b *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	a, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	if b, err = os.Open(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return a, b
}

func TestALockIsForOne(t *testing.T) {
	t.Run("a new file is its creator's", func(t *testing.T) {
		a, b := twice(t)
		if mine, err := lockNew(a); !mine || err != nil {
			t.Errorf("lockNew = %v, %v", mine, err)
		}
		if tryLock(b) {
			t.Error("another has locked it too")
		}
	})
	t.Run("who comes second learns that it is not his", func(t *testing.T) {
		a, b := twice(t)
		if !tryLock(b) {
			t.Fatal("it cannot be locked")
		}
		if mine, err := lockNew(a); mine || err != nil {
			t.Errorf("lockNew = %v, %v", mine, err)
		}
	})
	t.Run("it ends with the file", func(t *testing.T) {
		a, b := twice(t)
		if !tryLock(a) {
			t.Fatal("it cannot be locked")
		}
		a.Close()
		if !tryLock(b) {
			t.Error("it goes on")
		}
	})
	t.Run("a second descriptor keeps it", func(t *testing.T) {
		a, b := twice(t)
		if !tryLock(a) {
			t.Fatal("it cannot be locked")
		}
		fd, err := dup(a)
		if err != nil {
			t.Fatal(err)
		}
		a.Close()
		if tryLock(b) {
			t.Error("it ended with the first")
		}
		syscall.Close(fd)
		if !tryLock(b) {
			t.Error("it goes on after the second")
		}
	})
}

func TestAFileThatIsClosedCannotBeLocked(t *testing.T) {
	a, _ := twice(t)
	a.Close()
	if mine, err := lockNew(a); mine || err == nil {
		t.Errorf("lockNew = %v, %v", mine, err)
	}
	if tryLock(a) {
		t.Error("tryLock = true")
	}
	if fd, err := dup(a); err == nil {
		syscall.Close(fd)
		t.Error("dup of it is no error")
	}
}
