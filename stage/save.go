package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Pending is a payload that is not yet visible under its name. [Save] writes all of the
// payload, in order, and then calls Commit or Abort; after a Commit that failed it also
// calls Abort. One goroutine makes all calls, one at a time. Write keeps no reference to
// its argument.
//
// A Pending may implement [Filer], [WriteCounter], [Committer] and [Resetter]; Save uses
// the ones that it has. Save turns an error into an [ErrStorage], unless it is a
// [Rejection]. A Commit under a name that is taken, in a store that replaces nothing,
// returns an os.ErrExist; Save turns that into an [ErrConflict].
//
// Pending is an alias of an interface literal, so that a store need not import this
// package.
type Pending = interface {
	io.Writer

	// Commit makes the payload visible under its name, complete and at once, in place of
	// an earlier one, and as durable as the store promises. If it fails, nothing of the
	// payload is visible.
	Commit() error

	// Abort removes the payload and releases its resources. After a Commit that
	// succeeded it does nothing.
	Abort() error
}

// Committer is a [Pending] that can change its name, or defer its sync, at the commit.
// CommitAs is Commit under the given name. If sync is false, the payload becomes visible
// at once, and the store may make it durable later, at the latest when it is closed.
//
// It is optional because not every store can do it: an object store fixes the name when
// an upload begins. [Save] needs it for a Final name. It commits a Mark without a sync
// when the server stops, and for a client with too many connections: there may be many
// Marks, and no client waits for one.
type Committer interface {
	CommitAs(name string, sync bool) error
}

// Resetter is a [Pending] that can be emptied. Reset removes the bytes written so far.
// [Save] then writes its Mark there instead of creating a second pending payload.
//
// It is optional because a store may have passed the bytes on already. A store on a disk
// needs it, since a stop must end within a second: to truncate thousands of files is
// several times faster than to remove and create them.
type Resetter interface {
	Reset() error
}

// WriteCounter is a [Pending] that follows its own length. [Save] calls Wrote with the
// number of bytes after each transfer that succeeded, in order, and between writes. A
// transfer is rarely larger than 1 MiB. Commit reports errors of Wrote.
//
// It is optional, and separate from Write, because the kernel moves the payload into a
// [Filer] past Write. A disk uses it to write a long file back while the file arrives,
// so that the commit takes less time.
type WriteCounter interface {
	Wrote(n int)
}

// Rejection is an error by which a working store refuses a payload. If Rejected returns
// true, [Save] makes it an [ErrRejected] instead of an [ErrStorage]. It is an interface
// so that a store can return one without importing this package.
type Rejection interface {
	error
	Rejected() bool
}

// Store is where [Save] puts payloads: a directory, an object store, a map. It is safe
// for concurrent use. Any number of payloads may be pending at a time, also several under
// one name. The last commit is visible or, in a store that replaces nothing, the first.
// The caller that opened the store closes it after all connections have ended.
//
// Names come from Save's Name and Final, and may contain client data. A store refuses a
// name that it cannot use with an error.
type Store interface {
	// Create begins a payload that becomes visible as name when it is committed. After an
	// error nothing is left to abort. ctx is for a store that works in the background.
	// Save cancels it before Abort, with the reason of the failure as its cause, and
	// after Commit has returned. A stop of the server does not cancel it.
	Create(ctx context.Context, name string) (Pending, error)

	// Remove removes the payload that is visible as name, and no pending one. It returns
	// nil if there is none. A store that replaces nothing removes nothing either, and
	// returns an errors.ErrUnsupported. Save calls Remove only if it could not store a
	// Mark, so that an earlier payload is not mistaken for this one.
	Remove(name string) error
}

