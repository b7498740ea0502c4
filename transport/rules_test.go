package transport_test

import (
	"fmt"
	"testing"

	"github.com/accio-go/accio/transport"
	"github.com/accio-go/accio/transport/transporttest"
)

func TestScheduler(t *testing.T) {
	t.Run("Sequential", func(t *testing.T) {
		transporttest.TestScheduler(t, 1, func() transport.Scheduler { return transport.Sequential() })
	})
	for _, n := range []int{0, 1, 3, 10} {
		t.Run(fmt.Sprintf("a Pool of %d", n), func(t *testing.T) {
			transporttest.TestScheduler(t, n, func() transport.Scheduler { return transport.NewPool(n) })
		})
	}
}
