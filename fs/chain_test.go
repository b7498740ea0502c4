package fs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/follow"
	"github.com/accio-go/accio/fs/fstest"
	"github.com/accio-go/accio/stage"
)

const payload = "some payload"

var saveDir = filepath.FromSlash("/save")

// bites has a handler read as little at a time as to need several writes.
var bites = stage.StageFunc(func(next stage.Handler) stage.Handler {
	return stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) error {
		c.In = biter{c.In}
		return next.Serve(ctx, c)
	})
})

type biter struct{ io.Reader }

func (b biter) Read(p []byte) (int, error) { return b.Reader.Read(p[:min(len(p), 4)]) }

func receive(store stage.Store) stage.Handler {
	return stage.Chain{
		stage.Save{Store: store, Name: stage.NumberedFile, Mark: stage.ErrorMark},
		bites,
	}.Then(stage.Receive)
}

// A client sends the payload over a connection, and says whether the server has
// confirmed that it was saved.
type client func(conn *net.TCPConn) (confirmed bool)

func whole(conn *net.TCPConn) bool {
	defer conn.Close()
	io.WriteString(conn, payload)
	conn.CloseWrite()
	_, err := io.Copy(io.Discard, conn)
	return err == nil
}

func broken(conn *net.TCPConn) bool {
	io.WriteString(conn, payload)
	conn.SetLinger(0)
	conn.Close()
	return false
}

