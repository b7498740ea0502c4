package fs

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/accio-go/accio/fs/fstest"
)

// rename gives a pending file another name.
func rename(t testing.TB, f Pending, name string) {
	t.Helper()
	if err := f.(interface{ Rename(string) error }).Rename(name); err != nil {
		t.Fatal(err)
	}
}

func TestRenameGivesAPendingFileItsFinalName(t *testing.T) {
	tests := []struct {
		name string
		opts []Option
		do   func(t *testing.T, p *place, f Pending) error
		want files // beside "other", which is "other"
		is   error
	}{
		{"and the first name is never seen", nil, func(t *testing.T, p *place, f Pending) error {
			rename(t, f, "final")
			return f.Commit()
		}, files{"final": "payload"}, nil},
		{"and what was at the first name stays", nil, func(t *testing.T, p *place, f Pending) error {
			p.put(t, "first", "earlier")
			rename(t, f, "final")
			return f.Commit()
		}, files{"final": "payload", "first": "earlier"}, nil},
		{"in place of what is there", nil, func(t *testing.T, p *place, f Pending) error {
			p.put(t, "final", "earlier")
			rename(t, f, "final")
			return f.Commit()
		}, files{"final": "payload"}, nil},
		{"unless nothing is to be replaced", []Option{NoReplace()}, func(t *testing.T, p *place, f Pending) error {
			p.put(t, "final", "earlier")
			rename(t, f, "final")
			return f.Commit()
		}, files{"final": "earlier"}, os.ErrExist},
		{"where nothing is to be replaced, of which there is none", []Option{NoReplace()}, func(t *testing.T, p *place, f Pending) error {
			p.put(t, "first", "earlier")
			rename(t, f, "final")
			return f.Commit()
		}, files{"final": "payload", "first": "earlier"}, nil},
		{"the last of several", nil, func(t *testing.T, p *place, f Pending) error {
			rename(t, f, "second")
			rename(t, f, "final")
			return f.Commit()
		}, files{"final": "payload"}, nil},
		{"and back", nil, func(t *testing.T, p *place, f Pending) error {
			rename(t, f, "final")
			rename(t, f, "first")
			return f.Commit()
		}, files{"first": "payload"}, nil},
		{"the same", nil, func(t *testing.T, p *place, f Pending) error {
			rename(t, f, "first")
			return f.Commit()
		}, files{"first": "payload"}, nil},
		{"and more can be written", nil, func(t *testing.T, p *place, f Pending) error {
			rename(t, f, "final")
			if _, err := io.WriteString(f, ", and more"); err != nil {
				t.Error(err)
			}
			return f.Commit()
		}, files{"final": "payload, and more"}, nil},
		{"and it can be begun anew", nil, func(t *testing.T, p *place, f Pending) error {
			rename(t, f, "final")
			if err := f.(interface{ Reset() error }).Reset(); err != nil {
				t.Error(err)
			}
			return f.Commit()
		}, files{"final": ""}, nil},
		{"or not, if it is given up", nil, func(t *testing.T, p *place, f Pending) error {
			rename(t, f, "final")
			return f.Abort()
		}, files{}, nil},
		{"in a hurry", nil, func(t *testing.T, p *place, f Pending) error {
			rename(t, f, "final")
			if u, ok := f.(interface{ CommitUnsynced() error }); ok {
				return u.CommitUnsynced()
			}
			return f.Commit()
		}, files{"final": "payload"}, nil},
		{"in a hurry, where nothing is to be replaced", []Option{NoReplace()}, func(t *testing.T, p *place, f Pending) error {
			p.put(t, "final", "earlier")
			rename(t, f, "final")
			if u, ok := f.(interface{ CommitUnsynced() error }); ok {
				return u.CommitUnsynced()
			}
			return f.Commit()
		}, files{"final": "earlier"}, os.ErrExist},
		{"but a directory is left alone", nil, func(t *testing.T, p *place, f Pending) error {
			rename(t, f, "final")
			if err := p.afs.Mkdir(p.join("final"), 0o777); err != nil {
				t.Fatal(err)
			}
			err := f.Commit()
			if err == nil {
				t.Error("it has replaced a directory")
			}
			if rerr := p.afs.Remove(p.join("final")); rerr != nil {
				t.Error(rerr)
			}
			return nil
		}, files{}, nil},
		{"a name that is none changes nothing", nil, func(t *testing.T, p *place, f Pending) error {
			rename(t, f, "final")
			for _, bad := range []string{"", ".", "..", ".hidden", "a/b", `a\b`, "../a", "/a"} {
				if err := f.(interface{ Rename(string) error }).Rename(bad); !errors.Is(err, ErrName) {
					t.Errorf("%q: %v", bad, err)
				}
			}
			return f.Commit()
		}, files{"final": "payload"}, nil},
		{"a name that is too long is an error of the commit", nil, func(t *testing.T, p *place, f Pending) error {
			if strings.Contains(t.Name(), "memory") {
				return f.Abort()
			}
			rename(t, f, strings.Repeat("n", 300))
			if err := f.Commit(); err == nil {
				t.Error("it is none")
			}
			return nil
		}, files{}, nil},
		{"and nothing after the end", nil, func(t *testing.T, p *place, f Pending) error {
			err := f.Commit()
			if err := f.(interface{ Rename(string) error }).Rename("final"); !errors.Is(err, os.ErrClosed) {
				t.Errorf("after the commit: %v", err)
			}
			return err
		}, files{"first": "payload"}, nil},
	}
	eachKind(t, func(t *testing.T, k kind) {
		for _, tt := range tests {
			for _, followed := range []bool{false, true} {
				name := tt.name
				if followed {
					if strings.Contains(name, "anew") {
						continue // which a followed file has not
					}
					name += ", followed"
				}
				t.Run(name, func(t *testing.T) {
					p := k.place(t, tt.opts...)
					p.put(t, "other", "other")
					create := p.Create
					if followed {
						create = Follow(p.Store).Create
					}
					f, err := create(t.Context(), "first")
					if err != nil {
						t.Fatal(err)
					}
					if _, err := io.WriteString(f, "payload"); err != nil {
						t.Fatal(err)
					}
					if err := tt.do(t, p, f); !errors.Is(err, tt.is) {
						t.Errorf("it ended with %v, want %v", err, tt.is)
					}
					if err := f.Abort(); err != nil {
						t.Errorf("an abort after it: %v", err)
					}
					want := files{"other": "other"}
					for name, content := range tt.want {
						want[name] = content
					}
					p.holds(t, want)
				})
			}
		}
	})
}

