package fs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spf13/afero"
)

// followers are Followers over every kind of store.
func followers(t *testing.T) map[string]*Follower {
	disk, err := OpenDir(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disk.Close() })
	memory, err := New(NewMemory(), "/memory")
	if err != nil {
		t.Fatal(err)
	}
	osfs, err := New(afero.NewOsFs(), filepath.Join(t.TempDir(), "os"))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]*Follower{"disk": Follow(disk), "memory": Follow(memory), "afero on disk": Follow(osfs)}
}

func followedOf(t *testing.T, p Pending) *followed {
	t.Helper()
	switch p := p.(type) {
	case *followed:
		return p
	case *followedFile:
		return p.followed
	}
	t.Fatalf("a %T is not followed", p)
	return nil
}

func follow(t *testing.T, f *Follower, name string) io.ReadCloser {
	t.Helper()
	r, err := f.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func write(t *testing.T, w io.Writer, s string) {
	t.Helper()
	if _, err := io.WriteString(w, s); err != nil {
		t.Fatal(err)
	}
}

func TestFollow(t *testing.T) {
	for kind, f := range followers(t) {
		t.Run(kind, func(t *testing.T) {
			t.Run("many readers see the whole file, those that come late too", func(t *testing.T) {
				p, err := f.Create(t.Context(), "many")
				if err != nil {
					t.Fatal(err)
				}
				payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
				var wg sync.WaitGroup
				for part := range 4 {
					for range 3 {
						r := follow(t, f, "many")
						wg.Go(func() {
							got, err := io.ReadAll(r)
							if err != nil || !bytes.Equal(got, payload) {
								t.Errorf("read %d bytes, %v; want %d", len(got), err, len(payload))
							}
						})
					}
					if _, err := p.Write(payload[part*len(payload)/4 : (part+1)*len(payload)/4]); err != nil {
						t.Fatal(err)
					}
				}
				if err := p.Commit(); err != nil {
					t.Fatal(err)
				}
				wg.Wait()
			})
			t.Run("bytes are there before the commit, the end is not", func(t *testing.T) {
				p, err := f.Create(t.Context(), "early")
				if err != nil {
					t.Fatal(err)
				}
				write(t, p, "here")
				r := follow(t, f, "early")
				buf := make([]byte, 4)
				if _, err := io.ReadFull(r, buf); err != nil || string(buf) != "here" {
					t.Fatalf("read %q, %v", buf, err)
				}
				if n, err := r.Read(nil); n != 0 || err != nil {
					t.Fatalf("reading nothing gave %d, %v", n, err)
				}
				end := make(chan error)
				go func() {
					_, err := r.Read(buf)
					end <- err
				}()
				select {
				case err := <-end:
					t.Fatalf("the reader ended before the commit: %v", err)
				default:
				}
				if err := p.Commit(); err != nil {
					t.Fatal(err)
				}
				if err := <-end; err != io.EOF {
					t.Fatalf("after the commit: %v", err)
				}
			})
			t.Run("a failure reaches the readers as its cause", func(t *testing.T) {
				cause := errors.New("the peer went away")
				ctx, cancel := context.WithCancelCause(t.Context())
				p, err := f.Create(ctx, "failed")
				if err != nil {
					t.Fatal(err)
				}
				r := follow(t, f, "failed")
				end := make(chan error)
				go func() {
					_, err := io.ReadAll(r)
					end <- err
				}()
				write(t, p, "part")
				cancel(cause)
				if err := p.Abort(); err != nil {
					t.Fatal(err)
				}
				if err := <-end; !errors.Is(err, cause) {
					t.Fatalf("the reader got %v", err)
				}
			})
			t.Run("a reader that comes to the file as it is given up gets the cause", func(t *testing.T) {
				cause := errors.New("the peer went away")
				ctx, cancel := context.WithCancelCause(t.Context())
				p, err := f.Create(ctx, "late")
				if err != nil {
					t.Fatal(err)
				}
				h := followedOf(t, p).handle
				cancel(cause)
				if err := p.Abort(); err != nil {
					t.Fatal(err)
				}
				if _, err := h.ReadAt(make([]byte, 1), 0); err != cause {
					t.Fatalf("the reader got %v", err)
				}
			})
			t.Run("an abort without a cause is ErrAborted", func(t *testing.T) {
				p, err := f.Create(t.Context(), "dropped")
				if err != nil {
					t.Fatal(err)
				}
				r := follow(t, f, "dropped")
				if err := p.Abort(); err != nil {
					t.Fatal(err)
				}
				if err := p.Abort(); err != nil {
					t.Fatal(err)
				}
				if _, err := r.Read(make([]byte, 1)); !errors.Is(err, ErrAborted) {
					t.Fatalf("the reader got %v", err)
				}
			})
			t.Run("a file that is replaced meanwhile is read to its own end", func(t *testing.T) {
				p, err := f.Create(t.Context(), "twice")
				if err != nil {
					t.Fatal(err)
				}
				write(t, p, "old")
				r := follow(t, f, "twice")
				if err := p.Commit(); err != nil {
					t.Fatal(err)
				}
				q, err := f.Create(t.Context(), "twice")
				if err != nil {
					t.Fatal(err)
				}
				write(t, q, "newer")
				if err := q.Commit(); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(r); string(got) != "old" || err != nil {
					t.Fatalf("read %q, %v", got, err)
				}
			})
			t.Run("closing a reader ends its wait and nobody else's", func(t *testing.T) {
				p, err := f.Create(t.Context(), "closed")
				if err != nil {
					t.Fatal(err)
				}
				r, other := follow(t, f, "closed"), follow(t, f, "closed")
				end := make(chan error)
				go func() {
					_, err := r.Read(make([]byte, 1))
					end <- err
				}()
				r.Close()
				if err := <-end; err == nil || err == io.EOF {
					t.Fatalf("the closed reader got %v", err)
				}
				write(t, p, "x")
				if err := p.Commit(); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(other); string(got) != "x" || err != nil {
					t.Fatalf("the other reader got %q, %v", got, err)
				}
			})
			t.Run("there is nothing to follow before and after", func(t *testing.T) {
				if _, err := f.Open("none"); !errors.Is(err, os.ErrNotExist) {
					t.Fatalf("before: %v", err)
				}
				p, err := f.Create(t.Context(), "none")
				if err != nil {
					t.Fatal(err)
				}
				if err := p.Commit(); err != nil {
					t.Fatal(err)
				}
				if _, err := f.Open("none"); !errors.Is(err, os.ErrNotExist) {
					t.Fatalf("after: %v", err)
				}
			})
			if left := len(f.live); left != 0 {
				t.Errorf("%d files still count as arriving", left)
			}
		})
	}
}

// A reader must not take a file for complete that could not be committed.
func TestFollowersOfAFailedCommitGetItsError(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir")
	store, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := os.Mkdir(filepath.Join(path, "taken"), 0o777); err != nil {
		t.Fatal(err)
	}
	f := Follow(store)
	p, err := f.Create(t.Context(), "taken")
	if err != nil {
		t.Fatal(err)
	}
	write(t, p, "x")
	r := follow(t, f, "taken")
	commitErr := p.Commit()
	if commitErr == nil {
		t.Fatal("committed over a directory")
	}
	if _, err := io.ReadAll(r); !errors.Is(err, commitErr) {
		t.Fatalf("the reader got %v, want %v", err, commitErr)
	}
}

// The file is committed; to do it again is the writer's mistake, not theirs.
func TestASecondCommitIsNoMatterOfTheReaders(t *testing.T) {
	for kind, f := range followers(t) {
		t.Run(kind, func(t *testing.T) {
			p, err := f.Create(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			write(t, p, "whole")
			r := follow(t, f, "a")
			if err := p.Commit(); err != nil {
				t.Fatal(err)
			}
			if err := p.Commit(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("the second commit: %v", err)
			}
			if err := p.Abort(); err != nil {
				t.Errorf("an abort after that: %v", err)
			}
			if got, err := io.ReadAll(r); string(got) != "whole" || err != nil {
				t.Errorf("the reader got %q, %v", got, err)
			}
		})
	}
}

func TestAFileCanBeFollowedAgainWhenALaterOneOfItsNameHasEnded(t *testing.T) {
	for kind, f := range followers(t) {
		t.Run(kind, func(t *testing.T) {
			first, err := f.Create(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			defer first.Abort()
			write(t, first, "first")
			second, err := f.Create(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			if err := second.Abort(); err != nil {
				t.Fatal(err)
			}
			r, err := f.Open("a")
			if err != nil {
				t.Fatalf("the first still arrives, but %v", err)
			}
			defer r.Close()
			got := make([]byte, 5)
			if _, err := io.ReadFull(r, got); err != nil || string(got) != "first" {
				t.Errorf("the reader got %q, %v", got, err)
			}
		})
	}
}

// Whoever waits at the commit of a long file must not wait for all of it.
func TestAFollowedFileOnADiskIsPushedOutWhileItArrives(t *testing.T) {
	for kind, f := range followers(t) {
		t.Run(kind, func(t *testing.T) {
			p, err := f.Create(t.Context(), "long")
			if err != nil {
				t.Fatal(err)
			}
			defer p.Abort()
			w, ok := p.(interface{ Wrote(n int) })
			if ok != (kind != "memory") {
				t.Fatalf("a %T has Wrote: %t", p, ok)
			}
			if _, ok := p.(interface{ Reset() error }); ok {
				t.Error("what was read can be thrown away")
			}
			if _, ok := p.(filer); ok {
				t.Error("it can be written past those who follow")
			}
			if !ok {
				return
			}
			for range 3 {
				if _, err := p.Write(make([]byte, pushSize/2)); err != nil {
					t.Fatal(err)
				}
				w.Wrote(pushSize / 2)
			}
			if got := p.(*followedFile).file.pushed; got != pushSize {
				t.Errorf("%d bytes are on their way, want %d", got, pushSize)
			}
		})
	}
}

func TestAFollowedFileThatCouldNotBePushedOutIsNotCommitted(t *testing.T) {
	p := kinds[0].place(t) // on the disk
	f := Follow(p.Store)
	for name, commit := range map[string]func(*followedFile) error{
		"Commit": (*followedFile).Commit, "CommitUnsynced": (*followedFile).CommitUnsynced,
	} {
		t.Run(name, func(t *testing.T) {
			file, err := f.Create(t.Context(), "1.file")
			if err != nil {
				t.Fatal(err)
			}
			write(t, file, "x")
			r := follow(t, f, "1.file")
			u, failure := file.(*followedFile), errors.New("the disk is broken")
			u.file.pushErr = failure
			if err := commit(u); !errors.Is(err, failure) {
				t.Errorf("the commit: %v", err)
			}
			if _, err := io.ReadAll(r); !errors.Is(err, failure) {
				t.Errorf("the reader got %v", err)
			}
			p.holds(t, nil)
		})
	}
}

func TestAFollowedFileIsCommittedUnsynced(t *testing.T) {
	for _, refused := range []bool{false, true} {
		for _, k := range kinds[:2] { // on a disk
			t.Run(k.name, func(t *testing.T) {
				p := k.place(t)
				seen := make(chan string, 1)
				f := Follow(p.Store, WithConsumer(Consumer{Decisive: true, Consume: func(_ context.Context, _ string, r io.Reader) error {
					got, err := io.ReadAll(r)
					seen <- string(got)
					if refused {
						return errors.New("a virus")
					}
					return err
				}}))
				file, err := f.Create(t.Context(), "1.file")
				if err != nil {
					t.Fatal(err)
				}
				write(t, file, "payload")
				r := follow(t, f, "1.file")
				err = file.(interface{ CommitUnsynced() error }).CommitUnsynced()
				if got := <-seen; got != "payload" {
					t.Errorf("the consumer has seen %q", got)
				}
				got, rerr := io.ReadAll(r)
				if refused {
					if !errors.Is(err, ErrRejected) || !errors.Is(rerr, ErrRejected) {
						t.Errorf("the commit: %v; the reader: %v", err, rerr)
					}
					p.holds(t, nil)
					return
				}
				if err != nil || string(got) != "payload" || rerr != nil {
					t.Errorf("the commit: %v; the reader got %q, %v", err, got, rerr)
				}
				p.holds(t, files{"1.file": "payload"})
				p.mu.Lock()
				defer p.mu.Unlock()
				_, later := p.dir.(syncer)
				if _, left := p.unsynced.files["1.file"]; left != later {
					t.Errorf("it is left to the close to sync: %t, want %t", left, later)
				}
			})
		}
	}
}

// oneAtATime is a handle of which no two reads are to overlap.
type oneAtATime struct {
	handle
	reading atomic.Bool
	overlap atomic.Bool
}

func (h *oneAtATime) ReadAt(p []byte, off int64) (int, error) {
	if !h.reading.CompareAndSwap(false, true) {
		h.overlap.Store(true)
	}
	defer h.reading.Store(false)
	runtime.Gosched()
	return h.handle.ReadAt(p, off)
}

func TestReadersOfAFileOfTheSystemDoNotWaitForEachOther(t *testing.T) {
	path := filepath.Join(t.TempDir(), "1.file")
	if err := os.WriteFile(path, []byte("payload"), 0o666); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	h := &sharedHandle{handle: file}
	h.reading.Lock() // as another reader would
	defer h.reading.Unlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	read := make(chan error)
	go func() {
		_, err := h.ReadAt(make([]byte, 7), 0)
		read <- err
	}()
	select {
	case err := <-read:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits")
	}
}

func TestReadersOfWhatIsNoFileOfTheSystemReadOneAtATime(t *testing.T) {
	one := &oneAtATime{handle: readerAt{bytes.NewReader(make([]byte, 1000))}}
	h := &sharedHandle{handle: one}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for off := range int64(200) {
				if _, err := h.ReadAt(make([]byte, 5), off); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if one.overlap.Load() {
		t.Error("two have read at a time")
	}
}

type readerAt struct{ io.ReaderAt }

func (readerAt) Close() error { return nil }
