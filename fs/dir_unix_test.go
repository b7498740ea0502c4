//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package fs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/spf13/afero"
)

// onDisk is what the directories of these tests are: in the end, all on a disk.
func onDisk(t *testing.T, test func(t *testing.T, k kind)) {
	for _, k := range kinds[:2] {
		t.Run(k.name, func(t *testing.T) { test(t, k) })
	}
}

func diskPlace(t *testing.T) *place { return kinds[0].place(t) }

// The umask is the process's, so this test has it to itself.
func TestModesAreLessTheUmask(t *testing.T) {
	onDisk(t, func(t *testing.T, k kind) {
		for _, umask := range []os.FileMode{0, 0o002, 0o022, 0o027, 0o077} {
			t.Run(fmt.Sprintf("of %03o", umask), func(t *testing.T) {
				afs, base := k.room(t)
				old := syscall.Umask(int(umask))
				defer syscall.Umask(old)
				p := k.placeAt(t, afs, filepath.Join(base, "parent", "store"))
				p.commit(t, "1.file", "one")
				p.commit(t, "1.file", "in its place")
				for path, want := range map[string]os.FileMode{
					filepath.Dir(p.path): 0o777 &^ umask,
					p.path:               0o777 &^ umask,
					p.join("1.file"):     0o666 &^ umask,
				} {
					fi, err := os.Stat(path)
					if err != nil {
						t.Fatal(err)
					}
					if got := fi.Mode().Perm(); got != want {
						t.Errorf("%s is of mode %03o, want %03o", filepath.Base(path), got, want)
					}
				}
			})
		}
	})
}

func TestAnEarlierFilesModeIsNotTakenOver(t *testing.T) {
	onDisk(t, func(t *testing.T, k kind) {
		p := k.place(t)
		p.commit(t, "new", "")
		fi, err := os.Stat(p.join("new"))
		if err != nil {
			t.Fatal(err)
		}
		p.commit(t, "old", "")
		if err := os.Chmod(p.join("old"), 0o400); err != nil {
			t.Fatal(err)
		}
		p.commit(t, "old", "again")
		if again, err := os.Stat(p.join("old")); err != nil || again.Mode() != fi.Mode() {
			t.Errorf("mode %v, want %v (%v)", again.Mode(), fi.Mode(), err)
		}
	})
}

func TestASymbolicLinkAtTheNameIsReplacedAndNotFollowed(t *testing.T) {
	links := []struct{ name, target string }{
		{"to a file outside", "../outside/file"},
		{"to a file inside", "inside"},
		{"to a directory outside", "../outside"},
		{"to the directory itself", "."},
		{"to nothing", "../outside/nothing"},
		{"to itself", "1.file"},
	}
	onDisk(t, func(t *testing.T, k kind) {
		for _, link := range links {
			t.Run(link.name, func(t *testing.T) {
				p := k.place(t)
				outside := filepath.Join(filepath.Dir(p.path), "outside")
				if err := os.Mkdir(outside, 0o777); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(outside, "file"), []byte("not ours"), 0o666); err != nil {
					t.Fatal(err)
				}
				p.put(t, "inside", "another")
				if err := os.Symlink(link.target, p.join("1.file")); err != nil {
					t.Fatal(err)
				}
				f := p.begin(t, "1.file", "payload")
				if target, err := os.Readlink(p.join("1.file")); err != nil || target != link.target {
					t.Errorf("before the commit the link is %q, %v", target, err)
				}
				if err := f.Commit(); err != nil {
					t.Fatal(err)
				}
				if fi, err := os.Lstat(p.join("1.file")); err != nil || !fi.Mode().IsRegular() {
					t.Errorf("the name is that of a %v, %v", fi.Mode(), err)
				}
				p.holds(t, files{"1.file": "payload", "inside": "another"})
				if entries, _ := os.ReadDir(outside); len(entries) != 1 {
					t.Errorf("outside there are now %v", entries)
				}
				if got, _ := os.ReadFile(filepath.Join(outside, "file")); string(got) != "not ours" {
					t.Errorf("the file outside holds %s", short(got))
				}
			})
		}
	})
}

