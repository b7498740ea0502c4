package send_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/send"
)

// A client, and the chain that receives what it sends.
func ExampleSender() {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer ln.Close()
	ended := make(chan error)
	go func() {
		conn, err := ln.Accept()
		if err != nil {
			panic(err)
		}
		h := stage.Chain{stage.Report{W: os.Stdout}, stage.Handshake{Script: stage.Accio}}.Then(stage.Receive)
		ended <- stage.Serve(context.Background(), conn, 1, h)
	}()

	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		panic(err)
	}
	s := send.Sender{Script: stage.Accio.Mirror(), Greeting: 10 * time.Second, Stall: 10 * time.Second}
	sent, err := s.Send(context.Background(), conn, strings.NewReader("hello, world"))
	fmt.Println(<-ended)
	fmt.Println(sent, err)
	// Output:
	// 12
	// <nil>
	// 12 <nil>
}

// Under a layer such as TLS, a limit for a server that takes nothing.
func ExampleNewConn() {
	client, server := net.Pipe()
	defer server.Close()
	conn := send.NewConn(client, 10*time.Millisecond)
	_, err := conn.Write([]byte("hello"))
	fmt.Println(err)
	// Output: peer is silent: it took no byte for 10ms
}
