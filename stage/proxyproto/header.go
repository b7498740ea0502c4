package proxyproto

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/pires/go-proxyproto"

	"github.com/accio-go/accio/stage"
)

const (
	// minHeader is as much as every header has: "PROXY UNKNOWN\r\n".
	minHeader = 15

	// maxV1 is as long as a header of version 1 can be, by the specification.
	maxV1 = 107

	// prefixV2 is what comes before the part of a header of version 2 whose length it
	// tells.
	prefixV2 = 16
)

var (
	sigV1 = append(bytes.Clone(proxyproto.SIGV1), ' ')
	sigV2 = proxyproto.SIGV2
)

// readHeader takes a header from r, and not one byte more. What is no header is a
// stage.ErrProtocol; other errors are those of r.
//
// The parser is given whole headers only. It reads from a *bufio.Reader, which takes from
// a connection what it can get, and it refuses a header of version 1 that does not arrive
// at once.
func readHeader(r io.Reader) (*proxyproto.Header, error) {
	b := make([]byte, 0, maxV1)
	b, err := fill(r, b, minHeader)
	if err != nil {
		return nil, err
	}
	if b[0] == sigV1[0] {
		b, err = fillV1(r, b)
	} else {
		b, err = fillV2(r, b)
	}
	if err != nil {
		return nil, err
	}
	h, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", stage.ErrProtocol, err)
	}
	return h, nil
}

// fill reads until b has n bytes, and fails at the first that begins no header.
func fill(r io.Reader, b []byte, n int) ([]byte, error) {
	for len(b) < n {
		m, err := r.Read(b[len(b):n])
		b = b[:len(b)+m]
		if !begins(b, sigV1) && !begins(b, sigV2) {
			return nil, fmt.Errorf("%w: got %q", stage.ErrProtocol, b[:min(len(b), len(sigV2))])
		}
		if err == io.EOF && len(b) < n {
			return nil, fmt.Errorf("%w: %w", stage.ErrProtocol, io.ErrUnexpectedEOF)
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
	}
	return b, nil
}

// begins reports whether b is the beginning of what begins with sig.
func begins(b, sig []byte) bool {
	n := min(len(b), len(sig))
	return bytes.Equal(b[:n], sig[:n])
}

// fillV1 reads up to the end of the line, byte by byte, since only that tells where
// the header ends.
func fillV1(r io.Reader, b []byte) (_ []byte, err error) {
	if i := bytes.IndexByte(b, '\n'); i >= 0 && i < len(b)-1 {
		return nil, fmt.Errorf("%w: a line of %d bytes is no header", stage.ErrProtocol, i+1)
	}
	for b[len(b)-1] != '\n' {
		if len(b) == maxV1 {
			return nil, fmt.Errorf("%w: a line of more than %d bytes", stage.ErrProtocol, maxV1)
		}
		if b, err = fill(r, b, len(b)+1); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// fillV2 reads as much as the header says that it has.
func fillV2(r io.Reader, b []byte) ([]byte, error) {
	b, err := fill(r, b, prefixV2)
	if err != nil {
		return nil, err
	}
	length := binary.BigEndian.Uint16(b[prefixV2-2:])
	if length > proxyproto.MaxV2HeaderSize {
		return nil, fmt.Errorf("%w: a header of %d bytes", stage.ErrProtocol, prefixV2+int(length))
	}
	n := prefixV2 + int(length)
	all := make([]byte, prefixV2, n)
	copy(all, b)
	return fill(r, all, n)
}

var (
	errChecksum = errors.New("wrong checksum")
	errMore     = errors.New("more than a header")
)

// parse parses a whole header.
func parse(b []byte) (*proxyproto.Header, error) {
	plain := b
	if b[0] == sigV2[0] && b[12] == byte(proxyproto.PROXY) && b[13] == byte(proxyproto.UNSPEC) {
		// The specification leaves it to us whether PROXY may come without an address, where
		// the proxy knows of none that it could tell. UNKNOWN does in version 1, and
		// the parser takes that for LOCAL.
		plain = bytes.Clone(b)
		plain[12] = byte(proxyproto.LOCAL)
	}
	in := bytes.NewReader(plain)
	buf := bufio.NewReader(in)
	h, err := proxyproto.Read(buf)
	if err != nil {
		return nil, err
	}
	if in.Len()+buf.Buffered() > 0 {
		return nil, errMore
	}
	tlvs, err := h.TLVs()
	if err != nil {
		return nil, err
	}
	if len(tlvs) > 0 && !checks(b, prefixV2+addrSize[h.TransportProtocol]) {
		return nil, errChecksum
	}
	return h, nil
}

// addrSize is the size of the addresses in a header of version 2.
var addrSize = map[proxyproto.AddressFamilyAndProtocol]int{
	proxyproto.TCPv4: 12, proxyproto.UDPv4: 12,
	proxyproto.TCPv6: 36, proxyproto.UDPv6: 36,
	proxyproto.UnixStream: 216, proxyproto.UnixDatagram: 216,
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checks reports whether the checksum that is among the TLVs of b, from tlvs on, is
// right, or there is none. It is that of the whole header with zeros in its place, which
// the parser does not look at.
func checks(b []byte, tlvs int) bool {
	for i := tlvs; i+3 <= len(b); {
		n := int(binary.BigEndian.Uint16(b[i+1:]))
		value := b[i+3 : i+3+n]
		if proxyproto.PP2Type(b[i]) == proxyproto.PP2_TYPE_CRC32C {
			if n != crc32.Size {
				return false
			}
			b = bytes.Clone(b)
			clear(b[i+3 : i+3+n])
			return crc32.Checksum(b, castagnoli) == binary.BigEndian.Uint32(value)
		}
		i += 3 + n
	}
	return true
}
