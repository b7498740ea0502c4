//go:build !linux

package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "ERROR: the benchmarks ask the kernel for what only Linux tells")
	os.Exit(1)
}
