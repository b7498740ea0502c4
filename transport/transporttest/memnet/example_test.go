package memnet_test

import (
	"bufio"
	"context"
	"fmt"
	"time"

	"github.com/accio-go/accio/transport/transporttest/memnet"
)

func ExamplePair() {
	server, client := memnet.Pair()
	client.Write([]byte("half of it"))
	memnet.Reset(client)

	buf := make([]byte, 64)
	n, _ := server.Read(buf)
	fmt.Printf("%s\n", buf[:n])
	_, err := server.Read(buf)
	fmt.Println(err)
	// Output:
	// half of it
	// read tcp 192.0.2.1:5000->192.0.2.2:49152: read: connection reset by peer
}

// A peer that greets, and says its word a byte at a time.
func ExamplePeer() {
	server, client := memnet.Pair()
	end := memnet.Peer{
		memnet.Hear("welcome\n"), memnet.Say("hello\n"), memnet.HalfClose, memnet.Fin,
	}.Start(memnet.Cut(client, 1, time.Millisecond))

	fmt.Fprintln(server, "welcome")
	line, err := bufio.NewReader(server).ReadString('\n')
	fmt.Printf("%q %v\n", line, err)
	server.Close()
	fmt.Println(end())
	// Output:
	// "hello\n" <nil>
	// <nil>
}

// A connection can be written to before it is accepted.
func ExampleListener() {
	ln := memnet.Listen(10)
	client, _ := ln.Dial(context.Background())
	fmt.Fprintln(client, "hello")

	conn, err := ln.Accept()
	fmt.Println(conn.RemoteAddr(), err)
	fmt.Println(memnet.Hear("hello\n")(conn))
	// Output:
	// 192.0.2.2:49152 <nil>
	// <nil>
}
