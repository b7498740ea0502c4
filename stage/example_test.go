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

// A protocol of one's own is a script; its other half is the mirror.
func ExampleScript() {
	script := stage.Script{Steps: []stage.Step{
		{Expect: "HELO\n"}, {Send: "OK\n"}, {Expect: "DATA\n"},
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

// A server that strangers can reach: each connection has limits, and all of them
// together.
func ExampleErrLimit() {
	client, server := net.Pipe()
	go io.WriteString(client, "hello, world")

	h := stage.Chain{
		stage.MaxPerHost{N: 10},
		stage.MaxDuration{Limit: time.Hour},
		stage.Idle{Limit: 10 * time.Second},
		stage.MaxSize{Bytes: 5},
		stage.MinRate{BytesPerSecond: 1 << 10, Grace: 10 * time.Second},
	}.Then(stage.Receive)
	err := stage.Serve(context.Background(), server, 1, h)
	fmt.Println(err)
	fmt.Println(errors.Is(err, stage.ErrTooLarge), errors.Is(err, stage.ErrLimit))
	// Output:
	// payload is too large: more than 5 bytes
	// true true
}

// A payload of five bytes, and no more.
func ExampleMaxSize() {
	client, server := net.Pipe()
	go io.WriteString(client, "hello, world")
	h := stage.Chain{stage.Report{W: os.Stdout}, stage.MaxSize{Bytes: 5}}.Then(stage.Receive)
	fmt.Println(stage.Serve(context.Background(), server, 1, h))
	// Output:
	// ERROR
	// payload is too large: more than 5 bytes
}

// A connection that may not last, though its peer is never silent.
func ExampleMaxDuration() {
	client, server := net.Pipe()
	go func() {
		for _, err := io.WriteString(client, "still here\n"); err == nil; {
			_, err = io.WriteString(client, "still here\n")
		}
	}()
	h := stage.Chain{stage.MaxDuration{Limit: 50 * time.Millisecond}}.Then(stage.Receive)
	err := stage.Serve(context.Background(), server, 1, h)
	fmt.Println(errors.Is(err, stage.ErrTooLong))
	// Output: true
}

// A peer has to send a KiB in each 50 ms.
func ExampleMinRate() {
	client, server := net.Pipe()
	go io.WriteString(client, "a few bytes")
	h := stage.Chain{stage.MinRate{BytesPerSecond: 20 << 10, Grace: 50 * time.Millisecond}}.Then(stage.Receive)
	err := stage.Serve(context.Background(), server, 1, h)
	fmt.Println(errors.Is(err, stage.ErrTooSlow))
	// Output: true
}

// A host that has a connection gets no other one meanwhile.
func ExampleMaxPerHost() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()
	h := stage.MaxPerHost{N: 1}.Wrap(stage.Receive)
	ended := make(chan error)
	visit := func() net.Conn {
		client, _ := net.Dial("tcp", ln.Addr().String())
		server, _ := ln.Accept()
		go func() { ended <- stage.Serve(context.Background(), server, 1, h) }()
		return client
	}
	first, second := visit(), visit()
	fmt.Println(errors.Is(<-ended, stage.ErrTooMany))
	first.Close()
	second.Close()
	<-ended
	// Output: true
}

// Ten bytes are left alone.
func ExampleMinFree() {
	client, server := net.Pipe()
	go io.WriteString(client, "hello, world")
	disk := new(strings.Builder)
	h := stage.Chain{
		stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
			c.Out = disk
			return nil, nil
		}),
		stage.MinFree{Bytes: 10, Free: func() (int64, error) { return int64(15 - disk.Len()), nil }},
	}.Then(stage.Receive)
	err := stage.Serve(context.Background(), server, 1, h)
	fmt.Printf("%q, %t\n", disk, errors.Is(err, stage.ErrNoSpace))
	// Output: "hello", true
}

// How a connection ended, as a word to count by.
func ExampleOutcomeOf() {
	client, server := net.Pipe()
	client.Close()
	err := stage.Serve(context.Background(), server, 1, stage.Receive)
	fmt.Println(stage.OutcomeOf(err, 0))
	fmt.Println(stage.OutcomeOf(stage.ErrTooSlow, 1000))
	// Output:
	// empty
	// too-slow
}