// serve has h serve one client.
func serve(t *testing.T, ln net.Listener, h stage.Handler, number uint64, c client) (confirmed bool, err error) {
	t.Helper()
	conn, derr := net.Dial("tcp", ln.Addr().String())
	if derr != nil {
		t.Fatal(derr)
	}
	server, derr := ln.Accept()
	if derr != nil {
		t.Fatal(derr)
	}
	var wg sync.WaitGroup
	wg.Go(func() { err = stage.Serve(t.Context(), server, number, h) })
	confirmed = c(conn.(*net.TCPConn))
	wg.Wait()
	return confirmed, err
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// content is what the file holds, or "" if there is none.
func content(t *testing.T, afs afero.Fs, name string) string {
	t.Helper()
	path := filepath.Join(saveDir, name)
	if ok, err := afero.Exists(afs, path); err != nil || !ok {
		return ""
	}
	b, err := afero.ReadFile(afs, path)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

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

func names(t *testing.T, afs afero.Fs) (names []string) {
	t.Helper()
	infos, err := afero.ReadDir(afs, saveDir)
	if err != nil {
		t.Error(err)
	}
	for _, fi := range infos {
		names = append(names, fi.Name())
	}
	return names
}

// README, "What is promised": every connection ends as a whole file, an empty one or
// ERROR, and a sync that fails fails the upload. Here whatever call of the filesystem
// fails, and however, while a connection is served whose file is to replace an earlier
// one.
func TestWhateverFailsTheClientKnowsTheTruthAndTheNextIsServed(t *testing.T) {
	errnos := []syscall.Errno{syscall.ENOSPC, syscall.EIO, syscall.EDQUOT, syscall.EACCES, syscall.EROFS, syscall.EMFILE}
	ops := []string{
		"create", "write", "short write", "sync", "close", "rename",
		"open directory", "sync directory", "close directory", "remove", "truncate", "seek", "stat",
	}
	clients := []struct {
		name string
		client
	}{{"a client that sends all", whole}, {"a client that breaks off", broken}}
	durabilities := []fs.Durability{fs.Full, fs.File, fs.None}
	// What the file may hold if nothing is confirmed: where nothing can be removed,
	// or looked at to be removed, also what was there, or is all there.
	may := map[bool][]string{
		false: {"", stage.ErrorMark},
		true:  {"", stage.ErrorMark, "earlier", payload},
	}
	ln := listen(t)
	const every = 0
	for _, op := range ops {
		t.Run(op, func(t *testing.T) {
			failures := 0
			for _, c := range clients {
				for _, d := range durabilities {
					for _, errno := range errnos {
						for _, also := range []bool{false, true} { // nor can anything be removed
							stuck := also || op == "remove" || op == "stat"
							for nth, met := every, true; met; nth++ {
								what := fmt.Sprintf("%s, durability %s, %v at call %d", c.name, d, errno, nth)
								afs := newFaulty(fs.NewMemory())
								store, err := fs.New(afs, saveDir, fs.WithDurability(d))
								if err != nil {
									t.Fatal(err)
								}
								h := receive(store)
								if err := afero.WriteFile(afs, filepath.Join(saveDir, "1.file"), []byte("earlier"), 0o666); err != nil {
									t.Fatal(err)
								}
								before := afs.Calls(op)
								if afs.Fail(errno, nth, op); also {
									afs.Fail(errno, every, "remove")
								}
								syncs := syncsTwice(afs)
								confirmed, err := serve(t, ln, h, 1, c.client)
								met = nth == every || afs.Calls(op)-before >= nth
								afs.Mend()

								got := content(t, afs, "1.file")
								switch {
								case confirmed != (err == nil):
									t.Errorf("%s: confirmed %v, and the server has %v", what, confirmed, err)
								case confirmed && got != payload:
									t.Errorf("%s: confirmed, and the file holds %q", what, got)
								case !confirmed && c.name == clients[0].name && !(errors.Is(err, errno) && errors.Is(err, stage.ErrStorage)):
									t.Errorf("%s: not confirmed, for %v", what, err)
								case !confirmed && !slices.Contains(may[stuck], got):
									t.Errorf("%s: not confirmed, and the file holds %q", what, got)
								case !confirmed && !met && c.name == clients[0].name:
									t.Errorf("%s: not confirmed, without a fault: %v", what, err)
								}
								if !confirmed {
									failures++
								}
								if twice := syncs(); twice != "" {
									t.Errorf("%s: %s was synced once more after that had failed", what, twice)
								}
								if stuck {
									if err := store.Sweep(stage.IsNumberedFile); err != nil {
										t.Errorf("%s: the sweep: %v", what, err)
									}
								}
								for _, name := range names(t, afs) {
									if strings.HasPrefix(name, ".") {
										t.Errorf("%s: %s is left", what, name)
									}
								}
								if confirmed, err := serve(t, ln, h, 2, whole); !confirmed || err != nil || content(t, afs, "2.file") != payload {
									t.Errorf("%s: the next is confirmed: %v (%v), and holds %q", what, confirmed, err, content(t, afs, "2.file"))
								}
								if n := afs.Handles(); n != 0 {
									t.Errorf("%s: %d files are still open", what, n)
								}
								if err := store.Close(); err != nil {
									t.Errorf("%s: the close: %v", what, err)
								}
							}
						}
					}
				}
			}
			if failures == 0 {
				t.Error("no upload failed")
			}
		})
	}
}

// syncsTwice watches whether a file is synced that could not be synced.
func syncsTwice(afs *faultyFs) (name func() string) {
	var mu sync.Mutex
	seen, twice := make(map[string]bool), ""
	afs.FailIf(func(op, name string) error {
		mu.Lock()
		defer mu.Unlock()
		if op == "sync" {
			if seen[name] {
				twice = name
			}
			seen[name] = true
		}
		return nil
	})
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		return twice
	}
}

// That it is used is seen here: the packages know each other by such methods only.
func TestAFileOnADiskIsAllThatAPayloadCanBe(t *testing.T) {
	store, err := fs.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	p, err := store.Create(t.Context(), "1.file")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Abort()
	if _, ok := p.(stage.Resetter); !ok {
		t.Error("it is no Resetter")
	}
	if runtime.GOOS == "windows" {
		return
	}
	if _, ok := p.(stage.Filer); !ok {
		t.Error("it is no Filer")
	}
	if _, ok := p.(stage.Committer); !ok {
		t.Error("it is no Committer")
	}
	if _, ok := p.(stage.WriteCounter); !ok {
		t.Error("it is no WriteCounter")
	}
}

// A file that is pushed out in pieces while it arrives is the one that was sent.
func TestALongFileArrivesWhole(t *testing.T) {
	dir := t.TempDir()
	store, err := fs.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	long := make([]byte, 25<<20+12345)
	rand.NewChaCha8([32]byte{}).Read(long)
	h := stage.Save{Store: store, Name: stage.NumberedFile}.Wrap(stage.Receive)
	confirmed, err := serve(t, listen(t), h, 1, func(conn *net.TCPConn) bool {
		defer conn.Close()
		conn.Write(long)
		conn.CloseWrite()
		_, err := io.Copy(io.Discard, conn)
		return err == nil
	})
	if !confirmed || err != nil {
		t.Errorf("confirmed: %v, %v", confirmed, err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "1.file")); !bytes.Equal(got, long) {
		t.Errorf("the file is of %d bytes, and others than were sent (%v)", len(got), err)
	}
}

// Where not even the mark can be stored, what an earlier run left is no outcome of this
// connection's; but in a store that replaces nothing it is somebody else's.
func TestAnEarlierFileIsRemovedWhereItWouldBeReplaced(t *testing.T) {
	for _, replaces := range []bool{true, false} {
		for _, followed := range []bool{true, false} {
			t.Run(fmt.Sprintf("replaces: %t, followed: %t", replaces, followed), func(t *testing.T) {
				afs := newFaulty(fs.NewMemory())
				var opts []fs.Option
				if !replaces {
					opts = append(opts, fs.NoReplace())
				}
				store, err := fs.New(afs, "/uploads", opts...)
				if err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				if err := store.WriteFile("1.file", []byte("earlier")); err != nil {
					t.Fatal(err)
				}
				var sink stage.Store = store
				if followed {
					sink = &follow.Store{Store: store}
				}
				afs.Fail(syscall.ENOSPC, 0, "create")

				client, server := net.Pipe()
				client.Close()
				failing := stage.HandlerFunc(func(context.Context, *stage.Conn) error { return stage.ErrIdle })
				h := stage.Save{Store: sink, Name: stage.NumberedFile, Mark: stage.ErrorMark}.Wrap(failing)
				if err := stage.Serve(t.Context(), server, 1, h); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("the connection ended with %v", err)
				}
				if there, err := afero.Exists(afs, "/uploads/1.file"); there == replaces || err != nil {
					t.Errorf("the earlier file is there: %t, %v", there, err)
				}
			})
		}
	}
}