func TestRemoveRemovesALinkAndNotWhatItLeadsTo(t *testing.T) {
	onDisk(t, func(t *testing.T, k kind) {
		for _, target := range []string{"../outside", "../nothing", "."} {
			t.Run("to "+target, func(t *testing.T) {
				p := k.place(t)
				outside := filepath.Join(filepath.Dir(p.path), "outside")
				if err := os.WriteFile(outside, []byte("not ours"), 0o666); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(target, p.join("1.file")); err != nil {
					t.Fatal(err)
				}
				if err := p.Remove("1.file"); err != nil {
					t.Error(err)
				}
				p.holds(t, files{})
				if got, _ := os.ReadFile(outside); string(got) != "not ours" {
					t.Errorf("the file outside holds %s", short(got))
				}
			})
		}
	})
}

func TestAnotherLinkToTheFileIsNotWrittenThrough(t *testing.T) {
	onDisk(t, func(t *testing.T, k kind) {
		p := k.place(t)
		p.commit(t, "1.file", "from before")
		if err := os.Link(p.join("1.file"), p.join("copy")); err != nil {
			t.Fatal(err)
		}
		p.commit(t, "1.file", "new")
		p.holds(t, files{"1.file": "new", "copy": "from before"})
	})
}

func TestTheStoreStaysWithItsDirectory(t *testing.T) {
	newcomers := []struct {
		name string
		come func(t *testing.T, path string)
	}{
		{"that was renamed", func(*testing.T, string) {}},
		{"that was renamed, and another one put in its place", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o777); err != nil {
				t.Fatal(err)
			}
		}},
		{"that was renamed, and a link to another put in its place", func(t *testing.T, path string) {
			if err := os.Symlink(t.TempDir(), path); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, newcomer := range newcomers {
		t.Run(newcomer.name, func(t *testing.T) {
			p := diskPlace(t)
			during := p.begin(t, "1.file", "begun before")
			aborted := p.begin(t, "2.file", "begun before")
			p.put(t, left("3.file"), "left")
			old := p.path
			p.path = filepath.Join(filepath.Dir(old), "moved")
			if err := os.Rename(old, p.path); err != nil {
				t.Fatal(err)
			}
			newcomer.come(t, old)
			if err := during.Commit(); err != nil {
				t.Error(err)
			}
			if err := aborted.Abort(); err != nil {
				t.Error(err)
			}
			p.commit(t, "4.file", "begun after")
			p.commit(t, "5.file", "begun after")
			if err := p.Remove("5.file"); err != nil {
				t.Error(err)
			}
			if err := p.Sweep(numbered); err != nil {
				t.Error(err)
			}
			p.holds(t, files{"1.file": "begun before", "4.file": "begun after"})
			if entries, err := os.ReadDir(old); len(entries) != 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Errorf("where it was there are %v, %v", entries, err)
			}
		})
	}
}

func TestAStoreInARelativePathStaysWhereItIs(t *testing.T) {
	for _, path := range []string{"save", "a/b", "./save/", "."} {
		t.Run("of "+path, func(t *testing.T) {
			wd := t.TempDir()
			t.Chdir(wd)
			s, err := OpenDir(path)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			p := &place{s, kinds[0], afero.NewOsFs(), filepath.Join(wd, path)}
			f := p.begin(t, "1.file", "one")
			elsewhere := t.TempDir()
			t.Chdir(elsewhere)
			if err := f.Commit(); err != nil {
				t.Error(err)
			}
			p.commit(t, "2.file", "two")
			p.holds(t, files{"1.file": "one", "2.file": "two"})
			if entries, err := os.ReadDir(elsewhere); len(entries) != 0 || err != nil {
				t.Errorf("elsewhere there are %v, %v", entries, err)
			}
		})
	}
}

func TestADirectoryThatIsRemovedMeanwhileIsAnError(t *testing.T) {
	p := diskPlace(t)
	f := p.begin(t, "1.file", "one")
	g := p.begin(t, "2.file", "two")
	if err := os.RemoveAll(p.path); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err == nil {
		t.Error("a file was committed nowhere")
	}
	if err := g.Abort(); err != nil {
		t.Error("an abort of what is gone:", err)
	}
	if _, err := p.Create(t.Context(), "3.file"); err == nil {
		t.Error("a file was created nowhere")
	}
	if _, err := os.Stat(p.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory: %v", err)
	}
}

