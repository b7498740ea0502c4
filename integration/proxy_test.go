//go:build linux

package integration

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// headerV1 is a header of the PROXY protocol, version 1, for a client at ip.
func headerV1(ip string) string {
	return fmt.Sprintf("PROXY TCP4 %s 192.0.2.99 4321 443\r\n", ip)
}

// headerV2 is one of version 2, and one more thing that the proxy has to tell.
func headerV2(ip string) string {
	var b bytes.Buffer
	b.WriteString("\r\n\r\n\x00\r\nQUIT\n\x21\x11")
	more := "\x04\x00\x03abc" // PP2_TYPE_NOOP
	binary.Write(&b, binary.BigEndian, uint16(12+len(more)))
	b.Write(net.ParseIP(ip).To4())
	b.Write(net.IPv4(192, 0, 2, 99).To4())
	binary.Write(&b, binary.BigEndian, [2]uint16{4321, 443})
	b.WriteString(more)
	return b.String()
}

const localV2 = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"

// from connects by another address of this machine.
func (s *service) from(ip string) *client {
	s.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: patience}
	conn, err := dialer.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", s.port))
	check(s.t, err)
	c := &client{conn: conn.(*net.TCPConn), port: s.port, name: "client " + conn.LocalAddr().String()}
	s.t.Cleanup(func() { c.close() })
	return c
}

func TestProxyProtocol(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program, with("--proxy-protocol=127.0.0.2,127.0.1.0/24", "--log-level=info", "--log-format=json"))
		has(t, s.record(), map[string]any{"msg": "listening"})
		for _, tt := range []struct {
			by, header, peer string
		}{
			{"127.0.0.2", headerV1("203.0.113.7"), "203.0.113.7:4321"},
			{"127.0.0.2", headerV2("203.0.113.8"), "203.0.113.8:4321"},
			{"127.0.1.77", headerV2("203.0.113.9"), "203.0.113.9:4321"},
			{"127.0.0.2", "PROXY TCP6 2001:db8::1 2001:db8::2 4321 443\r\n", "[2001:db8::1]:4321"},
			{"127.0.0.2", localV2, ""},
			{"127.0.0.2", "PROXY UNKNOWN\r\n", ""},
			{"127.0.0.1", "", ""}, // not a proxy
		} {
			c := s.from(tt.by)
			check(t, c.sendApart(cutAt(tt.header, len(tt.header)/2)...).greet().send("hello").halfClose().fin())
			if tt.peer == "" {
				tt.peer = c.conn.LocalAddr().String()
			}
			s.outcome(received("hello"))
			has(t, s.record(), map[string]any{"peer": tt.peer, "outcome": "received"})
		}
		// A header, and everything else, in one segment.
		check(t, s.from("127.0.0.2").send(headerV2("203.0.113.7")+header+"hello").hearAll(greeting+greeting).halfClose().fin())
		s.outcome(received("hello"))
		has(t, s.record(), map[string]any{"peer": "203.0.113.7:4321"})

		for _, tt := range []struct{ by, sends string }{
			{"127.0.0.2", header},                  // no header, by a proxy
			{"127.0.0.2", "PROXY TCP4 nobody\r\n"}, // a wrong one
			{"127.0.0.2", "\r\n\r\n\x00\r\nQUIT\n\x2f\x11\x00\x00"},
			{"127.0.0.2", "PROXY TCP4 203.0.113.7 192.0.2.99 4321 443 " + string(make([]byte, 200))},
		} {
			check(t, s.from(tt.by).send(tt.sends).rst())
			s.outcome(failed)
			has(t, s.record(), map[string]any{"outcome": "protocol", "level": "WARN", "bytes": 0})
		}
		// One that nobody asked for, by somebody who is not trusted.
		c := s.from("127.0.0.3")
		check(t, c.hear(greeting).send(headerV1("203.0.113.7")).rst())
		s.outcome(failed)
		has(t, s.record(), map[string]any{"outcome": "protocol", "peer": c.conn.LocalAddr()})
		// One that is cut short.
		check(t, s.from("127.0.0.2").send("PROXY TCP4").halfClose().rst())
		s.outcome(failed)
		has(t, s.record(), map[string]any{"outcome": "protocol"})
		s.quit()
		s.left()
	})
}

