package fs

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

	"github.com/accio-go/accio/fs/fstest"
)

// appender is an Appender that the test closes.
func appender(t *testing.T, s *Store, opts ...AppendOption) *Appender {
	a := Append(s, opts...)
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Error("close:", err)
		}
	})
	return a
}

func appendLine(t testing.TB, a *Appender, name string, pieces ...string) error {
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

func mustAppend(t testing.TB, a *Appender, name string, pieces ...string) {
	t.Helper()
	if err := appendLine(t, a, name, pieces...); err != nil {
		t.Fatal(err)
	}
}

func TestWhatIsCommittedIsALineMore(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		a := appender(t, p.Store)
		mustAppend(t, a, "log", "one")
		p.holds(t, map[string]string{"log": "one\n"}) // at once
		mustAppend(t, a, "log", "t", "w", "o\n")
		mustAppend(t, a, "log")
		mustAppend(t, a, "log", "\n")
		mustAppend(t, a, "log", "forged\n", "line\n\n")
		mustAppend(t, a, "other", "a line of another file")
		p.holds(t, map[string]string{
			"log":   "one\ntwo\n\n\nforged#012line#012\n",
			"other": "a line of another file\n",
		})
	})
}

func TestAnAppenderGoesOnWithWhatIsThere(t *testing.T) {
	for _, tt := range []struct{ name, before, after string }{
		{"lines", "one\n", "one\nnext\n"},
		{"nothing", "", "next\n"},
		{"a part of a line", "one\ntw", "one\ntw\nnext\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			eachPlace(t, func(t *testing.T, p *place) {
				p.put(t, "log", tt.before)
				mustAppend(t, appender(t, p.Store), "log", "next")
				p.holds(t, map[string]string{"log": tt.after})
			})
		})
	}
}

func TestWhatIsAbortedLeavesNothing(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		a := appender(t, p.Store)
		f, err := a.Create(t.Context(), "log")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(f, "never seen")
		if err := f.Abort(); err != nil {
			t.Error(err)
		}
		for what, err := range map[string]error{
			"commit": f.Commit(),
			"reset":  f.(interface{ Reset() error }).Reset(),
			"rename": f.(interface{ Rename(string) error }).Rename("other"),
		} {
			if !errors.Is(err, os.ErrClosed) {
				t.Errorf("%s after it: %v", what, err)
			}
		}
		if _, err := io.WriteString(f, "x"); !errors.Is(err, os.ErrClosed) {
			t.Errorf("write after it: %v", err)
		}
		p.holds(t, nil)

		f, _ = a.Create(t.Context(), "log")
		io.WriteString(f, "never seen")
		f.(interface{ Reset() error }).Reset()
		io.WriteString(f, "instead")
		if err := errors.Join(f.Commit(), f.Abort()); err != nil {
			t.Error(err)
		}
		p.holds(t, map[string]string{"log": "instead\n"})
	})
}

func TestALineGoesToTheFileOfItsLastName(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		f, err := appender(t, p.Store).Create(t.Context(), "line")
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(f, "hello")
		r := f.(interface{ Rename(string) error })
		if err := r.Rename("../log"); !errors.Is(err, ErrName) {
			t.Errorf("of no name: %v", err)
		}
		if err := errors.Join(r.Rename("log"), f.Commit()); err != nil {
			t.Fatal(err)
		}
		p.holds(t, map[string]string{"log": "hello\n"})
	})
}

