package stage_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"

	"github.com/accio-go/accio/stage"
)

// A copy of the payload to a second writer, a hash or another server: it gets what the
// sink has taken, the sender waits for both, and an error of either ends the
// connection. One that is to end nothing keeps its error to itself. The bytes pass through
// user space.
func ExampleBracket_tee() {
	var sink bytes.Buffer
	sum := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		h := sha256.New()
		c.Out = io.MultiWriter(c.Out, h)
		return func(err error) error {
			if err == nil {
				fmt.Printf("%x  %d\n", h.Sum(nil), c.Number)
			}
			return err
		}, nil
	})
	toSink := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		c.Out = &sink
		return nil, nil
	})

	client, server := net.Pipe()
	go func() {
		defer client.Close()
		io.WriteString(client, "hello")
	}()
	err := stage.Serve(context.Background(), server, 1, stage.Chain{toSink, sum}.Then(stage.Receive))
	fmt.Println(sink.String(), err)
	// Output:
	// 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824  1
	// hello <nil>
}
