package proxyproto

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/accio-go/accio/stage"
)

// patience bounds what ends by itself unless there is a fault.
const patience = 10 * time.Second

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

// v2 is a header of version 2, byte by byte.
func v2(command, family byte, rest ...string) string {
	all := strings.Join(rest, "")
	b := append(bytes.Clone(proxyproto.SIGV2), command, family)
	return string(binary.BigEndian.AppendUint16(b, uint16(len(all)))) + all
}

// tlv is a TLV of version 2.
func tlv(kind proxyproto.PP2Type, value string) string {
	return string(binary.BigEndian.AppendUint16([]byte{byte(kind)}, uint16(len(value)))) + value
}

// addr4 and addr6 are addresses of version 2.
var (
	addr4    = string([]byte{192, 0, 2, 1, 192, 0, 2, 2, 0x30, 0x39, 0, 80})
	addr6    = string(netip.MustParseAddr("2001:db8::1").AsSlice()) + string(netip.MustParseAddr("2001:db8::2").AsSlice()) + "\x30\x39\x00\x50"
	addrUnix = "/run/client" + strings.Repeat("\x00", 97) + "/run/server" + strings.Repeat("\x00", 97)
)

// summed puts the right checksum into h, which has a TLV for it at the end, plus off.
func summed(h string, off uint32) string {
	b := []byte(h)
	clear(b[len(b)-4:])
	binary.BigEndian.PutUint32(b[len(b)-4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))+off)
	return string(b)
}

// headers are headers that are right, and whose connection they tell; "" if none.
var headers = []struct{ name, header, from, to string }{
	{"version 1, IPv4", "PROXY TCP4 192.0.2.1 192.0.2.2 12345 80\r\n", "192.0.2.1:12345", "192.0.2.2:80"},
	{"version 1, the shortest with addresses", "PROXY TCP6 :: :: 0 0\r\n", "[::]:0", "[::]:0"},
	{"version 1, IPv6", "PROXY TCP6 2001:db8::1 2001:db8::2 12345 80\r\n", "[2001:db8::1]:12345", "[2001:db8::2]:80"},
	{"version 1, UNKNOWN", "PROXY UNKNOWN\r\n", "", ""},
	{"version 1, the longest", "PROXY UNKNOWN " + strings.Repeat("ffff:", 7) + "ffff " + strings.Repeat("ffff:", 7) + "ffff 65535 65535\r\n", "", ""},
	{"version 2, IPv4", v2(0x21, 0x11, addr4), "192.0.2.1:12345", "192.0.2.2:80"},
	{"version 2, IPv6", v2(0x21, 0x21, addr6), "[2001:db8::1]:12345", "[2001:db8::2]:80"},
	{"version 2, UDP", v2(0x21, 0x12, addr4), "192.0.2.1:12345", "192.0.2.2:80"},
	{"version 2, Unix", v2(0x21, 0x31, addrUnix), "/run/client", "/run/server"},
	{"version 2, LOCAL", v2(0x20, 0x00), "", ""},
	{"version 2, LOCAL with addresses", v2(0x20, 0x11, addr4), "", ""},
	{"version 2, LOCAL with what is to be skipped", v2(0x20, 0x21, "x"), "", ""},
	{"version 2, unspecified", v2(0x21, 0x00), "", ""},
	{"version 2, unspecified with TLVs", v2(0x21, 0x00, tlv(proxyproto.PP2_TYPE_UNIQUE_ID, "id")), "", ""},
	{"version 2, with TLVs", v2(0x21, 0x11, addr4, tlv(proxyproto.PP2_TYPE_AUTHORITY, "example.org"), tlv(proxyproto.PP2_TYPE_NOOP, "xx")), "192.0.2.1:12345", "192.0.2.2:80"},
	{"version 2, with a checksum", summed(v2(0x21, 0x11, addr4, tlv(proxyproto.PP2_TYPE_NOOP, "xx"), tlv(proxyproto.PP2_TYPE_CRC32C, "1234")), 0), "192.0.2.1:12345", "192.0.2.2:80"},
	{"version 2, unspecified with a checksum", summed(v2(0x21, 0x00, tlv(proxyproto.PP2_TYPE_CRC32C, "1234")), 0), "", ""},
	{"version 2, the largest", v2(0x21, 0x21, addr6, tlv(proxyproto.PP2_TYPE_NOOP, strings.Repeat("x", 4096-36-3))), "[2001:db8::1]:12345", "[2001:db8::2]:80"},
}

