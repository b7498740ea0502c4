//go:build unix

package hook

import (
	"os"
	"os/exec"
	"syscall"
)

// group gives a command a process group of its own, so that it can be killed with what
// it starts, and a Ctrl-C is the server's only.
func group(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// terminate tells the group to end. It is no error if there is none left.
func terminate(p *os.Process) { syscall.Kill(-p.Pid, syscall.SIGTERM) }

// kill ends the group.
func kill(p *os.Process) { syscall.Kill(-p.Pid, syscall.SIGKILL) }
