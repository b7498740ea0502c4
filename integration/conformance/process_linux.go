package conformance

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// endWithParent has the kernel kill a program when the thread that has started it
// ends, and so when this process does, however it does (PR_SET_PDEATHSIG(2const)).
func endWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// adopt makes this process the parent of all descendants whose own parent ends
// (PR_SET_CHILD_SUBREAPER(2const)). What it returns undoes that, and kills all
// descendants.
func adopt() (killRest func(), err error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, os.NewSyscallError("prctl", err)
	}
	return func() {
		// They may start others meanwhile, and some may be beyond this
		// process's rights: then it ends without them.
		for begun := time.Now(); time.Since(begun) < time.Second; time.Sleep(time.Millisecond) {
			left := descendants(os.Getpid())
			if len(left) == 0 {
				break
			}
			for _, pid := range left {
				syscall.Kill(pid, syscall.SIGKILL)
			}
			for {
				if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != nil || pid <= 0 {
					break
				}
			}
		}
		unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	}, nil
}
