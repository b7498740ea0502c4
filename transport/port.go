package transport

import (
	"errors"
	"fmt"
	"strconv"
)

// ErrPort is what [ParsePort] returns for what is no port.
var ErrPort = errors.New("a port is a decimal number from 1 to 65535")

// ParsePort reads a TCP port: decimal digits only, from 1 to 65535. Port 0
// (which has the system choose) is not one that clients could be told of, and
// names of services are not looked up. The error is an [ErrPort].
func ParsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%w, not %q", ErrPort, s)
	}
	return uint16(n), nil
}
