package frames_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/frames"
)

// printFrames prints each frame of a client that sends sent.
func printFrames(s frames.Frames, sent string) {
	client, server := net.Pipe()
	go func() {
		defer client.Close()
		io.WriteString(client, sent)
	}()
	h := s.Wrap(stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error {
		b, err := io.ReadAll(c.In)
		if err == nil {
			fmt.Printf("%d: %q\n", c.Frame, b)
		}
		return err
	}))
	if err := stage.Serve(context.Background(), server, 1, h); err != nil {
		fmt.Println(err)
	}
}

// Lines of at most 80 bytes.
func ExampleFrames() {
	printFrames(frames.Frames{Split: frames.Delimiter("\n"), Max: 80}, "hello\nworld\nno en")
	// Output:
	// 1: "hello"
	// 2: "world"
	// frame 3: peer does not follow the protocol: unexpected EOF
}

// Any string can be the delimiter.
func ExampleDelimiter() {
	printFrames(frames.Frames{Split: frames.Delimiter("\r\n"), AllowEnd: true}, "hello\r\n\r\nworld")
	// Output:
	// 1: "hello"
	// 2: ""
	// 3: "world"
}

// Records of at most 1 MiB, each after its length in four bytes.
func ExampleLengthPrefix() {
	records := frames.LengthPrefix(4, binary.BigEndian)
	printFrames(frames.Frames{Split: records, Max: 1 << 20}, "\x00\x00\x00\x05hello\xff\xff\xff\xff")
	// Output:
	// 1: "hello"
	// frame 2: payload is too large: more than 1048576 bytes
}

// Syslog messages of either framing.
func ExampleFraming() {
	printFrames(frames.Frames{Split: frames.Syslog, Max: 8 << 10}, "<34>1 one\n10 <34>1 two\n<34>1 three\n")
	// Output:
	// 1: "<34>1 one"
	// 2: "<34>1 two\n"
	// 3: "<34>1 three"
}
