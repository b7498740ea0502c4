package proxyproto

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/accio-go/accio/stage"
)

// Proxy is a stage that reads a header of the PROXY protocol, version 1 or 2, from a trusted
// peer. For the stages inside, the addresses of c.Net are then those in the header. If it has
// none (LOCAL, UNKNOWN, or an unspecified family, as in a health check of the proxy), the
// addresses of the connection stay.
//
// A trusted peer that sends no header, or an invalid one, ends its connection with
// [stage.ErrProtocol], at the first wrong byte. A header of version 2 may have up to
// [proxyproto.MaxV2HeaderSize] bytes after the first 16. Its checksum, if it has one, must be
// right.
//
// A connection that ends here never reaches the stages inside. Put Proxy inside
// [stage.Save] and [stage.Report] if such a connection must have an outcome. Put it outside
// stages that use the address of the client, such as [stage.MaxPerHost]. Put it outside a
// TLS stage, unless the header itself is encrypted. If several proxies add a header, use a
// Proxy for each.
//
// Proxy reports no handshake to a [stage.Observer], since a handshake may follow inside; see
// [stage.Conn.HandshakeDone].
//
// It takes no byte after the header, and leaves c.In unchanged, so zero-copy survives it.
type Proxy struct {
	// Trusted has the addresses of the proxies. An IPv4 address and the same address mapped
	// to IPv6 are equal. The zone of an IPv6 address is ignored.
	Trusted []netip.Prefix

	// TrustUnix trusts all peers that connect to a Unix socket.
	TrustUnix bool

	// RefuseOthers ends the connection of any other peer with [stage.ErrProtocol].
	// Otherwise such a peer is served as if this stage were absent: a header that it sends
	// is payload.
	RefuseOthers bool

	// Limit is the maximum time for the header, from the moment the connection enters this
	// stage. No byte restarts it. After that the connection ends with
	// [stage.ErrSlowHandshake]. 0 or less means no limit.
	Limit time.Duration
}

// Wrap reads the header before it calls next. If that fails, it does not call next. It
// panics if a prefix in Trusted is invalid, or if it would refuse all peers.
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
			panic("proxyproto: Proxy refuses all peers")
		}
		return next
	}
	return stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		if peer := c.Net.RemoteAddr(); !s.trusts(peer) {
			if s.RefuseOthers {
				return nil, fmt.Errorf("%w: %v is not a trusted proxy", stage.ErrProtocol, peer)
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

// trusts reports whether peer is the address of a trusted proxy.
func (s Proxy) trusts(peer net.Addr) bool {
	switch peer.(type) {
	case nil:
		return false
	case *net.UnixAddr:
		return s.TrustUnix
	}
	ap, _ := netip.ParseAddrPort(peer.String()) // no prefix contains the zero address
	ip := ap.Addr().Unmap().WithZone("")
	return slices.ContainsFunc(s.Trusted, func(p netip.Prefix) bool { return p.Contains(ip) })
}

// read reads the header within the limit.
func (s Proxy) read(c *stage.Conn) (*proxyproto.Header, error) {
	if s.Limit > 0 {
		deadline := c.NewDeadline(func(time.Time) (time.Time, error) {
			return time.Time{}, fmt.Errorf("%w: over %v", stage.ErrSlowHandshake, s.Limit)
		})
		deadline.SetReadDeadline(time.Now().Add(s.Limit))
		defer deadline.SetReadDeadline(time.Time{})
	}
	return readHeader(c.In)
}

// Header returns the header of the connection, with its TLVs, for a stage inside [Proxy]. If
// there are several headers, it returns the last. It reports false outside of Proxy, and if
// the peer is not trusted. The caller must not change the header.
func Header(c *stage.Conn) (*proxyproto.Header, bool) {
	for nc := c.Net; ; {
		switch l := nc.(type) {
		case *layer:
			return l.header, true
		case interface{ NetConn() net.Conn }:
			nc = l.NetConn()
		default:
			return nil, false
		}
	}
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

var _ stage.Stage = Proxy{}
