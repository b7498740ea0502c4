package transporttest_test

import (
	"testing"

	"github.com/accio-go/accio/transport"
	"github.com/accio-go/accio/transport/transporttest"
)

// The test of a scheduler of three slots.
func ExampleTestScheduler() {
	_ = func(t *testing.T) { // TestMyScheduler
		transporttest.TestScheduler(t, 3, func() transport.Scheduler { return transport.NewPool(3) })
	}
}
