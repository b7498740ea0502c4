package zstd_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"

	kzstd "github.com/klauspost/compress/zstd"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/decompress"
	"github.com/accio-go/accio/stage/decompress/zstd"
)

// Report counts the expanded payload.
func Example() {
	client, server := net.Pipe()
	go func() { // a client
		defer client.Close()
		w, _ := kzstd.NewWriter(client)
		fmt.Fprint(w, "hello, world")
		w.Close()
	}()
	h := stage.Chain{
		stage.Report{W: os.Stdout},
		decompress.Decompress{Open: zstd.Open, MaxBytes: 1 << 20},
	}.Then(stage.Receive)
	fmt.Println(stage.Serve(context.Background(), server, 1, h))
	// Output:
	// 12
	// <nil>
}

// Open reads a file of the zstd command.
func ExampleOpen() {
	var file bytes.Buffer
	w, _ := kzstd.NewWriter(&file)
	fmt.Fprint(w, "hello, world")
	w.Close()

	r, err := zstd.Open(&file)
	if err != nil {
		panic(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	fmt.Println(string(content), err)
	// Output: hello, world <nil>
}

// A smaller window saves memory in a server of many connections.
func ExampleWithMaxWindow() {
	client, server := net.Pipe()
	go func() {
		defer client.Close()
		w, _ := kzstd.NewWriter(client, kzstd.WithWindowSize(1<<20))
		w.Write(make([]byte, 1<<21))
		w.Close()
	}()
	h := decompress.Decompress{Open: zstd.WithMaxWindow(256 << 10)}.Wrap(stage.Receive)
	fmt.Println(stage.Serve(context.Background(), server, 1, h))
	client.Close()
	// Output: decompressing: peer does not follow the protocol: window size exceeded
}
