package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// mapStore is a Store in memory. It remembers what it was asked for, and fails
// as a test wants it to.
type mapStore struct {
	mu    sync.Mutex
	files map[string]string
	log   []string

	// fault, if not nil, is asked before each call for the error it is to
	// fail with: the nth (from 1) of create, write, commit, abort or remove.
	fault func(call string, nth int) error
	calls map[string]int

	resets  bool // its payloads are Resetters
	renames bool // its payloads are Committers
}

func newMapStore() *mapStore {
	return &mapStore{files: map[string]string{}, calls: map[string]int{}}
}

// faults fails the calls that are named, as "commit 2" or, for all of them,
// "commit".
func faults(errs map[string]error) func(string, int) error {
	return func(call string, nth int) error {
		if err := errs[call]; err != nil {
			return err
		}
		return errs[fmt.Sprint(call, " ", nth)]
	}
}

func (s *mapStore) called(call, name string) error {
	s.mu.Lock()
	s.log = append(s.log, call+" "+name)
	s.calls[call]++
	nth, fault := s.calls[call], s.fault
	s.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(call, nth)
}

func (s *mapStore) Create(_ context.Context, name string) (Pending, error) {
	if err := s.called("create", name); err != nil {
		return nil, err
	}
	p := &mapPending{s: s, name: name}
	switch {
	case s.resets && s.renames:
		return struct {
			resetPending
			renamePending
		}{resetPending{p}, renamePending{p}}, nil
	case s.resets:
		return resetPending{p}, nil
	case s.renames:
		return struct {
			*mapPending
			renamePending
		}{p, renamePending{p}}, nil
	}
	return p, nil
}

func (s *mapStore) Remove(name string) error {
	if err := s.called("remove", name); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.files, name)
	return nil
}

// saw reports whether the store was asked for anything that begins with call.
func (s *mapStore) saw(call string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.log, func(l string) bool { return strings.HasPrefix(l, call) })
}

type mapPending struct {
	s    *mapStore
	name string
	b    []byte
	done bool
}

func (p *mapPending) Write(b []byte) (int, error) {
	if p.done {
		return 0, errors.New("written to after its end")
	}
	if err := p.s.called("write", p.name); err != nil {
		// As a disk does that is filled by a write.
		p.b = append(p.b, b[:len(b)/2]...)
		return len(b) / 2, err
	}
	p.b = append(p.b, b...)
	return len(b), nil
}

func (p *mapPending) Commit() error {
	if err := p.s.called("commit", p.name); err != nil {
		return err
	}
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	p.s.files[p.name], p.done = string(p.b), true
	return nil
}

func (p *mapPending) Abort() error {
	if p.done {
		return nil
	}
	p.done = true
	return p.s.called("abort", p.name)
}

// resetPending is a payload that can be begun anew.
type resetPending struct{ *mapPending }

func (p resetPending) Reset() error {
	if err := p.s.called("reset", p.name); err != nil {
		return err
	}
	p.b = nil
	return nil
}

// renamePending is the part of a payload that makes it a Committer.
type renamePending struct{ p *mapPending }

func (r renamePending) CommitAs(name string, _ bool) error {
	r.p.name = name
	return r.p.Commit()
}

// sends is a Handler that has the sink take each of ss in a Write, does not
// care how that went, and returns err.
func sends(err error, ss ...string) Handler {
	return HandlerFunc(func(_ context.Context, c *Conn) error {
		for _, s := range ss {
			io.WriteString(c.Out, s)
		}
		return err
	})
}

// receives is a Handler that copies what a peer would send, and then fails as
// the connection would, by err.
func receives(err error, ss ...string) Handler {
	return HandlerFunc(func(_ context.Context, c *Conn) error {
		src := &parts{}
		for _, s := range ss {
			src.left = append(src.left, part{s, nil})
		}
		src.left = append(src.left, part{"", err})
		_, err := Copy(c.Out, src)
		return err
	})
}

