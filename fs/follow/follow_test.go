package follow

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/fstest"
	"github.com/accio-go/accio/fs/internal/storetest"
)

// followers returns a Store over each kind of store.
func followers(t *testing.T) map[string]*Store {
	all := make(map[string]*Store)
	for _, kind := range []string{storetest.Disk, storetest.OsFs, storetest.Memory} {
		all[kind] = &Store{Store: storetest.Open(t, kind).Store}
	}
	return all
}

func follow(t *testing.T, f *Store, name string) io.ReadCloser {
	t.Helper()
	r, err := f.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

var write = storetest.Write

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
			t.Run("an abort without a cause is io.ErrUnexpectedEOF", func(t *testing.T) {
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
				if _, err := r.Read(make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) {
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
			if left := len(f.arriving); left != 0 {
				t.Errorf("%d files still count as arriving", left)
			}
		})
	}
}

// A reader must not take a file for complete that could not be committed.
func TestFollowFailedCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dir")
	store, err := fs.OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := os.Mkdir(filepath.Join(path, "taken"), 0o777); err != nil {
		t.Fatal(err)
	}
	f := &Store{Store: store}
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
func TestFollowSecondCommit(t *testing.T) {
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

func TestFollowTwoFilesOfOneName(t *testing.T) {
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

func TestFollowMethods(t *testing.T) {
	for kind, f := range followers(t) {
		t.Run(kind, func(t *testing.T) {
			p, err := f.Create(t.Context(), "long")
			if err != nil {
				t.Fatal(err)
			}
			defer p.Abort()
			if _, ok := p.(interface{ Reset() error }); ok {
				t.Error("Reset would remove what was read")
			}
			if _, ok := p.(interface{ File() *os.File }); ok {
				t.Error("File would pass the readers by")
			}
			p.(interface{ Wrote(n int) }).Wrote(1)
		})
	}
}

// failingPending is a pending file whose write-back has failed.
type failingPending struct {
	pending
	err error
}

func (p failingPending) CommitAs(string, bool) error { return errors.Join(p.err, p.Abort()) }

func TestFollowCommitFails(t *testing.T) {
	p := storetest.Open(t, storetest.Disk)
	f := &Store{Store: p.Store}
	for _, sync := range []bool{true, false} {
		created, err := f.Create(t.Context(), "1.file")
		if err != nil {
			t.Fatal(err)
		}
		u, failure := created.(*file), errors.New("the disk is broken")
		write(t, u, "x")
		r := follow(t, f, "1.file")
		u.pending = failingPending{u.pending, failure}
		if err := u.CommitAs("1.file", sync); !errors.Is(err, failure) {
			t.Errorf("the commit: %v", err)
		}
		if _, err := io.ReadAll(r); !errors.Is(err, failure) {
			t.Errorf("the reader got %v", err)
		}
		p.Holds(t, nil)
	}
}

func TestFollowCommitAs(t *testing.T) {
	errVirus := errors.New("a virus")
	for _, refused := range []bool{false, true} {
		storetest.Each(t, func(t *testing.T, p *storetest.Place) {
			seen := make(chan string, 1)
			f := &Store{Store: p.Store, Consumers: []Consumer{{Decisive: true, Consume: func(_ context.Context, _ string, r io.Reader) error {
				got, err := io.ReadAll(r)
				seen <- string(got)
				if refused {
					return errVirus
				}
				return err
			}}}}
			created, err := f.Create(t.Context(), "first")
			if err != nil {
				t.Fatal(err)
			}
			write(t, created, "payload")
			r := follow(t, f, "first")
			if _, err := f.Open("1.file"); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("opened by its final name: %v", err)
			}
			err = created.(*file).CommitAs("1.file", false)
			if got := <-seen; got != "payload" {
				t.Errorf("the consumer has seen %q", got)
			}
			got, rerr := io.ReadAll(r)
			if refused {
				if !errors.Is(err, errVirus) || !errors.Is(rerr, errVirus) {
					t.Errorf("the commit: %v; the reader: %v", err, rerr)
				}
				p.Holds(t, nil)
				return
			}
			if err != nil || string(got) != "payload" || rerr != nil {
				t.Errorf("the commit: %v; the reader got %q, %v", err, got, rerr)
			}
			p.Holds(t, map[string]string{"1.file": "payload"})
		})
	}
}

func TestFollowRules(t *testing.T) {
	for _, kind := range []string{storetest.Disk, storetest.OsFs, storetest.Memory} {
		for what, opts := range map[string][]fs.Option{"": nil, ", NoReplace": {fs.NoReplace()}} {
			t.Run(kind+what, func(t *testing.T) {
				fstest.TestStore(t, func(tb testing.TB) fstest.Place {
					p := storetest.Open(tb.(*testing.T), kind, opts...)
					return fstest.Place{
						Store: &Store{Store: p.Store},
						Read: func(name string) ([]byte, error) {
							if !filepath.IsLocal(name) || name == "." {
								return nil, os.ErrNotExist
							}
							b, err := afero.ReadFile(p.Fs, p.Path(name))
							if err != nil {
								err = os.ErrNotExist
							}
							return b, err
						},
						Names:     func() ([]string, error) { return p.Names(tb), nil },
						NoReplace: opts != nil,
					}
				})
			})
		}
	}
}
