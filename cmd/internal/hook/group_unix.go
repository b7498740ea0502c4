//go:build unix

package hook

import (
	"os"
	"os/exec"
	"syscall"
)

// group starts a command in a new process group, to kill it with its children. Ctrl-C
// then reaches the server only.
func group(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// terminate sends SIGTERM to the group, if it still exists.
func terminate(p *os.Process) { syscall.Kill(-p.Pid, syscall.SIGTERM) }

// kill sends SIGKILL to the group.
func kill(p *os.Process) { syscall.Kill(-p.Pid, syscall.SIGKILL) }
