package fs

import (
	"os"

	"golang.org/x/sys/unix"
)

// syncFilesystem syncs the filesystem that f is on (syncfs(2)).
func syncFilesystem(f *os.File) error {
	var err error
	cerr := control(f, func(fd int) {
		err = os.NewSyscallError("syncfs", unix.Syncfs(fd))
	})
	if err == nil {
		err = cerr
	}
	return err
}
