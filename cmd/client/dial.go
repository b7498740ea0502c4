package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/transport"
)

// host is a name or an address.
type host string

func (h *host) UnmarshalText(text []byte) error {
	name := string(text)
	if inner, ok := strings.CutPrefix(name, "["); ok { // as in a URL
		if inner, ok = strings.CutSuffix(inner, "]"); ok && strings.Contains(inner, ":") {
			name = inner
		}
	}
	if name == "" {
		return errors.New("must be a name or an address, not \"\"")
	}
	*h = host(name)
	return nil
}

// port is the number of a TCP port, or the name of a service.
type port uint16

func (p *port) UnmarshalText(text []byte) error {
	name := string(text)
	number, err := transport.ParsePort(name)
	if err != nil && strings.Trim(name, "+-0123456789") != "" {
		var found int
		found, err = net.LookupPort("tcp", name)
		number = uint16(found)
	}
	if err != nil {
		return fmt.Errorf("must be a number from 1 to 65535 or the name of a service, not %q", name)
	}
	*p = port(number)
	return nil
}

// dial connects to one of the server's addresses. It tries them in turn, and gives each
// its share of the remaining time. A race between them (RFC 8305) would leave empty
// uploads on the server.
func (p *program) dial(ctx context.Context) (net.Conn, error) {
	within, cancel := context.WithTimeout(ctx, p.ConnectTimeout)
	defer cancel()
	conn, err := p.dialAny(within)
	if err == nil {
		return conn, nil
	}
	where := p.address()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("stopped while connecting to %s; nothing was sent", where)
	}
	if within.Err() != nil {
		where = fmt.Sprintf("%s within %v", where, p.ConnectTimeout)
	}
	hint := "is the server running, and reachable from here?"
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		hint = "is the name right?"
	case errors.As(err, &dns):
		hint = "is the name server reachable from here? An address needs none"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "is the server running, and is that its port?"
	}
	return nil, cli.Exit(exitConnect, fmt.Errorf("cannot connect to %s: %w; %s", where, err, hint))
}

func (p *program) dialAny(ctx context.Context) (net.Conn, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", string(p.Host))
	if err != nil {
		return nil, err
	}
	var dialer net.Dialer
	dialer.SetMultipathTCP(false)
	end, _ := ctx.Deadline()
	var failed []error
	for i, addr := range addrs {
		dialer.Timeout = time.Until(end) / time.Duration(len(addrs)-i)
		conn, err := dialer.DialContext(ctx, "tcp", netip.AddrPortFrom(addr.Unmap(), uint16(p.Port)).String())
		if err == nil {
			return conn, nil
		}
		failed = append(failed, err)
	}
	return nil, errors.Join(failed...)
}

// address returns the address of the server as the user gave it.
func (p *program) address() string {
	return net.JoinHostPort(string(p.Host), strconv.Itoa(int(p.Port)))
}

// server names the server as the user did, with its IP address if that differs.
func (p *program) server(conn net.Conn) string {
	addr := p.address()
	if remote := conn.RemoteAddr().String(); remote != addr {
		return addr + " (" + remote + ")"
	}
	return addr
}
