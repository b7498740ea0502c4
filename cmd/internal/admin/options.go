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

// Options holds the flags of the admin address.
type Options struct {
	Address Address
	Pprof   bool
}

// Flags adds the flags.
func (o *Options) Flags(f *cli.FlagSet) {
	g := f.Group("Admin")
	g.Add(cli.Text(&o.Address), "admin", "", "Serve metrics, health checks and a page of the connections by HTTP on `ADDR`, which is HOST:PORT, or :PORT for 127.0.0.1. The admin address has no authentication. Off by default.")
	g.Add(cli.Bool(&o.Pprof), "admin-pprof", "", "Serve profiles of the program at /debug/pprof on the admin address.")
}

// Address is the address of the admin server, HOST:PORT, or empty. HOST is 127.0.0.1
// by default.
type Address string

// UnmarshalText reads an address.
func (a *Address) UnmarshalText(text []byte) error {
	*a = ""
	if len(text) == 0 {
		return nil
	}
	wrong := func() error {
		return fmt.Errorf("must be HOST:PORT, such as 127.0.0.1:9100, or :PORT for 127.0.0.1, not %q", text)
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

// ValidateAdmin returns an error if the flags do not fit together, or the port of the
// server.
func (o *Options) ValidateAdmin(port cli.Port) error {
	if o.Pprof && o.Address == "" {
		return cli.FlagError("admin-pprof", errors.New("it needs --admin"))
	}
	if _, at, err := net.SplitHostPort(string(o.Address)); err == nil && at == strconv.Itoa(int(port)) {
		return cli.FlagError("admin", fmt.Errorf("%s uses the port of the server", o.Address))
	}
	return nil
}

// Check returns an error if [Options.Listen] would fail. An address in use is no error:
// the running server may have it.
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

// Listen listens on the address, or returns nil if that is empty. Connections wait for
// [Options.Start].
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

// loopback reports whether addr is reachable from this machine only.
func loopback(addr net.Addr) bool {
	ap, err := netip.ParseAddrPort(addr.String())
	return err == nil && ap.Addr().IsLoopback()
}
