package follow

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/afero"

	"github.com/accio-go/accio/fs"
	"github.com/accio-go/accio/fs/fstest"
	"github.com/accio-go/accio/fs/internal/storetest"
)

var (
	errVirus = errors.New("a virus")
	errPeer  = errors.New("the peer went away")
)

// decisive and passive are Consumers; what is passive tells into heard.
func decisive(consume func(ctx context.Context, name string, r io.Reader) error) Consumer {
	return Consumer{Consume: consume, Decisive: true}
}

func passive(heard *errorsHeard, consume func(ctx context.Context, name string, r io.Reader) error) Consumer {
	return Consumer{Consume: consume, OnError: heard.hear}
}

// errorsHeard are what OnError was told.
type errorsHeard struct {
	mu   sync.Mutex
	errs []error
}

func (h *errorsHeard) hear(_ string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.errs = append(h.errs, err)
}

func (h *errorsHeard) want(t *testing.T, wants ...error) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.errs) != len(wants) {
		t.Errorf("OnError was told %q, want %q", h.errs, wants)
		return
	}
	for i, want := range wants {
		if !errors.Is(h.errs[i], want) {
			t.Errorf("OnError was told %q, want %q", h.errs, wants)
		}
	}
}

// readAll reads to the end, and then returns verdict.
func readAll(verdict error) func(context.Context, string, io.Reader) error {
	return func(_ context.Context, _ string, r io.Reader) error {
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
		return verdict
	}
}

func start(t *testing.T, f *Store, ctx context.Context, name, content string) fs.Pending {
	t.Helper()
	p, err := f.Create(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Abort() })
	if content != "" {
		write(t, p, content)
	}
	return p
}

// reading reads r to its end, and then passes on how it ended.
func reading(r io.Reader) <-chan error {
	end := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, r)
		end <- err
	}()
	return end
}

func asFile(p fs.Pending) *file { return p.(*file) }

func newStore(s *fs.Store, consumers ...Consumer) *Store {
	return &Store{Store: s, Consumers: consumers}
}

func isRejected(err error) bool {
	r := (*rejection)(nil)
	return errors.As(err, &r)
}

func isAll(err error, targets ...error) bool {
	return !slices.ContainsFunc(targets, func(target error) bool { return !errors.Is(err, target) })
}

func TestConsumerDecisive(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p *storetest.Place) {
		atEnd, verdict := make(chan string), make(chan error)
		var visible atomic.Bool // to the passive one, at its end
		var heard errorsHeard
		f := newStore(p.Store,
			decisive(func(_ context.Context, name string, r io.Reader) error {
				got, err := io.ReadAll(r)
				if err != nil {
					return err
				}
				atEnd <- name + ": " + string(got)
				return <-verdict
			}),
			passive(&heard, func(_ context.Context, name string, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				found, _ := afero.Exists(p.Fs, p.Path(name))
				visible.Store(found)
				return err
			}),
		)
		file := start(t, f, t.Context(), "a", "payload")
		guest := follow(t, f, "a")
		committed := make(chan error)
		go func() { committed <- file.Commit() }()
		if got := <-atEnd; got != "a: payload" {
			t.Errorf("it read %q", got)
		}
		if found, _ := afero.Exists(p.Fs, p.Path("a")); found {
			t.Error("the file is there before the verdict")
		}
		late := follow(t, f, "a") // as long as it is not committed
		verdict <- nil
		if err := <-committed; err != nil {
			t.Fatal(err)
		}
		p.Holds(t, map[string]string{"a": "payload"})
		if !visible.Load() {
			t.Error("the passive one read the end of a file that was not yet there")
		}
		for _, r := range []io.Reader{guest, late} {
			if got, err := io.ReadAll(r); string(got) != "payload" || err != nil {
				t.Errorf("a guest read %q, %v", got, err)
			}
		}
		heard.want(t)
	})
}

