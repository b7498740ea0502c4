package stage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/accio-go/accio/stage"
)

// peer returns the server's end of a connection whose client sends words and ends its
// stream.
func peer(words string) net.Conn {
	client, server := net.Pipe()
	go func() {
		defer client.Close()
		io.WriteString(client, words)
	}()
	return server
}

// A server without an accept loop: Serve needs a connection only.
func ExampleServe() {
	h := stage.Chain{stage.Idle{Limit: 10 * time.Second}}.Then(stage.Receive)
	fmt.Println(stage.Serve(context.Background(), peer("hello"), 1, h))

	stopped, stop := context.WithCancel(context.Background())
	stop()
	fmt.Println(errors.Is(stage.Serve(stopped, peer("hello"), 2, h), stage.ErrShutdown))
	// Output:
	// <nil>
	// true
}

// An accept loop calls a function for each connection, such as one of ServeFunc.
func ExampleServeFunc() {
	report := stage.Chain{stage.Report{W: os.Stdout}}.Then(stage.Receive)
	serve := stage.ServeFunc(report)
	for number, words := range []string{"hello", "hello, world"} {
		serve(context.Background(), peer(words), uint64(number+1))
	}
	// Output:
	// 5
	// 12
}

// A chain can be tried on a connection that somebody else closes.
func ExampleNewConn() {
	nc := peer("hello")
	defer nc.Close()
	c := stage.NewConn(nc, 7)
	c.SetSink(os.Stdout)
	err := stage.Receive.Serve(context.Background(), c)
	fmt.Println()
	fmt.Println(c.Number, err)
	// Output:
	// hello
	// 7 <nil>
}

// A chain is a stage, so what many servers have in common is put together once.
func ExampleChain() {
	limits := stage.Chain{stage.MaxDuration{Limit: time.Hour}, stage.Idle{Limit: 10 * time.Second}}
	h := stage.Chain{stage.Report{W: os.Stdout}, limits, stage.MaxSize{Bytes: 1 << 20}}.Then(stage.Receive)
	fmt.Println(stage.Serve(context.Background(), peer("hello"), 1, h))
	// Output:
	// 5
	// <nil>
}

// A stage that leaves out what is inside of it. One that always calls it is better
// made by a Bracket.
func ExampleStageFunc() {
	var closed atomic.Bool
	closed.Store(true)
	door := stage.StageFunc(func(next stage.Handler) stage.Handler {
		return stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) error {
			if closed.Load() {
				return errors.New("no uploads today")
			}
			return next.Serve(ctx, c)
		})
	})
	fmt.Println(stage.Serve(context.Background(), peer("hello"), 1, door.Wrap(stage.Receive)))
	// Output: no uploads today
}

// A handler of one's own, in the place of Receive, reads as it likes.
func ExampleHandlerFunc() {
	firstLine := stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error {
		payload, err := io.ReadAll(c.In)
		if err != nil {
			return err
		}
		line, _, _ := strings.Cut(string(payload), "\n")
		_, err = io.WriteString(c.Out, line)
		return err
	})
	h := stage.Chain{stage.Report{W: os.Stdout}}.Then(firstLine)
	fmt.Println(stage.Serve(context.Background(), peer("one\ntwo\n"), 1, h))
	// Output:
	// 3
	// <nil>
}

// A stage that limits time has a deadline of its own, and says which error it is when the
// deadline has passed.
func ExampleDeadline() {
	errLate := errors.New("no first byte")
	first := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		d := c.NewDeadline(func(time.Time) (time.Time, error) { return time.Time{}, errLate })
		d.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		return func(err error) error {
			d.SetReadDeadline(time.Time{})
			return err
		}, nil
	})
	client, server := net.Pipe()
	defer client.Close()
	err := stage.Serve(context.Background(), server, 1, first.Wrap(stage.Receive))
	fmt.Println(errors.Is(err, errLate))
	// Output: true
}
