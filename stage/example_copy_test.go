package stage_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/accio-go/accio/stage"
)

// From one file to another, without a byte of it in user space on Linux.
func ExampleCopy() {
	from, err := os.CreateTemp("", "from")
	if err != nil {
		panic(err)
	}
	defer os.Remove(from.Name())
	defer from.Close()
	to, err := os.CreateTemp("", "to")
	if err != nil {
		panic(err)
	}
	defer os.Remove(to.Name())
	defer to.Close()
	from.Write(make([]byte, 1<<20))
	from.Seek(0, io.SeekStart)

	fmt.Println(stage.Copy(to, from))
	// Output: 1048576 <nil>
}

// Before a reader, a gate knows what has come.
func ExampleNewReader() {
	var n stage.Counter
	r := stage.NewReader(strings.NewReader("hello"), &n)
	io.Copy(io.Discard, r)
	fmt.Println(n.Count())
	// Output: 5
}

// Before a writer, it knows what was taken.
func ExampleNewWriter() {
	var n stage.Counter
	var sink bytes.Buffer
	w := stage.NewWriter(&sink, &n)
	io.Copy(w, strings.NewReader("hello"))
	fmt.Println(&sink, n.Count())
	// Output: hello 5
}
