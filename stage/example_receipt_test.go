package stage_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"

	"github.com/accio-go/accio/stage"
)

// The peer learns what has been stored, and can compare it with what it has sent.
func ExampleReceipt() {
	h := stage.Chain{
		stage.Receipt{Format: func(c *stage.Conn) string {
			return fmt.Sprintf("%d bytes, SHA-256 %x\n", c.Counter.Count(), c.Hash.Sum(nil))
		}},
		stage.Hash{New: sha256.New},
		stage.Save{Store: shelf{}, Name: stage.NumberedFile},
	}.Then(stage.Receive)

	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()
	ended := make(chan error)
	go func() {
		server, _ := ln.Accept()
		ended <- stage.Serve(context.Background(), server, 1, h)
	}()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	io.WriteString(client, "abc")
	client.(*net.TCPConn).CloseWrite()
	receipt, err := io.ReadAll(client)
	fmt.Printf("%.30s… %v\n", receipt, err)
	fmt.Println(<-ended)
	// Output:
	// 3 bytes, SHA-256 ba7816bf8f01c… <nil>
	// <nil>
}
