//go:build !unix

package transport

import (
	"net"
	"os"
	"syscall"
	"time"
)

// perConn has package net enable keep-alive for each connection.
const perConn = time.Duration(0)

// inherit does nothing where it is not known how.
func inherit(_, _ string, _ syscall.RawConn) error { return nil }

func makeInline(net.Conn) {}

// checkListener leaves it to net.FileListener.
func checkListener(*os.File) error { return nil }