// Save is a stage that sets a connection's sink: it writes the payload to a store, under
// the connection's name. If the handler inside returns nil, Save commits the payload;
// otherwise, also after a panic, it removes the payload. Save returns after that, so an
// orderly close of the connection can confirm the commit.
//
// Save creates nothing before the first byte of payload, or its end. If the pending
// payload is a [Filer], zero-copy is possible.
type Save struct {
	// Store is where payloads go.
	Store Store

	// Name returns the name of a connection's payload in the store. Save calls it when
	// the connection enters this stage, before there is any payload.
	Name func(c *Conn) string

	// Final, if not nil, returns the name under which a complete payload is committed.
	// Save calls it when the store has all of the payload, so the name may depend on
	// it: see [HashName]. Name then names only the pending payload and the Mark. If
	// Final returns an error, Save removes the payload and the connection ends with
	// that error. Without a [Committer] the connection ends with an [ErrStorage].
	Final func(c *Conn) (string, error)

	// Dedupe is for Final names that only one content can have, such as a digest, and a
	// store that replaces nothing (package fs with NoReplace). If the commit returns an
	// os.ErrExist, Save removes the payload and counts it as stored. Save compares
	// names only, not contents.
	Dedupe bool

	// Mark, if not empty, is stored in place of a payload that failed. If the store
	// cannot store it either, Save removes an earlier payload of that name, unless the
	// commit returned an os.ErrExist. [Conn.Marked] says whether the Mark was stored.
	Mark string
}

// Wrap makes the store the sink of next.
func (s Save) Wrap(next Handler) Handler {
	if s.Store == nil || s.Name == nil {
		panic("stage: Save without Store or Name")
	}
	if s.Dedupe && s.Final == nil {
		panic("stage: Save with Dedupe, but without Final")
	}
	return Bracket(func(ctx context.Context, c *Conn) (func(error) error, error) {
		if hasSave(c) {
			return nil, errTwoSaves
		}
		p := newPayload(ctx, s.Store, s.Name(c), s.Mark)
		p.marked = &c.Marked
		c.SetSink(&p.out)
		if c.observations == nil && s.Final == nil {
			return p.end, nil
		}
		c.after = append(c.after, p.end) // also if an Observer or Final panics
		return func(err error) error {
			if err != nil || p.err != nil {
				return err
			}
			c.received()
			if s.Final != nil {
				p.dedupe = s.Dedupe
				err = p.setFinal(s.Final(c))
			}
			return err
		}, nil
	}).Wrap(next)
}

// hasSave reports whether a stage outside saves the payload of c already. A frame counts
// as part of its connection: its sink is the connection's until a stage sets another.
func hasSave(c *Conn) bool {
	_, ok := sinkOf(c.Out).(*payload)
	return ok
}

var errTwoSaves = errors.New("stage: a connection has passed two Saves")

// payload is one connection's payload on its way to the store.
type payload struct {
	ctx     context.Context // the connection's, then the store's
	cancel  context.CancelCauseFunc
	store   Store
	name    string
	mark    string
	marked  *bool   // the connection's
	pending Pending // nil until the first byte
	err     error   // the first error of the store

	final  string // the name to commit under, or empty
	dedupe bool   // an os.ErrExist under final counts as stored

	out   gatedWriter // to the payload, behind its gate
	gates gates
}

func newPayload(ctx context.Context, store Store, name, mark string) *payload {
	p := &payload{ctx: ctx, store: store, name: name, mark: mark}
	p.gates.gate = (*payloadGate)(p)
	p.out = gatedWriter{p, &p.gates}
	return p
}

// open creates the pending payload if there is none.
func (p *payload) open() (io.Writer, error) {
	if p.pending == nil {
		if p.cancel == nil {
			// The end of the connection's context must not break off a commit.
			p.ctx, p.cancel = context.WithCancelCause(context.WithoutCancel(p.ctx))
		}
		pending, err := p.store.Create(p.ctx, p.name)
		if err != nil {
			return nil, err
		}
		p.pending = pending
	}
	return p.pending, nil
}

// cancelContext cancels the store's context.
func (p *payload) cancelContext(err error) {
	if p.cancel != nil {
		p.cancel(err)
	}
}

func (p *payload) Write(b []byte) (int, error) {
	w, err := p.open()
	if err != nil {
		return 0, err
	}
	return w.Write(b)
}

// end commits the payload if err is nil and the store has met no error. Otherwise it
// discards the payload. It returns the reason of the failure.
func (p *payload) end(err error) error {
	if err == nil {
		err = p.err // also if the handler inside has ignored it
	}
	if err == nil {
		err = p.commit(true)
	}
	if err != nil {
		return p.discard(err)
	}
	p.cancelContext(nil)
	return nil
}