func TestSave(t *testing.T) {
	var (
		errFull   = errors.New("disk full")
		errLocked = errors.New("locked")
	)
	tests := []struct {
		name    string
		mark    string
		resets  bool // payloads can be begun anew
		h       Handler
		faults  map[string]error
		want    string // in place of "earlier"; "-" for nothing
		log     string
		is, not []error
		says    []string // in the error
	}{
		{name: "a payload that arrived well is committed",
			h: receives(nil, "hello, ", "world"), want: "hello, world",
			log: "create write write commit"},
		{name: "a payload that is written rather than copied is committed",
			h: sends(nil, "hello, ", "world"), want: "hello, world",
			log: "create write write commit"},
		{name: "a payload of no bytes is committed too",
			h: receives(nil), want: "",
			log: "create commit"},
		{name: "with a mark to put, a payload that arrived well is committed all the same",
			mark: "ERROR", h: receives(nil, "hello"), want: "hello",
			log: "create write commit"},

		{name: "of a failed payload nothing is to be seen",
			h: receives(errOne, "hello"), want: "earlier",
			log: "create write abort", is: []error{errOne}, not: []error{ErrStorage}},
		{name: "a failed payload without a byte has not been created",
			h: receives(errOne), want: "earlier",
			log: "", is: []error{errOne}, not: []error{ErrStorage}},
		{name: "the mark is put in a failed payload's place",
			mark: "ERROR", h: receives(errOne, "hello"), want: "ERROR",
			log: "create write abort create write commit", is: []error{errOne}, not: []error{ErrStorage}},
		{name: "the mark is put in the place of a failed payload without a byte",
			mark: "ERROR", h: receives(errOne), want: "ERROR",
			log: "create write commit", is: []error{errOne}, not: []error{ErrStorage}},

		{name: "a payload that cannot be created is not stored",
			h: receives(nil, "hello"), faults: map[string]error{"create": errFull}, want: "earlier",
			log: "create", is: []error{ErrStorage, errFull}, says: []string{"7.file", "disk full"}},
		{name: "a payload of no bytes that cannot be created is not stored either",
			h: receives(nil), faults: map[string]error{"create": errFull}, want: "earlier",
			log: "create", is: []error{ErrStorage, errFull}},
		{name: "a payload that cannot be written is thrown away",
			h: receives(nil, "hello"), faults: map[string]error{"write": errFull}, want: "earlier",
			log: "create write abort", is: []error{ErrStorage, errFull}, says: []string{"7.file", "disk full"}},
		{name: "a payload that cannot be written to its end is thrown away",
			h: receives(nil, "a", "b", "c"), faults: map[string]error{"write 2": errFull}, want: "earlier",
			log: "create write write abort", is: []error{ErrStorage, errFull}},
		{name: "a payload that cannot be committed is thrown away",
			h: receives(nil, "hello"), faults: map[string]error{"commit": errFull}, want: "earlier",
			log: "create write commit abort", is: []error{ErrStorage, errFull}, says: []string{"7.file", "disk full"}},
		{name: "a handler that overlooks that a payload could not be created fails",
			h: sends(nil, "hello"), faults: map[string]error{"create 1": errFull}, want: "earlier",
			log: "create", is: []error{ErrStorage, errFull}},
		{name: "a handler that overlooks that a payload could not be written fails",
			h: sends(nil, "a", "b", "c"), faults: map[string]error{"write 2": errFull}, want: "earlier",
			log: "create write write write abort", is: []error{ErrStorage, errFull}},

		{name: "the mark is put where the payload could not be created",
			mark: "ERROR", h: receives(nil, "hello"), faults: map[string]error{"create 1": errFull}, want: "ERROR",
			log: "create create write commit", is: []error{ErrStorage, errFull}},
		{name: "the mark is put where the payload could not be written",
			mark: "ERROR", h: receives(nil, "hello"), faults: map[string]error{"write 1": errFull}, want: "ERROR",
			log: "create write abort create write commit", is: []error{ErrStorage, errFull}},
		{name: "the mark is put where the payload could not be committed",
			mark: "ERROR", h: receives(nil, "hello"), faults: map[string]error{"commit 1": errFull}, want: "ERROR",
			log: "create write commit abort create write commit", is: []error{ErrStorage, errFull}},

		{name: "where the mark cannot be created either, what was there is removed",
			mark: "ERROR", h: receives(errOne, "hello"), faults: map[string]error{"create 2": errFull}, want: "-",
			log: "create write abort create remove", is: []error{errOne, ErrStorage, errFull}, says: []string{`"ERROR"`, "disk full"}},
		{name: "where the mark cannot be written either, what was there is removed",
			mark: "ERROR", h: receives(nil, "hello"), faults: map[string]error{"write": errFull}, want: "-",
			log: "create write abort create write abort remove", is: []error{ErrStorage, errFull}},
		{name: "where the mark cannot be committed either, what was there is removed",
			mark: "ERROR", h: receives(nil, "hello"), faults: map[string]error{"commit 1": errFull, "commit 2": errLocked}, want: "-",
			log: "create write commit abort create write commit abort remove", is: []error{ErrStorage, errFull, errLocked}},
		{name: "where not even that can be removed, the error tells all",
			mark: "ERROR", h: receives(errOne), faults: map[string]error{"create": errFull, "remove": errLocked}, want: "earlier",
			log: "create remove", is: []error{errOne, ErrStorage, errFull, errLocked}, says: []string{"one failure", "disk full", "locked"}},

		{name: "a payload that cannot be thrown away is a failure of the store beside the first",
			h: receives(errOne, "hello"), faults: map[string]error{"abort": errLocked}, want: "earlier",
			log: "create write abort", is: []error{errOne, ErrStorage, errLocked}},
		{name: "a payload that cannot be thrown away does not hinder the mark",
			mark: "ERROR", h: receives(errOne, "hello"), faults: map[string]error{"abort 1": errLocked}, want: "ERROR",
			log: "create write abort create write commit", is: []error{errOne, ErrStorage, errLocked}},

		{name: "a payload that can be begun anew is made the mark",
			resets: true, mark: "ERROR", h: receives(errOne, "hello"), want: "ERROR",
			log: "create write reset write commit", is: []error{errOne}, not: []error{ErrStorage}},
		{name: "a payload that could be begun anew, and has not begun, becomes the mark",
			resets: true, mark: "ERROR", h: receives(errOne), want: "ERROR",
			log: "create write commit", is: []error{errOne}, not: []error{ErrStorage}},
		{name: "a payload that can be begun anew is thrown away where there is no mark",
			resets: true, h: receives(errOne, "hello"), want: "earlier",
			log: "create write abort", is: []error{errOne}, not: []error{ErrStorage}},
		{name: "a payload that can be begun anew is committed if it arrived well",
			resets: true, mark: "ERROR", h: receives(nil, "hello"), want: "hello",
			log: "create write commit"},
		{name: "a payload that cannot be begun anew after all gives way to the mark",
			resets: true, mark: "ERROR", h: receives(errOne, "hello"), faults: map[string]error{"reset": errLocked}, want: "ERROR",
			log: "create write reset abort create write commit", is: []error{errOne}, not: []error{ErrStorage}},
		{name: "a payload that does not take the mark gives way to it",
			resets: true, mark: "ERROR", h: receives(errOne, "hello"), faults: map[string]error{"write 2": errFull}, want: "ERROR",
			log: "create write reset write abort create write commit", is: []error{errOne}, not: []error{ErrStorage}},
		{name: "a payload that cannot be committed as the mark gives way to it",
			resets: true, mark: "ERROR", h: receives(errOne, "hello"), faults: map[string]error{"commit 1": errFull}, want: "ERROR",
			log: "create write reset write commit abort create write commit", is: []error{errOne}, not: []error{ErrStorage}},
		{name: "a payload that met a fault of the store is not begun anew",
			resets: true, mark: "ERROR", h: receives(nil, "hello"), faults: map[string]error{"write 1": errFull}, want: "ERROR",
			log: "create write abort create write commit", is: []error{ErrStorage, errFull}},
		{name: "a payload that could not be committed is not begun anew",
			resets: true, mark: "ERROR", h: receives(nil, "hello"), faults: map[string]error{"commit 1": errFull}, want: "ERROR",
			log: "create write commit abort create write commit", is: []error{ErrStorage, errFull}},
		{name: "where no mark can be committed, what was there is removed",
			resets: true, mark: "ERROR", h: receives(errOne, "hello"), faults: map[string]error{"commit": errFull}, want: "-",
			log: "create write reset write commit abort create write commit abort remove", is: []error{errOne, ErrStorage, errFull}},

		{name: "what is not to be replaced is not removed for a payload",
			mark: "ERROR", h: receives(nil, "hello"), faults: map[string]error{"commit": fmt.Errorf("taken: %w", os.ErrExist)}, want: "earlier",
			log: "create write commit abort create write commit abort", is: []error{ErrConflict, os.ErrExist}, not: []error{ErrStorage}, says: []string{"7.file conflicts", "taken"}},
		{name: "nor for the mark of one",
			resets: true, mark: "ERROR", h: receives(errOne, "hello"), faults: map[string]error{"commit": os.ErrExist}, want: "earlier",
			log: "create write reset write commit abort create write commit abort", is: []error{errOne, ErrConflict, os.ErrExist}, not: []error{ErrStorage}},
		{name: "a payload that could be neither committed nor removed is a fault of the store",
			mark: "ERROR", h: receives(nil, "hello"), faults: map[string]error{"commit": os.ErrExist, "abort": errFull}, want: "earlier",
			log: "create write commit abort create write commit abort", is: []error{ErrConflict, ErrStorage, errFull}},
		{name: "a store that removes nothing is no failure beside the mark's",
			mark: "ERROR", h: receives(errOne), faults: map[string]error{"create": errFull, "remove": errors.ErrUnsupported}, want: "earlier",
			log: "create remove", is: []error{errOne, ErrStorage, errFull}, not: []error{errors.ErrUnsupported}},
		{name: "what is there when a payload is created is no name that is taken",
			h: receives(nil, "hello"), faults: map[string]error{"create": os.ErrExist}, want: "earlier",
			log: "create", is: []error{ErrStorage, os.ErrExist}, not: []error{ErrConflict}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			const name = "7.file"
			store := newMapStore()
			store.files[name] = "earlier"
			store.fault, store.resets = faults(tt.faults), tt.resets
			h := Save{Store: store, Name: NumberedFile, Mark: tt.mark}.Wrap(tt.h)
			c := &Conn{Number: 7, Out: io.Discard}
			err := h.Serve(t.Context(), c)

			if marked := tt.want == "ERROR"; c.Marked != marked {
				t.Errorf("it says that it is marked: %t, want %t", c.Marked, marked)
			}
			if (err == nil) != (tt.is == nil) {
				t.Errorf("ended with %v", err)
			}
			for _, is := range tt.is {
				if !errors.Is(err, is) {
					t.Errorf("%v: is not %q", err, is)
				}
			}
			for _, not := range tt.not {
				if errors.Is(err, not) {
					t.Errorf("%v: is %q", err, not)
				}
			}
			for _, s := range tt.says {
				if err != nil && !strings.Contains(err.Error(), s) {
					t.Errorf("%v: does not say %q", err, s)
				}
			}
			want := map[string]string{}
			if tt.want != "-" {
				want[name] = tt.want
			}
			if !maps.Equal(store.files, want) {
				t.Errorf("the store has %q, want %q", store.files, want)
			}
			if got := strings.ReplaceAll(strings.Join(store.log, " "), " "+name, ""); got != tt.log {
				t.Errorf("the store was asked to %s; want %s", got, tt.log)
			}
		})
	}
}

