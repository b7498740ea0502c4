package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"
	"sync"
	"time"
)

// Consumer reads every file of a [Follower] while it arrives, from its start and at
// its own pace: a checksum, an index, a virus scanner. It never holds up a Write. What
// reads by [Follower.Open] is a guest; a Consumer belongs to the file, whose Commit or
// Abort waits for it to return, so that there are never more of them than files that
// arrive.
//
// It gets each file of the Follower, also what is stored in place of one that has failed:
// the Mark of package stage's Save.
type Consumer struct {
	// Consume reads the file that was begun as name: it is called once for each, in a
	// goroutine of its own. That it returns early is no failure: the rest is not
	// read then. r is not to be used after that.
	//
	// It must return soon after ctx is done or a Read has failed, since Commit and Abort
	// wait for it without an end. ctx is that of [Follower.Create]; it is also done when
	// the file fails, with the reason as its cause (context.Cause), and when the time
	// of [WithConsumerLimit] is over. Package stage's Save does not end its ctx when the
	// server is stopped, so that a commit is not broken off by that: what is not to
	// go on until the limit then has to listen to the server's context itself.
	Consume func(ctx context.Context, name string, r io.Reader) error

	// Decisive has the file be committed only after Consume has returned nil. Such a
	// one reads io.EOF when all has been received: it cannot wait for the commit,
	// which waits for it. So its end of file does not say that the file is, or
	// ever will be, visible. Another one reads io.EOF only when the file is committed, and
	// of one whose name is taken, an os.ErrExist: see [Follower.Open].
	//
	// Its error is an [ErrRejected], and remains itself for errors.Is: at once all
	// who read the file get it, and Write from then on, or Commit; nothing
	// of the file is to be seen. If it could not read, that is the error instead,
	// whatever Consume returns: it has not seen the file.
	Decisive bool

	// OnError, if not nil, is told of what a Consume that is not decisive has returned,
	// which is no matter of the file: also of an error by which the file has failed and
	// that it has only passed on. It is called by whoever commits or aborts the
	// file, at the end of that, who waits for it.
	OnError func(name string, err error)
}

// FollowOption is how a [Follower] is to differ from one without.
type FollowOption func(*Follower)

// WithConsumer has c read every file of the Follower; there may be several. It panics if
// c has no Consume.
func WithConsumer(c Consumer) FollowOption {
	if c.Consume == nil {
		panic("fs: Consumer without Consume")
	}
	return func(f *Follower) { f.consumers = append(f.consumers, c) }
}

// WithConsumerLimit is how long Commit waits until it ends the ctx of Consumers that
// have not returned: of those that are decisive after all has been received, and the file
// is not committed then, which is an [ErrConsumerLimit]; of the others after the commit.
// 0 or less, as without it, means no limit: then one that waits for something else, such
// as another server, holds up the sender's confirmation and the end of the program for as
// long as that takes.
func WithConsumerLimit(d time.Duration) FollowOption {
	return func(f *Follower) { f.limit = d }
}

var (
	// ErrRejected: a decisive [Consumer] has returned an error, and the file is
	// not committed. To package stage that is no fault of the store's.
	ErrRejected = errors.New("rejected by a consumer")

	// ErrConsumerLimit: a [Consumer] took longer than [WithConsumerLimit] allows.
	ErrConsumerLimit = errors.New("consumer took too long")

	// ErrPanic: a [Consumer] panicked; see [PanicError].
	ErrPanic = errors.New("panic of a consumer")
)

// rejection is an [ErrRejected].
type rejection struct {
	name string
	err  error // the consumer's
}

func (r *rejection) Error() string   { return fmt.Sprintf("%s %v: %v", r.name, ErrRejected, r.err) }
func (r *rejection) Unwrap() []error { return []error{ErrRejected, r.err} }

// Rejected tells package stage that no store is at fault.
func (r *rejection) Rejected() bool { return true }