func TestWhatCannotBeADirectoryIsAnErrorAtTheOpening(t *testing.T) {
	paths := []struct {
		name string
		make func(t *testing.T, path string)
	}{
		{"a FIFO", func(t *testing.T, path string) {
			if err := syscall.Mkfifo(path, 0o666); err != nil {
				t.Fatal(err)
			}
		}},
		{"a link to nothing", func(t *testing.T, path string) {
			if err := os.Symlink("nothing", path); err != nil {
				t.Fatal(err)
			}
		}},
		{"a link to itself", func(t *testing.T, path string) {
			if err := os.Symlink(filepath.Base(path), path); err != nil {
				t.Fatal(err)
			}
		}},
		{"a link to a file", func(t *testing.T, path string) {
			if err := os.WriteFile(path+"-target", nil, 0o666); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(path+"-target", path); err != nil {
				t.Fatal(err)
			}
		}},
	}
	for _, p := range paths {
		t.Run(p.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "it")
			p.make(t, path)
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if s, err := OpenDir(path); err == nil {
				s.Close()
				t.Error("it was opened")
			}
			if after, err := os.Lstat(path); err != nil || after.Mode() != before.Mode() {
				t.Errorf("it was a %v, and is now %v, %v", before.Mode(), after, err)
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		t.Chdir(t.TempDir())
		if s, err := OpenDir(""); err == nil {
			s.Close()
			t.Error("it was opened")
		}
	})
}

func TestALinkToADirectoryIsAsGoodAsTheDirectory(t *testing.T) {
	onDisk(t, func(t *testing.T, k kind) {
		afs, base := k.room(t)
		real := filepath.Join(base, "real")
		if err := os.Mkdir(real, 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("real", filepath.Join(base, "link")); err != nil {
			t.Fatal(err)
		}
		k.placeAt(t, afs, filepath.Join(base, "link")).commit(t, "1.file", "one")
		k.placeAt(t, afs, real).holds(t, files{"1.file": "one"})
	})
}

func TestSweepTouchesFilesOnly(t *testing.T) {
	onDisk(t, func(t *testing.T, k kind) {
		things := []struct {
			name string
			make func(t *testing.T, p *place, path string)
		}{
			{"a link to a file", func(t *testing.T, p *place, path string) {
				p.put(t, "target", "kept")
				if err := os.Symlink("target", path); err != nil {
					t.Fatal(err)
				}
			}},
			{"a link to what a killed process left", func(t *testing.T, p *place, path string) {
				outside := filepath.Join(t.TempDir(), left("1.file"))
				if err := os.WriteFile(outside, nil, 0o666); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if _, err := os.Lstat(outside); err != nil {
						t.Error("what it leads to:", err)
					}
				})
				if err := os.Symlink(outside, path); err != nil {
					t.Fatal(err)
				}
			}},
			{"a link to nothing", func(t *testing.T, _ *place, path string) {
				if err := os.Symlink("nothing", path); err != nil {
					t.Fatal(err)
				}
			}},
			{"a link to a directory", func(t *testing.T, _ *place, path string) {
				if err := os.Symlink(t.TempDir(), path); err != nil {
					t.Fatal(err)
				}
			}},
			{"a FIFO", func(t *testing.T, _ *place, path string) {
				if err := syscall.Mkfifo(path, 0o666); err != nil {
					t.Fatal(err)
				}
			}},
			{"a directory", func(t *testing.T, _ *place, path string) {
				if err := os.Mkdir(path, 0o777); err != nil {
					t.Fatal(err)
				}
			}},
		}
		for _, thing := range things {
			t.Run(thing.name, func(t *testing.T) {
				p := k.place(t)
				path := p.join(left("1.file"))
				thing.make(t, p, path)
				before, err := os.Lstat(path)
				if err != nil {
					t.Fatal(err)
				}
				p.put(t, left("2.file"), "left")
				if err := p.Sweep(numbered); err != nil {
					t.Error(err)
				}
				if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
					t.Errorf("it is gone: %v", err)
				}
				if _, err := os.Lstat(p.join(left("2.file"))); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("what was left beside it is still there: %v", err)
				}
			})
		}
	})
}

func TestSweepLeavesWhatIsInUse(t *testing.T) {
	p := diskPlace(t)
	other, err := OpenDir(p.path)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	p.put(t, left("1.file"), "left")
	committed, aborted := p.begin(t, "1.file", "payload"), p.begin(t, "2.file", "payload")
	for _, s := range []*Store{other, p.Store} {
		if err := s.Sweep(numbered); err != nil {
			t.Error(err)
		}
		if got := p.names(t); len(got) != 2 {
			t.Errorf("the directory holds %q", got)
		}
	}
	if err := committed.Commit(); err != nil {
		t.Error(err)
	}
	if err := aborted.Abort(); err != nil {
		t.Error(err)
	}
	p.holds(t, files{"1.file": "payload"})
}

