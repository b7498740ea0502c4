package fs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestFree(t *testing.T) {
	base := t.TempDir()
	store, err := OpenDir(filepath.Join(base, "files"))
	if err != nil {
		t.Fatal(err)
	}
	n, err := store.Free()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil || n <= 0 {
		t.Fatalf("%d, %v; there is room for this test", n, err)
	}
	// It is the directory's, wherever that is.
	if err := os.Rename(filepath.Join(base, "files"), filepath.Join(base, "moved")); err != nil {
		t.Fatal(err)
	}
	if n, err := store.Free(); err != nil || n <= 0 {
		t.Errorf("once it is moved: %d, %v", n, err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := store.Free(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("once it is closed: %d, %v", n, err)
	}
	memory, err := New(NewMemory(), ".")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	if n, err := memory.Free(); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("in memory: %d, %v", n, err)
	}
}

// The space of a large file is missing while it is there.
func TestFreeIsLessByWhatIsWritten(t *testing.T) {
	dir := t.TempDir()
	store, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	const size = 64 << 20
	var told []int64
	for range 10 { // others write, and remove, meanwhile
		before, err := store.Free()
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip(err)
		}
		if before < 4*size {
			t.Skip("there is not enough space to tell")
		}
		large := filepath.Join(dir, "large")
		if err := os.WriteFile(large, make([]byte, size), 0o666); err != nil {
			t.Fatal(err)
		}
		after, err := store.Free()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(large); err != nil {
			t.Fatal(err)
		}
		if less := before - after; less > size/2 {
			return
		} else {
			told = append(told, less)
		}
	}
	t.Errorf("it was less by %d after %d bytes", told, size)
}
