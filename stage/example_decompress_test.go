package stage_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/accio-go/accio/stage"
)

// compressed is a payload of n bytes as gzip has it.
func compressed(n int) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(make([]byte, n))
	w.Close()
	return b.String()
}

// What is counted, limited and stored is what was compressed.
func ExampleDecompress() {
	h := stage.Chain{
		stage.Report{W: os.Stdout},
		stage.Decompress{Open: stage.Gzip, MaxBytes: 1 << 20},
	}.Then(stage.Receive)
	fmt.Println(upload(h, 1, compressed(1<<20)))
	fmt.Println(errors.Is(upload(h, 2, compressed(1<<20+1)), stage.ErrTooLarge))
	fmt.Println(errors.Is(upload(h, 3, compressed(1000)[:20]), stage.ErrProtocol))
	// Output:
	// 1048576
	// <nil>
	// ERROR
	// true
	// ERROR
	// true
}

// Another format: zlib's.
func ExampleDecompressReader() {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	io.WriteString(w, "hello, world")
	w.Close()

	r := stage.NewDecompressReader(&b, zlib.NewReader, 5)
	defer r.Close()
	got, err := io.ReadAll(r)
	fmt.Printf("%s, %v\n", got, err)
	// Output: hello, decompressing: payload is too large: more than 5 bytes
}

// The whole of it, without a chain.
func ExampleGzip() {
	r, err := stage.Gzip(strings.NewReader(compressed(10)))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	fmt.Println(io.Copy(io.Discard, r))
	// Output: 10 <nil>
}
