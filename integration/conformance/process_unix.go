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

// bindable says why a port cannot be had. It does not listen there, not for a
// moment: somebody could take that for a server that has come up.
func bindable(port int) error {
	syscall.ForkLock.RLock() // no program is to inherit it
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	return syscall.Bind(fd, &syscall.SockaddrInet4{Port: port})
}

// awaitKilled waits for those who have become children of this process when
// their parents ended; see adopt.
func awaitKilled(pids []int) {
	for _, pid := range pids {
		syscall.Wait4(pid, nil, 0, nil) // fails if it is somebody else's
	}
}
