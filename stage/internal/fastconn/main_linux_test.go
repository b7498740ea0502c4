package fastconn

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if n := blockers.Load(); code == 0 && n != 0 {
			fmt.Println(n, "closed connections still block")
			code = 1
		}
		os.Exit(code)
	}))
}
