package proxyproto

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/accio-go/accio/stage"
)

// Proxy is a stage that takes a header of the PROXY protocol, version 1 or 2, from a peer
// that is trusted, before it calls the next handler, for which the addresses of c.Net are
// then those that the header tells. If it tells of none (LOCAL, UNKNOWN, or an
// unspecified family, as when the proxy looks whether the server is well), they stay the
// connection's own.
//
// A peer that is trusted and does not begin with a header, or whose header is not right,
// ends its connection with [stage.ErrProtocol], at the first byte that shows it. A header
// of version 2 may have up to [proxyproto.MaxV2HeaderSize] bytes after the first 16. If
// it has a checksum, that must be right.
//
// What is inside is called for no connection that ends here: if such a one is to have an
// outcome, Proxy stands inside of [stage.Save] and [stage.Report]. It stands outside of
// all that asks for the client's address, such as [stage.MaxPerHost], and of a TLS stage
// unless the header itself is encrypted. If more proxies than one add a header, there is
// a Proxy for each.
//
// It tells no [stage.Observer] that a handshake is done, since one may follow inside; see
// [stage.Conn.HandshakeDone].
//
// It takes not one byte more than the header, and leaves c.In as it was, so zero-copy
// survives it, and a [stage.Session] can be left inside of it; while the header is read it
// waits in place.
type Proxy struct {
	// Trusted is where proxies are. An IPv4 address is the same if it is written as an
	// IPv6 one, and the zone of an IPv6 address does not count.
	Trusted []netip.Prefix

	// TrustUnix says that peers which come by a Unix socket are proxies.
	TrustUnix bool

	// RefuseOthers says that a peer which is not trusted ends its connection with
	// [stage.ErrProtocol]. Otherwise it is served as if this stage were not there: nobody
	// looks for a header, and one that it sends is payload like any other.
	RefuseOthers bool

	// Limit is how long the header may take from the moment this stage is entered; no
	// byte restarts it. A peer that has not sent all of it by then ends its connection
	// with [stage.ErrSlowHandshake]. 0 or less means no limit.
	Limit time.Duration
}

// Wrap reads the header before next is called. If that fails, next is not called. It
// panics if a prefix in Trusted is not valid, or if nobody is trusted and all others are
// refused.
func (s Proxy) Wrap(next stage.Handler) stage.Handler {
	trusted := slices.Clone(s.Trusted)
	for i, p := range trusted {
		if !p.IsValid() {
			panic(fmt.Sprintf("proxyproto: Proxy trusts an invalid prefix: %v", p))
		}
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			trusted[i] = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
	}
	s.Trusted = trusted
	if len(trusted) == 0 && !s.TrustUnix {
		if s.RefuseOthers {
			panic("proxyproto: Proxy refuses everybody")
		}
		return next
	}
	return stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		if peer := c.Net.RemoteAddr(); !s.trusts(peer) {
			if s.RefuseOthers {
				return nil, fmt.Errorf("%w: %v is no proxy that is trusted", stage.ErrProtocol, peer)
			}
			return nil, nil
		}
		h, err := s.read(c)
		if err != nil {
			return nil, fmt.Errorf("PROXY header: %w", err)
		}
		l := &layer{Conn: c.Net, header: h, remote: c.Net.RemoteAddr(), local: c.Net.LocalAddr()}
		if !h.Command.IsLocal() {
			l.remote, l.local = h.SourceAddr, h.DestinationAddr
		}
		c.Net = l
		return nil, nil
	}).Wrap(next)
}

// trusts reports whether a peer with that address is a proxy that is trusted.
func (s Proxy) trusts(peer net.Addr) bool {
	var ip netip.Addr
	switch a := peer.(type) {
	case nil:
		return false
	case *net.UnixAddr:
		return s.TrustUnix
	case *net.TCPAddr:
		ip = a.AddrPort().Addr()
	default:
		ap, err := netip.ParseAddrPort(a.String())
		if err != nil {
			return false
		}
		ip = ap.Addr()
	}
	ip = ip.Unmap().WithZone("")
	return slices.ContainsFunc(s.Trusted, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// read reads the header within the limit.
func (s Proxy) read(c *stage.Conn) (*proxyproto.Header, error) {
	if s.Limit <= 0 {
		return readHeader(c.In)
	}
	end, deadline := time.Now().Add(s.Limit), c.NewDeadline()
	if err := deadline.SetReadDeadline(end); err != nil {
		return nil, err
	}
	h, err := readHeader(c.In)
	if errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(end) {
		err = fmt.Errorf("%w: over %v", stage.ErrSlowHandshake, s.Limit)
	}
	if derr := deadline.SetReadDeadline(time.Time{}); err == nil {
		err = derr
	}
	return h, err
}

// Header returns the header that the connection had at this place of its chain, the
// last if there were several, with what else it tells (its TLVs). It reports false if
// there was none: outside of [Proxy], or if the peer is not trusted. The header must not
// be changed.
func Header(c *stage.Conn) (*proxyproto.Header, bool) {
	for nc := c.Net; nc != nil; {
		if l, ok := nc.(*layer); ok {
			return l.header, true
		}
		under, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		nc = under.NetConn()
	}
	return nil, false
}

// layer is a connection with other addresses.
type layer struct {
	net.Conn
	header        *proxyproto.Header
	remote, local net.Addr
}

func (l *layer) NetConn() net.Conn    { return l.Conn }
func (l *layer) RemoteAddr() net.Addr { return l.remote }
func (l *layer) LocalAddr() net.Addr  { return l.local }

// SyscallConn is for who asks the system about the connection, which it is still: a
// [stage.StallGate] does.
func (l *layer) SyscallConn() (syscall.RawConn, error) {
	sc, ok := l.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return sc.SyscallConn()
}

var (
	_ stage.Stage  = Proxy{}
	_ syscall.Conn = (*layer)(nil)
)
