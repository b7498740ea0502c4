package stage

import (
	"net"
	"strconv"
)

// AddrString returns an address to show to people or to pass to programs: addr.String(), or
// the empty string if addr is nil, escaped as strconv.Quote does, without the quotes. So it is
// one line of printable characters even if a client has chosen the address, as behind a
// proxy that reports Unix sockets. IP addresses are never changed.
func AddrString(addr net.Addr) string {
	if addr == nil {
		return ""
	}
	quoted := strconv.Quote(addr.String())
	return quoted[1 : len(quoted)-1]
}
