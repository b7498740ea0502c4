//go:build !linux

package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"
)

// listening reports whether a program listens on a port, without the program
// noticing: a connection, if only to try, would be its first.
func listening(pid, port int) (bool, error) {
	table, err := exec.Command("netstat", "-an").Output()
	if err != nil {
		return false, fmt.Errorf("netstat: %w", err)
	}
	for line := range bytes.Lines(table) {
		f := bytes.Fields(line)
		if len(f) > 5 && bytes.HasPrefix(f[5], []byte("LISTEN")) &&
			(bytes.HasSuffix(f[3], fmt.Appendf(nil, ".%d", port)) || bytes.HasSuffix(f[3], fmt.Appendf(nil, ":%d", port))) {
			return true, nil
		}
	}
	return false, nil
}

func usage(int) (time.Duration, int64, error) { return 0, 0, errors.ErrUnsupported }

func endWithParent(*syscall.SysProcAttr) {}

// descendants are not known here: those in the program's group are killed with it.
func descendants(int) []int { return nil }

func adopt() (func(), error)     { return func() {}, nil }
func room(string) (int64, error) { return 0, errors.ErrUnsupported }
