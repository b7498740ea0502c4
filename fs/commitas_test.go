package fs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/spf13/afero"
)

func commitAs(p Pending, name string, sync bool) error {
	return p.(interface {
		CommitAs(name string, sync bool) error
	}).CommitAs(name, sync)
}

func TestCommitAs(t *testing.T) {
	tests := []struct {
		name string
		opts []Option
		to   string
		put  string // a file of this name is there
		want files  // beside "other"
		is   error
	}{
		{"another name", nil, "final", "", files{"final": "payload"}, nil},
		{"another name, and the first is taken", nil, "final", "first", files{"final": "payload", "first": "earlier"}, nil},
		{"a name that is taken", nil, "final", "final", files{"final": "payload"}, nil},
		{"the same name", nil, "first", "", files{"first": "payload"}, nil},
		{"a name that is taken, with NoReplace", []Option{NoReplace()}, "final", "final", files{"final": "earlier"}, os.ErrExist},
		{"a free name, with NoReplace", []Option{NoReplace()}, "final", "first", files{"final": "payload", "first": "earlier"}, nil},
		{"no durability", []Option{WithDurability(None)}, "final", "", files{"final": "payload"}, nil},
	}
	for _, bad := range []string{"", ".", "..", ".hidden", "a/b", `a\b`, "../a", "/a"} {
		tests = append(tests, struct {
			name string
			opts []Option
			to   string
			put  string
			want files
			is   error
		}{fmt.Sprintf("%q", bad), nil, bad, "", files{}, os.ErrInvalid})
	}
	eachKind(t, func(t *testing.T, k kind) {
		for _, tt := range tests {
			for _, sync := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s, sync: %t", tt.name, sync), func(t *testing.T) {
					p := k.place(t, tt.opts...)
					p.put(t, "other", "other")
					if tt.put != "" {
						p.put(t, tt.put, "earlier")
					}
					f := p.begin(t, "first", "payload")
					if err := commitAs(f, tt.to, sync); !errors.Is(err, tt.is) {
						t.Errorf("CommitAs returned %v, want %v", err, tt.is)
					}
					if err := f.Abort(); err != nil {
						t.Errorf("Abort after it: %v", err)
					}
					if err := commitAs(f, "again", sync); !errors.Is(err, os.ErrClosed) {
						t.Errorf("a second CommitAs: %v", err)
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

func TestCommitAsFails(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		if err := p.afs.Mkdir(p.join("final"), 0o777); err != nil {
			t.Fatal(err)
		}
		names := []string{"final"}
		if !strings.Contains(t.Name(), "memory") {
			names = append(names, strings.Repeat("n", 300))
		}
		for _, name := range names {
			for _, sync := range []bool{true, false} {
				if err := commitAs(p.begin(t, "first", "payload"), name, sync); err == nil {
					t.Errorf("CommitAs %.10s, sync: %t, succeeded", name, sync)
				}
			}
		}
		if got := p.names(t); len(got) != 1 || got[0] != "final" {
			t.Errorf("the directory holds %q", got)
		}
	})
}

// CommitAs claims the final name, not the first.
func TestCommitAsConcurrent(t *testing.T) {
	eachKind(t, func(t *testing.T, k kind) {
		p := k.place(t, NoReplace())
		const writers = 20
		var wg sync.WaitGroup
		results := make(chan error, writers)
		for i := range writers {
			f := p.begin(t, string(rune('a'+i)), "payload")
			wg.Go(func() { results <- commitAs(f, "final", i%2 == 0) })
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

// The caller relies on the earlier file as on a commit.
func TestNoReplaceSyncsEarlierFile(t *testing.T) {
	for _, tt := range []struct {
		name       string
		durability Durability
		fault      error
		syncs      int
		is, not    error
	}{
		{"as a commit does", Full, nil, 1, os.ErrExist, nil},
		{"and returns the error of the sync", Full, syscall.EIO, 1, syscall.EIO, os.ErrExist},
		{"not without full durability", File, nil, 0, os.ErrExist, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			afs := newFaulty(NewMemory())
			p := (kind{open: New}).placeAt(t, afs, filepath.FromSlash("/store"), NoReplace(), WithDurability(tt.durability))
			p.put(t, "final", "payload") // like a process that was killed before its sync
			f := p.begin(t, "first", "payload")
			before := afs.Calls("sync directory")
			if tt.fault != nil {
				afs.Fail(tt.fault, 1, "sync directory")
			}
			err := commitAs(f, "final", true)
			if !errors.Is(err, tt.is) || tt.not != nil && errors.Is(err, tt.not) {
				t.Errorf("CommitAs returned %v", err)
			}
			if got := afs.Calls("sync directory") - before; got != tt.syncs {
				t.Errorf("the directory was synced %d times, want %d", got, tt.syncs)
			}
			p.holds(t, files{"final": "payload"})
		})
	}
}

func TestRemoveWithNoReplace(t *testing.T) {
	p := kinds[2].place(t, NoReplace())
	p.commit(t, "a", "payload")
	if err := p.Remove("a"); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Remove returned %v", err)
	}
	p.holds(t, files{"a": "payload"})
}

func TestReopen(t *testing.T) {
	eachPlace(t, func(t *testing.T, p *place) {
		f := p.begin(t, "1.file", "hello")
		r, err := f.(interface{ Reopen() (afero.File, error) }).Reopen()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if err := f.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := p.WriteFile("1.file", []byte("later")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 5)
		if _, err := r.ReadAt(got, 0); string(got) != "hello" || err != nil && err != io.EOF {
			t.Errorf("read %q, %v", got, err)
		}
	})
}
