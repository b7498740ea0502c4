// Command echo is two old services (RFC 862 and 863) on Unix sockets: one sends back
// what it is sent, the other takes it and says nothing. Neither looks at a byte, so
// the kernel moves them, where it can. SIGINT or SIGTERM stops it.
//
//	go run ./cmd/examples/echo -echo echo.sock -discard discard.sock
//
//	echo hello | nc -N -U echo.sock
//	socat - UNIX-CONNECT:echo.sock
//	head -c 10G /dev/zero | nc -N -U discard.sock
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/transport"
)

func main() {
	echoing := flag.String("echo", "echo.sock", "the `path` of the socket that echoes")
	discarding := flag.String("discard", "discard.sock", "the `path` of the one that discards")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *echoing, *discarding); err != nil {
		log.Fatal(err)
	}
}

// run serves both until ctx is cancelled, or one of them fails.
func run(ctx context.Context, echoing, discarding string) error {
	echoes, err := transport.ListenOn(ctx, "unix", echoing)
	if err != nil {
		return err
	}
	defer echoes.Close() // which removes the socket
	discards, err := transport.ListenOn(ctx, "unix", discarding)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx) // when one has ended, the other is to
	defer stop()
	ended := make(chan error, 2)
	for ln, handler := range map[net.Listener]stage.Handler{
		echoes:   stage.Chain{stage.Log{}, stage.Idle{Limit: time.Minute}, sendBack}.Then(stage.Receive),
		discards: stage.Chain{stage.Log{}, stage.Idle{Limit: time.Minute}}.Then(stage.Receive),
	} {
		srv := transport.Server{
			Handler:   stage.ServeFunc(handler),
			Scheduler: transport.NewPool(100),
			Grace:     time.Second,
			OnError:   func(err error) { log.Print(err) },
		}
		go func() {
			defer stop()
			ended <- srv.Serve(ctx, ln)
		}()
	}
	return errors.Join(<-ended, <-ended)
}

// sendBack sends the payload to the client. Idle ends a client that does not take it.
var sendBack = stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
	c.SetSink(c.Reply)
	return nil, nil
})