// With the variable set, the test binary is a process with a pending file: it
// says the file's name, and commits it when it is told to.
const holderVariable = "FS_TEST_HOLD_A_PENDING_FILE_IN"

func init() {
	dir := os.Getenv(holderVariable)
	if dir == "" {
		return
	}
	err := func() error {
		s, err := OpenDir(dir)
		if err != nil {
			return err
		}
		p, err := s.Create(context.TODO(), "1.file")
		if err != nil {
			return err
		}
		if _, err := io.WriteString(p, "written by another process"); err != nil {
			return err
		}
		fmt.Println(filepath.Base(p.(interface{ File() *os.File }).File().Name()))
		if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
			return err
		}
		return p.Commit()
	}()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// holder is that process.
type holder struct {
	*exec.Cmd
	temp  string
	stdin io.WriteCloser
}

func hold(t *testing.T, dir string) *holder {
	t.Helper()
	h := &holder{Cmd: exec.Command(os.Args[0])}
	h.Env = append(os.Environ(), holderVariable+"="+dir, "GORACE=atexit_sleep_ms=0")
	h.Stderr = t.Output()
	var err error
	if h.stdin, err = h.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := h.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if h.ProcessState == nil {
			h.Process.Kill()
			h.Wait()
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	h.temp = strings.TrimSpace(line)
	return h
}

func TestSweepRemovesWhatAKilledProcessLeftAndNotWhatALiveOneWrites(t *testing.T) {
	p := diskPlace(t)
	killed, alive := hold(t, p.path), hold(t, p.path)
	if err := p.Sweep(numbered); err != nil {
		t.Error(err)
	}
	both := []string{killed.temp, alive.temp}
	slices.Sort(both)
	if got := p.names(t); !slices.Equal(got, both) {
		t.Fatalf("with both alive, the directory holds %q, want %q", got, both)
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.Wait()
	if status := killed.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Fatalf("it ended otherwise: %v", killed.ProcessState)
	}
	if err := p.Sweep(numbered); err != nil {
		t.Error(err)
	}
	p.holds(t, files{alive.temp: "written by another process"})
	if _, err := io.WriteString(alive.stdin, "commit\n"); err != nil {
		t.Fatal(err)
	}
	if err := alive.Wait(); err != nil {
		t.Errorf("the other process could not commit: %v", err)
	}
	p.holds(t, files{"1.file": "written by another process"})
}

// A process that was begun meanwhile, by whoever, does not keep the lock.
func TestAChildProcessDoesNotHoldWhatItsParentWrites(t *testing.T) {
	p := diskPlace(t)
	var pending []Pending
	for i := range 3 {
		pending = append(pending, p.begin(t, fmt.Sprintf("%d.file", i+1), "payload"))
	}
	elsewhere := t.TempDir()
	child := hold(t, elsewhere)
	for _, f := range pending { // as the end of the process does
		f.(interface{ File() *os.File }).File().Close()
	}
	other := kinds[0].placeAt(t, p.afs, p.path)
	if err := other.Sweep(numbered); err != nil {
		t.Error(err)
	}
	p.holds(t, files{})
	if _, err := os.Stat(filepath.Join(elsewhere, child.temp)); err != nil {
		t.Error(err)
	}
}

// sweeping has two Stores of their own sweep a directory until the test ends
// it.
func sweeping(t *testing.T, dir string) (stop func()) {
	var stopped atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		s, err := OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer s.Close()
			for !stopped.Load() {
				if err := s.Sweep(numbered); err != nil {
					t.Error("sweep:", err)
					return
				}
			}
		})
	}
	return func() { stopped.Store(true); wg.Wait() }
}

func TestNoCommitIsLostToASweep(t *testing.T) {
	const writers, rounds, names = 4, 100, 5
	p := diskPlace(t)
	stop := sweeping(t, p.path)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range rounds {
				name := fmt.Sprintf("%d%d.file", w+1, i%names)
				content := fmt.Sprintf("%s for time %d", name, i/names)
				f, err := p.Create(t.Context(), name)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := io.WriteString(f, content); err != nil {
					t.Error(err)
				}
				if err := f.Commit(); err != nil {
					t.Error(err)
				}
				if got, err := os.ReadFile(p.join(name)); string(got) != content || err != nil {
					t.Errorf("it holds %q, %v; want %q", got, err, content)
				}
			}
		})
	}
	wg.Wait()
	stop()
	if got := p.names(t); len(got) != writers*names || slices.ContainsFunc(got, func(name string) bool { return !numbered(name) }) {
		t.Errorf("the directory holds %q", got)
	}
}

