package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
)

// Pending is a payload that is not yet to be seen under its name. Its methods are
// called one at a time, by the goroutine that serves the connection. [Save] writes all
// of the payload, in order, and then calls either Commit or Abort; after a Commit that
// failed also Abort, and nothing after that. A Write keeps no reference to what it was
// given.
//
// It may have more methods, each of which is used if it is there: those of [Filer],
// [Resetter], [Renamer], [Progressive] and [UnsyncedCommitter]. Of an error Save makes an
// [ErrStorage], unless it is a [Rejection]; it ends the connection. One by which
// Commit says that the name is taken, in a store that replaces nothing, is an
// os.ErrExist: of that Save makes an [ErrConflict].
type Pending = interface {
	io.Writer

	// Commit makes what was written visible under the name, whole and at once,
	// in place of what may have been there, and safe to the degree that the
	// store promises. If it fails, nothing of the payload is to be seen.
	Commit() error

	// Abort throws away what was written, and gives back what the Pending holds. After
	// a Commit that succeeded it does nothing.
	Abort() error
}

// Resetter is a [Pending] that can be begun anew: Reset throws away what was
// written. [Save] then puts its Mark there, rather than in a pending payload of
// its own, which halves what the store has to do when many connections fail at
// the same time, as when a server is stopped.
type Resetter interface {
	Reset() error
}

// UnsyncedCommitter is a [Pending] that can be committed without being made
// durable at once: the store does that later, for many together, and when it is closed. [Save]
// commits its Mark so when the server is stopped, and for a peer that has too many
// connections.
type UnsyncedCommitter interface {
	CommitUnsynced() error
}

// Progressive is a [Pending] that wants to know how long it has become, also where
// the kernel moves the payload into it ([Filer]) and nothing goes through Write: to
// begin with what its Commit would otherwise have to do for all of it at once, while
// the client waits. [Save] calls Wrote with the number of bytes after each transfer
// (in the order in which they came, some 1 MiB at a time at the most), between
// writes, and not for the bytes of one that failed. What goes wrong in it is for Commit
// to tell.
type Progressive interface {
	Wrote(n int)
}

// Renamer is a [Pending] that can be given another name before it is committed, which
// its Commit then makes it visible under. [Save] needs it for a Final name.
type Renamer interface {
	Rename(name string) error
}

// Rejection is an error of a [Pending] that is no fault of the store's: whoever looks at
// what is stored has refused the payload. If Rejected reports true, [Save] makes it an
// [ErrRejected] and not an [ErrStorage].
type Rejection interface {
	error
	Rejected() bool
}

// Store is where [Save] puts payloads: a directory, an object store, a map. It
// is safe for concurrent use. Any number of payloads may be pending at a time, also
// several under one name: what is visible is the one committed last, or, in a store that
// replaces nothing, the first. It is
// closed by whoever has opened it, when all connections have ended.
//
// Names are what Save's Name and Final say, and may be made of what a peer has sent. A
// store that cannot have one as a name refuses it by an error.
//
// Pending is an alias for an interface without a name, so that a store need not
// import this package.
type Store interface {
	// Create begins a payload that is to be visible as name once it is
	// committed, and is ended by Commit or Abort. Its error is one for which nothing
	// is left. ctx is for a store that works in the background: it is
	// cancelled before Abort, with the reason the connection failed as its
	// cause, and after Commit has returned; not when the server is stopped.
	Create(ctx context.Context, name string) (Pending, error)

	// Remove removes what is visible as name. It is no error if there is
	// nothing, and what is pending stays. Save calls it only where a Mark could not
	// be stored, and not if the store is a [Replacer] that replaces nothing.
	Remove(name string) error
}

// Replacer is a [Store] that says whether a Commit replaces what is visible under its
// name. One that does not say is taken to do so.
type Replacer interface {
	Replaces() bool
}

// Save is a stage that sets a connection's sink: the payload goes to the store
// under the connection's name. It is committed if the handler inside returns
// nil, and otherwise, a panic included, thrown away. Only when that is done
// does Save return, so that a close of the connection can be its confirmation.
//
// Nothing is created in the store before the first byte of payload, or its end:
// a connection that waits holds nothing there. If the pending payload is a
// [Filer], zero-copy survives.
type Save struct {
	// Store is where payloads go.
	Store Store

	// Name gives the name of a connection's payload in the store. It is called when
	// this stage is entered, before there is any payload.
	Name func(c *Conn) string

	// Final, if not nil, gives the name under which a payload that has arrived well is
	// committed. It is called when all of the payload has reached the store, so the name
	// may be made of it: [HashName] makes it of the digest. Name is then that of the
	// pending payload only, and of the Mark. If it returns an error, the payload is
	// thrown away and the connection ends with that error. What the Store creates must be
	// a [Renamer]; if it is none, or cannot be renamed, that is an [ErrStorage].
	Final func(c *Conn) (string, error)

	// Dedupe is for a Final name that only one content can have, such as a digest, and a
	// store that replaces nothing (that of package fs with NoReplace). If the commit fails
	// with an os.ErrExist, the payload counts as stored, by whoever was there first, and
	// what arrived is thrown away. The name alone decides: nothing is compared.
	Dedupe bool

	// Mark, if not empty, is put in a payload's place if it failed. Where not
	// even that can be stored, what an earlier payload left under the name is
	// removed, so that nobody takes it for this one's outcome; but not if the
	// store replaces nothing, and says so as a [Replacer] or by an os.ErrExist: what is
	// there is somebody else's then. [Conn.Marked] says whether it was stored.
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
		if _, ok := sinkOf(c.Out).(*payload); ok {
			return nil, errTwoSaves
		}
		p := newPayload(ctx, s.Store, s.Name(c), s.Mark)
		p.marked = &c.Marked
		c.SetSink(&p.out)
		if c.observation == nil && s.Final == nil {
			return p.settle, nil
		}
		c.after = append(c.after, p.settle) // also if an Observer or Final panics
		return func(err error) error {
			if err != nil || p.err != nil {
				return err
			}
			c.received()
			if s.Final != nil {
				p.dedupe = s.Dedupe
				err = p.rename(s.Final(c))
			}
			return err
		}, nil
	}).Wrap(next)
}

