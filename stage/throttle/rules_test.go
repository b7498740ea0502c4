package throttle_test

import (
	"testing"

	"golang.org/x/time/rate"

	"github.com/accio-go/accio/stage/stagetest"
	"github.com/accio-go/accio/stage/throttle"
)

func TestThrottleKeepsTheRules(t *testing.T) {
	stagetest.TestStage(t, stagetest.Subject{
		New: func(testing.TB) stagetest.Instance {
			return stagetest.Instance{Stage: throttle.Throttle{BytesPerSecond: 1 << 40, Shared: rate.NewLimiter(1<<40, 1<<30)}}
		},
		ZeroCopy: true,
	})
}
