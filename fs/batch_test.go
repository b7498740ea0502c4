package fs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// fakeDisk is a fakeDir whose files are ones of the system's.
type fakeDisk struct {
	fakeDir
	path    string
	renames func() // called by each; nil: nothing is
}

func newFakeDisk(t *testing.T) *fakeDisk {
	d := &fakeDisk{path: t.TempDir()}
	d.syncs = func() error { return nil }
	return d
}

func (d *fakeDisk) create(name string) (temporary, error) {
	f, err := os.Create(filepath.Join(d.path, name))
	return &fakeDiskFile{fakeFile{dir: &d.fakeDir, name: name}, d, f}, err
}

type fakeDiskFile struct {
	fakeFile
	disk *fakeDisk
	file *os.File
}

func (f *fakeDiskFile) Write(p []byte) (int, error) { return f.file.Write(p) }
func (f *fakeDiskFile) File() *os.File              { return f.file }
func (f *fakeDiskFile) abort() error                { return f.file.Close() }

func (f *fakeDiskFile) rename(string, bool) error {
	if f.disk.renames != nil {
		f.disk.renames()
	}
	return f.file.Close()
}

// commit creates and commits a file of so many bytes.
func commit(s *Store, name string, size int) error {
	p, err := s.Create(context.Background(), name)
	if err == nil {
		_, err = p.Write(make([]byte, size))
	}
	if err != nil {
		return err
	}
	return p.Commit()
}

func TestSmallFilesAreSyncedTogether(t *testing.T) {
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
		s := newStore(d, &options{durability: File})
		results := make(chan error, maxCommits)
		begun := 0
		begin := func(n int) {
			for range n {
				begun++
				name := strconv.Itoa(begun)
				go func() { results <- commit(s, name, 1) }()
			}
		}
		expect := func(files, done int) {
			t.Helper()
			synctest.Wait()
			if got := int(syncing.Load()); got != files {
				t.Errorf("%d files are being synced, want %d", got, files)
			}
			if len(results) != done {
				t.Errorf("%d commits are done, want %d", len(results), done)
			}
		}

		begin(1)
		expect(1, 0)
		begin(8)
		expect(1, 0)
		disk <- nil
		expect(0, 0) // it has no name yet
		names <- struct{}{}
		expect(8, 1)
		failure := errors.New("failed")
		disk <- failure
		expect(7, 1)
		for range 7 {
			disk <- nil
		}
		begin(3)
		expect(0, 2) // the one that failed needs no name
		close(names)
		expect(3, 9)
		for range 3 {
			disk <- nil
		}
		expect(0, 12)
		failed := 0
		for range 12 {
			if err := <-results; errors.Is(err, failure) {
				failed++
			} else if err != nil {
				t.Error(err)
			}
		}
		if failed != 1 {
			t.Errorf("%d commits failed, want that whose sync did", failed)
		}
	})
}

func TestNobodyWaitsForALargeFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDisk(t)
		disk := make(chan struct{})
		d.syncsFile = func(name string) error {
			if name == "large" {
				<-disk
			}
			return nil
		}
		s := newStore(d, new(options))
		var large error
		go func() { large = commit(s, "large", maxBatched+1) }()
		synctest.Wait()
		if err := commit(s, "small", maxBatched); err != nil {
			t.Error(err)
		}
		close(disk)
		synctest.Wait()
		if large != nil {
			t.Error(large)
		}
	})
}

// A panic of one, whoever recovers it, holds nobody up.
func TestAPanicLeavesItsBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newFakeDisk(t)
		s := newStore(d, new(options))
		d.syncs = func() error { panic("sync") }
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			commit(s, "first", 1)
		}()
		d.syncs = func() error { return nil }
		if err := commit(s, "second", 1); err != nil {
			t.Error(err)
		}
	})
}
