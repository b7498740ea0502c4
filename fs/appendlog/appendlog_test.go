package appendlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/fstest"
	"github.com/accio-go/accio/fs/internal/storetest"
)

// open returns a Log that the test closes.
func open(t *testing.T, s *fs.Store) *Log { return openEvery(t, s, 0) }

func openEvery(t *testing.T, s *fs.Store, every time.Duration) *Log {
	a := &Log{Store: s, SyncEvery: every}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	return a
}

func appendLine(t testing.TB, a *Log, name string, pieces ...string) error {
	t.Helper()
	p, err := a.Create(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	for _, piece := range pieces {
		if _, err := io.WriteString(p, piece); err != nil {
			t.Fatal(err)
		}
	}
	return p.Commit()
}

func mustAppend(t testing.TB, a *Log, name string, pieces ...string) {
	t.Helper()
	if err := appendLine(t, a, name, pieces...); err != nil {
		t.Fatal(err)
	}
}

func TestAppend(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p *storetest.Place) {
		a := open(t, p.Store)
		mustAppend(t, a, "log", "one")
		p.Holds(t, map[string]string{"log": "one\n"}) // at once
		mustAppend(t, a, "log", "t", "w", "o\n")
		mustAppend(t, a, "log")
		mustAppend(t, a, "log", "\n")
		mustAppend(t, a, "log", "forged\n", "line\n\n")
		mustAppend(t, a, "other", "a line of another file")
		p.Holds(t, map[string]string{
			"log":   "one\ntwo\n\n\nforged#012line#012\n",
			"other": "a line of another file\n",
		})
	})
}

func TestAppendToExistingFile(t *testing.T) {
	for _, tt := range []struct{ name, before, after string }{
		{"lines", "one\n", "one\nnext\n"},
		{"nothing", "", "next\n"},
		{"a part of a line", "one\ntw", "one\ntw\nnext\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, p *storetest.Place) {
				p.Put(t, "log", tt.before)
				mustAppend(t, open(t, p.Store), "log", "next")
				p.Holds(t, map[string]string{"log": tt.after})
			})
		})
	}
}

func TestAbort(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p *storetest.Place) {
		a := open(t, p.Store)
		f, err := a.Create(t.Context(), "log")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(f, "never seen")
		if err := f.Abort(); err != nil {
			t.Error(err)
		}
		for what, err := range map[string]error{
			"commit":    f.Commit(),
			"commit as": f.(*line).CommitAs("other", true),
		} {
			if !errors.Is(err, os.ErrClosed) {
				t.Errorf("%s after it: %v", what, err)
			}
		}
		if _, err := io.WriteString(f, "x"); !errors.Is(err, os.ErrClosed) {
			t.Errorf("write after it: %v", err)
		}
		p.Holds(t, nil)
	})
}

func TestCommitAs(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p *storetest.Place) {
		l := open(t, p.Store)
		for name, want := range map[string]error{"log": nil, "../log": os.ErrInvalid} {
			f, err := l.Create(t.Context(), "line")
			if err != nil {
				t.Fatal(err)
			}
			storetest.Write(t, f, "hello")
			if err := f.(*line).CommitAs(name, true); !errors.Is(err, want) {
				t.Errorf("CommitAs %s returned %v", name, err)
			}
		}
		p.Holds(t, map[string]string{"log": "hello\n"})
	})
}

func TestCommitAsDefersSync(t *testing.T) {
	faulty := fstest.NewFaulty(fs.NewMemory())
	store, err := fs.New(faulty.Fs(), "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	l := &Log{Store: store}
	f, err := l.Create(t.Context(), "log")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.(*line).CommitAs("log", false); err != nil {
		t.Error(err)
	}
	if n := faulty.Calls("sync"); n != 0 {
		t.Errorf("%d syncs in the commit", n)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if n := faulty.Calls("sync"); n != 1 {
		t.Errorf("%d syncs after the close", n)
	}
}

func TestRemove(t *testing.T) {
	p := storetest.Open(t, storetest.Memory)
	a := open(t, p.Store)
	mustAppend(t, a, "log", "one")
	if err := a.Remove("log"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if err := appendLine(t, a, "a/b", "one"); !errors.Is(err, os.ErrInvalid) {
		t.Errorf("a name that is a path: %v", err)
	}
	p.Holds(t, map[string]string{"log": "one\n"})
}

// Many write at the same time, to more files than are kept open.
func TestAppendConcurrent(t *testing.T) {
	const writers, each, files = 8, 60, maxOpen + 4
	for name, every := range map[string]time.Duration{"each synced": 0, "synced in the background": time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, p *storetest.Place) {
				a := openEvery(t, p.Store, every)
				var all sync.WaitGroup
				for w := range writers {
					all.Go(func() {
						for i := range each {
							text := strings.Repeat(string(rune('a'+w)), 100+37*i)
							if err := appendLine(t, a, fmt.Sprint("log", i%files), text[:50], text[50:]); err != nil {
								t.Error(err)
							}
						}
					})
				}
				all.Wait()
				lines := 0
				for _, name := range p.Names(t) {
					got, err := afero.ReadFile(p.Fs, p.Path(name))
					if err != nil {
						t.Fatal(err)
					}
					for line := range bytes.Lines(got) {
						lines++
						if len(line) < 101 || line[len(line)-1] != '\n' || len(bytes.Trim(line, string(line[0])+"\n")) != 0 {
							t.Fatalf("%s has the line %q", name, line)
						}
					}
				}
				if lines != writers*each {
					t.Errorf("there are %d lines, want %d", lines, writers*each)
				}
			})
		})
	}
}

