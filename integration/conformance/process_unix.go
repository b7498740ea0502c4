//go:build unix

package conformance

import (
	"os/exec"
	"syscall"
)

// canRun is nil where programs can be run and judged.
var canRun error

// asGroup has a program and its children be a group of their own.
func asGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killGroup kills what is left of the group, if anything is.
func killGroup(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
