package fstest

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/afero"
)

var someTime = time.Unix(1_000_000_000, 0)

// outcome says what a crash has left: each file with what it holds, and each
// directory.
func outcome(t *testing.T, afs afero.Fs) string {
	t.Helper()
	var all []string
	err := afero.Walk(afs, "/", func(path string, fi os.FileInfo, err error) error {
		if err != nil || path == string(filepath.Separator) {
			return err
		}
		path = filepath.ToSlash(path)
		if fi.IsDir() {
			all = append(all, path+"/")
			return nil
		}
		b, err := afero.ReadFile(afs, path)
		all = append(all, fmt.Sprintf("%s=%q", path, b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

// last lists the different outcomes of a crash at the end of c's history.
func last(t *testing.T, c crashingFs, limit int) []string {
	t.Helper()
	end := c.Steps()
	found := make(map[string]bool)
	for step, afs := range c.Crashes(limit, 1) {
		if step == end {
			found[outcome(t, afs)] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

func write(t *testing.T, afs afero.Fs, name string, pieces ...string) afero.File {
	t.Helper()
	f, err := afs.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range pieces {
		if _, err := io.WriteString(f, piece); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func syncs(t *testing.T, afs afero.Fs, name string) {
	t.Helper()
	f, err := afs.Open(name)
	if err == nil {
		err = errors.Join(f.Sync(), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatACrashMayLeave(t *testing.T) {
	tests := []struct {
		name string
		do   func(t *testing.T, c crashingFs) // after /a, which holds "old" and is durable
		want []string
	}{
		{"nothing was changed", func(*testing.T, crashingFs) {}, []string{`/a="old"`}},
		{"a file is written", func(t *testing.T, c crashingFs) { write(t, c, "/b", "xy") },
			[]string{`/a="old"`, `/a="old" /b=""`, `/a="old" /b="\x00\x00"`, `/a="old" /b="x"`, `/a="old" /b="xy"`}},
		{"and synced", func(t *testing.T, c crashingFs) { write(t, c, "/b", "xy").Sync() },
			[]string{`/a="old"`, `/a="old" /b="xy"`}},
		{"and its name is, but not itself", func(t *testing.T, c crashingFs) { write(t, c, "/b", "xy"); syncs(t, c, "/") },
			[]string{`/a="old" /b=""`, `/a="old" /b="\x00\x00"`, `/a="old" /b="x"`, `/a="old" /b="xy"`}},
		{"and both", func(t *testing.T, c crashingFs) { write(t, c, "/b", "xy").Sync(); syncs(t, c, "/") },
			[]string{`/a="old" /b="xy"`}},
		{"two writes, in any order", func(t *testing.T, c crashingFs) {
			f := write(t, c, "/b")
			f.Sync()
			syncs(t, c, "/")
			io.WriteString(f, "1")
			io.WriteString(f, "2")
		}, []string{`/a="old" /b=""`, `/a="old" /b="1"`, `/a="old" /b="12"`, `/a="old" /b="\x00\x00"`, `/a="old" /b="\x002"`}},
		{"a file is emptied", func(t *testing.T, c crashingFs) { write(t, c, "/a") },
			[]string{`/a=""`, `/a="old"`}},
		{"a file is removed", func(t *testing.T, c crashingFs) { c.Remove("/a") },
			[]string{``, `/a="old"`}},
		{"and the directory is synced", func(t *testing.T, c crashingFs) { c.Remove("/a"); syncs(t, c, "/") },
			[]string{``}},
		{"a file is renamed", func(t *testing.T, c crashingFs) { c.Rename("/a", "/b") },
			[]string{``, `/a="old"`, `/a="old" /b="old"`, `/b="old"`}},
		{"and the directory is synced ", func(t *testing.T, c crashingFs) { c.Rename("/a", "/b"); syncs(t, c, "/") },
			[]string{`/b="old"`}},
		{"a file replaces it that was not synced", func(t *testing.T, c crashingFs) {
			write(t, c, "/b", "n")
			syncs(t, c, "/")
			c.Rename("/b", "/a")
			syncs(t, c, "/")
		}, []string{`/a=""`, `/a="\x00"`, `/a="n"`}},
		{"a file replaces it that was synced", func(t *testing.T, c crashingFs) {
			write(t, c, "/b", "new").Sync()
			c.Rename("/b", "/a")
		}, []string{`/a="new"`, `/a="new" /b="new"`, `/a="old"`, `/a="old" /b="new"`}},
		{"a name that came and went", func(t *testing.T, c crashingFs) {
			write(t, c, "/b")
			c.Remove("/b")
			syncs(t, c, "/")
		}, []string{`/a="old"`}},
		{"a directory that is not synced", func(t *testing.T, c crashingFs) {
			c.Mkdir("/d", 0o777)
			write(t, c, "/d/f").Sync()
			syncs(t, c, "/d")
		}, []string{`/a="old"`, `/a="old" /d/ /d/f=""`}},
		{"a directory that is", func(t *testing.T, c crashingFs) {
			c.MkdirAll("/d/e", 0o777)
			write(t, c, "/d/e/f").Sync()
			syncs(t, c, "/")
		}, []string{`/a="old" /d/`, `/a="old" /d/ /d/e/`, `/a="old" /d/ /d/e/ /d/e/f=""`}},
		{"all is synced", func(t *testing.T, c crashingFs) { write(t, c, "/b", "xy"); c.RemoveAll("/a"); c.SyncAll() },
			[]string{`/b="xy"`}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := new(Crashing).Fs().(crashingFs)
			write(t, c, "/a", "old")
			c.SyncAll()
			test.do(t, c)
			if got := last(t, c, 1000); !slices.Equal(got, slices.Sorted(slices.Values(test.want))) {
				t.Errorf("it may leave\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

func TestCrashesComeForEachStep(t *testing.T) {
	c := new(Crashing).Fs().(crashingFs)
	write(t, c, "/a", "1").Sync()
	seen := make(map[int]bool)
	for step, afs := range c.Crashes(4, 1) {
		seen[step] = true
		got, err := afero.ReadFile(afs, "/a")
		if step == 0 && !errors.Is(err, os.ErrNotExist) {
			t.Errorf("before the first step: %q, %v", got, err)
		}
	}
	if want := c.Steps() + 1; want != 4 || len(seen) != want {
		t.Errorf("there were %d steps, and crashes at %v", c.Steps(), seen)
	}
}

func TestThereAreNoMoreCrashesThanTheLimitAndTheSameForTheSameSeed(t *testing.T) {
	c := new(Crashing).Fs().(crashingFs)
	for i := range 10 {
		write(t, c, fmt.Sprintf("/%d", i), "some", "thing")
	}
	list := func(seed uint64) (all []string) {
		for step, afs := range c.Crashes(20, seed) {
			if step == c.Steps() {
				all = append(all, outcome(t, afs))
			}
		}
		return all
	}
	one := list(1)
	if len(one) != 20 {
		t.Errorf("%d crashes at the end, want 20", len(one))
	}
	if !slices.Equal(one, list(1)) {
		t.Error("the same seed gave others")
	}
	if slices.Equal(one, list(2)) {
		t.Error("another seed gave the same")
	}
	nothing, all := false, false
	for _, o := range one {
		nothing = nothing || o == ""
		all = all || strings.Count(o, `="something"`) == 10
	}
	if !nothing || !all {
		t.Errorf("nothing left: %v, all left: %v", nothing, all)
	}
}

func TestTheStateOfACrashIsOnesOwn(t *testing.T) {
	c := new(Crashing).Fs().(crashingFs)
	write(t, c, "/a", "old").Sync()
	c.SyncAll()
	for _, afs := range c.Crashes(10, 1) {
		afero.WriteFile(afs, "/a", []byte("spoilt"), 0o666)
	}
	if got := last(t, c, 10); !slices.Equal(got, []string{`/a="old"`}) {
		t.Errorf("it may leave %q", got)
	}
}

// It is a filesystem like any other, as long as the power lasts.
func TestACrashingIsAFilesystem(t *testing.T) {
	c := new(Crashing).Fs().(crashingFs)
	if err := c.MkdirAll("/d/e", 0o777); err != nil {
		t.Fatal(err)
	}
	f := write(t, c, "/d/a", "hello")
	if _, err := f.WriteAt([]byte("J"), 0); err != nil {
		t.Error(err)
	}
	if err := f.Truncate(4); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if got, err := afero.ReadFile(c, "/d/a"); string(got) != "Jell" || err != nil {
		t.Errorf("it holds %q, %v", got, err)
	}
	r, err := c.Open("/d/a")
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2)
	if n, err := r.ReadAt(b, 1); n != 2 || err != nil || string(b) != "el" {
		t.Errorf("in its midst it holds %q, %v", b[:n], err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	infos, err := afero.ReadDir(c, "/d")
	if err != nil || len(infos) != 2 || infos[0].Name() != "a" || infos[1].Name() != "e" {
		t.Errorf("the directory holds %v, %v", infos, err)
	}
	if err := errors.Join(c.Chmod("/d/a", 0o600), c.Chown("/d/a", 1, 1), c.Chtimes("/d/a", someTime, someTime)); err != nil {
		t.Error(err)
	}
	if fi, err := c.Stat("/d/a"); err != nil || fi.Mode().Perm() != 0o600 || !fi.ModTime().Equal(someTime) {
		t.Errorf("it is %v, %v", fi, err)
	}
	refusals := []struct {
		what string
		err  error
		want error
	}{
		{"to open what is not there", closed(c.Open("/none")), os.ErrNotExist},
		{"to create where there is no directory", closed(c.Create("/none/a")), os.ErrNotExist},
		{"to create below a file", closed(c.Create("/d/a/b")), os.ErrNotExist},
		{"to create what is there", closed(c.OpenFile("/d/a", os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)), os.ErrExist},
		{"to append", closed(c.OpenFile("/d/a", os.O_WRONLY|os.O_APPEND, 0)), errors.ErrUnsupported},
		{"to write a directory", closed(c.Create("/d")), syscall.EISDIR},
		{"to make what is there", c.Mkdir("/d", 0o777), os.ErrExist},
		{"to make what has no parent", c.Mkdir("/none/d", 0o777), os.ErrNotExist},
		{"to make a directory of a file", c.MkdirAll("/d/a/b", 0o777), syscall.ENOTDIR},
		{"to remove what is not there", c.Remove("/none"), os.ErrNotExist},
		{"to remove what is not empty", c.Remove("/d"), syscall.ENOTEMPTY},
		{"to rename what is not there", c.Rename("/none", "/b"), os.ErrNotExist},
		{"to rename to nowhere", c.Rename("/d/a", "/none/a"), os.ErrNotExist},
		{"to rename a directory", c.Rename("/d", "/b"), errors.ErrUnsupported},
		{"to rename to a directory", c.Rename("/d/a", "/d/e"), syscall.EISDIR},
	}
	steps := c.Steps()
	for _, r := range refusals {
		if !errors.Is(r.err, r.want) {
			t.Errorf("%s: %v, want %v", r.what, r.err, r.want)
		}
	}
	if err := errors.Join(c.MkdirAll("/d/e", 0o777), c.Rename("/d/a", "/d/a"), c.RemoveAll("/none")); err != nil {
		t.Error(err)
	}
	if c.Steps() != steps {
		t.Error("what is refused, and what changes nothing, is a step")
	}
	if err := c.RemoveAll("/d"); err != nil {
		t.Error(err)
	}
	if got := outcome(t, c); got != "" {
		t.Errorf("left is %s", got)
	}
}

func TestACrashingIsSafeForConcurrentUse(t *testing.T) {
	c := new(Crashing).Fs().(crashingFs)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 20 {
				f := write(t, c, fmt.Sprintf("/t%d", i), "payload")
				if err := errors.Join(f.Sync(), f.Close(), c.Rename(fmt.Sprintf("/t%d", i), "/name")); err != nil {
					t.Error(err)
				}
				for range c.Crashes(4, 1) {
					break
				}
			}
		})
	}
	wg.Wait()
	syncs(t, c, "/")
	if got := last(t, c, 10); !slices.Equal(got, []string{`/name="payload"`}) {
		t.Errorf("it may leave %q", got)
	}
}
