//go:build !unix

package hook

import (
	"os"
	"os/exec"
)

// Without a POSIX shell there are no commands: checkShell returns an error.

func group(*exec.Cmd) {}

func terminate(p *os.Process) { p.Kill() }

func kill(p *os.Process) { p.Kill() }
