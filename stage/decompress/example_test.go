package decompress_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/decompress"
)

// compressed returns a payload of n bytes in gzip format.
func compressed(n int) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(make([]byte, n))
	w.Close()
	return b.String()
}

// upload serves one client that sends sent.
func upload(h stage.Handler, sent string) error {
	client, server := net.Pipe()
	go func() {
		defer client.Close()
		io.WriteString(client, sent)
	}()
	return stage.Serve(context.Background(), server, 1, h)
}

// Report counts the expanded payload.
func ExampleDecompress() {
	h := stage.Chain{
		stage.Report{W: os.Stdout},
		decompress.Decompress{Open: decompress.Gzip, MaxBytes: 1 << 20},
	}.Then(stage.Receive)
	fmt.Println(upload(h, compressed(1<<20)))
	fmt.Println(errors.Is(upload(h, compressed(1<<20+1)), stage.ErrTooLarge))
	fmt.Println(errors.Is(upload(h, compressed(1000)[:20]), stage.ErrProtocol))
	// Output:
	// 1048576
	// <nil>
	// ERROR
	// true
	// ERROR
	// true
}

// The standard library has an Open for zlib.
func ExampleDecompress_zlib() {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	io.WriteString(w, "hello, world")
	w.Close()
	h := stage.Chain{
		stage.Report{W: os.Stdout},
		decompress.Decompress{Open: zlib.NewReader, MaxBytes: 1 << 20},
	}.Then(stage.Receive)
	fmt.Println(upload(h, b.String()))
	// Output:
	// 12
	// <nil>
}

// Gzip works without a chain.
func ExampleGzip() {
	r, err := decompress.Gzip(strings.NewReader(compressed(10)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	fmt.Println(io.Copy(io.Discard, r))
	// Output: 10 <nil>
}