func TestSaveAfterPanicOrGoexit(t *testing.T) {
	for _, mark := range []string{"", ErrorMark} {
		for what, do := range map[string]func(){"a panic": func() { panic(errOne) }, "the goroutine's end": runtime.Goexit} {
			t.Run(fmt.Sprintf("%s, with mark %q", what, mark), func(t *testing.T) {
				store := newMapStore()
				h := Save{Store: store, Name: NumberedFile, Mark: mark}.Wrap(HandlerFunc(func(_ context.Context, c *Conn) error {
					io.WriteString(c.Out, "hello")
					do()
					return nil
				}))
				passed := make(chan any)
				c := &Conn{Number: 7}
				go func() {
					defer func() { passed <- recover() }()
					h.Serve(t.Context(), c)
				}()
				if v := <-passed; what == "a panic" && v != errOne {
					t.Errorf("the panic has become %v", v)
				}
				if got, ok := store.files["7.file"]; got != mark || ok != (mark != "") {
					t.Errorf("the store has %q", store.files)
				}
				if !store.saw("abort") {
					t.Error("what had arrived was not thrown away")
				}
				if c.Marked != (mark != "") {
					t.Errorf("it says that it is marked: %t", c.Marked)
				}
			})
		}
	}
}

func TestSaveCreatesAtTheFirstByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newMapStore()
		server, client := net.Pipe()
		ended := make(chan error)
		go func() {
			ended <- Serve(t.Context(), server, 1, Chain{
				Save{Store: store, Name: NumberedFile},
				Handshake{Script: Accio},
			}.Then(Receive))
		}()
		steps := []act{hears(accioGreeting), says(accioConfirm), hears(accioGreeting), says(accioConfirmAgain)}
		for i, do := range steps {
			if err := do(client); err != nil {
				t.Error(err)
			}
			synctest.Wait()
			if store.saw("create") {
				t.Fatalf("created after step %d", i+1)
			}
		}
		says("x")(client)
		synctest.Wait()
		if !store.saw("create") || store.saw("commit") {
			t.Errorf("after the first byte the store was asked to %q", store.log)
		}
		client.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if store.files["1.file"] != "x" {
			t.Errorf("the store has %q", store.files)
		}
	})
}

