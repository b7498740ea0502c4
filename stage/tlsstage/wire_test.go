package tlsstage

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// patience bounds what ends by itself unless there is a fault.
const patience = 10 * time.Second

// tcp returns the two ends of a TCP connection.
func tcp(t testing.TB) (server, client net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	server, err = ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server, client
}

var networks = map[string]func(t testing.TB) (server, client net.Conn){
	"memory": func(testing.TB) (net.Conn, net.Conn) { return memnet.Pair() },
	"TCP":    tcp,
}

var errCut = errors.New("cut: no close_notify")

// strict is a client's connection that tells a stream which is cut from one that ends,
// as a tls.Conn of a client does not.
type strict struct{ net.Conn }

func (s strict) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err == io.EOF {
		err = errCut
	}
	return n, err
}

// farewell waits for the server's close, and returns nil if a close_notify has told of
// it.
func farewell(c *tls.Conn) error {
	c.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, c)
	return err
}