func TestConsumerRejectsAtEnd(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p *storetest.Place) {
		var heard errorsHeard
		causes := make(chan error, 1)
		f := newStore(p.Store,
			decisive(readAll(errVirus)),
			passive(&heard, func(ctx context.Context, _ string, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				<-ctx.Done()
				causes <- context.Cause(ctx)
				return err
			}),
		)
		p.Put(t, "a", "earlier")
		file := start(t, f, t.Context(), "a", "payload")
		guest := follow(t, f, "a")
		err := file.Commit()
		for who, err := range map[string]error{
			"Commit": err, "ctx": <-causes, "the guest": <-reading(guest),
		} {
			if !(isRejected(err) && errors.Is(err, errVirus)) {
				t.Errorf("%s got %v", who, err)
			}
		}
		if err := file.Abort(); err != nil {
			t.Errorf("an abort after that: %v", err)
		}
		if err := file.Commit(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("a commit after that: %v", err)
		}
		heard.want(t, errVirus)
		p.Holds(t, map[string]string{"a": "earlier"})
	})
}

func TestConsumerRejectsEarly(t *testing.T) {
	for _, end := range []struct {
		name string
		end  func(fs.Pending) error
		want error
	}{
		{"by Abort", fs.Pending.Abort, nil},
		{"by Commit", fs.Pending.Commit, errVirus},
	} {
		t.Run(end.name, func(t *testing.T) {
			storetest.Each(t, func(t *testing.T, p *storetest.Place) {
				f := newStore(p.Store, decisive(func(_ context.Context, _ string, r io.Reader) error {
					if _, err := io.ReadFull(r, make([]byte, 5)); err != nil {
						return err
					}
					return errVirus
				}), decisive(readAll(nil)))
				file := start(t, f, t.Context(), "a", "some")
				guest := follow(t, f, "a")
				write(t, file, "thing")
				if err := <-reading(guest); !(isRejected(err) && errors.Is(err, errVirus)) {
					t.Errorf("the guest got %v", err)
				}
				if n, err := io.WriteString(file, "more"); n != 0 || !(isRejected(err) && errors.Is(err, errVirus)) {
					t.Errorf("Write returned %d, %v", n, err)
				}
				if _, err := f.Open("a"); !errors.Is(err, os.ErrNotExist) {
					t.Errorf("what is rejected can be followed: %v", err)
				}
				if err := end.end(file); !errors.Is(err, end.want) {
					t.Errorf("the end: %v", err)
				}
				p.Holds(t, nil)
			})
		})
	}
}

func TestConsumerReturnsEarly(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p *storetest.Place) {
		var heard errorsHeard
		enough := func(_ context.Context, _ string, r io.Reader) error {
			_, err := io.ReadFull(r, make([]byte, 2))
			return err
		}
		atOnce := func(context.Context, string, io.Reader) error { return nil }
		f := newStore(p.Store, decisive(enough), decisive(atOnce), passive(&heard, enough), passive(&heard, atOnce))
		file := start(t, f, t.Context(), "a", "pay")
		for _, c := range asFile(file).consumers {
			<-c.done
		}
		write(t, file, "load")
		if err := file.Commit(); err != nil {
			t.Fatal(err)
		}
		heard.want(t)
		p.Holds(t, map[string]string{"a": "payload"})
	})
}

func TestConsumerPanics(t *testing.T) {
	panics := func(v any) func(context.Context, string, io.Reader) error {
		return func(_ context.Context, _ string, r io.Reader) error {
			io.ReadFull(r, make([]byte, 1))
			panic(v)
		}
	}
	exits := func(_ context.Context, _ string, r io.Reader) error {
		io.ReadFull(r, make([]byte, 1))
		runtime.Goexit()
		return nil
	}
	for _, tt := range []struct {
		name    string
		consume func(context.Context, string, io.Reader) error
		want    []error
	}{
		{"by a panic", panics("out\nof order"), []error{ErrPanic}},
		{"by a panic with an error", panics(errVirus), []error{ErrPanic, errVirus}},
		{"by the end of its goroutine", exits, []error{ErrPanic}},
	} {
		for _, isDecisive := range []bool{true, false} {
			t.Run(tt.name, func(t *testing.T) {
				storetest.Each(t, func(t *testing.T, p *storetest.Place) {
					var heard errorsHeard
					f := newStore(p.Store, (Consumer{Consume: tt.consume, Decisive: isDecisive, OnError: heard.hear}))
					file := start(t, f, t.Context(), "a", "payload")
					<-asFile(file).end
					if _, err := io.WriteString(file, "more"); !isAll(err, tt.want...) {
						t.Errorf("Write returned %v", err)
					}
					err := file.Commit()
					if !isAll(err, tt.want...) || isRejected(err) || strings.Contains(err.Error(), "\n") {
						t.Errorf("Commit returned %v", err)
					}
					if isDecisive {
						heard.want(t)
					} else {
						heard.want(t, ErrPanic)
					}
					p.Holds(t, nil)
				})
			})
		}
	}
}

