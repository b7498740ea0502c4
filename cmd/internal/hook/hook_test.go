package hook

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/stage"
)

// heard are the files that hooks were told of.
type heard struct {
	mu   sync.Mutex
	list []Saved
}

func (l *heard) add(_ context.Context, s Saved) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, s)
	return nil
}

// serve serves a connection from addr, as number 7, by h inside of hooks for files in dir,
// and returns what these were told.
func serve(t *testing.T, dir string, addr net.Addr, h stage.Handler) []Saved {
	t.Helper()
	var errs told
	var files heard
	hooks, stop, drained := hooks(t, &errs, files.add)
	defer stop()
	defer drained()
	hooks.dir = dir
	server, client := net.Pipe()
	client.Close()
	func() {
		defer func() { recover() }()
		stage.Serve(t.Context(), at{server, addr}, 7, hooks.Stage().Wrap(h))
	}()
	hooks.Close()
	errs.are(t)
	return files.list
}

// at is a connection from an address.
type at struct {
	net.Conn
	addr net.Addr
}

func (c at) RemoteAddr() net.Addr { return c.addr }

// full is a store on a disk that is full, and from which nothing can be removed.
type full struct{}

func (full) Create(context.Context, string) (stage.Pending, error) { return nil, syscall.ENOSPC }
func (full) Remove(string) error                                   { return syscall.EROFS }

func TestHooksAreToldOfWhatTheConnectionHasLeft(t *testing.T) {
	fails := stage.HandlerFunc(func(context.Context, *stage.Conn) error { return stage.ErrIdle })
	for _, tt := range []struct {
		name  string
		store stage.Store // nil: one on the disk
		saves bool        // the connection gets as far as the Save
		h     stage.Handler
		want  []stage.Outcome
	}{
		{"a payload", nil, true, stage.Receive, []stage.Outcome{stage.OutcomeEmpty}},
		{"ERROR", nil, true, fails, []stage.Outcome{stage.OutcomeOf(stage.ErrIdle, 0)}},
		{"ERROR of a panic", nil, true, stage.HandlerFunc(func(context.Context, *stage.Conn) error { panic("on purpose") }), []stage.Outcome{stage.OutcomeOf(stage.ErrPanic, 0)}},
		{"nothing, on a full disk", full{}, true, fails, nil},
		{"nothing of a payload, on a full disk", full{}, true, stage.Receive, nil},
		{"nothing, since it does not get that far", nil, false, fails, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			// What an earlier run has left looks like what this one may leave.
			if err := os.WriteFile(filepath.Join(dir, "7.file"), []byte(stage.ErrorMark), 0o666); err != nil {
				t.Fatal(err)
			}
			if tt.store == nil {
				store, err := fs.OpenDir(dir)
				if err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				tt.store = store
			}
			h := tt.h
			if tt.saves {
				h = stage.Save{Store: tt.store, Name: stage.NumberedFile, Mark: stage.ErrorMark}.Wrap(h)
			}
			var got []stage.Outcome
			for _, s := range serve(t, dir, nil, h) {
				got = append(got, s.Outcome)
				if s.Number != 7 || s.Path != filepath.Join(dir, "7.file") || s.Peer != "" {
					t.Errorf("told of %+v", s)
				}
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("told of %v, want %v", got, tt.want)
			}
		})
	}
}

// A proxy tells what it likes of a client's Unix socket.
func TestNothingThatAPeerSaysIsToldUnescaped(t *testing.T) {
	const hostile = "/run/x\n\r\x1b[2J\x00\x7f\x9b\u009b\u202e\u2028"
	files := serve(t, t.TempDir(), &net.UnixAddr{Net: "unix", Name: hostile}, stage.HandlerFunc(func(context.Context, *stage.Conn) error { return nil }))
	if len(files) != 1 {
		t.Fatalf("told of %v", files)
	}
	if got, want := files[0].Peer, `/run/x\n\r\x1b[2J\x00\x7f\x9b\u009b\u202e\u2028`; got != want {
		t.Errorf("the peer is %q, want %q", got, want)
	}
	i := slices.IndexFunc(environ(files[0]), func(v string) bool { return strings.HasPrefix(v, "SAVED_PEER=") })
	if i < 0 || strings.ContainsFunc(environ(files[0])[i], func(r rune) bool { return !strconv.IsPrint(r) }) {
		t.Errorf("the environment is %q", environ(files[0]))
	}
}

// However many hooks fail, for how many files nothing was done is told apart from that.
func TestSkippedFilesAreAKindOfTheirOwn(t *testing.T) {
	kinds := make(map[string]*told)
	f := Options{OnSavedURL: "http://host", OnSavedJobs: 1}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	h, err := f.Start(ctx, nil, "/files", "", func(message string) func(error) {
		kinds[message] = new(told)
		return kinds[message].add
	})
	if err != nil {
		t.Fatal(err)
	}
	h.queues[0].name = "--x"
	h.queues[0].do = func(ctx context.Context, _ Saved) error {
		<-ctx.Done()
		return errors.New("broken")
	}
	for n := 1; n <= 3; n++ {
		h.queues[0].add(file(n, stage.OutcomeReceived))
	}
	h.end(errStopped)
	h.Close()
	kinds["hook failed"].are(t, "--x: 1.file: broken")
	kinds["hook skipped files"].are(t, "--x: skipped 2 files, from 2.file to 3.file, since the program stops")
}
