package stagetest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// mistake is a stage that breaks a rule.
type mistake struct {
	rule    string
	name    string
	subject Subject
}

// around is a Subject that does this around the next handler.
func around(f func(ctx context.Context, c *stage.Conn, next stage.Handler) error) Subject {
	return Subject{New: func(testing.TB) Instance {
		return Instance{Stage: stage.StageFunc(func(next stage.Handler) stage.Handler {
			return stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) error { return f(ctx, c, next) })
		})}
	}}
}

// before is a Subject that does this before the next handler.
func before(f func(ctx context.Context, c *stage.Conn)) Subject {
	s := around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
		f(ctx, c)
		return next.Serve(ctx, c)
	})
	s.ZeroCopy = true
	return s
}

// with is s with a peer that talks.
func (s Subject) with(peer ...memnet.Step) Subject {
	s.Before = peer
	return s
}

// ended is s which says for how many connections it has seen the end.
func ended(f func(next func() error, count *int) error) Subject {
	return Subject{New: func(testing.TB) Instance {
		count := 0
		return Instance{
			Stage: stage.StageFunc(func(next stage.Handler) stage.Handler {
				return stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) error {
					return f(func() error { return next.Serve(ctx, c) }, &count)
				})
			}),
			Ended: func() int { return count },
		}
	}}
}

