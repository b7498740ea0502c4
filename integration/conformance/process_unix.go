//go:build unix

package conformance

import (
	"os/exec"
	"syscall"
)

// errNotHere says why no program can be run and judged: nil where one can.
var errNotHere error

// asGroup has a program and its children be a group of their own, which ends with
// this process where the system can see to that.
func asGroup(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	endWithParent(cmd.SysProcAttr)
}

// killAll kills what is left of a program and its children. It returns those who
// have left the group, to be waited for by awaitKilled.
func killAll(cmd *exec.Cmd) (others []int) {
	// As long as the parents are there to tell whose children they are.
	for _, pid := range descendants(cmd.Process.Pid) {
		if syscall.Kill(pid, syscall.SIGKILL) == nil {
			others = append(others, pid)
		}
	}
	syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	return others
}

// awaitKilled waits for those who have become children of this process when
// their parents ended; see adopt.
func awaitKilled(pids []int) {
	for _, pid := range pids {
		syscall.Wait4(pid, nil, 0, nil) // fails if it is somebody else's
	}
}
