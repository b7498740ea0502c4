package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs/fstest"
	"github.com/accio-go/accio/fs/internal/groupsync"
)

// A kind of store, for what holds of all of them.
type kind struct {
	name string
	room func(t *testing.T) (afs afero.Fs, base string) // a filesystem and a directory to use in it
	open func(afs afero.Fs, dir string, opts ...Option) (*Store, error)
}

var kinds = []kind{
	{"on the disk", roomOnDisk, func(_ afero.Fs, dir string, opts ...Option) (*Store, error) { return OpenDir(dir, opts...) }},
	{"on OsFs", roomOnDisk, New},
	{"in memory", func(*testing.T) (afero.Fs, string) { return NewMemory(), filepath.FromSlash("/base") }, New},
	{"in memory, below a base path", func(*testing.T) (afero.Fs, string) {
		return afero.NewBasePathFs(NewMemory(), filepath.FromSlash("/base")), filepath.FromSlash("/deep")
	}, New},
}

func roomOnDisk(t *testing.T) (afero.Fs, string) { return afero.NewOsFs(), t.TempDir() }

func eachKind(t *testing.T, test func(t *testing.T, k kind)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			test(t, k)
		})
	}
}

func eachPlace(t *testing.T, test func(t *testing.T, p *place)) {
	eachKind(t, func(t *testing.T, k kind) { test(t, k.place(t)) })
}

// place is a Store with its directory, as others see it.
type place struct {
	*Store
	kind kind
	afs  afero.Fs
	path string
}

func (k kind) place(t *testing.T, opts ...Option) *place {
	afs, base := k.room(t)
	return k.placeAt(t, afs, filepath.Join(base, "store"), opts...)
}

func (k kind) placeAt(t *testing.T, afs afero.Fs, path string, opts ...Option) *place {
	t.Helper()
	s, err := k.open(afs, path, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	return &place{s, k, afs, path}
}

func (p *place) join(name string) string { return filepath.Join(p.path, name) }

// begin creates a pending file with something in it.
func (p *place) begin(t testing.TB, name, content string) Pending {
	t.Helper()
	f, err := p.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, content); err != nil {
		t.Fatal(err)
	}
	return f
}

func (p *place) commit(t testing.TB, name, content string) {
	t.Helper()
	if err := p.begin(t, name, content).Commit(); err != nil {
		t.Fatal(err)
	}
}

// put makes a file as somebody else would.
func (p *place) put(t testing.TB, name, content string) {
	t.Helper()
	if err := afero.WriteFile(p.afs, p.join(name), []byte(content), 0o666); err != nil {
		t.Fatal(err)
	}
}

func (p *place) names(t testing.TB) []string {
	t.Helper()
	infos, err := afero.ReadDir(p.afs, p.path)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, fi := range infos {
		names = append(names, fi.Name())
	}
	return names
}

// holds fails the test unless the directory holds these files, with these
// contents, and nothing else at all.
func (p *place) holds(t testing.TB, want map[string]string) {
	t.Helper()
	if got := p.names(t); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("the directory holds %q, want %q", got, slices.Sorted(maps.Keys(want)))
		return
	}
	for name, content := range want {
		got, err := afero.ReadFile(p.afs, p.join(name))
		if err != nil {
			t.Errorf("read %s: %v", name, err)
		} else if string(got) != content {
			t.Errorf("%s holds %s, want %s", name, short(got), short([]byte(content)))
		}
	}
}

func short(b []byte) string {
	if len(b) > 40 {
		return fmt.Sprintf("%d bytes, %q…", len(b), b[:40])
	}
	return fmt.Sprintf("%q", b)
}

type files = map[string]string

// faultyFs is a Faulty and its filesystem.
type faultyFs struct {
	*fstest.Faulty
	afero.Fs
}

func newFaulty(inner afero.Fs) *faultyFs {
	f := fstest.NewFaulty(inner)
	return &faultyFs{f, f.Fs()}
}

func (f *faultyFs) LstatIfPossible(name string) (os.FileInfo, bool, error) {
	return f.Fs.(afero.Lstater).LstatIfPossible(name)
}

