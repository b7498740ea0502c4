package throttle_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/throttle"
)

// A connection that may send 1,000 bytes at once, and then 10,000 in a second.
func Example() {
	client, server := net.Pipe()
	go func() {
		defer client.Close()
		io.WriteString(client, strings.Repeat("x", 2000))
	}()
	h := stage.Chain{
		stage.Report{W: os.Stdout},
		throttle.Throttle{BytesPerSecond: 10_000, Burst: 1000},
	}.Then(stage.Receive)
	begun := time.Now()
	err := stage.Serve(context.Background(), server, 1, h)
	fmt.Println(err, time.Since(begun) > 90*time.Millisecond)
	// Output:
	// 2000
	// <nil> true
}

// All connections together take 100 MiB in a second, and each at most 10 MiB.
func ExampleThrottle() {
	shared := rate.NewLimiter(100<<20, 1<<20)
	h := stage.Chain{
		stage.Report{W: os.Stdout},
		throttle.Throttle{BytesPerSecond: 10 << 20, Shared: shared},
	}.Then(stage.Receive)
	for range 2 {
		client, server := net.Pipe()
		go func() {
			defer client.Close()
			io.WriteString(client, "hello, world")
		}()
		stage.Serve(context.Background(), server, 1, h)
	}
	// Output:
	// 12
	// 12
}
