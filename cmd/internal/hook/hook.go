// Package hook runs a command, or posts to a URL, for each file that a server has saved.
//
// [Options] holds the flags. [Options.Start] starts the hooks, and the stage of [Hooks]
// queues the file of each connection. Neither the client nor another file waits for a
// hook. Files wait in memory, in order; [Hooks.Stage] has the limits.
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

	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/stage"
)

// Saved describes a saved file.
type Saved struct {
	Number  uint64        // of the connection
	Path    string        // absolute
	Size    int64         // of the received payload, in bytes, also if the file holds ERROR
	Outcome stage.Outcome // how the connection ended
	Peer    string        // address of the client, by stage.AddrString
	Time    time.Time     // end of the connection, after the commit
}

// Options holds the flags of the hooks. By default there are no hooks.
type Options struct {
	OnSaved        Shell
	OnSavedURL     URL
	OnSavedTimeout time.Duration
	OnSavedJobs    int
	OnSavedRetry   time.Duration
}

// Flags adds the flags.
func (o *Options) Flags(f *cli.FlagSet) {
	g := f.Group("Hooks")
	g.Add(cli.Text(&o.OnSaved), "on-saved", "", "Run the shell command `COMMAND` for each saved file, ERROR ones included. The variables SAVED_NUMBER, SAVED_PATH, SAVED_SIZE, SAVED_OUTCOME, SAVED_PEER and SAVED_TIME describe the file.")
	g.Add(cli.Text(&o.OnSavedURL), "on-saved-url", "", "Post the same to `URL` as JSON. If that fails, try again for some time.")
	g.Add(cli.Duration(&o.OnSavedTimeout, time.Minute, 1), "on-saved-timeout", "", "Kill a command, and everything it has started, after `TIME`, and give up an attempt to post.")
	g.Add(cli.Int(&o.OnSavedJobs, 4, 1, 1000), "on-saved-jobs", "", "Run at most `N` commands and N posts at a time, up to 1000. Others wait. Each takes descriptors from the clients.")
	g.Add(cli.Duration(&o.OnSavedRetry, 10*time.Minute, 0), "on-saved-retry", "", "Try a failed post again for `TIME`. 0 means no retry.")
}

// Shell is a shell command, or empty.
type Shell string

// UnmarshalText accepts everything but blanks.
func (s *Shell) UnmarshalText(text []byte) error {
	if len(text) > 0 && strings.TrimSpace(string(text)) == "" {
		return fmt.Errorf("must be a shell command, such as 'gzip \"$SAVED_PATH\"', not %q", text)
	}
	*s = Shell(text)
	return nil
}

// URL is the URL for posts, or empty.
type URL string

// UnmarshalText accepts URLs of http and https. A wrong URL may hold a secret, so errors
// show neither the URL nor the error of package url.
func (u *URL) UnmarshalText(text []byte) error {
	parsed, err := url.Parse(string(text))
	if len(text) > 0 && (err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "") {
		return errors.New("must be a URL with http:// or https:// and a host, such as https://localhost:8080/saved (the value is not shown, since it may hold a password)")
	}
	*u = URL(text)
	return nil
}

// Check returns an error if there is no shell, or if it cannot parse the command. It
// runs nothing.
func (o *Options) Check(ctx context.Context) error {
	if o.OnSaved == "" {
		return nil
	}
	if err := checkShell(ctx, string(o.OnSaved)); err != nil {
		return fmt.Errorf("--on-saved: %w", err)
	}
	return nil
}

// Descriptors returns the number of descriptors that hooks hold at most.
func (o *Options) Descriptors() int {
	n := 0
	if o.OnSaved != "" {
		n += o.OnSavedJobs * descriptorsOfCommand
	}
	if o.OnSavedURL != "" {
		n += o.OnSavedJobs * descriptorsOfPost
	}
	return n
}

const (
	// stopTime bounds the hooks, running and waiting, when the program stops. The program
	// must end within a second.
	stopTime = 500 * time.Millisecond

	// maxWaiting bounds the files that wait for a hook. Each takes about 100 bytes and
	// its path.
	maxWaiting = 10_000
)

// errStopped is the cause of a hook that a stop interrupts.
var errStopped = errors.New("interrupted, since the program stops")

// Hooks are the hooks of a running server.
type Hooks struct {
	dir     string
	ctx     context.Context // of running hooks
	end     context.CancelCauseFunc
	stopped context.Context
	queues  []*queue
	client  *http.Client // nil without a URL
	watch   sync.WaitGroup
}

// Start starts the hooks for files in dir. It returns nil if the flags set no hook. The
// program stops when stopped is done. Half a second after drained is closed (nil: after
// stopped is done), Start interrupts running hooks and drops waiting files.
//
// Posts have the given user agent. The function complainOf, such as cli.ComplainOf,
// returns functions that receive errors from several goroutines: one for failed
// hooks, and one for skipped files. The caller calls Close.
func (o *Options) Start(stopped context.Context, drained <-chan struct{}, dir, userAgent string, complainOf func(message string) func(error)) (*Hooks, error) {
	if o.OnSaved == "" && o.OnSavedURL == "" {
		return nil, nil
	}
	if err := o.Check(stopped); err != nil {
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
		h.queues = append(h.queues, &queue{name: name, ctx: h.ctx, do: do, jobs: o.OnSavedJobs, most: maxWaiting, onError: onError, onSkipped: onSkipped})
	}
	if o.OnSaved != "" {
		add("--on-saved", command{string(o.OnSaved), o.OnSavedTimeout}.run)
	}
	if o.OnSavedURL != "" {
		h.client = newClient(o.OnSavedJobs)
		add("--on-saved-url", post{string(o.OnSavedURL), h.client, userAgent, o.OnSavedTimeout, o.OnSavedRetry}.run)
	}
	return h, nil
}

func (h *Hooks) endSoon() { time.AfterFunc(stopTime, func() { h.end(errStopped) }) }

// Close waits for the hooks of all files, as long as the stop of the program allows;
// without a stop, for half a second. It reports the files that it skipped. Files saved
// during or after Close are skipped.
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

// Stage queues the file of each connection, whole or ERROR. It belongs outside of the
// stage that saves. It never waits: up to 10,000 files wait for each hook, and ERROR
// files only while fewer than 5,000 wait, so that failing clients take no place from
// others. Further files are skipped and reported. Stage keeps zero-copy.
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
		return // a file of that name is not from this connection
	}
	for _, q := range h.queues {
		q.add(s)
	}
}
