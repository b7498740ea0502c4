package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/transport"
)

// Options are the flags of the admin address, to be embedded in a Command.
type Options struct {
	Address Address `name:"admin" group:"Admin:" placeholder:"ADDR" help:"Serve metrics, health checks and a page of the connections by HTTP on HOST:PORT, or :PORT for 127.0.0.1. Nothing of it asks who somebody is. Not at all if it is not set (default)."`
	Pprof   bool    `name:"admin-pprof" group:"Admin:" help:"Serve profiles of the program at /debug/pprof there as well."`
}

// Address is an argument that is where the admin server listens: HOST:PORT, in which a HOST
// that is left out is 127.0.0.1, or nothing.
type Address string

// UnmarshalText reads an address.
func (a *Address) UnmarshalText(text []byte) error {
	*a = ""
	if len(text) == 0 {
		return nil
	}
	wrong := func() error {
		return fmt.Errorf("an address is HOST:PORT, such as 127.0.0.1:9100, or :PORT, which is 127.0.0.1, not %q", text)
	}
	host, port, err := net.SplitHostPort(string(text))
	if err != nil || strings.ContainsAny(host, " /") {
		return wrong()
	}
	if _, err := transport.ParsePort(port); err != nil {
		return wrong()
	}
	if host == "" {
		host = "127.0.0.1"
	}
	*a = Address(net.JoinHostPort(host, port))
	return nil
}

// ValidateAdmin returns an error if the flags do not go together, or not with the port of
// the server itself. It is for the Validate method of a Command.
func (o *Options) ValidateAdmin(port cli.Port) error {
	if o.Pprof && o.Address == "" {
		return cli.FlagError("admin-pprof", errors.New("it needs --admin, where the profiles are to be served"))
	}
	if _, at, err := net.SplitHostPort(string(o.Address)); err == nil && at == strconv.Itoa(int(port)) {
		return cli.FlagError("admin", fmt.Errorf("%s is at the port of the server itself", o.Address))
	}
	return nil
}

// Check says whether [Options.Listen] could do so. An address that is in use is fine, as
// with cli.Port.
func (o *Options) Check(ctx context.Context) error {
	ln, err := o.Listen(ctx)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil
	}
	if ln != nil {
		ln.Close()
	}
	return err
}

// Listen listens on the address, or returns nil if that is empty. Whoever connects waits
// for [Options.Start].
func (o *Options) Listen(ctx context.Context) (net.Listener, error) {
	if o.Address == "" {
		return nil, nil
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", string(o.Address))
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		err = op.Err
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen on the admin address %s: %w", o.Address, err)
	}
	return ln, nil
}

// loopback reports whether only this machine reaches addr.
func loopback(addr net.Addr) bool {
	ap, err := netip.ParseAddrPort(addr.String())
	return err == nil && ap.Addr().IsLoopback()
}
