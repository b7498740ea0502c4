package transport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/accio-go/accio/transport"
)

// A server on port 5000, until it fails.
func ExampleListen() {
	ctx := context.Background()
	ln, err := transport.Listen(ctx, 5000)
	if err != nil {
		log.Fatal(err)
	}
	srv := transport.Server{Handler: func(_ context.Context, conn net.Conn, _ uint64) {
		defer conn.Close()
		io.Copy(conn, conn)
	}}
	log.Fatal(srv.Serve(ctx, ln)) // which closes ln
}

func ExampleParsePort() {
	for _, s := range []string{"5000", "0", "http"} {
		port, err := transport.ParsePort(s)
		fmt.Println(port, errors.Is(err, transport.ErrPort))
	}
	// Output:
	// 5000 false
	// 0 true
	// 0 true
}

// As many connections as there are descriptors for: that of each, and that of its file.
func ExampleMaxConns() {
	srv := transport.Server{Scheduler: transport.NewPool(transport.MaxConns(2))}
	fmt.Println(srv.Scheduler.Acquire(context.Background()))
	// Output: <nil>
}

// Beyond its slots a pool makes others wait.
func ExampleNewPool() {
	p := transport.NewPool(2)
	fmt.Println(p.Acquire(context.Background()), p.Acquire(context.Background()))

	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	fmt.Println(p.Acquire(ctx))
	p.Release()
	fmt.Println(p.Acquire(context.Background()))
	// Output:
	// <nil> <nil>
	// context deadline exceeded
	// <nil>
}

// One connection at a time, in order of arrival.
func ExampleSequential() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error)
	srv := transport.Server{
		Scheduler: transport.Sequential(),
		Handler: func(_ context.Context, conn net.Conn, number uint64) {
			defer conn.Close()
			said, _ := io.ReadAll(conn)
			fmt.Printf("%d: %s\n", number, said)
		},
	}
	go func() { served <- srv.Serve(ctx, ln) }()

	first, _ := net.Dial("tcp", ln.Addr().String())
	second, _ := net.Dial("tcp", ln.Addr().String())
	io.WriteString(second, "I wait for my turn") // which is not yet
	second.Close()
	io.WriteString(first, "I was here first")
	first.Close()

	last, _ := net.Dial("tcp", ln.Addr().String())
	io.WriteString(last, "bye")
	last.(*net.TCPConn).CloseWrite()
	io.Copy(io.Discard, last) // until all have been served
	last.Close()
	stop()
	fmt.Println(<-served)
	// Output:
	// 1: I was here first
	// 2: I wait for my turn
	// 3: bye
	// <nil>
}

// A server that was started anew numbers its connections on.
func ExampleNewCounter() {
	numbers := transport.NewCounter(41)
	fmt.Println(numbers.Next(context.Background()))
	// Output: 42 <nil>
}

// A Server takes whatever listens: here a Unix socket, for clients of the same machine.
func ExampleServer() {
	dir, err := os.MkdirTemp("", "socket")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		panic(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	srv := transport.Server{
		Handler: func(_ context.Context, conn net.Conn, _ uint64) {
			defer conn.Close()
			io.WriteString(conn, "hello")
		},
		Drain:   time.Minute, // clients may finish
		Grace:   time.Second, // and then they have to
		OnError: func(err error) { fmt.Fprintln(os.Stderr, err) },
	}
	served := make(chan error)
	go func() { served <- srv.Serve(ctx, ln) }()

	conn, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		panic(err)
	}
	answer, err := io.ReadAll(conn)
	conn.Close()
	fmt.Printf("%s %v\n", answer, err)
	stop()
	fmt.Println(<-served)
	// Output:
	// hello <nil>
	// <nil>
}
