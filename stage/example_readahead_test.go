package stage_test

import (
	"fmt"
	"strings"

	"github.com/accio-go/accio/stage"
)

// A stage reads the bytes that have come, and gives their buffer back.
func ExampleReadAhead() {
	b, free, err := stage.ReadAhead(strings.NewReader("hello\nworld\n"), false)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer free()
	fmt.Printf("%q\n", b)
	// Output: "hello\nworld\n"
}