func TestAppendOpenFiles(t *testing.T) {
	storetest.EachFaulty(t, func(t *testing.T, faulty *fstest.Faulty, p *storetest.Place) {
		a := open(t, p.Store)
		for i := range 3 * maxOpen {
			mustAppend(t, a, fmt.Sprint(i), "hello")
		}
		if n := faulty.Handles(); n != maxOpen {
			t.Errorf("%d are open, want %d", n, maxOpen)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if n := faulty.Handles(); n != 0 {
			t.Errorf("%d are open after Close", n)
		}
		if _, err := a.Create(t.Context(), "log"); !errors.Is(err, os.ErrClosed) {
			t.Errorf("create after Close: %v", err)
		}
	})
}

func TestCommitAfterClose(t *testing.T) {
	p := storetest.Open(t, storetest.Memory)
	a := &Log{Store: p.Store}
	f, err := a.Create(t.Context(), "log")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Close(), a.Close()); err != nil {
		t.Error(err)
	}
	if err := f.Commit(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
	p.Holds(t, nil)
}

func TestAppendWriteFails(t *testing.T) {
	for _, op := range []string{"write", "short write"} {
		t.Run(op, func(t *testing.T) {
			storetest.EachFaulty(t, func(t *testing.T, faulty *fstest.Faulty, p *storetest.Place) {
				a := &Log{Store: p.Store}
				defer a.Close()
				mustAppend(t, a, "log", "one")
				faulty.Fail(syscall.ENOSPC, 1, op)
				if err := appendLine(t, a, "log", "never seen"); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("got %v", err)
				}
				p.Holds(t, map[string]string{"log": "one\n"})
				mustAppend(t, a, "log", "two")
				p.Holds(t, map[string]string{"log": "one\ntwo\n"})
			})
		})
	}
}

// What cannot be taken back is a line of its own.
func TestAppendPartialLine(t *testing.T) {
	storetest.EachFaulty(t, func(t *testing.T, faulty *fstest.Faulty, p *storetest.Place) {
		a := &Log{Store: p.Store}
		defer a.Close()
		mustAppend(t, a, "log", "one")
		faulty.Fail(syscall.ENOSPC, 1, "short write")
		faulty.Fail(syscall.EIO, 1, "truncate")
		if err := appendLine(t, a, "log", "0123456"); !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, syscall.EIO) {
			t.Errorf("got %v", err)
		}
		p.Holds(t, map[string]string{"log": "one\n0123"})
		mustAppend(t, a, "log", "two")
		p.Holds(t, map[string]string{"log": "one\n0123\ntwo\n"})
	})
}

func TestAppendDurability(t *testing.T) {
	for _, tt := range []struct {
		durability     fs.Durability
		files, folders int // syncs of each of two commits
	}{
		{fs.Full, 1, 1}, {fs.File, 1, 0}, {fs.None, 0, 0},
	} {
		t.Run(string(tt.durability), func(t *testing.T) {
			faulty := fstest.NewFaulty(fs.NewMemory())
			store, err := fs.New(faulty.Fs(), "/log", fs.WithDurability(tt.durability))
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			a := open(t, store)
			dirs := faulty.Calls("sync directory")
			mustAppend(t, a, "log", "one")
			if f, d := faulty.Calls("sync"), faulty.Calls("sync directory")-dirs; f != tt.files || d != tt.folders {
				t.Errorf("the first: %d syncs of the file, %d of the directory", f, d)
			}
			mustAppend(t, a, "log", "two") // whose name is there already
			if f, d := faulty.Calls("sync"), faulty.Calls("sync directory")-dirs; f != 2*tt.files || d != tt.folders {
				t.Errorf("the second: %d syncs of the file, %d of the directory", f, d)
			}
			if tt.durability == fs.None {
				return
			}
			faulty.Fail(syscall.EIO, 1, "sync")
			if err := appendLine(t, a, "log", "three"); !errors.Is(err, syscall.EIO) {
				t.Errorf("if the sync fails: %v", err)
			}
			mustAppend(t, a, "log", "four")
		})
	}
}

