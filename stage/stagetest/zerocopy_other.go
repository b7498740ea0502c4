//go:build !linux

package stagetest

func checkZeroCopy(c *checking) { c.Skip("the kernel moves no payload into files here") }
