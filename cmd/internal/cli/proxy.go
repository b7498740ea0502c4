package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/proxyproto"
)

// Proxies are the flags of a server behind proxies, to be embedded in its Command.
type Proxies struct {
	ProxyProtocol []Network `group:"Proxies:" placeholder:"NETWORK" help:"Take the client's address from the header of the PROXY protocol, version 1 or 2, that each connection from a NETWORK, such as 10.0.0.0/8 or 192.0.2.1, has to begin with. Other connections are served as they come. May be repeated, or a list with commas."`
}

// Network is an argument that is some IP addresses, or one.
type Network netip.Prefix

// UnmarshalText reads a network.
func (n *Network) UnmarshalText(text []byte) error {
	if addr, err := netip.ParseAddr(string(text)); err == nil && addr.Zone() == "" {
		*n = Network(netip.PrefixFrom(addr, addr.BitLen()))
		return nil
	}
	p, err := netip.ParsePrefix(string(text))
	if err != nil {
		return fmt.Errorf("a network is an IP address, or one with the length of a prefix, such as 10.0.0.0/8, not %q", text)
	}
	if p != p.Masked() {
		return fmt.Errorf("a network such as %v, or an address such as %v, is wanted, not %q", p.Masked(), p.Addr(), text)
	}
	*n = Network(p)
	return nil
}

// String is the network as a user writes it.
func (n Network) String() string {
	if p := netip.Prefix(n); !p.IsSingleIP() {
		return p.String()
	}
	return netip.Prefix(n).Addr().String()
}

// LogValue is whom is trusted, for a log; nothing if nobody is.
func (p *Proxies) LogValue() slog.Value {
	if len(p.ProxyProtocol) == 0 {
		return slog.GroupValue()
	}
	var trusted []string
	for _, n := range p.ProxyProtocol {
		trusted = append(trusted, n.String())
	}
	return slog.AnyValue(trusted)
}

// Stage has the stages inside of it know the addresses of clients that come through
// proxies. It belongs outside of all that asks for them; a silent proxy is given up as idle
// says, and one whose header takes longer than limit. 0 means no limit for either.
//
// A connection whose header is not right is passed on to the stages inside all the same, so
// that they have it among their outcomes, but these can neither read nor write.
func (p *Proxies) Stage(idle, limit time.Duration) stage.Chain {
	if len(p.ProxyProtocol) == 0 {
		return nil
	}
	proxy := proxyproto.Proxy{Limit: limit}
	for _, n := range p.ProxyProtocol {
		proxy.Trusted = append(proxy.Trusted, netip.Prefix(n))
	}
	header := stage.Chain{stage.Idle{Limit: idle}, proxy}.Then(stage.HandlerFunc(func(context.Context, *stage.Conn) error { return nil }))
	return stage.Chain{stage.Bracket(func(ctx context.Context, c *stage.Conn) (func(error) error, error) {
		in := c.In
		err := header.Serve(ctx, c)
		c.In = in // without what was there for the header
		if err == nil {
			return nil, nil
		}
		r := refused{err}
		c.In, c.Reply = stage.NewReader(c.In, r), stage.NewWriter(c.Reply, r)
		return r.after, nil
	})}
}

// refused is a Gate through which nothing passes.
type refused struct{ err error }

func (r refused) Allow(int) (int, error)        { return 0, r.err }
func (r refused) Passed(_ int, err error) error { return err }

// after says why, whatever a stage inside has made of it; that nothing could be stored in
// its place counts for more.
func (r refused) after(err error) error {
	if errors.Is(err, stage.ErrStorage) || errors.Is(err, stage.ErrConflict) || errors.Is(err, stage.ErrReport) {
		return err
	}
	return r.err
}