// setFinal sets the name to commit under, unless err is not nil.
func (p *payload) setFinal(name string, err error) error {
	if err != nil {
		return fmt.Errorf("final name of %s: %w", p.name, err)
	}
	p.final = name
	return nil
}

// discard removes the payload and stores the mark, if any, in its place. It returns err
// with the errors that it met.
func (p *payload) discard(err error) error {
	p.cancelContext(err)
	p.final = ""
	outcome := OutcomeOf(err, 0)
	sync := outcome != OutcomeOf(ErrShutdown, 0) && outcome != OutcomeOf(ErrTooMany, 0)
	if p.mark != "" && p.reset() && p.commitMark(sync) == nil {
		*p.marked = true
		return err
	}
	if p.pending != nil {
		if aerr := p.pending.Abort(); aerr != nil && !errors.Is(err, ErrStorage) {
			err = fmt.Errorf("%w (and the partial payload could not be removed: %w: %w)", err, ErrStorage, aerr)
		}
	}
	if p.mark == "" {
		return err
	}
	m := newPayload(p.ctx, p.store, p.name, p.mark)
	merr := m.commitMark(sync)
	m.cancelContext(merr)
	if merr == nil {
		*p.marked = true
		return err
	}
	if m.pending != nil {
		m.pending.Abort()
	}
	if !errors.Is(merr, os.ErrExist) {
		if rerr := p.store.Remove(p.name); rerr != nil && !errors.Is(rerr, errors.ErrUnsupported) {
			merr = fmt.Errorf("%w (and the earlier one could not be removed: %w)", merr, rerr)
		}
	}
	return fmt.Errorf("%w (and neither could %q in its place: %w)", err, p.mark, merr)
}

// reset empties the pending payload, and reports whether it could.
func (p *payload) reset() bool {
	r, ok := p.pending.(Resetter)
	return ok && p.err == nil && r.Reset() == nil
}

// commitMark commits the mark as the payload.
func (p *payload) commitMark(sync bool) error {
	if _, err := io.WriteString(&p.out, p.mark); err != nil {
		return err
	}
	return p.commit(sync)
}

// commit commits the payload under its final name if it has one. If sync is false, the
// store may defer the sync.
func (p *payload) commit(sync bool) error {
	if _, err := p.open(); err != nil {
		return p.failed(ErrStorage, err)
	}
	err := p.commitPending(sync)
	if p.final != "" && err != nil {
		if p.dedupe && errors.Is(err, os.ErrExist) {
			err = p.pending.Abort()
		}
		if err != nil {
			err = fmt.Errorf("as %s: %w", p.final, err)
		}
	}
	if errors.Is(err, os.ErrExist) {
		return p.failed(ErrConflict, err)
	}
	return p.failed(ErrStorage, err)
}

func (p *payload) commitPending(sync bool) error {
	c, ok := p.pending.(Committer)
	switch {
	case p.final != "" && !ok:
		return fmt.Errorf("a %T has no CommitAs", p.pending)
	case p.final != "":
		return c.CommitAs(p.final, sync)
	case !sync && ok:
		return c.CommitAs(p.name, sync)
	}
	return p.pending.Commit()
}

// failed returns err as an error of that kind, or as an ErrRejected, and keeps the first.
func (p *payload) failed(kind, err error) error {
	if err == nil {
		return nil
	}
	if r := Rejection(nil); errors.As(err, &r) && r.Rejected() {
		kind = ErrRejected
	}
	err = fmt.Errorf("%s %w: %w", p.name, kind, err)
	if p.err == nil {
		p.err = err
	}
	return err
}

// payloadGate stands before the store and wraps its errors.
type payloadGate payload

func (*payloadGate) Allow(max int) (int, error) { return max, nil }

func (g *payloadGate) Passed(n int, err error) error {
	if n > 0 && err == nil {
		if w, ok := g.pending.(WriteCounter); ok {
			w.Wrote(n)
		}
	}
	return (*payload)(g).failed(ErrStorage, err)
}

var _ opener = (*payload)(nil)
