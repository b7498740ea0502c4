//go:build linux

package integration

import (
	"os"
	"strings"
	"syscall"
)

// Large payloads are kept and compared in memory that the race detector of the
// tests does not watch: it would take most of the tests' time.

// block is a megabyte.
var block = outside([]byte(strings.Repeat("megabyte", 1<<17)))

// outside is a copy of b in such memory.
func outside(b []byte) []byte {
	m := memory(len(b))
	copy(m, b)
	return m
}

// memory is n bytes of such memory.
func memory(n int) []byte {
	m, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(os.NewSyscallError("mmap", err))
	}
	return m
}

// examine shows a file's content to judge, in such memory. judge does not keep
// it. The file is not one that changes under its name, but one that is replaced.
func examine(path string, judge func(content []byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() == 0 {
		return judge(nil)
	}
	m, err := syscall.Mmap(int(f.Fd()), 0, int(fi.Size()), syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return &os.PathError{Op: "mmap", Path: path, Err: err}
	}
	defer syscall.Munmap(m)
	return judge(m)
}