// wrong are headers that are not right.
var wrong = map[string]string{
	"none":                               "accio",
	"a payload that begins like one":     "PROXYING is not a header",
	"no space":                           "PROXY\r\n\r\n\r\n\r\n\r\n\r\n",
	"version 2's signature, almost":      "\r\n\r\n\x00\r\nQUIX\n....",
	"a line that is too short":           "PROXY TCP4\r\nxxxxxxxxxx",
	"a line that is too long":            "PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n",
	"no carriage return":                 "PROXY TCP4 192.0.2.1 192.0.2.2 12345 80\n",
	"an unknown protocol":                "PROXY UDP4 192.0.2.1 192.0.2.2 12345 80\r\n",
	"a port that is none":                "PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n",
	"an address of the other family":     "PROXY TCP4 2001:db8::1 2001:db8::2 12345 80\r\n",
	"an address with a zone":             "PROXY TCP6 fe80::1%eth0 fe80::2 12345 80\r\n",
	"a field too few":                    "PROXY TCP4 192.0.2.1 192.0.2.2 12345\r\n",
	"two spaces":                         "PROXY TCP4  192.0.2.1 192.0.2.2 12345 80\r\n",
	"version 3":                          v2(0x31, 0x11, addr4),
	"an unknown command":                 v2(0x22, 0x11, addr4),
	"an unknown family":                  v2(0x21, 0x41, addr4),
	"an unknown transport":               v2(0x21, 0x13, addr4),
	"too short for its addresses":        v2(0x21, 0x11, addr4[1:]),
	"too short for IPv6":                 v2(0x21, 0x21, addr4),
	"too large":                          v2(0x21, 0x11, addr4, strings.Repeat("\x04\x00\x00", 1362)),
	"the largest length":                 v2(0x21, 0x11, strings.Repeat("x", 65535)),
	"a TLV that is cut":                  v2(0x21, 0x11, addr4, "\x02"),
	"a TLV that is longer than the rest": v2(0x21, 0x11, addr4, "\x02\x00\x05abcd"),
	"a wrong checksum":                   summed(v2(0x21, 0x11, addr4, tlv(proxyproto.PP2_TYPE_CRC32C, "1234")), 1),
	"a checksum of another size":         v2(0x21, 0x11, addr4, tlv(proxyproto.PP2_TYPE_CRC32C, "12345")),
	"a wrong checksum, unspecified":      summed(v2(0x21, 0x00, tlv(proxyproto.PP2_TYPE_CRC32C, "1234")), 1),
}

// Not one byte is taken beyond the header, however it arrives.
func TestReadHeader(t *testing.T) {
	const payload = "PROXY TCP4 payload\r\n"
	for _, tt := range headers {
		for how, cut := range map[string]func(io.Reader) io.Reader{
			"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader, "by halves": iotest.HalfReader, "with the end": iotest.DataErrReader,
		} {
			t.Run(tt.name+", "+how, func(t *testing.T) {
				in := strings.NewReader(tt.header + payload)
				if how == "with the end" {
					in = strings.NewReader(tt.header)
				}
				h, err := readHeader(cut(in))
				if err != nil {
					t.Fatal(err)
				}
				if rest, _ := io.ReadAll(in); how != "with the end" && string(rest) != payload {
					t.Errorf("after it comes %q", rest)
				}
				if h.Command.IsLocal() != (tt.from == "") {
					t.Errorf("the command is %v", h.Command)
				}
				if tt.from != "" && (h.SourceAddr.String() != tt.from || h.DestinationAddr.String() != tt.to) {
					t.Errorf("from %v to %v, want %s to %s", h.SourceAddr, h.DestinationAddr, tt.from, tt.to)
				}
			})
		}
	}
}

