package fs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/afero"
)

func TestInMemoryOnlyOneOfManyCreatesAFile(t *testing.T) {
	const creators, rounds = 100, 50
	mem := NewMemory()
	for round := range rounds {
		name := fmt.Sprintf("/file%d", round)
		start := make(chan struct{})
		var succeeded, refused atomic.Int32
		var wg sync.WaitGroup
		for range creators {
			wg.Go(func() {
				<-start
				f, err := mem.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
				switch {
				case err == nil:
					succeeded.Add(1)
					f.Close()
				case errors.Is(err, os.ErrExist):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		if succeeded.Load() != 1 || refused.Load() != creators-1 {
			t.Fatalf("%d succeeded, %d were refused", succeeded.Load(), refused.Load())
		}
	}
}

func TestInMemoryOnlyOneOfManyRenamesAFile(t *testing.T) {
	const renamers, rounds = 20, 100
	for round := range rounds {
		mem := NewMemory()
		if err := afero.WriteFile(mem, "/source", []byte("payload"), 0o666); err != nil {
			t.Fatal(err)
		}
		start := make(chan struct{})
		var succeeded atomic.Int32
		var wg sync.WaitGroup
		for i := range renamers {
			wg.Go(func() {
				<-start
				switch err := mem.Rename("/source", fmt.Sprintf("/target%d", i)); {
				case err == nil:
					succeeded.Add(1)
				case !errors.Is(err, os.ErrNotExist):
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		entries, err := afero.ReadDir(mem, "/")
		if err != nil {
			t.Fatal(err)
		}
		if succeeded.Load() != 1 || len(entries) != 1 {
			t.Fatalf("round %d: %d succeeded, and there are %d files", round, succeeded.Load(), len(entries))
		}
		if got, err := afero.ReadFile(mem, "/"+entries[0].Name()); string(got) != "payload" || err != nil {
			t.Fatalf("it holds %q, %v", got, err)
		}
	}
}

// lockChecker checks that each call holds the lock.
type lockChecker struct {
	afero.Fs // nil
	t        *testing.T
	mem      *memory
	calls    int
}

func (c *lockChecker) check(op string) error {
	c.calls++
	if c.mem.mu.TryLock() {
		c.mem.mu.Unlock()
		c.t.Errorf("%s is called without the lock", op)
	}
	return nil
}

func (c *lockChecker) Create(string) (afero.File, error)  { return nil, c.check("Create") }
func (c *lockChecker) Mkdir(string, os.FileMode) error    { return c.check("Mkdir") }
func (c *lockChecker) MkdirAll(string, os.FileMode) error { return c.check("MkdirAll") }
func (c *lockChecker) Remove(string) error                { return c.check("Remove") }
func (c *lockChecker) RemoveAll(string) error             { return c.check("RemoveAll") }
func (c *lockChecker) Rename(string, string) error        { return c.check("Rename") }
func (c *lockChecker) OpenFile(string, int, os.FileMode) (afero.File, error) {
	return nil, c.check("OpenFile")
}

// Without the lock, errors are too rare for a test.
func TestMemoryLock(t *testing.T) {
	checker := &lockChecker{t: t, mem: NewMemory().(*memory)}
	checker.mem.Fs = checker
	mem := afero.Fs(checker.mem)
	mem.Create("/a")
	mem.Mkdir("/a", 0o777)
	mem.MkdirAll("/a", 0o777)
	mem.OpenFile("/a", os.O_RDWR, 0o666)
	mem.Remove("/a")
	mem.RemoveAll("/a")
	mem.Rename("/a", "/b")
	if checker.calls < 7 {
		t.Errorf("%d calls came through", checker.calls)
	}
	if !checker.mem.mu.TryLock() {
		t.Error("the lock is not released")
	}
}

// The race detector is the judge; and that it ends.
func TestMemoryConcurrent(t *testing.T) {
	const workers, rounds = 8, 300
	mem := NewMemory()
	if err := mem.MkdirAll("/dir", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := afero.WriteFile(mem, "/dir/stays", []byte("stays"), 0o666); err != nil {
		t.Fatal(err)
	}
	name := func(i int) string { return fmt.Sprintf("/dir/%d", i%5) }
	ops := []func(i int){
		func(i int) {
			if f, err := mem.Create(name(i)); err == nil {
				io.WriteString(f, "x")
				f.Close()
			}
		},
		func(i int) {
			if f, err := mem.OpenFile(name(i), os.O_RDWR|os.O_CREATE, 0o666); err == nil {
				io.WriteString(f, "y")
				f.Stat()
				f.Close()
			}
		},
		func(i int) { afero.ReadFile(mem, name(i)) },
		func(i int) { mem.Rename(name(i), name(i+1)) },
		func(i int) { mem.Remove(name(i)) },
		func(int) {
			if f, err := mem.Open("/dir"); err == nil {
				f.Readdirnames(-1)
				f.Close()
			}
		},
		func(i int) {
			if fi, err := mem.Stat(name(i)); err == nil {
				fi.Size()
				fi.Mode()
				fi.ModTime()
				fi.IsDir()
			}
		},
		func(i int) { mem.Chmod(name(i), 0o600) },
		func(i int) { mem.Chown(name(i), 1, 1) },
		func(i int) { mem.Chtimes(name(i), time.Unix(1, 0), time.Unix(2, 0)) },
		func(i int) { mem.Mkdir(fmt.Sprintf("/other/%d", i), 0o777) },
		func(i int) { mem.MkdirAll(fmt.Sprintf("/other/%d/%d", i, i), 0o777) },
		func(i int) { mem.RemoveAll(fmt.Sprintf("/other/%d", i)) },
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range rounds {
				ops[(w+i)%len(ops)](w * i)
			}
		})
	}
	wg.Wait()
	if got, err := afero.ReadFile(mem, "/dir/stays"); string(got) != "stays" || err != nil {
		t.Errorf("what nobody touched holds %q, %v", got, err)
	}
}

func TestMemory(t *testing.T) {
	mem := NewMemory()
	if mem.Name() == "" {
		t.Error("it has no name")
	}
	dir, file, moved := filepath.FromSlash("/a/b"), filepath.FromSlash("/a/b/file"), filepath.FromSlash("/a/moved")
	if err := mem.Mkdir(filepath.Dir(dir), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := mem.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	if err := mem.Mkdir(dir, 0o777); !errors.Is(err, os.ErrExist) {
		t.Errorf("Mkdir of what is there: %v", err)
	}
	f, err := mem.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(f, "content")
	f.Close()
	then := time.Unix(1_000_000_000, 0)
	for _, err := range []error{mem.Chmod(file, 0o640), mem.Chown(file, 7, 7), mem.Chtimes(file, then, then)} {
		if err != nil {
			t.Error(err)
		}
	}
	fi, err := mem.Stat(file)
	if err != nil || fi.Size() != 7 || fi.Mode().Perm() != 0o640 || !fi.ModTime().Equal(then) {
		t.Errorf("Stat = %v, %v", fi, err)
	}
	if err := mem.Rename(file, moved); err != nil {
		t.Fatal(err)
	}
	if _, err := mem.Open(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("under its old name: %v", err)
	}
	if got, err := afero.ReadFile(mem, moved); string(got) != "content" || err != nil {
		t.Errorf("under its new name: %q, %v", got, err)
	}
	if err := mem.Remove(moved); err != nil {
		t.Error(err)
	}
	if err := mem.Remove(moved); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("Remove of what is gone: %v", err)
	}
	if err := mem.RemoveAll(filepath.Dir(dir)); err != nil {
		t.Error(err)
	}
	if _, err := mem.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was removed with its parent: %v", err)
	}
}
