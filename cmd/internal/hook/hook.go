// Package hook tells others of the files that a server has saved: a command, or a
// server of the Web, or both.
//
// [Flags] are what the user sets. [Flags.Start] begins, and the stage of [Hooks] notes
// each connection that has left a file. From there on nobody waits for a hook: not the
// client, whose confirmation does not depend on it, nor another file. What cannot be done
// at once waits in memory, in order; see [Hooks.Stage] for how much does.
package hook

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/accio-go/accio/stage"
)

// Saved is what is told of a file.
type Saved struct {
	Number  uint64        // the connection's
	Path    string        // absolute
	Size    int64         // of the payload that has arrived, in bytes; for a failed one, the file holds ERROR
	Outcome stage.Outcome // how the connection ended
	Peer    string        // the address of the client, by stage.AddrString
	Time    time.Time     // when the connection had ended, a commit included
}

// Flags are those of the hooks, to be embedded in a Command of package cli. As they come,
// there is none.
type Flags struct {
	OnSaved        Shell         `group:"Hooks:" placeholder:"COMMAND" help:"Run a command of the shell for each file that has been saved, ERROR ones included. The variables SAVED_NUMBER, SAVED_PATH, SAVED_SIZE, SAVED_OUTCOME, SAVED_PEER and SAVED_TIME tell of it."`
	OnSavedURL     URL           `name:"on-saved-url" group:"Hooks:" placeholder:"URL" help:"Post the same there as JSON, and try again for some time if that fails."`
	OnSavedTimeout time.Duration `group:"Hooks:" placeholder:"TIME" default:"1m" positive:"" help:"How long a command may run before it is killed with all that it has started, and how long an attempt to post may take (default ${default})."`
	OnSavedJobs    int           `group:"Hooks:" placeholder:"N" default:"4" positive:"" most:"1000" help:"How many commands run at a time, and how many posts are under way, 1000 at the most (default ${default}). Others wait. Each takes descriptors from those that clients are served by."`
	OnSavedRetry   time.Duration `group:"Hooks:" placeholder:"TIME" default:"10m" help:"For how long a post that fails is tried again (default ${default}). 0 means not at all."`
}

// Shell is an argument that is a command of the shell. Empty is none.
type Shell string

// UnmarshalText takes all that is not blank.
func (s *Shell) UnmarshalText(text []byte) error {
	if len(text) > 0 && strings.TrimSpace(string(text)) == "" {
		return fmt.Errorf("a command of the shell is wanted, such as 'gzip \"$SAVED_PATH\"', not %q", text)
	}
	*s = Shell(text)
	return nil
}

// URL is an argument that is the URL of something that takes posts. Empty is none.
type URL string

// UnmarshalText takes URLs of http and https. There may be a secret in what it does not take,
// so an error does not tell it, nor do those of package url.
func (u *URL) UnmarshalText(text []byte) error {
	parsed, err := url.Parse(string(text))
	if len(text) > 0 && (err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "") {
		return errors.New("a URL is wanted that begins with http:// or https:// and a host, such as https://localhost:8080/saved; what is given is not told, since there may be a password in it")
	}
	*u = URL(text)
	return nil
}

// Check says whether Start could begin: whether there is a shell, and whether it
// understands the command, of which nothing is run.
func (f *Flags) Check(ctx context.Context) error {
	if f.OnSaved == "" {
		return nil
	}
	if err := checkShell(ctx, string(f.OnSaved)); err != nil {
		return fmt.Errorf("--on-saved: %w", err)
	}
	return nil
}

// Descriptors is how many descriptors the hooks hold at the most.
func (f *Flags) Descriptors() int {
	n := 0
	if f.OnSaved != "" {
		n += f.OnSavedJobs * descriptorsOfCommand
	}
	if f.OnSavedURL != "" {
		n += f.OnSavedJobs * descriptorsOfPost
	}
	return n
}

const (
	// stopTime is how long hooks go on when the program ends, for what they do and for
	// what waits. A program is to be gone within a second.
	stopTime = 500 * time.Millisecond

	// maxWaiting is how many files wait for a hook at the most, some 100 bytes each and
	// what their paths take.
	maxWaiting = 10_000
)