// Between the creation and the lock there is a moment in which a sweep may take
// the file. The creator then takes another, and does not write into nothing.
func TestNoNewFileIsLostToASweep(t *testing.T) {
	const writers, rounds = 4, 500
	p := diskPlace(t)
	stop := sweeping(t, p.path)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range rounds {
				f, err := p.Create(t.Context(), fmt.Sprintf("%d.file", w+1))
				if err != nil {
					t.Error(err)
					return
				}
				file := f.(interface{ File() *os.File }).File()
				opened, err := file.Stat()
				if err != nil {
					t.Error(err)
				}
				if named, err := os.Lstat(file.Name()); err != nil || !os.SameFile(named, opened) {
					t.Errorf("the pending file is gone: %v", err)
				}
				if err := f.Abort(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	stop()
	p.holds(t, files{})
}

// A sweeper that has the lock is about to remove the file.
func TestAFileThatASweepHasTakenIsNotUsed(t *testing.T) {
	p := diskPlace(t)
	takes := []struct {
		name string
		take func(f *os.File) error
	}{
		{"it is locked", func(f *os.File) error {
			g, err := os.Open(f.Name())
			if err != nil {
				return err
			}
			t.Cleanup(func() { g.Close() })
			return flock(int(g.Fd()))
		}},
		{"it is removed", func(f *os.File) error { return os.Remove(f.Name()) }},
	}
	for _, take := range takes {
		t.Run(take.name, func(t *testing.T) {
			f, err := os.Create(p.join(tempName("1.file")))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := take.take(f); err != nil {
				t.Fatal(err)
			}
			if mine, err := lockNew(f); mine || err != nil {
				t.Errorf("lockNew = %v, %v", mine, err)
			}
		})
	}
}

// Faults that a disk can be brought to.
func TestAFaultOfTheDiskFailsOneUploadAndLeavesNothing(t *testing.T) {
	faults := []struct {
		name string
		make func(t *testing.T, p *place, f Pending) (mend func())
		want error
	}{
		{"the file cannot be synced", func(_ *testing.T, _ *place, f Pending) func() {
			f.(interface{ File() *os.File }).File().Close()
			return func() {}
		}, os.ErrClosed},
		{"the file cannot be renamed", func(t *testing.T, p *place, _ Pending) func() {
			if err := os.Mkdir(p.join("1.file"), 0o777); err != nil {
				t.Fatal(err)
			}
			return func() {
				if err := os.Remove(p.join("1.file")); err != nil {
					t.Error(err)
				}
			}
		}, syscall.EISDIR},
		{"the file is gone", func(t *testing.T, p *place, f Pending) func() {
			if err := os.Remove(f.(interface{ File() *os.File }).File().Name()); err != nil {
				t.Fatal(err)
			}
			return func() {}
		}, os.ErrNotExist},
		{"the directory cannot be synced", func(_ *testing.T, p *place, _ Pending) func() {
			d := p.dir.(*disk)
			self := d.self
			d.self, _ = os.Open(os.DevNull)
			d.self.Close()
			return func() { d.self = self }
		}, os.ErrClosed},
	}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			p := diskPlace(t)
			f := p.begin(t, "1.file", "payload")
			mend := fault.make(t, p, f)
			if err := f.Commit(); !errors.Is(err, fault.want) {
				t.Errorf("the commit: %v", err)
			}
			mend()
			p.holds(t, files{})
			p.commit(t, "1.file", "the next")
			p.holds(t, files{"1.file": "the next"})
		})
	}
}

