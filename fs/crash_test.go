package fs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/fstest"
	"github.com/accio-go/accio/stage"
)

// history is what was put in a store on a disk whose power fails, and when.
type history struct {
	disk *fstest.Crashing
	*fs.Store

	mu      sync.Mutex
	uploads []upload
}

type upload struct {
	name, content string
	begun, ended  int // the steps of the disk before and after the commit
	acknowledged  bool
}

// newHistory begins with 1.file, which is from before.
func newHistory(t *testing.T, over func(afero.Fs) afero.Fs, opts ...fs.Option) *history {
	t.Helper()
	h := &history{disk: new(fstest.Crashing)}
	store, err := fs.New(over(h.disk.Fs()), saveDir, opts...)
	if err != nil {
		t.Fatal(err)
	}
	h.Store = store
	h.put(t, "1.file", "from ", "before")
	h.disk.SyncAll()
	h.uploads = []upload{{"1.file", "from before", 0, h.disk.Steps(), true}}
	return h
}

func same(afs afero.Fs) afero.Fs { return afs }

func (h *history) begin(t *testing.T, name string, pieces ...string) fs.Pending {
	t.Helper()
	p, err := h.Create(t.Context(), name)
	for _, piece := range pieces {
		if err == nil {
			_, err = io.WriteString(p, piece)
		}
	}
	if err != nil {
		t.Error(err)
		runtime.Goexit() // from whichever goroutine
	}
	return p
}

func (h *history) put(t *testing.T, name string, pieces ...string) error {
	t.Helper()
	p := h.begin(t, name, pieces...)
	return h.done(name, strings.Join(pieces, ""), p.Commit)
}

// done notes what became of a commit.
func (h *history) done(name, content string, commit func() error) error {
	begun := h.disk.Steps()
	h.mu.Lock()
	at := len(h.uploads)
	h.uploads = append(h.uploads, upload{name: name, content: content, begun: begun})
	h.mu.Unlock()
	err := commit()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.uploads[at].ended, h.uploads[at].acknowledged = h.disk.Steps(), err == nil
	return err
}

// A flaw is how a state after a crash is not what was promised.
type flaw string

const (
	lost  flaw = "is not there, and was acknowledged"
	stale flaw = "is an earlier one, and another was acknowledged"
	torn  flaw = "is nothing that was put there"
	left  flaw = "is left after a sweep"
)

// flaws cuts the power at every step, and counts what is wrong with what it leaves.
func (h *history) flaws(t *testing.T, tell bool) map[flaw]int {
	t.Helper()
	found := make(map[flaw]int)
	note := func(f flaw, step int, name string, holds []byte) {
		if found[f]++; tell && found[f] == 1 {
			t.Errorf("after a cut of the power at step %d of %d, %s %s (%q)", step, h.disk.Steps(), name, f, holds)
		}
	}
	crashes := 0
	for step, afs := range h.disk.Crashes(60, 1) {
		if step < h.uploads[0].ended {
			continue // the power held until the file from before was there
		}
		crashes++
		for name, u := range h.byName() {
			path := filepath.Join(saveDir, name)
			got, err := afero.ReadFile(afs, path)
			there := err == nil
			mustBeThere := false
			known, current := false, false
			for i, v := range u {
				// Another was begun after v had ended, and was acknowledged.
				replaced := false
				for _, w := range u[i+1:] {
					replaced = replaced || w.acknowledged && w.ended <= step && w.begun >= v.ended
				}
				if v.begun > step {
					continue
				}
				if v.acknowledged && v.ended <= step && !replaced {
					mustBeThere = true
				}
				if v.content == string(got) {
					known, current = true, current || !replaced
				}
			}
			for _, v := range u { // one that failed may have taken the earlier one with it
				mustBeThere = mustBeThere && !(v.ended > 0 && !v.acknowledged && v.begun <= step)
			}
			switch {
			case !there && mustBeThere:
				note(lost, step, name, nil)
			case there && !known:
				note(torn, step, name, got)
			case there && !current:
				note(stale, step, name, got)
			}
		}
		store, err := fs.New(afs, saveDir)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Sweep(stage.IsNumberedFile); err != nil {
			t.Error(err)
		}
		store.Close()
		infos, err := afero.ReadDir(afs, saveDir)
		if err != nil {
			t.Error(err)
		}
		for _, fi := range infos {
			if strings.HasPrefix(fi.Name(), ".") {
				note(left, step, fi.Name(), nil)
			}
		}
	}
	t.Logf("%d states in %d steps", crashes, h.disk.Steps())
	return found
}

func (h *history) byName() map[string][]upload {
	by := make(map[string][]upload)
	for _, u := range h.uploads {
		by[u.name] = append(by[u.name], u)
	}
	return by
}