func TestAnAppenderRemovesNothing(t *testing.T) {
	p := kinds[2].place(t)
	a := appender(t, p.Store)
	mustAppend(t, a, "log", "one")
	if err := a.Remove("log"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if _, err := a.Create(t.Context(), "a/b"); !errors.Is(err, ErrName) {
		t.Errorf("of no name: %v", err)
	}
	p.holds(t, map[string]string{"log": "one\n"})
}

// Many write at the same time, to more files than are kept open.
func TestNoLineIsTornByAnother(t *testing.T) {
	const writers, each, files = 8, 60, maxAppending + 4
	for name, opts := range map[string][]AppendOption{"each synced": nil, "synced now and then": {SyncEvery(time.Millisecond)}} {
		t.Run(name, func(t *testing.T) {
			eachPlace(t, func(t *testing.T, p *place) {
				a := appender(t, p.Store, opts...)
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
				for _, name := range p.names(t) {
					got, err := afero.ReadFile(p.afs, p.join(name))
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

func TestAnAppenderKeepsFewFilesOpen(t *testing.T) {
	faultyPlaces(t, func(t *testing.T, faulty *fstest.Faulty, p *place) {
		a := appender(t, p.Store)
		for i := range 3 * maxAppending {
			mustAppend(t, a, fmt.Sprint(i), "hello")
		}
		if n := faulty.Handles(); n != maxAppending {
			t.Errorf("%d are open, want %d", n, maxAppending)
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

func TestACommitAfterCloseIsAnError(t *testing.T) {
	p := kinds[2].place(t)
	a := Append(p.Store)
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
	p.holds(t, nil)
}

func TestALineThatCannotBeWrittenIsNotToBeSeen(t *testing.T) {
	for _, op := range []fstest.Op{fstest.Write, fstest.ShortWrite} {
		t.Run(string(op), func(t *testing.T) {
			faultyPlaces(t, func(t *testing.T, faulty *fstest.Faulty, p *place) {
				a := Append(p.Store)
				defer a.Close()
				mustAppend(t, a, "log", "one")
				faulty.Fail(syscall.ENOSPC, 1, op)
				if err := appendLine(t, a, "log", "never seen"); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("got %v", err)
				}
				p.holds(t, map[string]string{"log": "one\n"})
				mustAppend(t, a, "log", "two")
				p.holds(t, map[string]string{"log": "one\ntwo\n"})
			})
		})
	}
}

// What cannot be taken back is a line of its own.
func TestAPartOfALineThatStaysTearsNoOther(t *testing.T) {
	faultyPlaces(t, func(t *testing.T, faulty *fstest.Faulty, p *place) {
		a := Append(p.Store)
		defer a.Close()
		mustAppend(t, a, "log", "one")
		faulty.Fail(syscall.ENOSPC, 1, fstest.ShortWrite)
		faulty.Fail(syscall.EIO, 1, fstest.Truncate)
		if err := appendLine(t, a, "log", "0123456"); !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, syscall.EIO) {
			t.Errorf("got %v", err)
		}
		p.holds(t, map[string]string{"log": "one\n0123"})
		mustAppend(t, a, "log", "two")
		p.holds(t, map[string]string{"log": "one\n0123\ntwo\n"})
	})
}

func TestACommitWaitsForWhatItPromises(t *testing.T) {
	for _, tt := range []struct {
		durability     Durability
		files, folders int // syncs of each of two commits
	}{
		{Full, 1, 1}, {File, 1, 0}, {None, 0, 0},
	} {
		t.Run(tt.durability.String(), func(t *testing.T) {
			faulty := fstest.NewFaulty(NewMemory())
			store, err := New(faulty, "/log", WithDurability(tt.durability))
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			a := appender(t, store)
			dirs := faulty.Calls(fstest.SyncDir)
			mustAppend(t, a, "log", "one")
			if f, d := faulty.Calls(fstest.Sync), faulty.Calls(fstest.SyncDir)-dirs; f != tt.files || d != tt.folders {
				t.Errorf("the first: %d syncs of the file, %d of the directory", f, d)
			}
			mustAppend(t, a, "log", "two") // whose name is there already
			if f, d := faulty.Calls(fstest.Sync), faulty.Calls(fstest.SyncDir)-dirs; f != 2*tt.files || d != tt.folders {
				t.Errorf("the second: %d syncs of the file, %d of the directory", f, d)
			}
			if tt.durability == None {
				return
			}
			faulty.Fail(syscall.EIO, 1, fstest.Sync)
			if err := appendLine(t, a, "log", "three"); !errors.Is(err, syscall.EIO) {
				t.Errorf("if the sync fails: %v", err)
			}
			mustAppend(t, a, "log", "four")
		})
	}
}

func TestTheSyncOfTheNameIsTriedUntilItSucceeds(t *testing.T) {
	faulty := fstest.NewFaulty(NewMemory())
	store, err := New(faulty, "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	a := appender(t, store)
	faulty.Fail(syscall.EIO, 1, fstest.SyncDir)
	if err := appendLine(t, a, "log", "one"); !errors.Is(err, syscall.EIO) {
		t.Errorf("got %v", err)
	}
	before := faulty.Calls(fstest.SyncDir)
	mustAppend(t, a, "log", "two")
	if n := faulty.Calls(fstest.SyncDir) - before; n != 1 {
		t.Errorf("the next commit syncs the directory %d times", n)
	}
}

func TestSyncEverySyncsInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faulty := fstest.NewFaulty(NewMemory())
		store, err := New(faulty, "/log")
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		a := Append(store, SyncEvery(time.Second))
		syncs := func(want int) {
			t.Helper()
			synctest.Wait()
			if n := faulty.Calls(fstest.Sync); n != want {
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

		faulty.Fail(syscall.EIO, 1, fstest.Sync)
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
		got, _ := afero.ReadFile(faulty, "/log/11")
		if want := "the first\nlost, perhaps\ntaken again\n"; string(got) != want {
			t.Errorf("it holds %q, want %q", got, want)
		}
	})
}

func TestCloseTellsOfASyncThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, inBackground := range []bool{true, false} {
			faulty := fstest.NewFaulty(NewMemory())
			store, err := New(faulty, "/log")
			if err != nil {
				t.Fatal(err)
			}
			defer store.Close()
			a := Append(store, SyncEvery(time.Second))
			mustAppend(t, a, "log", "hello")
			faulty.Fail(syscall.EIO, 1, fstest.Sync)
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

func TestAnAppenderOfAStoreThatIsClosed(t *testing.T) {
	k := kinds[0]
	afs, base := k.room(t)
	store, err := k.open(afs, base)
	if err != nil {
		t.Fatal(err)
	}
	a := appender(t, store)
	mustAppend(t, a, "log", "one")
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := appendLine(t, a, "other", "two"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestWhatIsNoFileIsNotAppendedTo(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		if strings.HasPrefix(p.kind.name, "in memory") {
			t.Skip("afero opens directories to be written")
		}
		if err := p.afs.Mkdir(p.join("log"), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := appendLine(t, appender(t, p.Store), "log", "one"); err == nil {
			t.Error("it is appended to a directory")
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	store, err := OpenDir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	a := Append(store, SyncEvery(time.Second))
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