var errTwoSaves = errors.New("stage: a connection has passed two Saves")

// payload is one connection's payload on its way to the store.
type payload struct {
	ctx     context.Context // the connection's
	cancel  context.CancelCauseFunc
	store   Store
	name    string
	mark    string
	marked  *bool   // the connection's
	pending Pending // nil until the first byte
	err     error   // the first that storing it met

	renamed string // to what, or empty
	dedupe  bool   // that name may be taken by the same content

	out  Writer // to the payload, behind its gate
	gate [1]Gate
}

func newPayload(ctx context.Context, store Store, name, mark string) *payload {
	p := &payload{ctx: ctx, store: store, name: name, mark: mark}
	p.gate[0] = (*payloadGate)(p)
	p.out = Writer{p, p.gate[:]}
	return p
}

func (p *payload) open() (io.Writer, error) {
	if p.pending == nil {
		if p.cancel == nil {
			// An end of the connection's context is no reason to break off a
			// commit.
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

// done cancels the store's context.
func (p *payload) done(err error) {
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

// settle commits the payload if it arrived well; otherwise it gives it up. It returns
// why the connection failed, if it did.
func (p *payload) settle(err error) error {
	if err == nil {
		err = p.err // also if the handler inside has overlooked it
	}
	if err == nil {
		err = p.commit()
	}
	if err != nil {
		return p.giveUp(err)
	}
	p.done(nil)
	return nil
}

// rename gives a payload that arrived well its final name, unless there is an error
// instead.
func (p *payload) rename(name string, err error) error {
	if err != nil {
		return fmt.Errorf("final name of %s: %w", p.name, err)
	}
	if _, err := p.open(); err != nil {
		return p.failed(err)
	}
	r, ok := p.pending.(Renamer)
	if !ok {
		return p.failed(fmt.Errorf("a %T has no Rename", p.pending))
	}
	if err := r.Rename(name); err != nil {
		return p.failed(err)
	}
	p.renamed = name
	return nil
}

// giveUp throws the payload away and puts the mark, if there is one, in its place. It
// returns err, and what else went wrong.
func (p *payload) giveUp(err error) error {
	p.done(err)
	outcome := OutcomeOf(err, 0)
	hurry := outcome == OutcomeShutdown || outcome == OutcomeTooMany // many, perhaps, and nobody waits for the mark
	if p.mark != "" && p.reset() && p.put(hurry) == nil {
		*p.marked = true
		return err
	}
	if p.pending != nil {
		if aerr := p.pending.Abort(); aerr != nil && !errors.Is(err, ErrStorage) {
			err = fmt.Errorf("%w (and what had arrived could not be removed: %w: %w)", err, ErrStorage, aerr)
		}
	}
	if p.mark == "" {
		return err
	}
	m := newPayload(p.ctx, p.store, p.name, p.mark)
	merr := m.put(hurry)
	m.done(merr)
	if merr == nil {
		*p.marked = true
		return err
	}
	if m.pending != nil {
		m.pending.Abort()
	}
	if r, ok := p.store.(Replacer); (!ok || r.Replaces()) && !errors.Is(merr, os.ErrExist) {
		if rerr := p.store.Remove(p.name); rerr != nil {
			merr = fmt.Errorf("%w (and the earlier one could not be removed: %w)", merr, rerr)
		}
	}
	return fmt.Errorf("%w (and neither could %q in its place: %w)", err, p.mark, merr)
}

// reset begins the pending payload anew, and reports whether it could.
func (p *payload) reset() bool {
	r, ok := p.pending.(Resetter)
	return ok && p.err == nil && r.Reset() == nil
}

// put stores the mark as the payload, in a hurry or so that it is durable.
func (p *payload) put(hurry bool) error {
	if _, err := io.WriteString(&p.out, p.mark); err != nil {
		return err
	}
	if u, ok := p.pending.(UnsyncedCommitter); ok && hurry {
		return p.committed(u.CommitUnsynced())
	}
	return p.commit()
}

func (p *payload) commit() error {
	if _, err := p.open(); err != nil {
		return p.failed(err)
	}
	err := p.pending.Commit()
	if err != nil && p.renamed != "" {
		if p.dedupe && errors.Is(err, os.ErrExist) {
			err = p.pending.Abort()
		}
		if err != nil {
			err = fmt.Errorf("as %s: %w", p.renamed, err)
		}
	}
	return p.committed(err)
}

// committed does what failed does for the error of a commit, which alone can say that the
// name is taken.
func (p *payload) committed(err error) error {
	if errors.Is(err, os.ErrExist) {
		return p.failedAs(ErrConflict, err)
	}
	return p.failed(err)
}

// failed says of an error that it came from the store, and keeps the first.
func (p *payload) failed(err error) error { return p.failedAs(ErrStorage, err) }

func (p *payload) failedAs(kind, err error) error {
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

// payloadGate stands before the store and says what its errors mean.
type payloadGate payload

func (*payloadGate) Allow(max int) (int, error) { return max, nil }

func (g *payloadGate) Passed(n int, err error) error {
	if n > 0 && err == nil {
		if w, ok := g.pending.(Progressive); ok {
			w.Wrote(n)
		}
	}
	return (*payload)(g).failed(err)
}

var _ lazy = (*payload)(nil)