func TestAFileIsVisibleWholeOnceItIsCommitted(t *testing.T) {
	large := make([]byte, 1<<20+1)
	rand.NewChaCha8([32]byte{}).Read(large)
	payloads := []struct {
		name   string
		pieces []string
	}{
		{"a file that nothing was written to", nil},
		{"a file that only nothing was written to", []string{"", ""}},
		{"one byte", []string{"x"}},
		{"one write", []string{"hello, world\n"}},
		{"many small writes", slices.Repeat([]string{"a", "", "bc\r\n\x00"}, 300)},
		{"a large file in one write", []string{string(large)}},
		{"a large file in pieces", slices.Collect(func(yield func(string) bool) {
			for piece := range slices.Chunk(large, 100_003) {
				if !yield(string(piece)) {
					return
				}
			}
		})},
	}
	eachKind(t, func(t *testing.T, k kind) {
		for _, payload := range payloads {
			t.Run(payload.name, func(t *testing.T) {
				p := k.place(t)
				f, err := p.Create(t.Context(), "1.file")
				if err != nil {
					t.Fatal(err)
				}
				for _, piece := range payload.pieces {
					if n, err := io.WriteString(f, piece); err != nil || n != len(piece) {
						t.Fatalf("wrote %d of %d bytes, %v", n, len(piece), err)
					}
				}
				if got := p.names(t); len(got) != 1 || !isTemp(got[0], numbered) {
					t.Errorf("before the commit the directory holds %q", got)
				}
				if err := f.Commit(); err != nil {
					t.Fatal(err)
				}
				want := files{"1.file": strings.Join(payload.pieces, "")}
				p.holds(t, want)

				if err := f.Abort(); err != nil {
					t.Errorf("an abort after the commit: %v", err)
				}
				if err := f.Commit(); !errors.Is(err, os.ErrClosed) {
					t.Errorf("a second commit: %v", err)
				}
				if _, err := io.WriteString(f, "more"); err == nil {
					t.Error("a write after the commit is no error")
				}
				p.holds(t, want)
			})
		}
	})
}

func TestAnAbortedFileLeavesNothing(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		p.commit(t, "1.file", "from before")
		for _, content := range []string{"", "part of a payload"} {
			f := p.begin(t, "1.file", content)
			if err := f.Abort(); err != nil {
				t.Error(err)
			}
			p.holds(t, files{"1.file": "from before"})
			if err := f.Abort(); err != nil {
				t.Errorf("a second abort: %v", err)
			}
			if err := f.Commit(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("a commit after the abort: %v", err)
			}
			if _, err := io.WriteString(f, "more"); err == nil {
				t.Error("a write after the abort is no error")
			}
			p.holds(t, files{"1.file": "from before"})
		}
	})
}

func TestWhoReadsWhileAFileIsReplacedSeesOneOfThemWhole(t *testing.T) {
	const writers, rounds = 8, 125
	var versions []string
	for i := range 26 {
		versions = append(versions, strings.Repeat(string(rune('a'+i)), 500+i*100))
	}
	version := func(i int) string { return versions[i%26] }
	eachPlace(t, func(t *testing.T, p *place) {
		p.commit(t, "1.file", version(0))
		stores := []*place{p}
		for len(stores) < writers {
			stores = append(stores, p.kind.placeAt(t, p.afs, p.path))
		}
		done := make(chan struct{})
		var reader, wg sync.WaitGroup
		reader.Go(func() {
			for reads := 0; ; reads++ {
				got, err := afero.ReadFile(p.afs, p.join("1.file"))
				if err != nil || !slices.Contains(versions, string(got)) {
					t.Errorf("read %s, %v", short(got), err)
					return
				}
				select {
				case <-done:
					if reads > 0 {
						return
					}
				default:
				}
			}
		})
		for w, store := range stores { // side by side, since together they wait less for the disk
			wg.Go(func() {
				for i := range rounds {
					f, err := store.Create(t.Context(), "1.file")
					if err == nil {
						_, err = io.WriteString(f, version(w*rounds+i))
					}
					if err == nil {
						err = f.Commit()
					}
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		close(done)
		reader.Wait()
		p.commit(t, "1.file", "the last")
		p.holds(t, files{"1.file": "the last"})
	})
}

func TestManyCommitAtOnce(t *testing.T) {
	const writers = 200
	tests := []struct {
		name   string
		target func(i int) string
	}{
		{"each under a name of its own", func(i int) string { return fmt.Sprintf("%d.file", i) }},
		{"all under one name", func(int) string { return "1.file" }},
		{"by tens", func(i int) string { return fmt.Sprintf("%d.file", i/10) }},
	}
	eachKind(t, func(t *testing.T, k kind) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				p := k.place(t)
				content := func(i int) string { return strings.Repeat(fmt.Sprintf("%03d\n", i), 1+i) }
				start := make(chan struct{})
				var wg sync.WaitGroup
				for i := range writers {
					wg.Go(func() {
						<-start
						f, err := p.Create(t.Context(), test.target(i))
						if err != nil {
							t.Error(err)
							return
						}
						if _, err := io.WriteString(f, content(i)); err != nil {
							t.Error(err)
						}
						if err := f.Commit(); err != nil {
							t.Error(err)
						}
					})
				}
				close(start)
				wg.Wait()

				candidates := make(map[string][]string)
				for i := range writers {
					candidates[test.target(i)] = append(candidates[test.target(i)], content(i))
				}
				if got := p.names(t); !slices.Equal(got, slices.Sorted(maps.Keys(candidates))) {
					t.Fatalf("the directory holds %q", got)
				}
				for name, contents := range candidates {
					got, err := afero.ReadFile(p.afs, p.join(name))
					if err != nil || !slices.Contains(contents, string(got)) {
						t.Errorf("%s holds %s, %v: nothing that was written to it", name, short(got), err)
					}
				}
			})
		}
	})
}

