package transport

import (
	"errors"
	"fmt"
	"strconv"
)

// ErrPort is the error of [ParsePort].
var ErrPort = errors.New("a port is a decimal number from 1 to 65535")

// ParsePort parses a TCP port, a decimal number from 1 to 65535. It does not accept port
// 0 or names of services. The error wraps [ErrPort].
func ParsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%w, not %q", ErrPort, s)
	}
	return uint16(n), nil
}
