//go:build !unix

package conformance

import (
	"errors"
	"fmt"
	"os/exec"
)

// errNotHere says why no program can be run and judged: nil where one can.
var errNotHere = fmt.Errorf("programs can be graded on Unix only, since much of what is asked has to do with its signals: %w", errors.ErrUnsupported)

func asGroup(*exec.Cmd) {}

func killAll(cmd *exec.Cmd) []int {
	cmd.Process.Kill()
	return nil
}

func bindable(int) error { return errNotHere }

func awaitKilled([]int) {}