func TestStoresMayShareADirectory(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		afs, base := k.room(t)
		one, two := k.placeAt(t, afs, base), k.placeAt(t, afs, base)
		f, g := one.begin(t, "1.file", "one"), two.begin(t, "1.file", "two")
		if err := f.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := g.Commit(); err != nil {
			t.Fatal(err)
		}
		two.begin(t, "2.file", "never").Abort()
		one.holds(t, files{"1.file": "two"})
	})
}

func TestOnlyPlainNamesAreTaken(t *testing.T) {
	refused := []struct{ why, name string }{
		{"nothing", ""},
		{"the directory", "."},
		{"its parent", ".."},
		{"a hidden name", ".hidden"},
		{"a pending file", left("1.file")},
		{"three dots", "..."},
		{"a path", "a/b"},
		{"a path to the same directory", "./a"},
		{"a path with a way back", "a/../b"},
		{"the root", "/"},
		{"a path from the root", "/etc/passwd"},
		{"a path out of the directory", "../a"},
		{"a path out of the directory, in the middle", "a/../../b"},
		{"a name with a slash at its end", "a/"},
		{"a path of Windows", `a\b`},
		{"a path of Windows out of the directory", `..\a`},
		{"a drive", `C:\a`},
		{"a backslash", `\`},
	}
	taken := []struct{ why, name string }{
		{"a letter", "a"},
		{"a number and a suffix", "1.file"},
		{"dots inside", "a..b"},
		{"a space", "a b"},
		{"letters of any script", "файл-ファイル"},
		{"a sign of the shell", "$HOME"},
		{"a tilde", "~"},
		{"a sign of a flag", "-rf"},
		{"a percent sign", "%2e%2e%2fa"},
		{"nothing but digits", "1234567890123456789"},
		{"a long name", strings.Repeat("n", 200)},
	}
	eachPlace(t, func(t *testing.T, p *place) {
		for _, r := range refused {
			t.Run(r.why, func(t *testing.T) {
				f, err := p.Create(t.Context(), r.name)
				if !errors.Is(err, os.ErrInvalid) || f != nil {
					t.Errorf("Create(%q) = %v, %v", r.name, f, err)
				}
				if err := p.Remove(r.name); !errors.Is(err, os.ErrInvalid) {
					t.Errorf("Remove(%q) = %v", r.name, err)
				}
			})
		}
		p.holds(t, files{})
		for _, r := range taken {
			t.Run(r.why, func(t *testing.T) {
				p.commit(t, r.name, "content of "+r.name)
				p.holds(t, files{r.name: "content of " + r.name})
				if err := p.Remove(r.name); err != nil {
					t.Error(err)
				}
				p.holds(t, files{})
			})
		}
	})
}

func TestRemove(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		p.commit(t, "1.file", "one")
		p.commit(t, "2.file", "two")
		pending := p.begin(t, "1.file", "three")
		t.Run("a file is removed, and no other", func(t *testing.T) {
			if err := p.Remove("1.file"); err != nil {
				t.Error(err)
			}
			if ok, _ := afero.Exists(p.afs, p.join("1.file")); ok {
				t.Error("it is still there")
			}
			if ok, _ := afero.Exists(p.afs, p.join("2.file")); !ok {
				t.Error("the other one is gone")
			}
		})
		t.Run("a file that is not there is no error", func(t *testing.T) {
			if err := p.Remove("1.file"); err != nil {
				t.Error(err)
			}
			if err := p.Remove("3.file"); err != nil {
				t.Error(err)
			}
		})
		t.Run("a file that is pending is not touched", func(t *testing.T) {
			if err := pending.Commit(); err != nil {
				t.Error(err)
			}
			p.holds(t, files{"1.file": "three", "2.file": "two"})
		})
		t.Run("a directory is refused and left alone", func(t *testing.T) {
			for _, dir := range []string{"empty", "full"} {
				if err := p.afs.Mkdir(p.join(dir), 0o777); err != nil {
					t.Fatal(err)
				}
			}
			p.put(t, filepath.Join("full", "inside"), "kept")
			for _, dir := range []string{"empty", "full"} {
				if err := p.Remove(dir); err == nil {
					t.Errorf("%s was removed", dir)
				}
				if ok, _ := afero.IsDir(p.afs, p.join(dir)); !ok {
					t.Errorf("%s is gone", dir)
				}
			}
			if got, _ := afero.ReadFile(p.afs, p.join("full/inside")); string(got) != "kept" {
				t.Error("what was inside is gone")
			}
		})
	})
}

func TestADirectoryThatStandsAtTheNameIsAnErrorAndLeftAlone(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		for _, dir := range []string{"empty", "full"} {
			if err := p.afs.Mkdir(p.join(dir), 0o777); err != nil {
				t.Fatal(err)
			}
		}
		p.put(t, filepath.Join("full", "inside"), "kept")
		for _, dir := range []string{"empty", "full"} {
			f := p.begin(t, dir, "payload")
			if err := f.Commit(); err == nil {
				t.Errorf("a file was committed over the directory %q", dir)
			}
			if ok, _ := afero.IsDir(p.afs, p.join(dir)); !ok {
				t.Errorf("the directory %q is gone", dir)
			}
			if err := f.Abort(); err != nil {
				t.Errorf("an abort after the failed commit: %v", err)
			}
			if err := f.Commit(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("a second commit: %v", err)
			}
		}
		if got, _ := afero.ReadFile(p.afs, p.join("full/inside")); string(got) != "kept" {
			t.Error("what was inside is gone")
		}
		if got := p.names(t); !slices.Equal(got, []string{"empty", "full"}) {
			t.Errorf("the directory holds %q", got)
		}
	})
}

func TestOpeningADirectory(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		t.Run("that is missing creates it and its parents", func(t *testing.T) {
			afs, base := k.room(t)
			p := k.placeAt(t, afs, filepath.Join(base, "a", "b", "c"))
			p.commit(t, "1.file", "one")
			p.holds(t, files{"1.file": "one"})
		})
		t.Run("that is there leaves what it holds", func(t *testing.T) {
			p := k.place(t)
			p.put(t, "1.file", "from before")
			p.put(t, ".hidden", "from before")
			again := k.placeAt(t, p.afs, p.path)
			again.holds(t, files{"1.file": "from before", ".hidden": "from before"})
		})
		t.Run("whose path ends in a separator", func(t *testing.T) {
			afs, base := k.room(t)
			p := k.placeAt(t, afs, filepath.Join(base, "a", "b")+string(filepath.Separator))
			p.commit(t, "1.file", "one")
			p.holds(t, files{"1.file": "one"})
		})
		t.Run("that is a file fails and leaves the file", func(t *testing.T) {
			p := k.place(t)
			p.put(t, "taken", "a file")
			if s, err := k.open(p.afs, p.join("taken")); err == nil {
				s.Close()
				t.Error("opened a file as a directory")
			}
			p.holds(t, files{"taken": "a file"})
		})
		t.Run("below a file fails and leaves the file", func(t *testing.T) {
			for _, below := range []string{"taken/below", "taken/far/below"} {
				p := k.place(t)
				p.put(t, "taken", "a file")
				if s, err := k.open(p.afs, p.join(below)); err == nil {
					s.Close()
					t.Errorf("opened %s", below)
				}
				if fi, err := p.afs.Stat(p.join("taken")); err != nil || fi.IsDir() {
					t.Error("the file became a directory")
				}
			}
		})
	})
}

func TestTheFileItselfIsToBeHadOnADisk(t *testing.T) {
	tests := []struct {
		kind kind
		want bool
	}{{kinds[0], true}, {kinds[1], true}, {kinds[2], false}}
	for _, test := range tests {
		t.Run(test.kind.name, func(t *testing.T) {
			p := test.kind.place(t)
			pending := p.begin(t, "1.file", "written, ")
			f, ok := pending.(interface{ File() *os.File })
			if ok != test.want {
				t.Fatalf("has File: %v", ok)
			}
			if !ok {
				if err := pending.Abort(); err != nil {
					t.Error(err)
				}
				return
			}
			if _, err := f.File().WriteString("and written to the file"); err != nil {
				t.Fatal(err)
			}
			if err := pending.Commit(); err != nil {
				t.Fatal(err)
			}
			p.holds(t, files{"1.file": "written, and written to the file"})
		})
	}
}

func TestResetMakesAFileEmptyAgain(t *testing.T) {
	tests := []struct {
		name string
		then []string
	}{
		{"and nothing comes after", nil},
		{"and less comes after", []string{"less"}},
		{"and more comes after, in pieces", []string{"much more than ", "there was before"}},
	}
	eachKind(t, func(t *testing.T, k kind) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				p := k.place(t)
				f := p.begin(t, "1.file", "part of a payload")
				for range 2 {
					if err := f.(interface{ Reset() error }).Reset(); err != nil {
						t.Fatal(err)
					}
				}
				for _, piece := range test.then {
					if _, err := io.WriteString(f, piece); err != nil {
						t.Fatal(err)
					}
				}
				if err := f.Commit(); err != nil {
					t.Fatal(err)
				}
				want := files{"1.file": strings.Join(test.then, "")}
				p.holds(t, want)
				if err := f.(interface{ Reset() error }).Reset(); err == nil {
					t.Error("a reset after the commit is no error")
				}
				p.holds(t, want)
			})
		}
	})
}

func TestCloseRemovesWhatIsPending(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		afs, base := k.room(t)
		s, err := k.open(afs, base)
		if err != nil {
			t.Fatal(err)
		}
		p := &place{s, k, afs, base}
		p.commit(t, "1.file", "committed")
		p.put(t, left("9.file"), "left by another")
		want := files{"1.file": "committed", left("9.file"): "left by another"}
		one, two, aborted := p.begin(t, "1.file", "never"), p.begin(t, "2.file", "never"), p.begin(t, "3.file", "never")
		if err := aborted.Abort(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error("close:", err)
		}
		p.holds(t, want)
		for _, f := range []Pending{one, two} {
			if err := f.Commit(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("a commit after the close: %v", err)
			}
			if err := f.Abort(); err != nil {
				t.Errorf("an abort after that: %v", err)
			}
		}
		p.holds(t, want)
		if f, err := s.Create(t.Context(), "4.file"); !errors.Is(err, os.ErrClosed) || f != nil {
			t.Errorf("Create after the close = %v, %v", f, err)
		}
		p.holds(t, want)
	})
}

// What Close has removed, an abort need not.
func TestAnAbortAfterCloseIsNoError(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		afs, base := k.room(t)
		s, err := k.open(afs, base)
		if err != nil {
			t.Fatal(err)
		}
		f := (&place{s, k, afs, base}).begin(t, "1.file", "part")
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := f.Abort(); err != nil {
			t.Error(err)
		}
	})
}

func TestAFileThatIsBeingCreatedDuringACloseIsNotForgotten(t *testing.T) {
	for _, k := range kinds[:3] {
		t.Run(k.name, func(t *testing.T) {
			afs, base := k.room(t)
			s, err := k.open(afs, base)
			if err != nil {
				t.Fatal(err)
			}
			p := &place{s, k, afs, base}
			closed := make(chan error, 1)
			s.dir = &hookedDir{directory: s.dir, created: func() {
				go func() { closed <- s.Close() }()
				for len(closed) == 0 && blockedIn("(*Store).Close(") == 0 {
					runtime.Gosched()
				}
			}}
			f, err := s.Create(t.Context(), "1.file")
			if cerr := <-closed; cerr != nil {
				t.Error(cerr)
			}
			p.holds(t, files{})
			if err == nil && f.Commit() == nil {
				t.Error("it could be committed after the close")
			}
			p.holds(t, files{})
		})
	}
}

// hookedDir is a directory that says when it has created a file.
type hookedDir struct {
	directory
	created func()
}

func (d *hookedDir) create(name string) (temporary, error) {
	t, err := d.directory.create(name)
	d.created()
	return t, err
}

func TestCloseInTheMidstOfUploadsLeavesWholeFilesOnly(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		afs, base := k.room(t)
		s, err := k.open(afs, base)
		if err != nil {
			t.Fatal(err)
		}
		p := &place{s, k, afs, base}
		const writers, before = 8, 40
		var committed sync.Map
		var count atomic.Int32
		enough := make(chan struct{})
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for i := 0; ; i++ {
					name := fmt.Sprintf("%d-%d.file", w, i)
					f, err := s.Create(t.Context(), name)
					if errors.Is(err, os.ErrClosed) {
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					io.WriteString(f, "whole ") // an error if Close was quicker
					io.WriteString(f, name)
					if i%3 == 0 {
						f.Abort()
					} else if f.Commit() == nil {
						committed.Store(name, nil)
						if count.Add(1) == before {
							close(enough)
						}
					}
				}
			})
		}
		<-enough
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		wg.Wait()
		visible := make(map[string]bool)
		for _, name := range p.names(t) {
			got, err := afero.ReadFile(afs, p.join(name))
			if err != nil || string(got) != "whole "+name {
				t.Errorf("%s holds %s, %v", name, short(got), err)
			}
			visible[name] = true
		}
		for name := range committed.Range {
			if !visible[name.(string)] {
				t.Errorf("%s was committed and is gone", name)
			}
		}
	})
}

// The rename was done, and the sync is still to come.
func TestACommitThatFailsForACloseLeavesNothing(t *testing.T) {
	for _, k := range kinds[:2] {
		t.Run(k.name, func(t *testing.T) {
			afs, base := k.room(t)
			s, err := k.open(afs, base)
			if err != nil {
				t.Fatal(err)
			}
			p := &place{s, k, afs, base}
			f := p.begin(t, "1.file", "payload")
			closed := make(chan error, 1)
			s.dirSync = groupsync.New(func() error {
				go func() { closed <- s.Close() }()
				for len(closed) == 0 && blockedIn("(*Store).Close(") == 0 {
					runtime.Gosched()
				}
				return s.dir.sync()
			})
			want := files{"1.file": "payload"}
			if err := f.Commit(); err != nil {
				want = files{}
			}
			<-closed
			p.holds(t, want)
		})
	}
}

func TestSweepRemovesWhatWasLeftAndNothingElse(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		want := make(files)
		for _, l := range lookalikes {
			p.put(t, l.name, l.why)
			want[l.name] = l.why
		}
		p.commit(t, "2.file", "two")
		want["2.file"] = "two"
		for _, name := range []string{left("1.file"), left("2.file"), left("7777.file"), ".1.file123456789012345", tempName("1.file")} {
			p.put(t, name, "left by a killed process")
		}
		for range 2 { // and a second time there is nothing to do
			if err := p.Sweep(numbered); err != nil {
				t.Error(err)
			}
			p.holds(t, want)
		}
	})
}

func TestSweepLeavesDirectoriesAlone(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		empty, full := left("1.file"), left("2.file")
		for _, dir := range []string{empty, full} {
			if err := p.afs.Mkdir(p.join(dir), 0o777); err != nil {
				t.Fatal(err)
			}
		}
		p.put(t, filepath.Join(full, left("3.file")), "kept")
		if err := p.Sweep(numbered); err != nil {
			t.Error(err)
		}
		if got := p.names(t); !slices.Equal(got, []string{empty, full}) {
			t.Errorf("the directory holds %q", got)
		}
		if got, _ := afero.ReadFile(p.afs, p.join(filepath.Join(full, left("3.file")))); string(got) != "kept" {
			t.Error("what was inside is gone")
		}
	})
}

func TestSweepKeepsToTheNamesThatAreOwn(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		p.put(t, left("1.file"), "left")
		p.put(t, left("2.file"), "left")
		if err := p.Sweep(func(string) bool { return false }); err != nil {
			t.Error(err)
		}
		p.holds(t, files{left("1.file"): "left", left("2.file"): "left"})
		if err := p.Sweep(func(name string) bool { return name == "2.file" }); err != nil {
			t.Error(err)
		}
		p.holds(t, files{left("1.file"): "left"})
	})
}

// Where there are no locks, it knows of its own all the same.
func TestSweepLeavesTheStoresOwnPendingFiles(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		f := p.begin(t, "1.file", "payload")
		p.put(t, left("1.file"), "left")
		if err := p.Sweep(numbered); err != nil {
			t.Error(err)
		}
		if err := f.Commit(); err != nil {
			t.Error(err)
		}
		p.holds(t, files{"1.file": "payload"})
	})
}

func TestUploadsGoOnWhileTheirStoreSweeps(t *testing.T) {
	const writers, rounds = 4, 30
	eachPlace(t, func(t *testing.T, p *place) {
		var stopped atomic.Bool
		var sweeper, wg sync.WaitGroup
		sweeper.Go(func() {
			for !stopped.Load() {
				if err := p.Sweep(numbered); err != nil {
					t.Error("sweep:", err)
					return
				}
			}
		})
		want := make(files)
		for w := range writers {
			name := fmt.Sprintf("%d.file", w+1)
			last := "the last of " + name
			want[name] = last
			wg.Go(func() {
				for i := range rounds {
					content := "an earlier one"
					if i == rounds-1 {
						content = last
					}
					f, err := p.Create(t.Context(), name)
					if err != nil {
						t.Error("create:", err)
						return
					}
					if _, err := io.WriteString(f, content); err != nil {
						t.Error("write:", err)
					}
					if err := f.Commit(); err != nil {
						t.Error("commit:", err)
						return
					}
				}
			})
		}
		wg.Wait()
		stopped.Store(true)
		sweeper.Wait()
		p.holds(t, want)
	})
}

// fakeDir is a directory whose files are never anywhere.
type fakeDir struct {
	directory // nil: what is not overridden is not to be called
	syncsFile func(name string) error
	syncs     func() error
	removals  atomic.Int32
}

func (d *fakeDir) create(name string) (temporary, error) { return &fakeFile{dir: d, name: name}, nil }
func (d *fakeDir) sync() error                           { return d.syncs() }
func (d *fakeDir) groupsCommits() bool                   { return false }
func (d *fakeDir) remove(string) error                   { d.removals.Add(1); return nil }

type fakeFile struct {
	temporary
	dir  *fakeDir
	name string
}

func (f *fakeFile) temp() string   { return tempName(f.name) }
func (f *fakeFile) file() *os.File { return nil }

func (f *fakeFile) rename(string, bool) error { return nil }

func (f *fakeFile) sync() error {
	if f.dir.syncsFile == nil {
		return nil
	}
	return f.dir.syncsFile(f.name)
}

// Each commit may hold a thread while the disk is slow, and there are not
// threads without end.
func TestCommitsUnderWayAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var underWay atomic.Int32
		disk := make(chan struct{})
		s := newStore(&fakeDir{
			syncsFile: func(string) error {
				underWay.Add(1)
				defer underWay.Add(-1)
				<-disk
				return nil
			},
			syncs: func() error { return nil },
		}, new(options))
		var done atomic.Int32
		for i := range 3 * maxCommits {
			go func() {
				p, err := s.Create(t.Context(), strconv.Itoa(i))
				if err == nil {
					err = p.Commit()
				}
				if err != nil {
					t.Error(err)
				}
				done.Add(1)
			}()
		}
		synctest.Wait()
		if got := underWay.Load(); got != maxCommits {
			t.Errorf("%d commits are under way, want %d", got, maxCommits)
		}
		close(disk)
		synctest.Wait()
		if got := done.Load(); got != 3*maxCommits {
			t.Errorf("%d commits are done", got)
		}
	})
}

// gate is a sync that ends when the test says so, and how it says.
type gate struct {
	begun chan int // the number of the sync that has begun, from 1
	end   chan error
	count int
}

func newGate() *gate { return &gate{begun: make(chan int), end: make(chan error)} }

func (g *gate) sync() error {
	g.count++ // syncs are one after the other, and the race detector knows if not
	g.begun <- g.count
	return <-g.end
}

// blockedIn counts the goroutines that wait for others below all of the
// functions. Of who waits for a sync.Mutex no other sign is to be had.
func blockedIn(functions ...string) (count int) {
	buf := make([]byte, 1<<20)
next:
	for stack := range bytes.SplitSeq(buf[:runtime.Stack(buf, true)], []byte("\n\n")) {
		state, frames, _ := bytes.Cut(stack, []byte("\n"))
		if !waits.Match(state) {
			continue
		}
		for _, function := range functions {
			if !bytes.Contains(frames, []byte(function)) {
				continue next
			}
		}
		count++
	}
	return count
}

var waits = regexp.MustCompile(`\[(sync\.|chan |select)`)

// awaitInSync returns when n goroutines share a sync that has not begun, or
// wait in the sync function.
func awaitInSync(n int) {
	for blockedIn("(*Group).Sync(", "sync.(*Once).doSlow(") != n {
		runtime.Gosched()
	}
}

func TestCommitsAtOneTimeShareTheSyncOfTheDirectory(t *testing.T) {
	const others = maxCommits - 1
	tests := []struct {
		name     string
		want     error
		removals int32
	}{
		{"which succeeds", nil, 0},
		{"which fails, and takes their files with it", errors.New("broken"), others},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			gate := newGate()
			dir := &fakeDir{syncs: gate.sync}
			s := newStore(dir, new(options))
			commit := func(name string, results chan<- error) {
				p, err := s.Create(t.Context(), name)
				if err == nil {
					err = p.Commit()
				}
				results <- err
			}
			first, shared := make(chan error, 1), make(chan error, others)
			go commit("first", first)
			<-gate.begun
			for i := range others {
				go commit(strconv.Itoa(i), shared)
			}
			awaitInSync(1 + others)
			gate.end <- nil
			if err := <-first; err != nil {
				t.Error(err)
			}
			if n := <-gate.begun; n != 2 {
				t.Errorf("this is sync %d", n)
			}
			gate.end <- test.want
			for range others {
				if err := <-shared; !errors.Is(err, test.want) {
					t.Errorf("got %v", err)
				}
			}
			if gate.count != 2 {
				t.Errorf("%d commits took %d syncs, want 2", 1+others, gate.count)
			}
			if got := dir.removals.Load(); got != test.removals {
				t.Errorf("%d files were removed, want %d", got, test.removals)
			}
		})
	}
}

// The directory's sync fails for the first; meanwhile the name has become the
// second's, and that is told that it is safe.
func TestAFailedCommitDoesNotTakeAnotherOnesFileWithIt(t *testing.T) {
	afs := newFaulty(NewMemory())
	p := (kind{open: New}).placeAt(t, afs, "/store")
	first, second := p.begin(t, "1.file", "first"), p.begin(t, "1.file", "second")

	result := make(chan error, 1)
	syncs := 0
	afs.FailIf(func(op, _ string) error {
		if op != "sync directory" {
			return nil
		}
		if syncs++; syncs > 1 {
			return nil
		}
		go func() { result <- second.Commit() }()
		for blockedIn("(*pending).CommitAs(") == 0 { // by its own sync, or until this one has ended
			runtime.Gosched()
		}
		return io.ErrUnexpectedEOF
	})
	if err := first.Commit(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("the first commit: %v", err)
	}
	if err := <-result; err != nil {
		p.holds(t, files{}) // to fail together is fair
		return
	}
	p.holds(t, files{"1.file": "second"})
}

// They wait for each other, and nobody else for them.
func TestCommitsOfOneNameDoNotHoldUpTheOthers(t *testing.T) {
	gate := newGate()
	s := newStore(&fakeDir{syncs: gate.sync}, new(options))
	results := make(chan error)
	commit := func(name string) {
		p, err := s.Create(t.Context(), name)
		if err == nil {
			err = p.Commit()
		}
		results <- err
	}
	go commit("popular")
	<-gate.begun
	const popular = 3 * maxCommits
	for range popular {
		go commit("popular")
	}
	for blockedIn("(*pending).CommitAs(") != 1+popular {
		runtime.Gosched()
	}
	go commit("other")
	awaitInSync(2) // it has come as far as the sync
	go func() {
		for range gate.begun {
			gate.end <- nil
		}
	}()
	gate.end <- nil
	for range popular + 2 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	close(gate.begun)
}

func TestCreateDoesNotWaitForACommit(t *testing.T) {
	gate := newGate()
	s := newStore(&fakeDir{syncs: gate.sync}, new(options))
	p, err := s.Create(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	result := make(chan error)
	go func() { result <- p.Commit() }()
	<-gate.begun
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // and a file that is begun for nobody's context waits for nobody's
	if _, err := s.Create(ctx, "b"); err != nil {
		t.Error(err)
	}
	gate.end <- nil
	if err := <-result; err != nil {
		t.Error(err)
	}
}

func TestWriteFileStoresAWholeFile(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		for _, content := range []string{"first", "second", ""} {
			if err := p.WriteFile("a", []byte(content)); err != nil {
				t.Fatal(err)
			}
			p.holds(t, map[string]string{"a": content})
		}
		if err := p.WriteFile(".a", nil); !errors.Is(err, os.ErrInvalid) {
			t.Errorf("of no name: %v", err)
		}
	})
	for _, op := range []string{"create", "short write", "sync", "rename"} {
		t.Run("a fault of "+op, func(t *testing.T) {
			faultyPlaces(t, func(t *testing.T, faulty *faultyFs, p *place) {
				faulty.Fail(syscall.ENOSPC, 1, op)
				if err := p.WriteFile("a", []byte("hello")); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("got %v", err)
				}
				p.holds(t, nil)
			})
		})
	}
}

// faultyPlaces runs test with places on a Faulty.
func faultyPlaces(t *testing.T, test func(t *testing.T, faulty *faultyFs, p *place)) {
	for _, k := range kinds {
		if k.name == "on the disk" {
			continue // it goes by no afero filesystem
		}
		t.Run(k.name, func(t *testing.T) {
			afs, base := k.room(t)
			faulty := newFaulty(afs)
			p := k.placeAt(t, faulty, base+"/store")
			open := faulty.Handles()
			test(t, faulty, p)
			faulty.Mend()
			if n := faulty.Handles(); n != open {
				t.Errorf("%d files are open at the end, and were %d", n, open)
			}
		})
	}
}