func TestSaveMarkAfterCancel(t *testing.T) {
	server, client := wire()
	store := newMapStore()
	ctx, cancel := context.WithCancelCause(t.Context())
	var created []error
	store.fault = func(call string, _ int) error {
		if call == "write" {
			cancel(errOne)
		}
		return nil
	}
	says("half of it")(client)
	err := Serve(ctx, server, 1, Chain{
		Save{Store: spyStore{store, func(ctx context.Context) { created = append(created, ctx.Err()) }}, Name: NumberedFile, Mark: ErrorMark},
	}.Then(Receive))
	if !errors.Is(err, ErrShutdown) || errors.Is(err, ErrStorage) {
		t.Errorf("ended with %v", err)
	}
	if store.files["1.file"] != ErrorMark {
		t.Errorf("the store has %q", store.files)
	}
	if !slices.Equal(created, []error{nil, nil}) {
		t.Errorf("the contexts of the payload and of the mark began as %v", created)
	}
	if farewell(client) == nil {
		t.Error("the peer saw an orderly close")
	}
}

// spyStore is a Store whose contexts are looked at.
type spyStore struct {
	Store
	created func(ctx context.Context)
}

func (s spyStore) Create(ctx context.Context, name string) (Pending, error) {
	s.created(ctx)
	return s.Store.Create(ctx, name)
}