// What is pending is called after its first name, and that is what a sweep goes by.
func TestASweepKnowsARenamedFileByItsFirstName(t *testing.T) {
	first := func(name string) bool { return name == "first" }
	eachPlace(t, func(t *testing.T, p *place) {
		f := p.begin(t, "first", "payload")
		before := p.names(t)
		rename(t, f, "final")
		if got := p.names(t); len(got) != 1 || got[0] != before[0] || !isTemp(got[0], first) {
			t.Errorf("%q has become %q", before, got)
		}
		p.put(t, left("first"), "left")
		if err := p.Sweep(func(string) bool { return true }); err != nil {
			t.Error(err)
		}
		if got := p.names(t); len(got) != 1 || got[0] != before[0] {
			t.Errorf("a sweep leaves %q, want %q", got, before)
		}
		if err := f.Commit(); err != nil {
			t.Error(err)
		}
		p.holds(t, files{"final": "payload"})
	})
}

func TestACloseRemovesARenamedFile(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		afs, base := k.room(t)
		path := filepath.Join(base, "store")
		s, err := k.open(afs, path)
		if err != nil {
			t.Fatal(err)
		}
		p := &place{s, k, afs, path}
		f := p.begin(t, "first", "payload")
		rename(t, f, "final")
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := f.Commit(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("the commit: %v", err)
		}
		p.holds(t, files{})
	})
}

// The claim is on the name that a file is to have at last.
func TestOfManyThatAreRenamedToOneNameOneIsThere(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		p := k.place(t, NoReplace())
		const writers = 20
		var wg sync.WaitGroup
		results := make(chan error, writers)
		for i := range writers {
			f := p.begin(t, string(rune('a'+i)), "payload")
			rename(t, f, "final")
			wg.Go(func() { results <- f.Commit() })
		}
		wg.Wait()
		close(results)
		won := 0
		for err := range results {
			switch {
			case err == nil:
				won++
			case !errors.Is(err, os.ErrExist):
				t.Error(err)
			}
		}
		if won != 1 {
			t.Errorf("%d were committed", won)
		}
		p.holds(t, files{"final": "payload"})
	})
}

// Whoever takes what is there for the same as its own relies on it as on a commit.
func TestWhatIsNotReplacedIsSynced(t *testing.T) {
	for _, tt := range []struct {
		name       string
		durability Durability
		fault      error
		syncs      int
		is, not    error
	}{
		{"as a commit is", Full, nil, 1, os.ErrExist, nil},
		{"and if it cannot be, that is told instead", Full, syscall.EIO, 1, syscall.EIO, os.ErrExist},
		{"unless that was not asked for", File, nil, 0, os.ErrExist, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			afs := fstest.NewFaulty(NewMemory())
			p := (kind{open: New}).placeAt(t, afs, filepath.FromSlash("/store"), NoReplace(), WithDurability(tt.durability))
			p.put(t, "final", "payload") // as a process that was killed before its sync
			f := p.begin(t, "first", "payload")
			rename(t, f, "final")
			before := afs.Calls(fstest.SyncDir)
			if tt.fault != nil {
				afs.Fail(tt.fault, 1, fstest.SyncDir)
			}
			err := f.Commit()
			if !errors.Is(err, tt.is) || tt.not != nil && errors.Is(err, tt.not) {
				t.Errorf("it ended with %v", err)
			}
			if got := afs.Calls(fstest.SyncDir) - before; got != tt.syncs {
				t.Errorf("the directory was synced %d times, want %d", got, tt.syncs)
			}
			p.holds(t, files{"final": "payload"})
		})
	}
}

func TestAFileIsFollowedByItsFirstName(t *testing.T) {
	for kind, f := range followers(t) {
		t.Run(kind, func(t *testing.T) {
			p, err := f.Create(t.Context(), "first")
			if err != nil {
				t.Fatal(err)
			}
			early := follow(t, f, "first")
			write(t, p, "payload")
			rename(t, p, "final")
			late := follow(t, f, "first")
			if _, err := f.Open("final"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("by its final name: %v", err)
			}
			if err := p.Commit(); err != nil {
				t.Fatal(err)
			}
			for _, r := range []io.Reader{early, late} {
				if got, err := io.ReadAll(r); string(got) != "payload" || err != nil {
					t.Errorf("read %q, %v", got, err)
				}
			}
			if _, err := f.Open("first"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("after its end: %v", err)
			}
			if len(f.live) != 0 {
				t.Errorf("%d are still taken to be arriving", len(f.live))
			}
		})
	}
}