func TestReadHeaderThatIsNotRight(t *testing.T) {
	for name, header := range wrong {
		for how, cut := range map[string]func(io.Reader) io.Reader{"at once": func(r io.Reader) io.Reader { return r }, "byte by byte": iotest.OneByteReader} {
			t.Run(name+", "+how, func(t *testing.T) {
				if h, err := readHeader(cut(strings.NewReader(header + "payload"))); !errors.Is(err, stage.ErrProtocol) {
					t.Errorf("it is %+v, %v", h, err)
				}
			})
		}
	}
}

// What is cut is no header, and what fails has failed as it did.
func TestReadHeaderThatIsCut(t *testing.T) {
	failure := errors.New("x")
	for _, tt := range headers {
		for n := range min(len(tt.header), 250) {
			if _, err := readHeader(strings.NewReader(tt.header[:n])); !errors.Is(err, stage.ErrProtocol) || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%s, after %d bytes: %v", tt.name, n, err)
			}
			if _, err := readHeader(io.MultiReader(strings.NewReader(tt.header[:n]), iotest.ErrReader(failure))); !errors.Is(err, failure) || errors.Is(err, stage.ErrProtocol) {
				t.Errorf("%s, after %d bytes: %v", tt.name, n, err)
			}
		}
	}
}

// What is no header is refused at the first byte that shows it.
func TestNoHeaderIsRefusedAtOnce(t *testing.T) {
	never := iotest.ErrReader(errors.New("read on"))
	for _, s := range []string{"a", "PROXYX", "PRx", "\r\n\r\n\x00\r\nx", "PROXY " + strings.Repeat("x", maxV1-6), v2(0x21, 0x11, strings.Repeat("x", 4097))[:prefixV2]} {
		if _, err := readHeader(io.MultiReader(strings.NewReader(s), never)); !errors.Is(err, stage.ErrProtocol) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// pairOf returns the two ends of a connection to ln, which it closes.
func pairOf(t testing.TB, ln net.Listener) (server, client net.Conn) {
	t.Helper()
	defer ln.Close()
	client, err := net.Dial(ln.Addr().Network(), ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if server, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return server, client
}

func listen(t testing.TB, network, addr string) net.Listener {
	t.Helper()
	ln, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func tcp(t testing.TB) (server, client net.Conn) {
	t.Helper()
	return pairOf(t, listen(t, "tcp", "127.0.0.1:0"))
}

// told is what a handler found of a connection.
type told struct {
	from, to string
	header   *proxyproto.Header
	payload  string
	err      error
}

// serve serves a connection whose peer sends all of sent.
func serve(t *testing.T, p Proxy, server, client net.Conn, sent string) (got told) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		io.WriteString(client, sent)
		client.(interface{ CloseWrite() error }).CloseWrite()
	})
	var payload bytes.Buffer
	got.err = stage.Serve(t.Context(), server, 1, p.Wrap(stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) error {
		got.from, got.to = c.Net.RemoteAddr().String(), c.Net.LocalAddr().String()
		got.header, _ = Header(c)
		c.Out = &payload
		return stage.Receive.Serve(ctx, c)
	})))
	wg.Wait()
	got.payload = payload.String()
	return got
}

func TestProxy(t *testing.T) {
	const payload = "payload"
	for _, tt := range headers {
		t.Run(tt.name, func(t *testing.T) {
			server, client := tcp(t)
			from, to := tt.from, tt.to
			if from == "" {
				from, to = server.RemoteAddr().String(), server.LocalAddr().String()
			}
			got := serve(t, Proxy{Trusted: loopback, Limit: patience}, server, client, tt.header+payload)
			if got.err != nil || got.payload != payload {
				t.Errorf("got %q, ended with %v", got.payload, got.err)
			}
			if got.from != from || got.to != to || got.header == nil {
				t.Errorf("from %s to %s by %+v, want %s to %s", got.from, got.to, got.header, from, to)
			}
		})
	}
	for name, header := range wrong {
		t.Run(name, func(t *testing.T) {
			server, client := tcp(t)
			got := serve(t, Proxy{Trusted: loopback}, server, client, header)
			if !errors.Is(got.err, stage.ErrProtocol) || got.from != "" {
				t.Errorf("from %s, ended with %v", got.from, got.err)
			}
			client.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.Copy(io.Discard, client); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the peer saw it end with %v", err)
			}
		})
	}
}