func TestConsumerPanicsAfterCommit(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p *storetest.Place) {
		var heard errorsHeard
		f := newStore(p.Store, passive(&heard, func(_ context.Context, _ string, r io.Reader) error {
			io.Copy(io.Discard, r)
			panic("too late")
		}))
		if err := start(t, f, t.Context(), "a", "payload").Commit(); err != nil {
			t.Fatal(err)
		}
		heard.want(t, ErrPanic)
		var pe *panicError
		if len(heard.errs) == 1 && (!errors.As(heard.errs[0], &pe) || pe.value != "too late" || !bytes.Contains(pe.Stack(), []byte("consumer_test.go"))) {
			t.Errorf("the panic was %+v", pe)
		}
		p.Holds(t, map[string]string{"a": "payload"})
	})
}

func TestConsumerOnError(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p *storetest.Place) {
		var heard errorsHeard
		f := newStore(p.Store,
			passive(&heard, func(context.Context, string, io.Reader) error { return errVirus }),
			(Consumer{Consume: readAll(errVirus)}), // and nobody is told
		)
		if err := start(t, f, t.Context(), "a", "payload").Commit(); err != nil {
			t.Fatal(err)
		}
		heard.want(t, errVirus)
		p.Holds(t, map[string]string{"a": "payload"})
	})
}

// The reason that the upload failed is what everybody gets, also if a consumer was
// the first to say that its context is done.
func TestAnAbortReachesConsumersAsItsCause(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p *storetest.Place) {
		returned, seen := make(chan struct{}), make(chan error, 2)
		f := newStore(p.Store,
			decisive(func(ctx context.Context, _ string, r io.Reader) error {
				defer close(returned)
				<-ctx.Done()
				_, err := r.Read(make([]byte, 1))
				seen <- err
				return ctx.Err()
			}),
			decisive(func(ctx context.Context, _ string, r io.Reader) error {
				_, err := io.Copy(io.Discard, r)
				seen <- err
				return err
			}),
		)
		ctx, cancel := context.WithCancelCause(t.Context())
		file := start(t, f, ctx, "a", "payload")
		guest := follow(t, f, "a")
		cancel(errPeer)
		<-returned
		if err := file.Abort(); err != nil {
			t.Fatal(err)
		}
		for who, err := range map[string]error{"one": <-seen, "another": <-seen, "the guest": <-reading(guest)} {
			if err != errPeer {
				t.Errorf("%s got %v", who, err)
			}
		}
		p.Holds(t, nil)
	})
}

func TestAFileOfACancelledContextIsNotCommittedWithoutAVerdict(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p *storetest.Place) {
		f := newStore(p.Store, decisive(func(ctx context.Context, _ string, _ io.Reader) error {
			<-ctx.Done()
			return ctx.Err()
		}))
		ctx, cancel := context.WithCancelCause(t.Context())
		file := start(t, f, ctx, "a", "payload")
		cancel(errPeer)
		if err := file.Commit(); !errors.Is(err, errPeer) || isRejected(err) {
			t.Errorf("Commit returned %v", err)
		}
		p.Holds(t, nil)
	})
}

