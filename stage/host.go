package stage

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
)

// MaxPerHost is a stage that ends a connection with [ErrTooMany] if N connections of the same
// host are inside of it already. A connection counts from its entry into this stage until the
// handler inside has returned, a commit included. Each Wrap counts for itself.
//
// The handler inside is called all the same, so that a Save or [Report] there has an outcome
// for the connection. It can neither read from the client nor write to it: both fail with
// ErrTooMany at once.
//
// A host is an IPv4 address, or the first 64 bits of an IPv6 address, since one machine can
// have all addresses with this prefix. A link-local address counts as a whole. All clients
// behind one address translator are one host. A client without an IP address has no limit.
//
// MaxPerHost does nothing while bytes flow, so zero-copy survives it.
type MaxPerHost struct {
	// N is the number of connections that a host may have. 0 or less means no limit.
	N int
}

// Wrap lets no more than N connections of a host through to next.
func (s MaxPerHost) Wrap(next Handler) Handler {
	if s.N <= 0 {
		return next
	}
	hosts := &hosts{conns: make(map[netip.Prefix]int)}
	return Bracket(func(_ context.Context, c *Conn) (func(error) error, error) {
		host, ok := hostOf(c.Net.RemoteAddr())
		if !ok {
			return nil, nil
		}
		if !hosts.enter(host, s.N) {
			r := refused{fmt.Errorf("%w: %v has %d", ErrTooMany, host, s.N)}
			c.In, c.Reply = NewReader(c.In, r), NewWriter(c.Reply, r)
			return r.after, nil
		}
		return func(err error) error {
			hosts.leave(host)
			return err
		}, nil
	}).Wrap(next)
}

// refused is a Gate that lets nothing pass.
type refused struct{ err error }

func (r refused) Allow(int) (int, error)        { return 0, r.err }
func (r refused) Passed(_ int, err error) error { return err }

// after makes the connection fail, even if the handler inside ignored the error.
func (r refused) after(err error) error {
	if err == nil {
		err = r.err
	}
	return err
}

// hosts counts the connections of each host that has any.
type hosts struct {
	mu    sync.Mutex
	conns map[netip.Prefix]int
}

func (h *hosts) enter(host netip.Prefix, limit int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns[host] >= limit {
		return false
	}
	h.conns[host]++
	return true
}

func (h *hosts) leave(host netip.Prefix) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.conns[host]--; h.conns[host] == 0 {
		delete(h.conns, host)
	}
}

// hostOf returns the host of an address, if that is an IP address.
func hostOf(addr net.Addr) (netip.Prefix, bool) {
	var ip netip.Addr
	switch a := addr.(type) {
	case nil:
		return netip.Prefix{}, false
	case *net.TCPAddr:
		ip = a.AddrPort().Addr()
	default:
		ap, err := netip.ParseAddrPort(addr.String())
		if err != nil {
			return netip.Prefix{}, false
		}
		ip = ap.Addr()
	}
	if ip = ip.Unmap(); !ip.IsValid() {
		return netip.Prefix{}, false
	}
	bits := ip.BitLen()
	if ip.Is6() && !ip.IsLinkLocalUnicast() {
		bits = 64
	}
	host, err := ip.Prefix(bits)
	return host, err == nil
}