// PanicError is a panic of a [Consumer], decisive or not. The file fails by it, unless
// its commit had begun by then. For errors.Is it is [ErrPanic] and, if the panic's value
// was an error, that error.
type PanicError struct {
	Value any    // what panic was called with
	Stack []byte // the goroutine's stack then, as runtime/debug.Stack has it
}

// Error returns one line, without the stack.
func (e *PanicError) Error() string {
	return strings.Join(strings.Fields(fmt.Sprintf("%v: %v", ErrPanic, e.Value)), " ")
}

// Unwrap returns ErrPanic and the panic's value if that is an error.
func (e *PanicError) Unwrap() []error {
	if err, ok := e.Value.(error); ok {
		return []error{ErrPanic, err}
	}
	return []error{ErrPanic}
}

// errExited is how a Consume has ended that has neither returned nor panicked
// (runtime.Goexit).
var errExited = fmt.Errorf("%w: it ended its goroutine", ErrPanic)

// consumption is a Consumer at one file.
type consumption struct {
	Consumer
	in   *consumerReader
	done chan struct{} // closed when it has returned
	err  error         // what it returned; to be read after done
}

// begin has all consumers of the Follower read u. Their readers are opened before the
// first of them can end it.
func (u *followed) begin() error {
	for _, c := range u.follower.consumers {
		r, err := u.NextReader()
		if err != nil {
			return err
		}
		in := &consumerReader{ctx: u.consuming, r: r}
		if !c.Decisive {
			in.r = u.guest(r)
		}
		u.consumers = append(u.consumers, &consumption{Consumer: c, in: in, done: make(chan struct{})})
	}
	for _, c := range u.consumers {
		go u.consume(c)
	}
	return nil
}

func (u *followed) consume(c *consumption) {
	defer close(c.done)
	defer c.in.r.Close()
	returned := false
	defer func() {
		if v := recover(); v != nil {
			c.err = &PanicError{Value: v, Stack: debug.Stack()}
		} else if !returned {
			c.err = errExited
		}
		readErr := c.in.failure()
		switch {
		case !returned:
			u.fail(fmt.Errorf("%s: %w", u.name, c.err))
		case !c.Decisive:
		case readErr != nil:
			u.fail(readErr)
		case c.err != nil:
			u.fail(&rejection{u.name, c.err})
		}
	}()
	c.err = c.Consume(u.consuming, u.name, c.in)
	returned = true
}

// await waits for the consumers that are decisive, or for those that are not, and calls
// late when the limit has passed.
func (u *followed) await(decisive bool, late func(error)) {
	var passed <-chan time.Time
	limit := u.follower.limit
	if limit > 0 {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		passed = timer.C
	}
	for _, c := range u.consumers {
		if c.Decisive != decisive {
			continue
		}
		select {
		case <-c.done:
		case <-passed:
			late(fmt.Errorf("%s: %w: over %v", u.name, ErrConsumerLimit, limit))
			<-c.done
		}
	}
}

// dismiss waits for all consumers, and tells of their errors.
func (u *followed) dismiss() {
	for _, c := range u.consumers {
		<-c.done
	}
	u.cancel(nil)
	for _, c := range u.consumers {
		if c.err != nil && !c.Decisive && c.OnError != nil {
			c.OnError(u.name, c.err)
		}
	}
}

// consumerReader is what a Consumer reads from.
type consumerReader struct {
	ctx context.Context
	r   io.ReadCloser

	mu  sync.Mutex // a Consumer may leave it to a goroutine that outlives its return
	err error      // the first, unless it was io.EOF
}

func (r *consumerReader) Read(p []byte) (int, error) {
	if err := context.Cause(r.ctx); err != nil {
		return 0, r.failed(err)
	}
	if len(p) == 0 {
		return 0, nil // a Stream's reader would wait for ever
	}
	n, err := r.r.Read(p)
	return n, r.failed(err)
}

func (r *consumerReader) failed(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil && err != io.EOF {
		r.err = err
	}
	return err
}

func (r *consumerReader) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}
