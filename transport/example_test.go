package transport_test

import (
	"context"
	"fmt"
	"io"
	"net"

	"github.com/accio-go/accio/transport"
)

// A server that echoes, ten connections at a time, until it is stopped.
func Example() {
	echo := func(_ context.Context, conn net.Conn, number uint64) {
		defer conn.Close()
		fmt.Fprintf(conn, "you are number %d\n", number)
		io.Copy(conn, conn)
	}
	srv := transport.Server{
		Handler:   echo,
		Scheduler: transport.NewPool(10),
	}

	ln, err := net.Listen("tcp", "127.0.0.1:0") // or transport.Listen(ctx, 5000)
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- srv.Serve(ctx, ln) }()

	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		panic(err)
	}
	io.WriteString(conn, "hello\n")
	conn.(*net.TCPConn).CloseWrite()
	answer, _ := io.ReadAll(conn)
	fmt.Printf("%s", answer)
	conn.Close()

	stop()
	fmt.Println(<-served)
	// Output:
	// you are number 1
	// hello
	// <nil>
}