func TestTLVs(t *testing.T) {
	server, client := tcp(t)
	got := serve(t, Proxy{Trusted: loopback}, server, client, v2(0x21, 0x11, addr4, tlv(proxyproto.PP2_TYPE_AUTHORITY, "example.org")))
	if got.err != nil || got.header == nil {
		t.Fatalf("%+v, ended with %v", got.header, got.err)
	}
	tlvs, err := got.header.TLVs()
	if err != nil || len(tlvs) != 1 || tlvs[0].Type != proxyproto.PP2_TYPE_AUTHORITY || string(tlvs[0].Value) != "example.org" {
		t.Errorf("the TLVs are %v, %v", tlvs, err)
	}
}

// at is a connection whose peer has an address.
type at struct {
	*net.TCPConn
	addr net.Addr
}

func (c at) RemoteAddr() net.Addr { return c.addr }

// otherAddr is an address of a type that nobody knows.
type otherAddr string

func (otherAddr) Network() string  { return "other" }
func (a otherAddr) String() string { return string(a) }

func TestTrust(t *testing.T) {
	tcpAddr := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	const header = "PROXY TCP4 192.0.2.1 192.0.2.2 12345 80\r\n"
	for _, tt := range []struct {
		prefix  string
		unix    bool
		peer    net.Addr
		trusted bool
	}{
		{"10.0.0.0/8", false, tcpAddr("10.1.2.3:4"), true},
		{"10.0.0.0/8", false, tcpAddr("11.1.2.3:4"), false},
		{"10.0.0.0/8", false, tcpAddr("[::ffff:10.1.2.3]:4"), true},
		{"::ffff:10.0.0.0/104", false, tcpAddr("10.1.2.3:4"), true},
		{"::ffff:10.0.0.0/104", false, tcpAddr("11.1.2.3:4"), false},
		{"10.1.2.3/32", false, tcpAddr("10.1.2.4:4"), false},
		{"2001:db8::/32", false, tcpAddr("[2001:db8::1]:4"), true},
		{"2001:db8::/32", false, tcpAddr("[2001:db9::1]:4"), false},
		{"fe80::/10", false, tcpAddr("[fe80::1%eth0]:4"), true},
		{"::/0", false, tcpAddr("10.1.2.3:4"), false},
		{"10.0.0.0/8", false, otherAddr("10.1.2.3:4"), true},
		{"10.0.0.0/8", false, otherAddr("a pipe"), false},
		{"10.0.0.0/8", false, nil, false},
		{"10.0.0.0/8", false, (*net.TCPAddr)(nil), false},
		{"10.0.0.0/8", false, &net.UnixAddr{Net: "unix"}, false},
		{"10.0.0.0/8", true, &net.UnixAddr{Net: "unix"}, true},
		{"10.0.0.0/8", true, tcpAddr("11.1.2.3:4"), false},
	} {
		for _, refuse := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, Unix %t, for %v, refused: %t", tt.prefix, tt.unix, tt.peer, refuse), func(t *testing.T) {
				server, client := tcp(t)
				p := Proxy{Trusted: []netip.Prefix{netip.MustParsePrefix(tt.prefix)}, TrustUnix: tt.unix, RefuseOthers: refuse}
				var wg sync.WaitGroup
				wg.Go(func() {
					io.WriteString(client, header)
					client.(*net.TCPConn).CloseWrite()
				})
				var payload bytes.Buffer
				called, told := false, false
				err := stage.Serve(t.Context(), at{server.(*net.TCPConn), tt.peer}, 1, p.Wrap(stage.HandlerFunc(func(ctx context.Context, c *stage.Conn) error {
					called = true
					_, told = Header(c)
					c.Out = &payload
					return stage.Receive.Serve(ctx, c)
				})))
				wg.Wait()
				switch {
				case tt.trusted:
					if err != nil || !told || payload.Len() > 0 {
						t.Errorf("believed: %t, got %q, ended with %v", told, payload.String(), err)
					}
				case refuse:
					if !errors.Is(err, stage.ErrProtocol) || called {
						t.Errorf("ended with %v (the next handler was called: %t)", err, called)
					}
				default:
					if err != nil || told || payload.String() != header {
						t.Errorf("believed: %t, got %q, ended with %v", told, payload.String(), err)
					}
				}
			})
		}
	}
}