// endsBy takes such errors of what is read for its end.
func endsBy(is func(error) bool) func(context.Context, *stage.Conn) {
	return func(_ context.Context, c *stage.Conn) {
		in := c.In
		c.In = readerFunc(func(p []byte) (int, error) {
			n, err := in.Read(p)
			if err != nil && is(err) {
				err = io.EOF
			}
			return n, err
		})
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

var errOwn = errors.New("an error of the stage's own")

var kept []byte // escapes

var mistakes = []mistake{
	{"payload", "a line is read with what follows", before(func(_ context.Context, c *stage.Conn) {
		bufio.NewReader(c.In).ReadString('\n')
	}).with(memnet.Say("hello\n"))},
	{"payload", "a line is taken to come in one piece", before(func(_ context.Context, c *stage.Conn) {
		c.In.Read(make([]byte, 6))
	}).with(memnet.Say("hello\n"))},
	{"payload", "what comes with the end is lost", before(func(_ context.Context, c *stage.Conn) {
		b := bufio.NewReader(c.In)
		c.In = readerFunc(func(p []byte) (int, error) {
			n, err := io.ReadFull(b, p[:min(len(p), 100)])
			if err == io.ErrUnexpectedEOF {
				return 0, io.EOF
			}
			return n, err
		})
	})},
	{"payload", "another payload is promised", Subject{Want: []byte("something else"), New: before(func(context.Context, *stage.Conn) {}).New}},
	{"next-once", "next is called again after a failure", around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
		err := next.Serve(ctx, c)
		if err != nil {
			err = next.Serve(ctx, c)
		}
		return err
	})},
	{"next-once", "next is not called", around(func(_ context.Context, c *stage.Conn, _ stage.Handler) error {
		_, err := io.Copy(c.Out, c.In)
		return err
	})},
	{"errors", "an error is lost", around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
		next.Serve(ctx, c)
		return nil
	})},
	{"errors", "an error is replaced", around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
		if next.Serve(ctx, c) != nil {
			return errOwn
		}
		return nil
	})},
	{"errors", "an error is made up", around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
		return errors.Join(next.Serve(ctx, c), errOwn)
	})},
	{"errors", "a connection that breaks is one that ends", before(func(_ context.Context, c *stage.Conn) {
		in := c.In
		c.In = readerFunc(func(p []byte) (int, error) {
			n, err := in.Read(p)
			if err != nil {
				err = io.EOF
			}
			return n, err
		})
	})},
	{"errors", "silence from outside is an end", before(endsBy(func(err error) bool {
		return !errors.Is(err, stage.ErrReset) && !errors.Is(err, stage.ErrShutdown) && !errors.Is(err, stage.ErrLimit)
	}))},
	{"errors", "a limit from outside is an end", before(endsBy(func(err error) bool { return errors.Is(err, stage.ErrLimit) }))},
	{"errors", "silence is lost", around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
		err := next.Serve(ctx, c)
		if errors.Is(err, stage.ErrIdle) {
			return nil
		}
		return err
	})},
	{"errors", "a rejection is replaced", around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
		err := next.Serve(ctx, c)
		if errors.Is(err, stage.ErrRejected) {
			return fmt.Errorf("%w: %w", stage.ErrStorage, errNext)
		}
		return err
	})},
	{"errors", "it goes round what stands outside", before(func(_ context.Context, c *stage.Conn) { c.In = c.Net })},
	{"panic", "a panic becomes an error", Subject{New: func(testing.TB) Instance { return Instance{Stage: stage.Recover{}} }}},
	{"panic", "a panic is lost", around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
		defer func() { recover() }()
		return next.Serve(ctx, c)
	})},
	{"panic", "a panic becomes another", around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
		defer func() {
			if recover() != nil {
				panic(errOwn)
			}
		}()
		return next.Serve(ctx, c)
	})},
	{"panic", "a panic that was to become an error does not", Subject{Recovers: true, New: before(func(context.Context, *stage.Conn) {}).New}},
	{"panic", "a panic becomes an error that does not say so", func() Subject {
		s := around(func(ctx context.Context, c *stage.Conn, next stage.Handler) (err error) {
			defer func() {
				if recover() != nil {
					err = errOwn
				}
			}()
			return next.Serve(ctx, c)
		})
		s.Recovers = true
		return s
	}()},
	{"after", "a panic keeps a slot", func() Subject {
		var slots atomic.Int32
		return around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
			if slots.Add(1) > 10 {
				return errOwn
			}
			err := next.Serve(ctx, c)
			slots.Add(-1)
			return err
		})
	}()},
	{"after", "a panic is not counted", ended(func(next func() error, count *int) error {
		err := next()
		*count++
		return err
	})},
	{"after", "a failure is not counted", ended(func(next func() error, count *int) error {
		defer func() {
			if v := recover(); v != nil {
				*count++
				panic(v)
			}
		}()
		err := next()
		if err == nil {
			*count++
		}
		return err
	})},
	{"closes-nothing", "the connection is closed", around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
		defer c.Net.Close()
		return next.Serve(ctx, c)
	})},
	{"closes-nothing", "the stream to the peer is ended", around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
		defer memnet.HalfClose(c.Net)
		return next.Serve(ctx, c)
	})},
	{"closes-nothing", "the sink is closed", around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
		defer c.Out.(io.Closer).Close()
		return next.Serve(ctx, c)
	})},
	{"deadlines", "a deadline is left", before(func(_ context.Context, c *stage.Conn) {
		c.NewDeadline(nil).SetReadDeadline(time.Now().Add(time.Hour))
	})},
	{"deadlines", "a write deadline is left", before(func(_ context.Context, c *stage.Conn) {
		c.NewDeadline(nil).SetWriteDeadline(time.Now().Add(time.Hour))
	})},
	{"deadlines", "a deadline that has passed is left", around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
		defer c.NewDeadline(nil).SetWriteDeadline(time.Now())
		return next.Serve(ctx, c)
	})},
	{"deadlines", "the deadline that ends all I/O is removed", around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
		defer c.Net.SetReadDeadline(time.Time{})
		return next.Serve(ctx, c)
	})},
	{"goroutines", "a goroutine waits for the end of the server", before(func(ctx context.Context, _ *stage.Conn) {
		go func() { <-ctx.Done() }()
	})},
	{"goroutines", "a goroutine sleeps", before(func(ctx context.Context, _ *stage.Conn) {
		go time.Sleep(time.Hour)
	})},
	{"cancellation", "it sleeps", before(func(context.Context, *stage.Conn) { time.Sleep(time.Minute) })},
	{"cancellation", "it waits for the peer, whatever the context", before(func(_ context.Context, c *stage.Conn) {
		for {
			if n, err := c.In.Read(make([]byte, 1)); n > 0 || errors.Is(err, io.EOF) || errors.Is(err, stage.ErrReset) {
				return
			}
			time.Sleep(time.Second)
		}
	}).with(memnet.Say("x"))},
	{"cancellation", "it waits for ever", around(func(ctx context.Context, c *stage.Conn, next stage.Handler) error {
		if err := next.Serve(ctx, c); errors.Is(err, stage.ErrShutdown) {
			<-make(chan struct{})
		}
		return nil
	})},
	{"allocations", "each read takes a buffer", before(func(_ context.Context, c *stage.Conn) {
		in := c.In
		c.In = readerFunc(func(p []byte) (int, error) {
			kept = make([]byte, len(p))
			n, err := in.Read(kept)
			return copy(p, kept[:n]), err
		})
	})},
	{"concurrency", "the connection is kept where others find it", func() Subject {
		var in io.Reader
		return before(func(_ context.Context, c *stage.Conn) {
			in = c.In
			c.In = readerFunc(func(p []byte) (int, error) { return in.Read(p) })
		})
	}()},
	{"zero-copy", "what comes in is looked at", before(func(_ context.Context, c *stage.Conn) {
		c.In = struct{ io.Reader }{c.In}
	})},
	{"zero-copy", "what goes out is looked at", before(func(_ context.Context, c *stage.Conn) {
		c.Out = struct{ io.Writer }{c.Out}
	})},
	{"zero-copy", "the payload goes through a pipe", before(func(_ context.Context, c *stage.Conn) {
		r, w := io.Pipe()
		in := c.In
		go func() {
			_, err := io.Copy(w, in)
			w.CloseWithError(err)
		}()
		c.In = r
	})},
	{"zero-copy", "a sink of its own does not have it", func() Subject {
		var stored bytes.Buffer
		return Subject{ZeroCopy: true, New: func(testing.TB) Instance {
			return Instance{
				Stage: stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
					c.Out = &stored
					return nil, nil
				}),
				Stored: func(uint64) ([]byte, error) { return stored.Bytes(), nil },
			}
		}}
	}()},
}

