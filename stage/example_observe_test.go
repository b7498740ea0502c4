package stage_test

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/accio-go/accio/stage"
)

// totals are what is known of all connections together. A server of more than one has
// to guard them by a mutex, or to count by atomics.
type totals struct {
	inFlight int
	bytes    int
	ended    map[stage.Outcome]int
}

func (t *totals) accepted(c *stage.Conn) stage.Observer {
	t.inFlight++
	return &one{t: t, c: c}
}

// one watches one connection, and has room for what is to be known of it until its end:
// a time of each call would give how long its handshake, its transfer and its commit
// took.
type one struct {
	t *totals
	c *stage.Conn
}

func (o *one) HandshakeDone() {}
func (o *one) Received()      {}
func (o *one) Passed(n int)   { o.t.bytes += n }

func (o *one) Ended(err error) {
	o.t.inFlight--
	o.t.ended[stage.OutcomeOf(err, o.c.Counter.Count())]++
}

// Metrics, of whatever kind, are a few lines: connections by their outcome, those under
// way, and bytes.
func ExampleObserve() {
	t := &totals{ended: map[stage.Outcome]int{}}
	h := stage.Chain{
		stage.Observe{Accepted: t.accepted},
		stage.Handshake{Script: stage.Script{Steps: []stage.Step{{Expect: "hi "}}}},
	}.Then(stage.Receive)
	for _, said := range []string{"hi there", "hi ", "hello"} {
		client, server := net.Pipe()
		go func() {
			defer client.Close()
			io.WriteString(client, said)
		}()
		stage.Serve(context.Background(), server, 1, h)
	}
	fmt.Println(t.bytes, t.inFlight)
	fmt.Println(t.ended)
	// Output:
	// 5 0
	// map[received:1 empty:1 protocol:1]
}

// A sink of one's own, which leaves it to the stages outside to count.
func ExampleConn_SetSink() {
	nowhere := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		c.SetSink(io.Discard)
		return nil, nil
	})
	report := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		return func(err error) error {
			fmt.Println(c.Counter.Count())
			return err
		}, nil
	})
	client, server := net.Pipe()
	go func() {
		defer client.Close()
		io.WriteString(client, "hello, world")
	}()
	stage.Serve(context.Background(), server, 1, stage.Chain{stage.Count{}, report, nowhere}.Then(stage.Receive))
	// Output: 12
}
