package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/proxyproto"
)

// Proxies holds the flag of a server behind proxies.
type Proxies struct {
	ProxyProtocol []string
}

// Flags adds the flag.
func (p *Proxies) Flags(f *cli.FlagSet) {
	f.Group("Proxies").Add(cli.List(&p.ProxyProtocol), "proxy-protocol", "", "Expect a header of the PROXY protocol, version 1 or 2, with the address of the client on each connection from `NETWORK`, such as 10.0.0.0/8 or 192.0.2.1. Other connections have no header. Repeat the flag, or separate networks by commas.")
}

// networks returns the trusted networks.
func (p *Proxies) networks() (trusted []netip.Prefix, err error) {
	for _, text := range p.ProxyProtocol {
		network, err := parseNetwork(text)
		if err != nil {
			return nil, cli.FlagError("proxy-protocol", err)
		}
		trusted = append(trusted, network)
	}
	return trusted, nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("must be an IP address or a network, such as 10.0.0.0/8, not %q", text)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("must be a network, such as %v, or an address, such as %v, not %q", p.Masked(), p.Addr(), text)
	}
	return p, nil
}

// LogValue returns the trusted networks, or nothing if there are none.
func (p *Proxies) LogValue() slog.Value {
	if len(p.ProxyProtocol) == 0 {
		return slog.GroupValue()
	}
	return slog.AnyValue(p.ProxyProtocol)
}

// Stage takes the address of the client from the header of a trusted proxy. It belongs
// outside of all stages that use the address. A proxy may be silent for idle, and its
// header may take limit. 0 means no limit.
//
// After a wrong header the stages inside run as well, so that the connection has an
// outcome, but all their reads and writes fail.
func (p *Proxies) Stage(idle, limit time.Duration) stage.Chain {
	trusted, _ := p.networks() // checked by Validate
	if len(trusted) == 0 {
		return nil
	}
	proxy := proxyproto.Proxy{Limit: limit, Trusted: trusted}
	header := stage.Chain{stage.Idle{Limit: idle}, proxy}.Then(stage.HandlerFunc(func(context.Context, *stage.Conn) error { return nil }))
	return stage.Chain{stage.Bracket(func(ctx context.Context, c *stage.Conn) (func(error) error, error) {
		in := c.In
		err := header.Serve(ctx, c)
		c.In = in // without the gates for the header
		if err == nil {
			return nil, nil
		}
		r := refused{err}
		c.In, c.Reply = stage.NewReader(c.In, r), stage.NewWriter(c.Reply, r)
		return r.after, nil
	})}
}

// refused is a Gate that refuses everything.
type refused struct{ err error }

func (r refused) Allow(int) (int, error)        { return 0, r.err }
func (r refused) Passed(_ int, err error) error { return err }

// after replaces the error of the stages inside, unless that is a storage error.
func (r refused) after(err error) error {
	if errors.Is(err, stage.ErrStorage) || errors.Is(err, stage.ErrConflict) || errors.Is(err, stage.ErrReport) {
		return err
	}
	return r.err
}