// A store that works in the background stops when its context tells it to.
func TestSaveContext(t *testing.T) {
	tests := []struct {
		name  string
		fails map[string]error
		err   error            // of the handler
		at    map[string]error // the cause at each call, nil for none yet
		after error
	}{
		{"until the commit has returned", nil, nil,
			map[string]error{"write": nil, "commit": nil}, context.Canceled},
		{"until the connection has failed, for that reason", nil, errOne,
			map[string]error{"write": nil, "abort": errOne}, errOne},
		{"until the commit has failed, for that reason", map[string]error{"commit": errTwo}, nil,
			map[string]error{"write": nil, "commit": nil, "abort": errTwo}, errTwo},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			stop, cancel := context.WithCancel(t.Context())
			var ctx context.Context
			store := newMapStore()
			seen := map[string]error{}
			store.fault = func(call string, nth int) error {
				if call != "create" {
					seen[call] = context.Cause(ctx)
				}
				return faults(tt.fails)(call, nth)
			}
			Save{Store: spyStore{store, func(c context.Context) { ctx = c }}, Name: NumberedFile}.
				Wrap(HandlerFunc(func(_ context.Context, c *Conn) error {
					cancel() // it is not to be cut short by a stop
					io.WriteString(c.Out, "hello")
					return tt.err
				})).Serve(stop, &Conn{Number: 1})
			for call, want := range tt.at {
				got, ok := seen[call]
				if !ok || !errors.Is(got, want) {
					t.Errorf("at %s the cause was %v (called: %t), want %v", call, got, ok, want)
				}
			}
			if got := context.Cause(ctx); !errors.Is(got, tt.after) {
				t.Errorf("afterwards the cause is %v, want %v", got, tt.after)
			}
		})
	}
}