func TestUnixSocket(t *testing.T) {
	server, client := pairOf(t, listen(t, "unix", filepath.Join(t.TempDir(), "socket")))
	got := serve(t, Proxy{TrustUnix: true}, server, client, headers[0].header+"payload")
	if got.err != nil || got.from != headers[0].from || got.payload != "payload" {
		t.Errorf("from %s, got %q, ended with %v", got.from, got.payload, got.err)
	}
}

// The host of a limit is the client's, and not the proxy's.
func TestMaxPerHostInside(t *testing.T) {
	inside, release := make(chan struct{}), make(chan struct{})
	h := stage.Chain{Proxy{Trusted: loopback}, stage.MaxPerHost{N: 1}}.Then(stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error {
		if _, err := c.In.Read(make([]byte, 1)); err != nil {
			return err
		}
		inside <- struct{}{}
		<-release
		return nil
	}))
	open := func(from string) (ended <-chan error) {
		server, client := tcp(t)
		if _, err := fmt.Fprintf(client, "PROXY TCP4 %s 192.0.2.99 12345 80\r\nx", from); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- stage.Serve(t.Context(), server, 1, h) }()
		return done
	}
	one := open("192.0.2.1")
	<-inside
	if err := <-open("192.0.2.1"); !errors.Is(err, stage.ErrTooMany) {
		t.Errorf("one more of the same host ended with %v", err)
	}
	two := open("192.0.2.2")
	<-inside
	close(release)
	if err := errors.Join(<-one, <-two); err != nil {
		t.Error(err)
	}
}

// Two proxies, one behind the other: the second header is that of the outer one, if the
// inner one tells that it comes from there.
func TestTwoProxies(t *testing.T) {
	for from, believed := range map[string]bool{"192.0.2.1": true, "198.51.100.1": false} {
		server, client := tcp(t)
		second := "PROXY TCP4 203.0.113.7 192.0.2.2 1 2\r\n"
		io.WriteString(client, "PROXY TCP4 "+from+" 192.0.2.2 12345 80\r\n"+second)
		client.(*net.TCPConn).CloseWrite()
		outer := netip.MustParsePrefix("192.0.2.0/24")
		err := stage.Serve(t.Context(), server, 1, stage.Chain{Proxy{Trusted: loopback}, Proxy{Trusted: []netip.Prefix{outer}}}.Then(
			stage.HandlerFunc(func(_ context.Context, c *stage.Conn) error {
				rest, err := io.ReadAll(c.In)
				if got := c.Net.RemoteAddr().String(); (got == "203.0.113.7:1") != believed || (len(rest) == 0) != believed {
					t.Errorf("from %s and then %s, with a payload of %q", from, got, rest)
				}
				return err
			})))
		if err != nil {
			t.Error(err)
		}
	}
}

