package stage

import (
	"net"
	"strconv"
)

// AddrString returns addr.String() for people and programs, escaped as by strconv.Quote but
// without the quotes. It returns an empty string if addr is nil. The result is one line of
// printable characters, even if a client chose the address, such as the Unix socket that a
// proxy reports. IP addresses never change.
func AddrString(addr net.Addr) string {
	if addr == nil {
		return ""
	}
	quoted := strconv.Quote(addr.String())
	return quoted[1 : len(quoted)-1]
}
