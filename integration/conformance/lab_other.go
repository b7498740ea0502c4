//go:build !linux

package conformance

import (
	"context"
	"errors"
	"fmt"
)

// lab is what networks are made in.
type lab struct{}

// networks says why there are none.
func (*lab) networks(context.Context) (sut, kit *network, note string, err error) {
	return nil, nil, "", fmt.Errorf("networks of the kit's own are for Linux only: %w", errors.ErrUnsupported)
}

func (*lab) close() {}

// FillQueue says that it cannot be done: see it for Linux.
func FillQueue(string) (port int, empty func(), err error) {
	return 0, nil, fmt.Errorf("a listener's queue is not known to be full on this system: %w", errors.ErrUnsupported)
}