func TestSaveCommitsBeforeTheClose(t *testing.T) {
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprint("with a commit that fails: ", fails), func(t *testing.T) {
			server, client := tcpPair(t)
			store := newMapStore()
			store.fault = func(call string, _ int) error {
				if call != "commit" {
					return nil
				}
				if _, err := server.Write([]byte("still there")); err != nil {
					t.Errorf("the connection was closed before the commit: %v", err)
				}
				if fails {
					return errOne
				}
				return nil
			}
			says("hello")(client)
			ends(client)
			err := Serve(t.Context(), server, 1, Save{Store: store, Name: NumberedFile}.Wrap(Receive))
			if errors.Is(err, ErrStorage) != fails {
				t.Error(err)
			}
			if err := farewell(client); (err != nil) != fails {
				t.Errorf("the peer saw it end with %v", err)
			}
		})
	}
}

func TestSaveWithoutStoreOrName(t *testing.T) {
	for _, s := range []Save{{}, {Store: newMapStore()}, {Name: NumberedFile}, {Store: newMapStore(), Name: NumberedFile, Dedupe: true}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v was accepted", s)
				}
			}()
			s.Wrap(Receive)
		}()
	}
}

// committer is a pending payload that records how it is committed.
type committer struct {
	Pending
	how *[]string
}

func (c committer) Reset() error { return nil }

func (c committer) Commit() error { return c.CommitAs("1.file", true) }

func (c committer) CommitAs(name string, sync bool) error {
	*c.how = append(*c.how, fmt.Sprintf("%s, sync: %t", name, sync))
	return nil
}

func (committer) Write(b []byte) (int, error) { return len(b), nil }
func (committer) Abort() error                { return nil }

type committerStore struct{ how *[]string }

func (s committerStore) Create(context.Context, string) (Pending, error) {
	return committer{how: s.how}, nil
}
func (committerStore) Remove(string) error { return nil }

func TestSaveDefersSync(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		sync bool
	}{
		{"not of a payload", nil, true},
		{"of the mark of a stop", because(ErrShutdown, context.Canceled), false},
		{"of the mark of a client with too many connections", ErrTooMany, false},
		{"not of the mark of a silent client", ErrIdle, true},
		{"not of the mark of a broken connection", ErrReset, true},
	} {
		for _, payload := range []string{"", "part"} {
			t.Run(tt.name, func(t *testing.T) {
				var how []string
				h := Save{Store: committerStore{&how}, Name: NumberedFile, Mark: ErrorMark}.Wrap(HandlerFunc(func(_ context.Context, c *Conn) error {
					io.WriteString(c.Out, payload)
					return tt.err
				}))
				server, _ := net.Pipe()
				if err := h.Serve(t.Context(), NewConn(server, 1)); !errors.Is(err, tt.err) {
					t.Error(err)
				}
				if want := []string{fmt.Sprintf("1.file, sync: %t", tt.sync)}; !slices.Equal(how, want) {
					t.Errorf("committed as %q, want %q", how, want)
				}
			})
		}
	}
}

// writeCounter is a payload that records calls of Wrote.
type writeCounter struct {
	resetPending
	told *[]int
}

func (p writeCounter) Wrote(n int) { *p.told = append(*p.told, n) }

type writeCounterStore struct {
	*mapStore
	told []int
}

func (s *writeCounterStore) Create(ctx context.Context, name string) (Pending, error) {
	p, err := s.mapStore.Create(ctx, name)
	if err != nil {
		return nil, err
	}
	return writeCounter{p.(resetPending), &s.told}, nil
}

func TestSaveWrote(t *testing.T) {
	for _, tt := range []struct {
		name   string
		h      Handler
		faults map[string]error
		want   []int
	}{
		{"when it is copied", receives(nil, "hello, ", "world"), nil, []int{7, 5}},
		{"when it is written", sends(nil, "hello, ", "world"), nil, []int{7, 5}},
		{"when there is nothing", receives(nil), nil, nil},
		{"also of the mark", receives(errOne, "hello, world"), nil, []int{12, 5}},
		{"but not of what could not be written", receives(nil, "hello, ", "world"), map[string]error{"write 2": errOne}, []int{7, 5}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			store := &writeCounterStore{mapStore: newMapStore()}
			store.resets, store.fault = true, faults(tt.faults)
			h := Save{Store: store, Name: NumberedFile, Mark: ErrorMark}.Wrap(tt.h)
			h.Serve(t.Context(), &Conn{Number: 7, Out: io.Discard})
			if !slices.Equal(store.told, tt.want) {
				t.Errorf("it was told %d, want %d", store.told, tt.want)
			}
		})
	}
}

