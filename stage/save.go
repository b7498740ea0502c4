package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Pending is a payload that is not yet to be seen under its name. It is written
// by one goroutine.
type Pending = interface {
	io.Writer

	// Commit makes what was written visible under the name, whole and at once,
	// in place of what may have been there, and safe to the degree that the
	// store promises. If it fails, nothing of the payload is to be seen.
	Commit() error

	// Abort throws away what was written. After a Commit that succeeded it does
	// nothing.
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
// durable at once: the store does that for many together when it is closed. [Save]
// commits its Mark so when the server is stopped.
type UnsyncedCommitter interface {
	CommitUnsynced() error
}

// Store is where [Save] puts payloads: a directory, an object store, a map. It
// is safe for concurrent use.
//
// Pending is an alias for an interface without a name, so that a store need not
// import this package.
type Store interface {
	// Create begins a payload that is to be visible as name once it is
	// committed. ctx is for a store that works in the background: it is
	// cancelled before Abort, with the reason the connection failed as its
	// cause, and after Commit has returned; not when the server is stopped.
	Create(ctx context.Context, name string) (Pending, error)

	// Remove removes what is visible as name. It is no error if there is
	// nothing.
	Remove(name string) error
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

	// Name gives the name of a connection's payload in the store.
	Name func(c *Conn) string

	// Mark, if not empty, is put in a payload's place if it failed. Where not
	// even that can be stored, what an earlier payload left under the name is
	// removed, so that nobody takes it for this one's outcome.
	Mark string
}

// NumberedFile is a name for [Save]: the connection's number, with the suffix
// ".file".
func NumberedFile(c *Conn) string { return strconv.FormatUint(c.Number, 10) + ".file" }

// IsNumberedFile reports whether name is one that [NumberedFile] gives to a
// connection whose number is 1 or more.
func IsNumberedFile(name string) bool {
	const suffix = ".file"
	if len(name) <= len(suffix) || name[len(name)-len(suffix):] != suffix {
		return false
	}
	digits := name[:len(name)-len(suffix)]
	n, err := strconv.ParseUint(digits, 10, 64)
	return err == nil && n > 0 && strconv.FormatUint(n, 10) == digits
}

// Wrap makes the store the sink of next.
func (s Save) Wrap(next Handler) Handler {
	if s.Store == nil || s.Name == nil {
		panic("stage: Save without Store or Name")
	}
	return Bracket(func(ctx context.Context, c *Conn) (func(error) error, error) {
		p := newPayload(ctx, s.Store, s.Name(c), s.Mark)
		c.Out = &p.out
		if c.Counter != nil { // from a stage further out
			c.Out = NewWriter(c.Out, c.Counter)
		}
		return p.settle, nil
	}).Wrap(next)
}

// payload is one connection's payload on its way to the store.
type payload struct {
	ctx     context.Context // the connection's
	cancel  context.CancelCauseFunc
	store   Store
	name    string
	mark    string
	pending Pending // nil until the first byte
	err     error   // the first that storing it met

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

// settle commits the payload if it arrived well; otherwise it throws it away
// and puts the mark, if there is one, in its place. It returns why the connection
// failed, if it did.
func (p *payload) settle(err error) error {
	if err == nil {
		err = p.err // also if the handler inside has overlooked it
	}
	if err == nil {
		err = p.commit()
	}
	p.done(err)
	if err == nil {
		return nil
	}
	stopped := errors.Is(err, ErrShutdown)
	if p.mark != "" && p.reset() && p.put(stopped) == nil {
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
	merr := m.put(stopped)
	m.done(merr)
	if merr == nil {
		return err
	}
	if m.pending != nil {
		m.pending.Abort()
	}
	if rerr := p.store.Remove(p.name); rerr != nil {
		merr = fmt.Errorf("%w (and the earlier one could not be removed: %w)", merr, rerr)
	}
	return fmt.Errorf("%w (and neither could %q in its place: %w)", err, p.mark, merr)
}

// reset begins the pending payload anew, and reports whether it could.
func (p *payload) reset() bool {
	r, ok := p.pending.(Resetter)
	return ok && p.err == nil && r.Reset() == nil
}

// put stores the mark as the payload; if the server is stopped, in a hurry.
func (p *payload) put(stopped bool) error {
	if _, err := io.WriteString(&p.out, p.mark); err != nil {
		return err
	}
	if u, ok := p.pending.(UnsyncedCommitter); ok && stopped {
		return p.failed(u.CommitUnsynced())
	}
	return p.commit()
}

func (p *payload) commit() error {
	_, err := p.open()
	if err == nil {
		err = p.pending.Commit()
	}
	return p.failed(err)
}

// failed says of an error that it came from the store, and keeps the first.
func (p *payload) failed(err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s %w: %w", p.name, ErrStorage, err)
	if p.err == nil {
		p.err = err
	}
	return err
}

// payloadGate stands before the store and says what its errors mean.
type payloadGate payload

func (*payloadGate) Allow(max int) (int, error) { return max, nil }

func (g *payloadGate) Passed(_ int, err error) error { return (*payload)(g).failed(err) }

var _ lazy = (*payload)(nil)