func TestTheSyncOfTheNameIsTriedUntilItSucceeds(t *testing.T) {
	faulty := fstest.NewFaulty(fs.NewMemory())
	store, err := fs.New(faulty.Fs(), "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	a := open(t, store)
	faulty.Fail(syscall.EIO, 1, "sync directory")
	if err := appendLine(t, a, "log", "one"); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v", err)
	}
	before := faulty.Calls("sync directory")
	mustAppend(t, a, "log", "two")
	if n := faulty.Calls("sync directory") - before; n != 1 {
		t.Errorf("the next commit syncs the directory %d times", n)
	}
}

func TestSyncEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faulty := fstest.NewFaulty(fs.NewMemory())
		store, err := fs.New(faulty.Fs(), "/log")
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		a := &Log{Store: store, SyncEvery: time.Second}
		syncs := func(want int) {
			t.Helper()
			synctest.Wait()
			if n := faulty.Calls("sync"); n != want {
				t.Errorf("there were %d syncs, want %d", n, want)
			}
		}
		time.Sleep(time.Millisecond)
		for range 100 {
			mustAppend(t, a, "10", "hello")
		}
		syncs(0)
		time.Sleep(time.Second)
		syncs(1)
		time.Sleep(10 * time.Second) // nothing to be synced
		syncs(1)

		mustAppend(t, a, "10", "the last")
		mustAppend(t, a, "11", "the first")
		time.Sleep(time.Second)
		syncs(3)
		if n := faulty.Handles(); n != 2 {
			t.Errorf("%d files are open", n)
		}
		time.Sleep(time.Second) // 10 is over
		synctest.Wait()
		if n := faulty.Handles(); n != 1 {
			t.Errorf("%d files are open when one is no longer written", n)
		}

		faulty.Fail(syscall.EIO, 1, "sync")
		mustAppend(t, a, "11", "lost, perhaps")
		time.Sleep(time.Second)
		synctest.Wait()
		if err := appendLine(t, a, "11", "refused"); !errors.Is(err, syscall.EIO) {
			t.Errorf("after a sync that failed: %v", err)
		}
		mustAppend(t, a, "11", "taken again")
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		syncs(5)
		got, _ := afero.ReadFile(faulty.Fs(), "/log/11")
		if want := "the first\nlost, perhaps\ntaken again\n"; string(got) != want {
			t.Errorf("it holds %q, want %q", got, want)
		}
	})
}

func TestCloseReportsSyncError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, inBackground := range []bool{true, false} {
			faulty := fstest.NewFaulty(fs.NewMemory())
			store, err := fs.New(faulty.Fs(), "/log")
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			a := &Log{Store: store, SyncEvery: time.Second}
			mustAppend(t, a, "log", "hello")
			faulty.Fail(syscall.EIO, 1, "sync")
			if inBackground {
				time.Sleep(2 * time.Second)
				synctest.Wait()
			}
			if err := a.Close(); !errors.Is(err, syscall.EIO) {
				t.Errorf("in the background %v: %v", inBackground, err)
			}
			if n := faulty.Handles(); n != 0 {
				t.Errorf("%d files are open", n)
			}
		}
	})
}

func TestStoreClosed(t *testing.T) {
	store, err := fs.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a := open(t, store)
	mustAppend(t, a, "log", "one")
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := appendLine(t, a, "other", "two"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestAppendToDirectory(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p *storetest.Place) {
		if strings.HasPrefix(p.Kind, "in memory") {
			t.Skip("afero opens directories to be written")
		}
		if err := p.Fs.Mkdir(p.Path("log"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := appendLine(t, open(t, p.Store), "log", "one"); err == nil {
			t.Error("it is appended to a directory")
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	store, err := fs.OpenDir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	a := &Log{Store: store, SyncEvery: time.Second}
	defer a.Close()
	text := []byte(strings.Repeat("x", 200))
	for b.Loop() {
		p, err := a.Create(context.Background(), "log")
		if err != nil {
			b.Fatal(err)
		}
		p.Write(text)
		if err := p.Commit(); err != nil {
			b.Fatal(err)
		}
	}
}
