package serve

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/accio-go/accio/stage"
)

func TestProxyNetworks(t *testing.T) {
	for text, want := range map[string]string{
		"10.0.0.0/8": "10.0.0.0/8", "192.0.2.1": "192.0.2.1/32", "::1": "::1/128", "0.0.0.0/0": "0.0.0.0/0", "2001:db8::/32": "2001:db8::/32",
	} {
		if n, err := parseNetwork(text); err != nil || n.String() != want {
			t.Errorf("%q is %v, %v", text, n, err)
		}
	}
	for text, want := range map[string]string{
		"": "10.0.0.0/8", "localhost": "10.0.0.0/8", "10.0.0.0/33": "10.0.0.0/8", "fe80::1%eth0": "10.0.0.0/8",
		"10.1.2.3/8": "a network, such as 10.0.0.0/8, or an address, such as 10.1.2.3",
	} {
		if _, err := parseNetwork(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// pair returns the two ends of a connection of this machine.
func pair(t *testing.T) (server, client net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	client, cerr := net.Dial("tcp", ln.Addr().String())
	server, serr := ln.Accept()
	if err := errors.Join(cerr, serr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return server, client
}

// The stages inside have the address that is told, and all connections: also those that
// cannot say a thing.
func TestProxyStage(t *testing.T) {
	loopback := Proxies{ProxyProtocol: []string{"127.0.0.0/8"}}
	others := Proxies{ProxyProtocol: []string{"192.0.2.0/24"}}
	for _, tt := range []struct {
		name    string
		proxies Proxies
		sends   string
		peer    string // "": the connection's own
		payload string
		want    error
	}{
		{"a header", loopback, "PROXY TCP4 192.0.2.7 192.0.2.99 1234 443\r\nhello", "192.0.2.7:1234", "hello", nil},
		{"none", loopback, "hello, hello, hello", "", "", stage.ErrProtocol},
		{"cut short", loopback, "PROXY TCP4 192.0.2.7", "", "", stage.ErrProtocol},
		{"nobody is trusted", Proxies{}, "PROXY", "", "PROXY", nil},
		{"others are trusted", others, "PROXY", "", "PROXY", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, client := pair(t)
			own := server.RemoteAddr().String()
			io.WriteString(client, tt.sends)
			client.(*net.TCPConn).CloseWrite()
			var got strings.Builder
			var peer string
			entered := 0
			err := stage.Serve(t.Context(), server, 1, stage.Chain{
				tt.proxies.Stage(0, 0),
				stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
					entered++
					peer = c.Net.RemoteAddr().String()
					c.SetSink(&got)
					return nil, nil
				}),
			}.Then(stage.Receive))
			if !errors.Is(err, tt.want) {
				t.Errorf("ended with %v, want %v", err, tt.want)
			}
			if tt.peer == "" {
				tt.peer = own
			}
			if entered != 1 || peer != tt.peer || got.String() != tt.payload {
				t.Errorf("entered %d times by %s, with %q", entered, peer, got.String())
			}
		})
	}
}

// A stage inside that overlooks that nothing can be read does not have it end well.
func TestProxyStageOfAHandlerThatOverlooks(t *testing.T) {
	server, client := pair(t)
	io.WriteString(client, "no header at all")
	p := Proxies{ProxyProtocol: []string{"127.0.0.1/32"}}
	err := stage.Serve(t.Context(), server, 1, p.Stage(0, 0).Then(stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error {
		if _, err := io.WriteString(c.Reply, "hello"); !errors.Is(err, stage.ErrProtocol) {
			t.Errorf("writing: %v", err)
		}
		return nil
	})))
	if !errors.Is(err, stage.ErrProtocol) {
		t.Errorf("ended with %v", err)
	}
}

// That nothing could be stored counts for more than why it was to be a mark.
func TestProxyStageSaysWhatCountsForMore(t *testing.T) {
	p := Proxies{ProxyProtocol: []string{"127.0.0.1/32"}}
	for _, worse := range []error{stage.ErrStorage, stage.ErrConflict, stage.ErrReport} {
		server, client := pair(t)
		io.WriteString(client, "no header at all")
		err := stage.Serve(t.Context(), server, 1, p.Stage(0, 0).Then(stage.HandlerFunc(func(context.Context, *stage.Conn) error {
			return worse
		})))
		if !errors.Is(err, worse) {
			t.Errorf("ended with %v, want %v", err, worse)
		}
	}
}
