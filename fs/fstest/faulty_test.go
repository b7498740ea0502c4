package fstest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/spf13/afero"
)

// calls are what a test can ask of a filesystem that holds the file /dir/a, with
// "hello" in it.
var calls = []struct {
	op   string
	call func(afs afero.Fs) error
}{
	{"create", func(afs afero.Fs) error { return closed(afs.Create("/dir/new")) }},
	{"create", func(afs afero.Fs) error { return closed(afs.OpenFile("/dir/new", os.O_RDWR|os.O_CREATE, 0o666)) }},
	{"open", func(afs afero.Fs) error { return closed(afs.Open("/dir/a")) }},
	{"open directory", func(afs afero.Fs) error { return closed(afs.Open("/dir")) }},
	{"read", onFile(func(f afero.File) error { _, err := f.Read(make([]byte, 1)); return err })},
	{"read", onFile(func(f afero.File) error { _, err := f.ReadAt(make([]byte, 1), 1); return err })},
	{"write", onFile(func(f afero.File) error { _, err := f.Write([]byte("x")); return err })},
	{"write", onFile(func(f afero.File) error { _, err := f.WriteString("x"); return err })},
	{"write", onFile(func(f afero.File) error { _, err := f.WriteAt([]byte("x"), 1); return err })},
	{"short write", onFile(func(f afero.File) error { _, err := f.Write([]byte("x")); return err })},
	{"seek", onFile(func(f afero.File) error { _, err := f.Seek(1, 0); return err })},
	{"truncate", onFile(func(f afero.File) error { return f.Truncate(1) })},
	{"sync", onFile(afero.File.Sync)},
	{"sync directory", onDir(afero.File.Sync)},
	{"close", func(afs afero.Fs) error { return closed(afs.Open("/dir/a")) }},
	{"close directory", func(afs afero.Fs) error { return closed(afs.Open("/dir")) }},
	{"list", onDir(func(f afero.File) error { _, err := f.Readdir(-1); return err })},
	{"list", onDir(func(f afero.File) error { _, err := f.Readdirnames(-1); return err })},
	{"stat", func(afs afero.Fs) error { _, err := afs.Stat("/dir/a"); return err }},
	{"stat", func(afs afero.Fs) error {
		_, _, err := afs.(afero.Lstater).LstatIfPossible("/dir/a")
		return err
	}},
	{"stat", onFile(func(f afero.File) error { _, err := f.Stat(); return err })},
	{"rename", func(afs afero.Fs) error { return afs.Rename("/dir/a", "/dir/b") }},
	{"remove", func(afs afero.Fs) error { return afs.Remove("/dir/a") }},
	{"remove", func(afs afero.Fs) error { return afs.RemoveAll("/dir/a") }},
	{"mkdir", func(afs afero.Fs) error { return afs.Mkdir("/dir/sub", 0o777) }},
	{"mkdir", func(afs afero.Fs) error { return afs.MkdirAll("/dir/sub", 0o777) }},
	{"change", func(afs afero.Fs) error { return afs.Chmod("/dir/a", 0o600) }},
	{"change", func(afs afero.Fs) error { return afs.Chown("/dir/a", 1, 1) }},
	{"change", func(afs afero.Fs) error { return afs.Chtimes("/dir/a", someTime, someTime) }},
}

func closed(f afero.File, err error) error {
	if err != nil {
		return err
	}
	return f.Close()
}

