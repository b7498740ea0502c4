package stagetest_test

import (
	"context"
	"io"
	"testing"

	"github.com/accio-go/accio/stage"
	"github.com/accio-go/accio/stage/stagetest"
	"github.com/accio-go/accio/transport/transporttest/memnet"
)

// Welcome is a stage that greets the peer.
type Welcome struct{}

func (Welcome) Wrap(next stage.Handler) stage.Handler {
	return stage.Bracket(func(_ context.Context, c *stage.Conn) (func(error) error, error) {
		_, err := io.WriteString(c.Reply, "welcome\n")
		return nil, err
	}).Wrap(next)
}

// The test of a stage that greets.
func ExampleTestStage() {
	_ = func(t *testing.T) { // TestWelcome
		stagetest.TestStage(t, stagetest.Subject{
			New:      func(testing.TB) stagetest.Instance { return stagetest.Instance{Stage: Welcome{}} },
			Before:   memnet.Peer{memnet.Hear("welcome\n")},
			ZeroCopy: true,
		})
	}
}

func TestWelcome(t *testing.T) {
	stagetest.TestStage(t, stagetest.Subject{
		New:      func(testing.TB) stagetest.Instance { return stagetest.Instance{Stage: Welcome{}} },
		Before:   memnet.Peer{memnet.Hear("welcome\n")},
		ZeroCopy: true,
	})
}
