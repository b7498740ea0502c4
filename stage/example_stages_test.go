package stage_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"github.com/accio-go/accio/stage"
)

// What has been counted is there for whoever stands outside.
func ExampleCount() {
	tell := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		return func(err error) error {
			fmt.Println(c.Counter.Count(), "bytes")
			return err
		}, nil
	})
	h := stage.Chain{tell, stage.Count{}}.Then(stage.Receive)
	stage.Serve(context.Background(), peer("hello"), 1, h)
	// Output: 5 bytes
}

// Whoever does not speak the protocol gets no further.
func ExampleHandshake() {
	h := stage.Chain{
		stage.Report{W: os.Stdout},
		stage.Handshake{
			Script: stage.Script{Steps: []stage.Step{{Expect: "PUT\n"}}},
			Limit:  5 * time.Second,
		},
	}.Then(stage.Receive)
	for _, said := range []string{"PUT\nhello", "GET / HTTP/1.1\n"} {
		err := stage.Serve(context.Background(), peer(said), 1, h)
		fmt.Println(errors.Is(err, stage.ErrProtocol))
	}
	// Output:
	// 5
	// false
	// ERROR
	// true
}

// A peer that says a word and then nothing.
func ExampleIdle() {
	client, server := net.Pipe()
	defer client.Close()
	go io.WriteString(client, "hello")
	err := stage.Serve(context.Background(), server, 1, stage.Idle{Limit: 50 * time.Millisecond}.Wrap(stage.Receive))
	fmt.Println(errors.Is(err, stage.ErrIdle))
	// Output: true
}

// A fault in a stage is the end of its connection, and of no other.
func ExampleRecover() {
	faulty := stage.Bracket(func(context.Context, *stage.Conn) (func(error) error, error) {
		panic("a fault")
	})
	h := stage.Chain{stage.Report{W: os.Stdout}, stage.Recover{}, faulty}.Then(stage.Receive)
	err := stage.Serve(context.Background(), peer("hello"), 1, h)
	fmt.Println(errors.Is(err, stage.ErrPanic), err)
	// Output:
	// ERROR
	// true panic: a fault
}

// A line for each connection, for people and scripts.
func ExampleReport() {
	h := stage.Chain{stage.Report{W: os.Stdout}, stage.MaxSize{Bytes: 8}}.Then(stage.Receive)
	for _, said := range []string{"hello", "hello, world"} {
		stage.Serve(context.Background(), peer(said), 1, h)
	}
	// Output:
	// 5
	// ERROR
}

func ExampleNumberedFile() {
	nc := peer("")
	defer nc.Close()
	fmt.Println(stage.NumberedFile(stage.NewConn(nc, 7)))
	// Output: 7.file
}

// What a sweep of a store may remove.
func ExampleIsNumberedFile() {
	for _, name := range []string{"7.file", "07.file", "0.file", "report.pdf"} {
		fmt.Println(name, stage.IsNumberedFile(name))
	}
	// Output:
	// 7.file true
	// 07.file false
	// 0.file false
	// report.pdf false
}

// Where a server that is started anew goes on.
func ExampleParseNumberedFile() {
	last := uint64(0)
	for _, name := range []string{"1.file", "notes.txt", "12.file", "3.file"} {
		if n, frame, ok := stage.ParseNumberedFile(name); ok && frame == 0 {
			last = max(last, n)
		}
	}
	fmt.Println(last)
	// Output: 12
}

// Metrics have a series for each outcome from the start, so that none is missing until
// it happens.
func ExampleOutcomes() {
	ended := map[string]int{}
	for _, o := range stage.Outcomes() {
		ended[o.String()] = 0
	}
	ended[stage.OutcomeOf(stage.ErrIdle, 0).String()]++
	_, known := ended["too-slow"]
	fmt.Println(ended["idle"], known, slices.Contains(stage.Outcomes(), stage.OutcomeReceived))
	// Output: 1 true true
}

// A protocol in which the client speaks first.
func ExampleStep() {
	script := stage.Script{Steps: []stage.Step{{Expect: "PUT\n"}, {Send: "GO\n"}}}
	client, server := net.Pipe()
	defer client.Close()
	said := make(chan error)
	go func() { said <- script.Mirror().Run(client, client) }() // it sends PUT, and expects GO
	fmt.Println(script.Run(server, server), <-said)
	// Output: <nil> <nil>
}
