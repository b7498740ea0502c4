package stage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/accio-go/accio/stage"
)

// Serve one connection through a chain that counts what arrives.
func Example() {
	client, server := net.Pipe()
	go func() { // a client: it listens, confirms, and sends
		defer client.Close()
		stage.Accio.Mirror().Run(client, client)
		io.WriteString(client, "hello, world")
	}()

	h := stage.Chain{
		stage.Report{W: os.Stdout},
		stage.Recover{},
		stage.Idle{Limit: 10 * time.Second},
		stage.Handshake{Script: stage.Accio},
	}.Then(stage.Receive)
	err := stage.Serve(context.Background(), server, 1, h)
	fmt.Println(err)
	// Output:
	// 12
	// <nil>
}

// A stage in ten lines: it greets the peer, and tells how the connection ended.
func ExampleStage() {
	greet := stage.StageFunc(func(next stage.Handler) stage.Handler {
		return stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) error {
			if _, err := io.WriteString(c.Reply, "welcome\n"); err != nil {
				return err
			}
			err := next.Serve(ctx, c)
			fmt.Println("ended:", err)
			return err
		})
	})

	client, server := net.Pipe()
	go func() {
		defer client.Close()
		io.ReadFull(client, make([]byte, len("welcome\n")))
	}()
	stage.Serve(context.Background(), server, 1, stage.Chain{greet}.Then(stage.Receive))
	// Output: ended: <nil>
}

// atMost is a gate that lets no more than a number of bytes pass.
type atMost struct{ left int }

var errTooLarge = errors.New("too large")

func (g *atMost) Allow(max int) (int, error) {
	if g.left == 0 {
		return 0, errTooLarge
	}
	return min(max, g.left), nil
}

func (g *atMost) Passed(n int, err error) error {
	g.left -= n
	return err
}

// A limit on what a connection may send: a stage that keeps zero-copy, and whose
// neighbours in the chain cost no stack.
func ExampleBracket() {
	limit := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		c.In = stage.NewReader(c.In, &atMost{left: 5})
		return func(err error) error {
			fmt.Println("ended:", err)
			return err
		}, nil
	})

	client, server := net.Pipe()
	go func() {
		defer client.Close()
		io.WriteString(client, "hello, world")
	}()
	stage.Serve(context.Background(), server, 1, stage.Chain{limit}.Then(stage.Receive))
	// Output: ended: too large
}

// A gate limits a stream without seeing its bytes, so that a chain with it is
// as fast as one without.
func ExampleGate() {
	r := stage.NewReader(strings.NewReader("hello, world"), &atMost{left: 5})
	n, err := stage.Copy(os.Stdout, r)
	fmt.Println()
	fmt.Println(n, err)
	// Output:
	// hello
	// 5 too large
}

// Any writer counts, with a Counter before it.
func ExampleCounter() {
	var n stage.Counter
	w := stage.NewWriter(io.Discard, &n)
	fmt.Fprint(w, "hello")
	fmt.Println(n.Count())
	// Output: 5
}

// A reader that gives up on a silent peer, on any connection.
func ExampleIdleGate() {
	client, server := net.Pipe()
	defer client.Close()
	r := stage.NewReader(server, stage.NewIdleGate(server, 50*time.Millisecond))
	_, err := io.ReadAll(r)
	fmt.Println(errors.Is(err, stage.ErrIdle))
	// Output: true
}

// A protocol of one's own is a script; its other half is the mirror.
func ExampleScript() {
	script := stage.Script{Steps: []stage.Step{
		stage.Expect("HELO\n"), stage.Send("OK\n"), stage.Expect("DATA\n"),
	}}
	client, server := net.Pipe()
	go func() {
		defer client.Close()
		script.Mirror().Run(client, client)
		io.WriteString(client, "payload")
	}()
	if err := script.Run(server, server); err != nil {
		fmt.Println(err)
	}
	payload, _ := io.ReadAll(server)
	fmt.Printf("%s\n", payload)
	// Output: payload
}
