//go:build unix

package conformance

import (
	"os/exec"
	"syscall"
)

// errNotHere says why no program can be run and judged: nil where one can.
var errNotHere error

// asGroup has a program and its children be a group of their own.
func asGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// killGroup kills what is left of the group, if anything is.
func killGroup(cmd *exec.Cmd) { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
