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
func (*lab) networks(context.Context) (sut, kit *network, err error) {
	return nil, nil, fmt.Errorf("netem is Linux's: %w", errors.ErrUnsupported)
}

func (*lab) close() {}

func (t *trial) fullQueue() int {
	t.skip("a listener's queue is not known to be full on this system")
	return 0
}