func TestConsumerLimit(t *testing.T) {
	waits := func(ctx context.Context, _ string, r io.Reader) error {
		if _, err := io.Copy(io.Discard, r); err != nil {
			return err
		}
		<-ctx.Done()
		_, err := r.Read(make([]byte, 1)) // no longer io.EOF
		return err
	}
	says := func(ctx context.Context, name string, r io.Reader) error {
		waits(ctx, name, r)
		return nil // which is too late to be a yes
	}
	slow := func(_ context.Context, _ string, r io.Reader) error {
		time.Sleep(time.Hour) // while it arrives
		_, err := io.Copy(io.Discard, r)
		return err
	}
	tests := []struct {
		name string
		opts func(heard *errorsHeard) []Consumer
		took time.Duration
		want error
		told []error
	}{
		{"two decisive", func(*errorsHeard) []Consumer { return []Consumer{decisive(waits), decisive(says)} },
			time.Minute, context.DeadlineExceeded, nil},
		{"two passive", func(h *errorsHeard) []Consumer { return []Consumer{passive(h, waits), passive(h, says)} },
			time.Minute, nil, []error{context.DeadlineExceeded}},
		{"both kinds", func(h *errorsHeard) []Consumer { return []Consumer{passive(h, waits), decisive(waits)} },
			time.Minute, context.DeadlineExceeded, []error{context.DeadlineExceeded}},
		{"what is slow only while it arrives", func(h *errorsHeard) []Consumer { return []Consumer{passive(h, slow), decisive(slow)} },
			0, nil, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, err := fs.New(fs.NewMemory(), "/memory")
				if err != nil {
					t.Fatal(err)
				}
				defer store.Close()
				var heard errorsHeard
				f := &Store{Store: store, Consumers: tt.opts(&heard), ConsumerLimit: time.Minute}
				file := start(t, f, t.Context(), "a", "payload")
				guest := follow(t, f, "a")
				time.Sleep(time.Hour) // which is not part of the limit
				synctest.Wait()
				begun := time.Now()
				if err := file.Commit(); !errors.Is(err, tt.want) || isRejected(err) {
					t.Errorf("Commit returned %v", err)
				}
				if took := time.Since(begun); took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				if err := <-reading(guest); !errors.Is(err, tt.want) {
					t.Errorf("the guest got %v", err)
				}
				heard.want(t, tt.told...)
			})
		})
	}
}

func TestSlowReadersDoNotHoldUpTheSender(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p *storetest.Place) {
		written := make(chan struct{})
		var sum atomic.Int64
		slow := func(_ context.Context, _ string, r io.Reader) error {
			<-written // and not a byte before
			n, err := io.Copy(io.Discard, r)
			sum.Add(n)
			return err
		}
		var heard errorsHeard
		f := newStore(p.Store, decisive(slow), passive(&heard, slow))
		file := start(t, f, t.Context(), "a", "")
		guest := follow(t, f, "a")
		const size = 4 << 20
		if _, err := io.CopyN(file, zeros{}, size); err != nil {
			t.Fatal(err)
		}
		close(written)
		if err := file.Commit(); err != nil { // though the guest has read nothing
			t.Fatal(err)
		}
		if got := sum.Load(); got != 2*size {
			t.Errorf("they read %d bytes, want %d", got, 2*size)
		}
		if n, err := io.Copy(io.Discard, guest); n != size || err != nil {
			t.Errorf("the guest read %d bytes, %v", n, err)
		}
		heard.want(t)
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestAConsumerThatReadsNothingGetsNothing(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p *storetest.Place) {
		f := newStore(p.Store, decisive(func(ctx context.Context, name string, r io.Reader) error {
			if n, err := r.Read(nil); n != 0 || err != nil {
				return errVirus
			}
			return readAll(nil)(ctx, name, r)
		}))
		if err := start(t, f, t.Context(), "a", "").Commit(); err != nil {
			t.Fatal(err)
		}
		p.Holds(t, map[string]string{"a": ""})
	})
}

