package fs

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// dirty tells how much of a file is still to be handed to the disk (cachestat(2)).
func dirty(t *testing.T, f *os.File) int {
	t.Helper()
	var st unix.Cachestat_t
	err := unix.Cachestat(uint(f.Fd()), &unix.CachestatRange{}, &st, 0)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP) {
		t.Skip("this kernel does not tell: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return int(st.Dirty) * os.Getpagesize()
}

func TestWriteBackReachesDisk(t *testing.T) {
	p := diskPlace(t)
	var st unix.Statfs_t
	if err := unix.Statfs(p.path, &st); err != nil {
		t.Fatal(err)
	}
	switch int64(st.Type) {
	case unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC:
	default:
		t.Skipf("filesystem %#x may have no disk behind it", st.Type)
	}
	f := p.begin(t, "1.file", "")
	defer f.Abort()
	if _, err := f.Write(make([]byte, 2*writeBackSize)); err != nil {
		t.Fatal(err)
	}
	file := f.(pendingFile)
	before := dirty(t, file.File())
	if before < writeBackSize {
		t.Skipf("of %d bytes the system has written all but %d already", 2*writeBackSize, before)
	}
	file.Wrote(2 * writeBackSize)
	if after := dirty(t, file.File()); after > before/4 {
		t.Errorf("of %d bytes %d are still to be written", before, after)
	}
	if err := f.Commit(); err != nil {
		t.Error(err)
	}
}

func TestWriteBackNotSupported(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := startWriteBack(w, 0, writeBackSize); err != nil {
		t.Errorf("of a pipe: %v", err)
	}
	w.Close()
	if err := startWriteBack(w, 0, writeBackSize); err != nil {
		t.Errorf("of what is closed: %v", err)
	}
}