// A limit of descriptors is the process's, so these have it to themselves.
func TestWithoutDescriptors(t *testing.T) {
	t.Run("nothing is created and nothing left", func(t *testing.T) {
		p := diskPlace(t)
		full := leaveDescriptors(t, 0)
		f, err := p.Create(t.Context(), "1.file")
		full.restore()
		if !errors.Is(err, syscall.EMFILE) || f != nil {
			t.Errorf("Create = %v, %v", f, err)
		}
		p.holds(t, files{})
		p.commit(t, "1.file", "the next")
		p.holds(t, files{"1.file": "the next"})
	})
	t.Run("what is pending can be committed", func(t *testing.T) {
		p := diskPlace(t)
		f := p.begin(t, "1.file", "payload")
		full := leaveDescriptors(t, 0)
		err := f.Commit()
		full.restore()
		if err != nil {
			t.Error(err)
		}
		p.holds(t, files{"1.file": "payload"})
	})
	t.Run("what is pending can be aborted", func(t *testing.T) {
		p := diskPlace(t)
		f := p.begin(t, "1.file", "payload")
		full := leaveDescriptors(t, 0)
		err := f.Abort()
		full.restore()
		if err != nil {
			t.Error(err)
		}
		p.holds(t, files{})
	})
	t.Run("a sweep is an error and takes nothing", func(t *testing.T) {
		p := diskPlace(t)
		p.put(t, left("1.file"), "left")
		full := leaveDescriptors(t, 0)
		err := p.Sweep(numbered)
		full.restore()
		if !errors.Is(err, syscall.EMFILE) {
			t.Error(err)
		}
		p.holds(t, files{left("1.file"): "left"})
	})
	t.Run("a directory cannot be opened", func(t *testing.T) {
		dir := t.TempDir()
		for free := range 2 { // for the root, and for the directory to be synced
			full := leaveDescriptors(t, free)
			s, err := OpenDir(dir)
			full.restore()
			if !errors.Is(err, syscall.EMFILE) {
				t.Errorf("with %d left: %v, %v", free, s, err)
			}
		}
	})
}

// descriptors are those that the process may open no more.
type descriptors struct{ taken []*os.File }

// leaveDescriptors takes all but so many of the process's descriptors.
func leaveDescriptors(t *testing.T, free int) *descriptors {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = min(low.Cur, 256)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	})
	d := new(descriptors)
	t.Cleanup(d.restore)
	for {
		f, err := os.Open(os.DevNull)
		if errors.Is(err, syscall.EMFILE) {
			break
		}
		if err != nil {
			d.restore()
			t.Fatal(err)
		}
		d.taken = append(d.taken, f)
	}
	for range free {
		d.taken[0].Close()
		d.taken = d.taken[1:]
	}
	return d
}

func (d *descriptors) restore() {
	for _, f := range d.taken {
		f.Close()
	}
	d.taken = nil
}

func TestNoDescriptorIsForgotten(t *testing.T) {
	p := diskPlace(t)
	var low []uintptr
	for i := range 60 {
		f := p.begin(t, "1.file", "payload")
		low = append(low, f.(interface{ File() *os.File }).File().Fd())
		end := []func() error{f.Commit, f.Abort}[i%2]
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := p.Sweep(numbered); err != nil {
			t.Fatal(err)
		}
	}
	if first, last := low[0], slices.Max(low); last > first+20 {
		t.Errorf("the descriptors go from %d to %d", first, last)
	}
}

func TestASyncOfADirectoryIsNotAskedOfAFilesystemThatHasNone(t *testing.T) {
	r, w, err := os.Pipe() // which cannot be synced, and says so in the same way
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if err := w.Sync(); !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.ENOTSUP) {
		t.Fatalf("a pipe is synced with %v", err)
	}
	if err := new(options).dirSyncError(w.Sync()); err != nil {
		t.Error(err)
	}
	w.Close()
	if err := new(options).dirSyncError(w.Sync()); !errors.Is(err, os.ErrClosed) {
		t.Errorf("another error is %v", err)
	}
}

func TestARenameThatReplacesNothing(t *testing.T) {
	ways := map[string]func(dir int, from, to string) error{
		"as the system has it": renameNew,
		"by a link":            linkNew,
		"by looking":           lookNew,
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			p := diskPlace(t)
			rename := func(from, to string) (err error) {
				control(p.dir.(*disk).self, func(fd int) { err = way(fd, from, to) })
				return err
			}
			p.put(t, "old", "old")
			p.put(t, "new", "new")
			if err := rename("new", "old"); err != syscall.EEXIST {
				t.Errorf("over another: %v", err)
			}
			if err := os.Symlink("nothing", p.join("link")); err != nil {
				t.Fatal(err)
			}
			if err := rename("new", "link"); err != syscall.EEXIST {
				t.Errorf("over a link: %v", err)
			}
			if err := os.Remove(p.join("link")); err != nil {
				t.Fatal(err)
			}
			if err := rename("none", "name"); err != syscall.ENOENT {
				t.Errorf("of nothing: %v", err)
			}
			if err := rename("new", "old/name"); err != syscall.ENOTDIR {
				t.Errorf("to below a file: %v", err)
			}
			if err := rename("new", "name"); err != nil {
				t.Error(err)
			}
			p.holds(t, files{"old": "old", "name": "new"})
		})
	}
}