func TestLimit(t *testing.T) {
	const limit = 5 * time.Second
	slow := func(c net.Conn, s string) {
		for i := range s {
			time.Sleep(time.Second)
			if _, err := io.WriteString(c, s[i:i+1]); err != nil {
				return
			}
		}
		c.Close()
	}
	for _, tt := range []struct {
		name  string
		chain stage.Chain
		sent  string
		err   error
		after time.Duration
	}{
		{"silence", stage.Chain{Proxy{TrustUnix: true, Limit: limit}}, "", stage.ErrSlowHandshake, limit},
		{"a byte now and then", stage.Chain{Proxy{TrustUnix: true, Limit: limit}}, headers[0].header, stage.ErrSlowHandshake, limit},
		{"a byte now and then of version 2", stage.Chain{Proxy{TrustUnix: true, Limit: limit}}, headers[5].header, stage.ErrSlowHandshake, limit},
		{"no limit", stage.Chain{Proxy{TrustUnix: true}}, headers[0].header, nil, time.Duration(len(headers[0].header)) * time.Second},
		{"not reached, and over with the header", stage.Chain{Proxy{TrustUnix: true, Limit: time.Minute}}, headers[0].header + strings.Repeat("x", 100), nil, time.Duration(len(headers[0].header)+100) * time.Second},
		{"for Idle outside", stage.Chain{stage.Idle{Limit: 2 * time.Second}, Proxy{TrustUnix: true, Limit: limit}}, "", stage.ErrIdle, 2 * time.Second},
		{"for MaxDuration outside", stage.Chain{stage.MaxDuration{Limit: 3 * time.Second}, Proxy{TrustUnix: true, Limit: limit}}, headers[0].header, stage.ErrTooLong, 3 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, client := net.Pipe()
				start := time.Now()
				var wg sync.WaitGroup
				if tt.sent != "" {
					wg.Go(func() { slow(client, tt.sent) })
				}
				err := stage.Serve(t.Context(), unixPipe{server}, 1, tt.chain.Then(stage.Receive))
				if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
					t.Errorf("ended with %v, want %v", err, tt.err)
				}
				if took := time.Since(start); took < tt.after || took > tt.after+time.Second/2 {
					t.Errorf("ended after %v, want %v", took, tt.after)
				}
				client.Close()
				wg.Wait()
			})
		})
	}
}

// unixPipe is a pipe that says it is a Unix socket.
type unixPipe struct{ net.Conn }

func (unixPipe) RemoteAddr() net.Addr { return &net.UnixAddr{Net: "unix"} }

func TestShutdown(t *testing.T) {
	server, client := tcp(t)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := io.WriteString(client, "PROXY TCP4"); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(cancel)
	if err := stage.Serve(ctx, server, 1, Proxy{Trusted: loopback, Limit: patience}.Wrap(stage.Receive)); !errors.Is(err, stage.ErrShutdown) {
		t.Errorf("ended with %v", err)
	}
	wg.Wait()
}

func TestSenselessFields(t *testing.T) {
	for _, p := range []Proxy{{Trusted: []netip.Prefix{{}}}, {RefuseOthers: true}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("no panic for %+v", p)
				}
			}()
			p.Wrap(stage.Receive)
		}()
	}
}

func TestNobodyIsTrusted(t *testing.T) {
	server, client := tcp(t)
	if got := serve(t, Proxy{}, server, client, headers[0].header); got.err != nil || got.header != nil || got.payload != headers[0].header {
		t.Errorf("believed %+v, got %q, ended with %v", got.header, got.payload, got.err)
	}
}

// Whatever a proxy sends, it is a header or none: what is taken for one can be told
// again, and nothing after it is taken.
func FuzzReadHeader(f *testing.F) {
	for _, tt := range headers {
		f.Add([]byte(tt.header))
	}
	for _, s := range wrong {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in := bytes.NewReader(append(bytes.Clone(b), "payload"...))
		h, err := readHeader(in)
		if err != nil {
			if !errors.Is(err, stage.ErrProtocol) {
				t.Errorf("%v", err)
			}
			if in.Len() < len("payload") && len(b)-in.Len() > prefixV2+int(proxyproto.MaxV2HeaderSize) {
				t.Errorf("%d bytes were taken for no header", len(b)+len("payload")-in.Len())
			}
			return
		}
		taken := len(b) + len("payload") - in.Len()
		if !h.Command.IsLocal() && (h.SourceAddr == nil || h.DestinationAddr == nil) {
			t.Errorf("no addresses in %+v", h)
		}
		if _, err := h.Format(); err != nil {
			t.Errorf("it cannot be told again: %v", err)
		}
		// One byte less is no header, and the bytes after it are nothing to it.
		all := append(bytes.Clone(b), "payload"...)
		if _, err := readHeader(bytes.NewReader(all[:taken-1])); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("without its last byte: %v", err)
		}
		if again, err := readHeader(bytes.NewReader(all[:taken])); err != nil || !again.EqualsTo(h) {
			t.Errorf("without what follows: %+v, %v", again, err)
		}
	})
}