func TestSaveFinal(t *testing.T) {
	var (
		errFull  = errors.New("disk full")
		errTaken = fmt.Errorf("taken: %w", os.ErrExist)
	)
	final := func(*Conn) (string, error) { return "final", nil }
	tests := []struct {
		name   string
		save   Save // less its Store and Name
		still  bool // payloads are no Committers
		resets bool // they are Resetters
		h      Handler
		faults map[string]error
		want   map[string]string // beside what was there
		log    string
		is     []error
		says   string // in the error
	}{
		{name: "a payload that arrived well is committed under it",
			h: receives(nil, "hello"), want: map[string]string{"final": "hello"},
			log: "create 7.file, write 7.file, commit final"},
		{name: "so is a payload of no bytes",
			h: receives(nil), want: map[string]string{"final": ""},
			log: "create 7.file, commit final"},
		{name: "a failed payload is not even asked for it",
			save: Save{Final: func(*Conn) (string, error) { panic("asked") }},
			h:    receives(errOne, "hello"), log: "create 7.file, write 7.file, abort 7.file", is: []error{errOne}},
		{name: "nor is one that could not be written",
			save: Save{Final: func(*Conn) (string, error) { panic("asked") }},
			h:    sends(nil, "hello"), faults: map[string]error{"write": errFull},
			log: "create 7.file, write 7.file, abort 7.file", is: []error{ErrStorage, errFull}},
		{name: "the mark has the first name",
			save: Save{Mark: "ERROR"}, resets: true,
			h: receives(errOne, "hello"), want: map[string]string{"7.file": "ERROR"},
			log: "create 7.file, write 7.file, reset 7.file, write 7.file, commit 7.file", is: []error{errOne}},
		{name: "if there is none, nothing is to be seen",
			save: Save{Final: func(*Conn) (string, error) { return "", errOne }},
			h:    receives(nil, "hello"), log: "create 7.file, write 7.file, abort 7.file", is: []error{errOne}, says: "7.file"},
		{name: "if there is none, the payload becomes the mark",
			save: Save{Mark: "ERROR", Final: func(*Conn) (string, error) { return "", errOne }}, resets: true,
			h: receives(nil, "hello"), want: map[string]string{"7.file": "ERROR"},
			log: "create 7.file, write 7.file, reset 7.file, write 7.file, commit 7.file", is: []error{errOne}},
		{name: "if it is that of a digest that nobody has computed, nothing is stored",
			save: Save{Final: HashName("")},
			h:    receives(nil, "hello"), log: "create 7.file, write 7.file, abort 7.file", is: []error{ErrStorage}},
		{name: "a payload that cannot be renamed is not stored", still: true,
			h: receives(nil, "hello"), log: "create 7.file, write 7.file, abort 7.file", is: []error{ErrStorage}, says: "CommitAs"},
		{name: "a payload that cannot be committed under it is not stored",
			h: receives(nil, "hello"), faults: map[string]error{"commit": errFull},
			log: "create 7.file, write 7.file, commit final, abort final", is: []error{ErrStorage, errFull}},
		{name: "a payload that cannot be committed under it is marked under the first",
			save: Save{Mark: "ERROR"}, resets: true,
			h: receives(nil, "hello"), faults: map[string]error{"commit 1": errFull}, want: map[string]string{"7.file": "ERROR"},
			log: "create 7.file, write 7.file, commit final, abort final, create 7.file, write 7.file, commit 7.file",
			is:  []error{ErrStorage, errFull}, says: "as final"},
		{name: "a payload of no bytes that cannot be created is not stored",
			h: receives(nil), faults: map[string]error{"create": errFull}, log: "create 7.file", is: []error{ErrStorage, errFull}},

		{name: "if it is taken, the payload is not stored",
			h: receives(nil, "hello"), faults: map[string]error{"commit": errTaken},
			log: "create 7.file, write 7.file, commit final, abort final", is: []error{ErrConflict, os.ErrExist}, says: "as final"},
		{name: "if it is taken, the payload counts as stored where it is that of its content",
			save: Save{Dedupe: true, Mark: "ERROR"}, resets: true,
			h: receives(nil, "hello"), faults: map[string]error{"commit": errTaken},
			log: "create 7.file, write 7.file, commit final, abort final"},
		{name: "another failure of the commit is one there as well",
			save: Save{Dedupe: true},
			h:    receives(nil, "hello"), faults: map[string]error{"commit": errFull},
			log: "create 7.file, write 7.file, commit final, abort final", is: []error{ErrStorage, errFull}},
		{name: "what arrived in vain, and cannot be thrown away, is a failure",
			save: Save{Dedupe: true},
			h:    receives(nil, "hello"), faults: map[string]error{"commit": errTaken, "abort": errFull},
			log: "create 7.file, write 7.file, commit final, abort final", is: []error{ErrStorage, errFull}},
		{name: "the first name that is taken is no content",
			save: Save{Dedupe: true, Mark: "ERROR"},
			h:    receives(errOne), faults: map[string]error{"commit": errTaken},
			log: "create 7.file, write 7.file, commit 7.file, abort 7.file", is: []error{errOne, os.ErrExist}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			store := newMapStore()
			store.files["7.file"] = "earlier"
			store.fault, store.resets, store.renames = faults(tt.faults), tt.resets, !tt.still
			save := tt.save
			save.Store, save.Name = store, NumberedFile
			if save.Final == nil {
				save.Final = final
			}
			err := save.Wrap(tt.h).Serve(t.Context(), &Conn{Number: 7, Out: io.Discard})
			if (err == nil) != (tt.is == nil) {
				t.Errorf("ended with %v", err)
			}
			for _, is := range tt.is {
				if !errors.Is(err, is) {
					t.Errorf("%v: is not %q", err, is)
				}
			}
			if err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v: does not say %q", err, tt.says)
			}
			want := map[string]string{"7.file": "earlier"}
			maps.Copy(want, tt.want)
			if !maps.Equal(store.files, want) {
				t.Errorf("the store has %q, want %q", store.files, want)
			}
			if got := strings.Join(store.log, ", "); got != tt.log {
				t.Errorf("the store was asked to %s; want %s", got, tt.log)
			}
		})
	}
}

