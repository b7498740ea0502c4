package stage

import (
	"net"
	"strconv"
)

// AddrString is an address as it is to be shown to people and told to programs: addr.String(),
// or the empty string if addr is nil, escaped as strconv.Quote does, without the quotes. So
// it is one line of characters that can be printed: a peer may have chosen the address, as
// a proxy does that tells of a client's Unix socket (stage/proxyproto). Addresses of IP are
// never changed.
func AddrString(addr net.Addr) string {
	if addr == nil {
		return ""
	}
	quoted := strconv.Quote(addr.String())
	return quoted[1 : len(quoted)-1]
}