// histories are what may go on when the power fails.
var histories = []struct {
	name string
	over func(afero.Fs) afero.Fs
	run  func(t *testing.T, h *history)
}{
	{"a file is put", same, func(t *testing.T, h *history) {
		h.put(t, "2.file", "some ", "payload")
	}},
	{"an earlier one is replaced", same, func(t *testing.T, h *history) {
		h.put(t, "1.file", "some ", "payload")
		h.put(t, "1.file", "and ", "one ", "more")
	}},
	{"several at once, some under the same name", same, func(t *testing.T, h *history) {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for j := range 3 {
					h.put(t, fmt.Sprintf("%d.file", 1+(i+j)%5), fmt.Sprintf("upload %d ", i), fmt.Sprintf("of round %d", j))
				}
			})
		}
		wg.Wait()
	}},
	{"some are given up", same, func(t *testing.T, h *history) {
		h.begin(t, "1.file", "part").Abort()
		h.put(t, "2.file", "some ", "payload")
		h.begin(t, "2.file", "part").Abort()
		h.begin(t, "3.file", "part").Abort()
	}},
	{"some are marked", same, func(t *testing.T, h *history) {
		for _, name := range []string{"1.file", "2.file"} {
			p := h.begin(t, name, "a part ", "of more")
			if err := p.(interface{ Reset() error }).Reset(); err != nil {
				t.Error(err)
			}
			io.WriteString(p, stage.ErrorMark)
			h.done(name, stage.ErrorMark, p.Commit)
		}
	}},
	{"some are marked by a chain", same, func(t *testing.T, h *history) {
		for number, end := range []error{nil, stage.ErrIdle, stage.ErrProtocol, nil} {
			content := stage.ErrorMark
			if end == nil {
				content = "some payload"
			}
			save := stage.Save{Store: h, Name: stage.NumberedFile, Mark: stage.ErrorMark}
			handler := save.Wrap(stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error {
				io.WriteString(c.Out, "some ")
				io.WriteString(c.Out, "payload")
				return end
			}))
			one, other := net.Pipe()
			other.Close()
			err := h.done(fmt.Sprintf("%d.file", number+1), content, func() error {
				if err := handler.Serve(t.Context(), stage.NewConn(one, uint64(number+1))); !errors.Is(err, end) {
					return err
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
			one.Close()
		}
	}},
	{"the sync of the directory fails", failSecondDirSync, func(t *testing.T, h *history) {
		h.put(t, "1.file", "some ", "payload") // and this is it
		h.put(t, "1.file", "once ", "more")
		h.put(t, "2.file", "another")
	}},
}

// The first is for the directory itself, the second for the file from before.
func failSecondDirSync(afs afero.Fs) afero.Fs {
	faulty := newFaulty(afs)
	faulty.Fail(syscall.EIO, 3, "sync directory")
	return faulty
}

// README, "What is promised": an orderly close means that the file is kept.
func TestNoCutOfThePowerTakesWhatWasAcknowledged(t *testing.T) {
	for _, history := range histories {
		t.Run(history.name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(t, history.over)
			defer h.Close()
			history.run(t, h)
			h.flaws(t, true)
		})
	}
}

// And the test above would find it: without one sync or the other, what it looks for
// is there.
func TestWithoutASyncACutOfThePowerIsSeen(t *testing.T) {
	tests := []struct {
		d     fs.Durability
		want  []flaw
		never []flaw
	}{
		{fs.File, []flaw{lost, stale}, []flaw{torn, left}},
		{fs.None, []flaw{lost, stale, torn}, []flaw{left}},
	}
	for _, test := range tests {
		t.Run(string(test.d), func(t *testing.T) {
			h := newHistory(t, same, fs.WithDurability(test.d))
			defer h.Close()
			h.put(t, "1.file", "some ", "payload")
			h.put(t, "2.file", "some ", "payload")
			h.put(t, "2.file", "and ", "one ", "more")
			found := h.flaws(t, false)
			for _, f := range test.want {
				if found[f] == 0 {
					t.Errorf("no file %s", f)
				}
			}
			for _, f := range test.never {
				if found[f] != 0 {
					t.Errorf("a file %s, %d times", f, found[f])
				}
			}
		})
	}
}

func TestACutOfThePowerReplacesNothingThatIsNotToBeReplaced(t *testing.T) {
	h := newHistory(t, same, fs.NoReplace())
	defer h.Close()
	base := h.disk.Steps()
	if err := h.put(t, "1.file", "some ", "payload"); !errors.Is(err, os.ErrExist) {
		t.Error(err)
	}
	h.put(t, "2.file", "some ", "payload")
	if err := h.put(t, "2.file", "and ", "one ", "more"); !errors.Is(err, os.ErrExist) {
		t.Error(err)
	}
	h.flaws(t, true)
	for step, afs := range h.disk.Crashes(60, 1) {
		if step < base {
			continue
		}
		if got := content(t, afs, "1.file"); got != "from before" {
			t.Errorf("at step %d 1.file holds %q", step, got)
		}
		if got := content(t, afs, "2.file"); strings.HasPrefix(got, "and") {
			t.Errorf("at step %d 2.file holds %q", step, got)
		}
	}
}