const mistakeEnv = "STAGETEST_MISTAKE"

// TestMistake is for TestMistakes: it fails.
func TestMistake(t *testing.T) {
	name, ok := os.LookupEnv(mistakeEnv)
	if !ok {
		t.Skip("it is run by TestMistakes")
	}
	TestStage(t, mistakes[slices.IndexFunc(mistakes, func(m mistake) bool { return m.name == name })].subject)
}

// Each mistake is found, and called by the name of its rule. A process of its own
// tries it: what never ends is a panic of the bubble.
func TestMistakes(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range mistakes {
		t.Run(m.rule+"/"+m.name, func(t *testing.T) {
			if m.rule == "zero-copy" && runtime.GOOS != "linux" {
				t.Skip("it is looked at on Linux only")
			}
			t.Parallel()
			r := rules[slices.IndexFunc(rules, func(r rule) bool { return r.name == m.rule })]
			cmd := exec.CommandContext(t.Context(), exe, "-test.run=^TestMistake$/^"+m.rule+"$", "-test.timeout=1m")
			cmd.Env = append(cmd.Environ(), mistakeEnv+"="+m.name)
			out, err := cmd.CombinedOutput()
			if err == nil || !bytes.Contains(out, []byte("FAIL: TestMistake/"+m.rule)) || !bytes.Contains(out, []byte("the rule: "+r.text+" ("+r.where+")")) {
				t.Errorf("%v:\n%s", err, out)
			}
		})
	}
	for _, r := range rules {
		if !slices.ContainsFunc(mistakes, func(m mistake) bool { return m.rule == r.name }) {
			t.Errorf("there is no mistake against %s", r.name)
		}
	}
}

// What a stage does that may do so is no mistake.
func TestNoMistakes(t *testing.T) {
	scramble := func(p []byte) {
		for i, b := range p {
			p[i] = b ^ 0x55
		}
	}
	payload, want := bytes.Repeat([]byte("payload"), 1000), bytes.Repeat([]byte("payload"), 1000)
	scramble(want)
	for name, s := range map[string]Subject{
		"none":    before(func(context.Context, *stage.Conn) {}),
		"a chain": {New: func(testing.TB) Instance { return Instance{Stage: stage.Chain{}} }, ZeroCopy: true},
		"it talks": before(func(_ context.Context, c *stage.Conn) {
			io.WriteString(c.Reply, "your name?")
			stage.Script{Steps: []stage.Step{{Expect: "me\n"}}}.Run(c.In, c.Reply)
		}).with(memnet.Hear("your name?"), memnet.Say("me", "\n")),
		"it changes the payload": {Payload: payload, Want: want, New: before(func(_ context.Context, c *stage.Conn) {
			in := c.In
			c.In = readerFunc(func(p []byte) (int, error) {
				n, err := in.Read(p)
				scramble(p[:n])
				return n, err
			})
		}).New},
		"it stores": {New: func(testing.TB) Instance {
			stored := make(chan map[uint64]*bytes.Buffer, 1)
			stored <- make(map[uint64]*bytes.Buffer)
			return Instance{
				Stage: stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
					buf := new(bytes.Buffer)
					all := <-stored
					all[c.Number] = buf
					stored <- all
					c.Out = buf
					return nil, nil
				}),
				Stored: func(number uint64) ([]byte, error) {
					all := <-stored
					defer func() { stored <- all }()
					return all[number].Bytes(), nil
				},
			}
		}},
	} {
		t.Run(name, func(t *testing.T) { TestStage(t, s) })
	}
}

func TestDiffers(t *testing.T) {
	for _, test := range []struct{ got, want, says string }{
		{"abc", "abc", ""},
		{"", "", ""},
		{"abd", "abc", "byte 2 is 0x64"},
		{"ab", "abc", "2 bytes have come, want 3"},
		{"abcd", "abc", "4 bytes have come, want 3"},
	} {
		if got := differs([]byte(test.got), []byte(test.want)); !strings.Contains(got, test.says) || (got == "") != (test.says == "") {
			t.Errorf("%q instead of %q: %q", test.got, test.want, got)
		}
	}
}