func onFile(do func(afero.File) error) func(afero.Fs) error {
	return func(afs afero.Fs) error {
		f, err := afs.OpenFile("/dir/a", os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return do(f)
	}
}

func onDir(do func(afero.File) error) func(afero.Fs) error {
	return func(afs afero.Fs) error {
		f, err := afs.Open("/dir")
		if err != nil {
			return err
		}
		defer f.Close()
		return do(f)
	}
}

func newFaulty(t *testing.T) faultyFs {
	t.Helper()
	f := NewFaulty(afero.NewMemMapFs()).Fs().(faultyFs)
	if err := afero.WriteFile(f, "/dir/a", []byte("hello"), 0o666); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAFaultyFailsTheCallItIsToldAndNoOther(t *testing.T) {
	for _, c := range calls {
		t.Run(c.op, func(t *testing.T) {
			quiet := newFaulty(t)
			before := quiet.Calls(c.op)
			if err := c.call(quiet); err != nil {
				t.Errorf("without a fault: %v", err)
			}
			if quiet.Calls(c.op) != before+1 {
				t.Errorf("it counted %d calls", quiet.Calls(c.op)-before)
			}

			f := newFaulty(t)
			f.Fail(syscall.EDQUOT, 1, c.op)
			err := c.call(f)
			if pe := (*fs.PathError)(nil); !errors.Is(err, syscall.EDQUOT) || !errors.As(err, &pe) || pe.Op != c.op {
				t.Errorf("with one: %v", err)
			}
			if f.Handles() != 0 {
				t.Errorf("%d files are open", f.Handles())
			}

			f = newFaulty(t)
			for _, other := range calls {
				if other.op != c.op {
					f.Fail(syscall.EDQUOT, 0, other.op)
				}
			}
			f.Mend()
			if err := c.call(f); err != nil {
				t.Errorf("once it is mended: %v", err)
			}
		})
	}
}

func TestAFaultyCountsFromWhenItIsTold(t *testing.T) {
	f := newFaulty(t)
	stat := func() error { _, err := f.Stat("/dir/a"); return err }
	stat()
	f.Fail(syscall.EIO, 2, "stat")
	for i, want := range []error{nil, syscall.EIO, nil} {
		if err := stat(); !errors.Is(err, want) {
			t.Errorf("call %d: %v", i+1, err)
		}
	}
	f.Fail(syscall.EACCES, 0, "stat")
	for range 2 {
		if err := stat(); !errors.Is(err, syscall.EACCES) {
			t.Error(err)
		}
	}
}

func TestAShortWriteWritesHalf(t *testing.T) {
	tests := []struct {
		op   string
		want string
		n    int
	}{{"short write", "HElloXY", 2}, {"write", "helloXY", 0}}
	for _, test := range tests {
		t.Run(test.op, func(t *testing.T) {
			f := newFaulty(t)
			file, err := f.OpenFile("/dir/a", os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			f.Fail(syscall.ENOSPC, 1, test.op)
			if n, err := file.Write([]byte("HELL")); n != test.n || !errors.Is(err, syscall.ENOSPC) {
				t.Errorf("it wrote %d, %v", n, err)
			}
			if n, err := file.WriteAt([]byte("XY"), 5); n != 2 || err != nil {
				t.Errorf("the next wrote %d, %v", n, err)
			}
			if err := file.Close(); err != nil {
				t.Error(err)
			}
			if got, err := afero.ReadFile(f, "/dir/a"); string(got) != test.want || err != nil {
				t.Errorf("it holds %q, %v", got, err)
			}
		})
	}
}

func TestAFaultyKnowsWhatIsOpen(t *testing.T) {
	f := newFaulty(t)
	a, err := f.Open("/dir/a")
	if err != nil {
		t.Fatal(err)
	}
	d, err := f.Open("/dir")
	if err != nil {
		t.Fatal(err)
	}
	if n := f.Handles(); n != 2 {
		t.Errorf("%d are open, want 2", n)
	}
	f.Fail(syscall.EIO, 0, "close", "close directory") // and they are closed all the same
	for range 2 {
		a.Close()
	}
	if n := f.Handles(); n != 1 {
		t.Errorf("%d are open, want 1", n)
	}
	d.Close()
	if n := f.Handles(); n != 0 {
		t.Errorf("%d are open, want none", n)
	}
}

func TestAFaultMayWait(t *testing.T) {
	f := newFaulty(t)
	meet := make(chan struct{})
	f.FailIf(func(op, name string) error {
		if op == "remove" && filepath.Base(name) == "a" {
			meet <- struct{}{}
		}
		return nil
	})
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := f.Remove("/dir/a"); err != nil {
			t.Error(err)
		}
	})
	if _, err := f.Stat("/dir"); err != nil { // while the other waits, or has not begun
		t.Error(err)
	}
	<-meet
	wg.Wait()
}