func TestSaveFinalPanics(t *testing.T) {
	for _, mark := range []string{"", ErrorMark} {
		t.Run(fmt.Sprintf("with mark %q", mark), func(t *testing.T) {
			store := newMapStore()
			store.renames = true
			h := Save{Store: store, Name: NumberedFile, Mark: mark, Final: func(*Conn) (string, error) { panic(errOne) }}.
				Wrap(receives(nil, "hello"))
			if err := (Recover{}).Wrap(h).Serve(t.Context(), &Conn{Number: 7}); !errors.Is(err, errOne) || !errors.Is(err, ErrPanic) {
				t.Errorf("ended with %v", err)
			}
			if got, ok := store.files["7.file"]; got != mark || ok != (mark != "") || len(store.files) > 1 {
				t.Errorf("the store has %q", store.files)
			}
			if !store.saw("abort") {
				t.Error("what had arrived was not thrown away")
			}
		})
	}
}

// The outer one would commit a payload that it has not got.
func TestSaveTwice(t *testing.T) {
	inner, outer := newMapStore(), newMapStore()
	server, client := net.Pipe()
	done := play(client, says("payload"), ends)
	h := Chain{Save{Store: outer, Name: NumberedFile}, Count{}, Save{Store: inner, Name: NumberedFile}}.Then(Receive)
	if err := Serve(t.Context(), server, 1, h); !errors.Is(err, errTwoSaves) {
		t.Errorf("ended with %v", err)
	}
	if len(inner.files)+len(outer.files) > 0 {
		t.Errorf("stored %v and %v", inner.files, outer.files)
	}
	<-done
}

// It is not a matter of who is quicker.
func TestCancelBeforeTheStart(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	store := newMapStore()
	h := Save{Store: store, Name: NumberedFile, Mark: ErrorMark}.Wrap(Receive)
	for n := range uint64(1000) {
		server, client := net.Pipe()
		done := play(client, says("payload"), ends)
		if err := Serve(ctx, server, n+1, h); !errors.Is(err, ErrShutdown) {
			t.Fatalf("connection %d ended with %v", n+1, err)
		}
		<-done
	}
}