// Without the flag a header is what it is: not the protocol.
func TestNoProxyProtocol(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program)
		for _, h := range []string{headerV1("203.0.113.7"), headerV2("203.0.113.7")} {
			check(t, s.connect().hear(greeting).send(h).rst())
			s.outcome(failed)
		}
		s.stop()
	})
}

// The connections of a client count, not those of the proxy.
func TestMaxConnsPerIPBehindAProxy(t *testing.T) {
	busy(t)
	s := serve(t, "server", with("--proxy-protocol=127.0.0.0/8", "--max-conns-per-ip=1"))
	a := s.connect().send(headerV1("203.0.113.1")).greet().must(t)
	b := s.connect().send(headerV2("203.0.113.2")).greet().must(t)
	check(t, s.connect().send(headerV2("203.0.113.1")).rst())
	check(t, b.send("b").halfClose().fin())
	s.dir.await("2.file")
	check(t, s.connect().send(headerV1("203.0.113.2")).greet().send("again").halfClose().fin())
	check(t, a.send("a").halfClose().fin())
	s.stop(received("a"), received("b"), failed, received("again"))
}

// Proxies that are silent, or too slow, are given up.
func TestASilentProxy(t *testing.T) {
	t.Parallel()
	bothServers(t, func(t *testing.T, program string) {
		t.Parallel()
		s := serve(t, program, with("--proxy-protocol=127.0.0.0/8", "--idle-timeout=2s"))
		takes(t, 2*time.Second, func() error { return s.connect().fin() })
		s.outcome(failed)
		takes(t, 2*time.Second, func() error { return s.connect().send("PROXY").fin() })
		s.outcome(failed)
		// The time of a client begins when it is known.
		c := s.connect().send("PROXY").quiet(1200 * time.Millisecond).send(headerV1("203.0.113.1")[len("PROXY"):])
		check(t, c.hear(greeting).quiet(1200*time.Millisecond).send(confirm).hear(greeting).send(again).halfClose().fin())
		s.stop(received(""))

		s = serve(t, program, with("--proxy-protocol=127.0.0.0/8", "--handshake-timeout=1s"))
		takes(t, time.Second, func() error { return s.connect().drip(200*time.Millisecond, headerV1("203.0.113.1")).rst() })
		s.stop(failed)
	})
}

// The header comes before TLS.
func TestTLSBehindAProxy(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		a := newAuthority(t)
		a.issue("server", time.Hour)
		s := serve(t, program, with(append(a.show("server"), "--proxy-protocol=127.0.0.1", "--log-level=info", "--log-format=json")...))
		has(t, s.record(), map[string]any{"msg": "listening", "tls": true})
		c := a.client(s.port, "localhost")
		_, err := c.wire.Write([]byte(headerV2("203.0.113.1")))
		check(t, err)
		check(t, c.half().finish("hello"))
		s.outcome(received("hello"))
		has(t, s.record(), map[string]any{"peer": "203.0.113.1:4321", "outcome": "received", "bytes": 5})
		s.quit()
		s.left()
	})
}

// Payload still goes past the program, behind a proxy and with a log.
func TestThePayloadDoesNotPassThroughTheProgramBehindAProxy(t *testing.T) {
	busy(t)
	s := serve(t, "server", plain, with("--proxy-protocol=127.0.0.0/8", "--log-level=error"))
	const size, bound = 64 << 20, 1 << 20
	read := s.field("io", "rchar")
	check(t, s.connect().send(headerV1("203.0.113.1")).greet().pour(size/len(block), block).halfClose().fin())
	if n := s.field("io", "rchar") - read; n > bound {
		t.Errorf("the program has read %d bytes to save %d", n, size)
	}
	s.stop(received(strings.Repeat(string(block), size/len(block))))
}
