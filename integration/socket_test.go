//go:build linux

package integration

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"syscall"
)

// What the kernel knows of sockets, also of those that are the programs' own.

// queues is how many bytes a TCP socket has received that its program has not
// read, and how many it has sent that the other side has not acknowledged, as
// sock_diag(7) tells. Both are 0 if there is no such socket any longer.
func queues(local, remote *net.TCPAddr) (received, sent uint32, err error) {
	const (
		sockDiagByFamily = 20
		inetDiag         = 4 // NETLINK_INET_DIAG
	)
	fd, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, inetDiag)
	if err != nil {
		return 0, 0, os.NewSyscallError("socket", err)
	}
	defer syscall.Close(fd)

	// struct nlmsghdr, struct inet_diag_req_v2
	req := make([]byte, 16+56)
	binary.NativeEndian.PutUint32(req[0:], uint32(len(req)))
	binary.NativeEndian.PutUint16(req[4:], sockDiagByFamily)
	binary.NativeEndian.PutUint16(req[6:], syscall.NLM_F_REQUEST)
	req[16], req[17] = syscall.AF_INET, syscall.IPPROTO_TCP
	binary.NativeEndian.PutUint32(req[20:], ^uint32(0)) // in any state
	binary.BigEndian.PutUint16(req[24:], uint16(local.Port))
	binary.BigEndian.PutUint16(req[26:], uint16(remote.Port))
	copy(req[28:], local.IP.To4())
	copy(req[44:], remote.IP.To4())
	binary.NativeEndian.PutUint64(req[64:], ^uint64(0)) // no cookie
	if err := syscall.Sendto(fd, req, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return 0, 0, os.NewSyscallError("sendto", err)
	}
	buf := make([]byte, 4096)
	n, _, err := syscall.Recvfrom(fd, buf, 0)
	if err != nil {
		return 0, 0, os.NewSyscallError("recvfrom", err)
	}
	switch kind := binary.NativeEndian.Uint16(buf[4:]); {
	case kind == syscall.NLMSG_ERROR && n >= 20:
		errno := syscall.Errno(-int32(binary.NativeEndian.Uint32(buf[16:])))
		if errno == syscall.ENOENT {
			return 0, 0, nil
		}
		return 0, 0, os.NewSyscallError("sock_diag", errno)
	case kind == sockDiagByFamily && n >= 16+72:
		// struct nlmsghdr, struct inet_diag_msg
		return binary.NativeEndian.Uint32(buf[16+56:]), binary.NativeEndian.Uint32(buf[16+60:]), nil
	default:
		return 0, 0, fmt.Errorf("sock_diag answers %d bytes of kind %d", n, kind)
	}
}