// A reader that a consumer leaves behind ends with the file, too.
func TestAReaderThatOutlivesItsConsumer(t *testing.T) {
	storetest.Each(t, func(t *testing.T, p *storetest.Place) {
		var wg sync.WaitGroup
		defer wg.Wait()
		f := newStore(p.Store, decisive(func(_ context.Context, _ string, r io.Reader) error {
			wg.Go(func() { io.Copy(io.Discard, r) })
			return nil
		}))
		file := start(t, f, t.Context(), "a", "payload")
		if err := file.Commit(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAFileThatCannotBeFollowedIsNotBegun(t *testing.T) {
	storetest.EachFaulty(t, func(t *testing.T, faulty *fstest.Faulty, p *storetest.Place) {
		f := newStore(p.Store, decisive(readAll(nil)))
		faulty.Fail(syscall.EMFILE, 1, "open")
		if _, err := f.Create(t.Context(), "a"); !errors.Is(err, syscall.EMFILE) {
			t.Errorf("Create returned %v", err)
		}
		faulty.Mend()
		p.Holds(t, nil)
		if len(f.arriving) != 0 {
			t.Error("it counts as arriving")
		}
	})
}

// A decisive consumer that cannot read has no verdict, whatever it says.
func TestWhatCannotBeReadIsNotCommitted(t *testing.T) {
	heedless := func(_ context.Context, _ string, r io.Reader) error {
		io.Copy(io.Discard, r)
		return nil
	}
	for name, consume := range map[string]func(context.Context, string, io.Reader) error{
		"a consumer that says so": readAll(nil), "a heedless one": heedless,
	} {
		t.Run(name, func(t *testing.T) {
			storetest.EachFaulty(t, func(t *testing.T, faulty *fstest.Faulty, p *storetest.Place) {
				f := newStore(p.Store, decisive(consume))
				faulty.Fail(syscall.EIO, 0, "read")
				file := start(t, f, t.Context(), "a", "")
				io.WriteString(file, "payload") // fails, if the consumer was there first
				if err := file.Commit(); !errors.Is(err, syscall.EIO) || isRejected(err) {
					t.Errorf("Commit returned %v", err)
				}
				faulty.Mend()
				p.Holds(t, nil)
			})
		})
	}
}

func TestAPassiveConsumerThatCannotReadIsNoMatterOfTheFile(t *testing.T) {
	storetest.EachFaulty(t, func(t *testing.T, faulty *fstest.Faulty, p *storetest.Place) {
		var heard errorsHeard
		f := newStore(p.Store, passive(&heard, readAll(nil)))
		faulty.Fail(syscall.EIO, 0, "read")
		if err := start(t, f, t.Context(), "a", "payload").Commit(); err != nil {
			t.Error(err)
		}
		faulty.Mend()
		heard.want(t, syscall.EIO)
		p.Holds(t, map[string]string{"a": "payload"})
	})
}

// Whether the commit succeeds is the store's to say, also after a yes.
func TestAStoreThatFailsAfterAYes(t *testing.T) {
	for _, op := range []string{"sync", "close", "rename", "sync directory"} {
		t.Run(op, func(t *testing.T) {
			storetest.EachFaulty(t, func(t *testing.T, faulty *fstest.Faulty, p *storetest.Place) {
				var heard errorsHeard
				f := newStore(p.Store, decisive(readAll(nil)), passive(&heard, readAll(nil)))
				file := start(t, f, t.Context(), "a", "payload")
				guest := follow(t, f, "a")
				faulty.Fail(syscall.EIO, 0, op) // readers close their files first
				if err := file.Commit(); !errors.Is(err, syscall.EIO) {
					t.Errorf("Commit returned %v", err)
				}
				faulty.Mend()
				if err := <-reading(guest); !errors.Is(err, syscall.EIO) {
					t.Errorf("the guest got %v", err)
				}
				heard.want(t, syscall.EIO)
				p.Holds(t, nil)
			})
		})
	}
}

// The file is visible by then.
func TestAReadersHandleThatCannotBeClosedIsNoMatterOfTheCommit(t *testing.T) {
	storetest.EachFaulty(t, func(t *testing.T, faulty *fstest.Faulty, p *storetest.Place) {
		f := newStore(p.Store, decisive(readAll(nil)))
		file := start(t, f, t.Context(), "a", "payload")
		var renamed atomic.Bool
		faulty.FailIf(func(op string, _ string) error {
			if op == "rename" {
				renamed.Store(true)
			}
			if op == "close" && renamed.Load() {
				return syscall.EIO
			}
			return nil
		})
		if err := file.Commit(); err != nil {
			t.Error(err)
		}
		faulty.Mend()
		p.Holds(t, map[string]string{"a": "payload"})
	})
}

func TestAStoreThatPanicsLeavesNobodyWaiting(t *testing.T) {
	storetest.EachFaulty(t, func(t *testing.T, faulty *fstest.Faulty, p *storetest.Place) {
		var heard errorsHeard
		f := newStore(p.Store, decisive(readAll(nil)), passive(&heard, readAll(nil)))
		file := start(t, f, t.Context(), "a", "payload")
		guest := follow(t, f, "a")
		faulty.FailIf(func(op string, _ string) error {
			if op == "rename" {
				panic("no such thing")
			}
			return nil
		})
		func() {
			defer func() {
				if recover() == nil {
					t.Error("it did not panic")
				}
			}()
			file.Commit()
		}()
		if err := <-reading(guest); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the guest got %v", err)
		}
		heard.want(t, io.ErrUnexpectedEOF)
	})
}

func TestManyUploadsWithConsumersAndGuests(t *testing.T) {
	storetest.EachFaulty(t, func(t *testing.T, faulty *fstest.Faulty, p *storetest.Place) {
		payload := bytes.Repeat([]byte("0123456789abcdef"), 1<<10)
		var whole, rejected atomic.Int64
		count := func(_ context.Context, _ string, r io.Reader) error {
			got, err := io.ReadAll(r)
			if err == nil && bytes.Equal(got, payload) {
				whole.Add(1)
			}
			return err
		}
		f := newStore(p.Store,
			(Consumer{Consume: count}),
			decisive(func(_ context.Context, name string, r io.Reader) error {
				if strings.HasPrefix(name, "early") {
					io.ReadFull(r, make([]byte, len(payload)/2))
					return errVirus
				}
				if _, err := io.Copy(io.Discard, r); err != nil || strings.HasPrefix(name, "good") {
					return err
				}
				return errVirus
			}))
		var wg sync.WaitGroup
		const each = 8
		for i := range each {
			for _, verdict := range []string{"good", "late", "early", "aborted"} {
				wg.Go(func() {
					name := verdict + string(rune('a'+i))
					file := start(t, f, t.Context(), name, "")
					for range 3 {
						guest := follow(t, f, name)
						wg.Go(func() {
							if err := <-reading(guest); (err == nil) != (verdict == "good") {
								t.Errorf("%s: a guest got %v", name, err)
							}
							guest.Close()
						})
					}
					var err error
					for part := range slices.Chunk(payload, 1000) {
						if _, err = file.Write(part); err != nil {
							break
						}
					}
					switch {
					case verdict == "aborted" || err != nil:
						file.Abort()
					default:
						err = file.Commit()
					}
					if isRejected(err) {
						rejected.Add(1)
					} else if err != nil {
						t.Errorf("%s: %v", name, err)
					}
				})
			}
		}
		wg.Wait()
		if got := rejected.Load(); got != 2*each {
			t.Errorf("%d were rejected, want %d", got, 2*each)
		}
		if got := whole.Load(); got != each {
			t.Errorf("%d were read to the end, want %d", got, each)
		}
		if names := p.Names(t); len(names) != each {
			t.Errorf("the directory holds %q", names)
		}
		if len(f.arriving) != 0 {
			t.Errorf("%d still count as arriving", len(f.arriving))
		}
	})
}

func TestConsumerWithoutConsume(t *testing.T) {
	p := storetest.Open(t, storetest.Memory)
	if err := start(t, newStore(p.Store, Consumer{Decisive: true}), t.Context(), "a", "").Commit(); !errors.Is(err, ErrPanic) {
		t.Errorf("the commit: %v", err)
	}
}

func TestConsumerDescriptors(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("handles are no small numbers there")
	}
	p := storetest.Open(t, storetest.Disk) // on the disk
	f := newStore(p.Store,
		(Consumer{Consume: readAll(nil)}),
		decisive(func(ctx context.Context, name string, r io.Reader) error {
			if name == "rejected" {
				io.ReadFull(r, make([]byte, 1))
				return errVirus
			}
			return readAll(nil)(ctx, name, r)
		}))
	var fds []uintptr
	for i := range 60 {
		name := []string{"committed", "rejected", "aborted"}[i%3]
		file := start(t, f, t.Context(), name, "")
		fds = append(fds, asFile(file).pending.(interface{ File() *os.File }).File().Fd())
		guest, err := f.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		guest.Close()
		write(t, file, "payload")
		if name == "aborted" {
			err = file.Abort()
		} else {
			err = file.Commit()
		}
		if isRejected(err) != (name == "rejected") {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if first, last := fds[0], slices.Max(fds); last > first+20 {
		t.Errorf("the descriptors go from %d to %d", first, last)
	}
}
