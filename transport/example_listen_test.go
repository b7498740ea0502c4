package transport_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/accio-go/accio/transport"
)

// A server on a Unix socket.
func ExampleListenOn() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "greeter.sock")
	ctx, stop := context.WithCancel(context.Background())
	ln, err := transport.ListenOn(ctx, "unix", path)
	if err != nil {
		panic(err)
	}
	srv := transport.Server{Handler: func(_ context.Context, conn net.Conn, number uint64) {
		defer conn.Close()
		fmt.Fprintln(conn, "you are number", number)
	}}
	served := make(chan error)
	go func() { served <- srv.Serve(ctx, ln) }()

	conn, err := net.Dial("unix", path)
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	io.Copy(os.Stdout, conn)
	stop()
	fmt.Println(<-served)
	// Output:
	// you are number 1
	// <nil>
}

// A server that is started with its socket as descriptor 3 (sd_listen_fds(3)), and
// tells how a stop gets on.
func ExampleFileListener() {
	ln, err := transport.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		fmt.Println(err)
		return
	}
	srv := transport.Server{
		Handler: func(_ context.Context, conn net.Conn, _ uint64) { conn.Close() },
		Drain:   time.Minute,
		OnDrain: func(left int, _ bool) { fmt.Println("connections left:", left) },
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	fmt.Println(srv.Serve(ctx, ln))
}
