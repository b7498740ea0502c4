package memnet_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// A connection between addresses that matter to what is tested.
func ExamplePairOf() {
	server, _ := memnet.PairOf(
		&net.UnixAddr{Name: "/run/s", Net: "unix"},
		&net.TCPAddr{IP: net.IPv6loopback, Port: 49152},
	)
	fmt.Println(server.LocalAddr(), server.RemoteAddr())
	// Output: /run/s [::1]:49152
}

// Any function can be a step, beside those that there are.
func ExampleStep() {
	_ = func(t *testing.T) { // TestConversation, in whose bubble a minute takes no time
		synctest.Test(t, func(t *testing.T) {
			server, client := memnet.Pair()
			end := memnet.Peer{
				memnet.HearAtOnce("welcome\n"),
				memnet.Hear("go on\n"),
				memnet.Pause(time.Minute),
				memnet.Say("hel", "lo\n"),
				memnet.HearNothing(time.Minute),
				func(c net.Conn) error { return c.(memnet.Conn).SetLinger(0) },
				net.Conn.Close,
			}.Start(client)
			io.WriteString(server, "welcome\n")
			io.WriteString(server, "go on\n")
			_, err := io.ReadAll(server)
			if err := errors.Join(end(), server.Close()); err != nil {
				t.Error(err)
			}
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
		})
	}
}

// A stream that comes a byte at a time.
func ExampleCut() {
	server, client := memnet.Pair()
	io.WriteString(memnet.Cut(client, 1, 0), "hello")
	n, err := server.Read(make([]byte, 64))
	fmt.Println(n, err)
	// Output: 1 <nil>
}

// What was said in three writes comes in one.
func ExampleGather() {
	server, client := memnet.Pair()
	g := memnet.Gather(client)
	memnet.Peer{memnet.Say("a", "b", "c"), net.Conn.Close}.Play(g)
	n, err := server.Read(make([]byte, 64))
	fmt.Println(n, err)
	// Output: 3 <nil>
}

// A peer that has said all goes on listening.
func ExampleHalfClose() {
	server, client := memnet.Pair()
	memnet.HalfClose(client)
	_, err := server.Read(make([]byte, 1))
	fmt.Println(err)
	io.WriteString(server, "goodbye")
	fmt.Println(memnet.Hear("goodbye")(client))
	// Output:
	// EOF
	// <nil>
}

func ExampleReset() {
	server, client := memnet.Pair()
	memnet.Reset(client)
	_, err := server.Read(make([]byte, 1))
	fmt.Println(errors.Is(err, syscall.ECONNRESET))
	// Output: true
}

// An orderly end, which is what a peer takes for success.
func ExampleFin() {
	server, client := memnet.Pair()
	server.Close()
	fmt.Println(memnet.Fin(client))
	// Output: <nil>
}

// A reset, which is what a peer has to see if something went wrong.
func ExampleRst() {
	server, client := memnet.Pair()
	server.SetLinger(0)
	server.Close()
	fmt.Println(memnet.Rst(client))
	// Output: <nil>
}