// errStopped is why a hook was broken off.
var errStopped = errors.New("broken off, since the program stops")

// Hooks are the hooks of a server that runs.
type Hooks struct {
	dir     string
	ctx     context.Context // in which hooks run
	end     context.CancelCauseFunc
	stopped context.Context
	queues  []*queue
	client  *http.Client // nil if nothing is posted
	watch   sync.WaitGroup
}

// Start begins with the hooks for files in dir. When stopped is done, the program is to
// end. Until drained is closed (nil: as soon as stopped is done), hooks go on as if nothing
// had happened. Then they have half a second for what is under way and what waits.
//
// userAgent is that of posts. complainOf returns who is told of errors of a kind, by several
// goroutines at a time, as that of package cli does: those of hooks that fail are one kind,
// so that they may come in any number; those that tell for how many files nothing was done,
// which are few, are another. The caller calls Close.
func (f *Flags) Start(stopped context.Context, drained <-chan struct{}, dir, userAgent string, complainOf func(message string) func(error)) (*Hooks, error) {
	if f.OnSaved == "" && f.OnSavedURL == "" {
		return nil, nil
	}
	if err := f.Check(stopped); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	h := &Hooks{dir: dir, stopped: stopped}
	h.ctx, h.end = context.WithCancelCause(context.WithoutCancel(stopped))
	if drained == nil {
		drained = stopped.Done()
	}
	h.watch.Go(func() {
		select {
		case <-drained:
			h.endSoon()
		case <-h.ctx.Done():
		}
	})
	onError, onSkipped := complainOf("hook failed"), complainOf("hook skipped files")
	add := func(name string, do func(context.Context, Saved) error) {
		h.queues = append(h.queues, &queue{name: name, ctx: h.ctx, do: do, jobs: f.OnSavedJobs, most: maxWaiting, onError: onError, onSkipped: onSkipped})
	}
	if f.OnSaved != "" {
		add("--on-saved", command{string(f.OnSaved), f.OnSavedTimeout}.run)
	}
	if f.OnSavedURL != "" {
		h.client = newClient(f.OnSavedJobs)
		add("--on-saved-url", post{string(f.OnSavedURL), h.client, userAgent, f.OnSavedTimeout, f.OnSavedRetry}.run)
	}
	return h, nil
}

func (h *Hooks) endSoon() { time.AfterFunc(stopTime, func() { h.end(errStopped) }) }

// Close waits until the hooks are done with all files, or as long as the end of the
// program allows them; if nobody has stopped it, that is half a second from now. It tells
// of those for which nothing was done. Files that are saved meanwhile, or later, are among
// these.
func (h *Hooks) Close() {
	if h == nil {
		return
	}
	if h.stopped.Err() == nil {
		h.endSoon()
	}
	var closing sync.WaitGroup
	for _, q := range h.queues {
		closing.Go(q.close)
	}
	closing.Wait()
	h.end(errStopped)
	h.watch.Wait()
	if h.client != nil {
		h.client.CloseIdleConnections()
	}
}

// Stage has the hooks told of each connection that ends inside of it and has left a
// file, whole or ERROR, under its number. It stands outside of what saves. Nothing waits
// for a hook: 10,000 files may wait for each, 5,000 as long as they are ERROR, so
// that clients who do nothing but fail take no place from others. For those beyond,
// nothing is done but to tell how many there were. It keeps zero-copy.
func (h *Hooks) Stage() stage.Stage {
	if h == nil {
		return stage.Chain{}
	}
	return stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		return func(err error) error {
			h.ended(c, err)
			return err
		}, nil
	})
}

func (h *Hooks) ended(c *stage.Conn, err error) {
	s := Saved{Number: c.Number, Path: filepath.Join(h.dir, stage.NumberedFile(c)), Peer: stage.AddrString(c.Net.RemoteAddr()), Time: time.Now()}
	if c.Counter != nil {
		s.Size = c.Counter.Count()
	}
	s.Outcome = stage.OutcomeOf(err, s.Size)
	if err != nil && !c.Marked {
		return // what stands under its name, if anything does, is another's
	}
	for _, q := range h.queues {
		q.add(s)
	}
}
