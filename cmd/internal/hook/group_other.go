//go:build !unix

package hook

import (
	"os"
	"os/exec"
)

// There is no shell as POSIX has it, and so no command: checkShell says that.

func group(*exec.Cmd) {}

func terminate(p *os.Process) { p.Kill() }

func kill(p *os.Process) { p.Kill() }
