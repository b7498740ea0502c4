package stage_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	"github.com/accio-go/accio/stage"
)

// A line for each connection; here without what is another one each time.
func ExampleLog() {
	handler := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			switch a.Key {
			case slog.TimeKey, "duration", "rate":
				return slog.Attr{}
			}
			return a
		},
	})
	h := stage.Chain{
		stage.Log{Logger: slog.New(handler)},
		stage.Handshake{Script: stage.Script{Steps: []stage.Step{{Expect: "hi "}}}},
	}.Then(stage.Receive)
	for i, said := range []string{"hi there", "ho there"} {
		client, server := net.Pipe()
		go func() {
			defer client.Close()
			io.WriteString(client, said)
		}()
		stage.Serve(context.Background(), server, uint64(i+1), h)
	}
	// Output:
	// level=INFO msg="connection ended" connection=1 peer=pipe outcome=received bytes=5
	// level=WARN msg="connection ended" connection=2 peer=pipe outcome=protocol cause="handshake, step 1, expecting \"hi \": peer does not follow the protocol: got \"ho \"" bytes=0
}

// A proxy that is trusted tells what it likes of a client's Unix socket.
func ExampleAddrString() {
	fmt.Println(stage.AddrString(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711}))
	fmt.Println(stage.AddrString(&net.UnixAddr{Net: "unix", Name: "/run/x\x1b[2J\nforged"}))
	// Output:
	// 192.0.2.7:4711
	// /run/x\x1b[2J\nforged
}
