package proxyproto_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"time"

	pp "github.com/pires/go-proxyproto"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/proxyproto"
)

// connect returns the server's end of a connection by which a proxy sends s.
func connect(s string) net.Conn {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer ln.Close()
	go func() {
		proxy, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			panic(err)
		}
		defer proxy.Close()
		io.WriteString(proxy, s)
	}()
	server, err := ln.Accept()
	if err != nil {
		panic(err)
	}
	return server
}

// Limit the connections of a client that comes by a proxy.
func ExampleProxy() {
	tell := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		fmt.Println("the client is", c.Net.RemoteAddr())
		return nil, nil
	})
	h := stage.Chain{
		stage.Report{W: os.Stdout},
		stage.Idle{Limit: 10 * time.Second},
		proxyproto.Proxy{
			Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
			Limit:   5 * time.Second,
		},
		stage.MaxPerHost{N: 10},
		tell,
	}.Then(stage.Receive)

	server := connect("PROXY TCP4 192.0.2.1 192.0.2.99 12345 443\r\nhello, world")
	fmt.Println(stage.Serve(context.Background(), server, 1, h))
	// Output:
	// the client is 192.0.2.1:12345
	// 12
	// <nil>
}

// What a proxy says of a connection beside its addresses.
func ExampleHeader() {
	tell := stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		h, ok := proxyproto.Header(c)
		if !ok {
			return nil, nil
		}
		tlvs, err := h.TLVs()
		for _, tlv := range tlvs {
			if tlv.Type == pp.PP2_TYPE_AUTHORITY {
				fmt.Println("the client asked for", string(tlv.Value))
			}
		}
		return nil, err
	})
	h := stage.Chain{
		proxyproto.Proxy{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}},
		tell,
	}.Then(stage.Receive)

	header := pp.HeaderProxyFromAddrs(2, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 12345}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 99), Port: 443})
	header.SetTLVs([]pp.TLV{{Type: pp.PP2_TYPE_AUTHORITY, Value: []byte("example.org")}})
	b, err := header.Format()
	if err != nil {
		panic(err)
	}
	fmt.Println(stage.Serve(context.Background(), connect(string(b)), 1, h))
	// Output:
	// the client asked for example.org
	// <nil>
}
