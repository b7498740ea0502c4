package proxyproto

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/pires/go-proxyproto"

	"github.com/accio-go/accio/stage"
)

const (
	minHeader = 15  // "PROXY UNKNOWN\r\n"
	maxV1     = 107 // by the specification
	prefixV2  = 16  // ends with the length of the rest
)

var (
	sigV1 = append(bytes.Clone(proxyproto.SIGV1), ' ')
	sigV2 = proxyproto.SIGV2
)

// readHeader takes a header from r, and no byte after it. An invalid header is a
// stage.ErrProtocol; other errors are those of r.
//
// The parser gets whole headers only. From a connection it would take bytes after the
// header, wait for more bytes after a wrong one, and refuse a line that comes in pieces.
func readHeader(r io.Reader) (*proxyproto.Header, error) {
	b := make([]byte, 0, maxV1)
	for n := size(b); len(b) < n; n = size(b) {
		b = slices.Grow(b, n-len(b))
		m, err := r.Read(b[len(b):n])
		b = b[:len(b)+m]
		switch {
		case !begins(b, sigV1) && !begins(b, sigV2):
			return nil, fmt.Errorf("%w: got %q", stage.ErrProtocol, b[:min(len(b), len(sigV2))])
		case err == io.EOF && len(b) < size(b):
			return nil, fmt.Errorf("%w: %w", stage.ErrProtocol, io.ErrUnexpectedEOF)
		case err != nil && err != io.EOF:
			return nil, err
		}
	}
	h, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", stage.ErrProtocol, err)
	}
	return h, nil
}

// begins reports whether b and sig begin with the same bytes.
func begins(b, sig []byte) bool {
	n := min(len(b), len(sig))
	return bytes.Equal(b[:n], sig[:n])
}

// size returns how many bytes of the header that begins with b can be read now. It returns
// len(b) if b is whole, or too long for the parser.
func size(b []byte) int {
	switch {
	case len(b) < minHeader:
		return minHeader
	case b[0] == sigV1[0] && bytes.IndexByte(b, '\n') < 0:
		return min(len(b)+1, maxV1) // byte by byte: only the end of the line ends the header
	case b[0] == sigV1[0]:
		return len(b)
	case len(b) < prefixV2:
		return prefixV2
	}
	length := binary.BigEndian.Uint16(b[prefixV2-2:])
	if length > proxyproto.MaxV2HeaderSize {
		return prefixV2
	}
	return prefixV2 + int(length)
}

// parse parses a whole header. It overwrites b.
func parse(b []byte) (*proxyproto.Header, error) {
	// The specification lets the receiver accept PROXY without an address. The parser does
	// so in version 1 only, as LOCAL.
	unspecified := b[0] == sigV2[0] && b[12] == byte(proxyproto.PROXY) && b[13] == byte(proxyproto.UNSPEC)
	if unspecified {
		b[12] = byte(proxyproto.LOCAL)
	}
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		return nil, err
	}
	if unspecified {
		b[12] = byte(proxyproto.PROXY)
	}
	return h, verifyChecksum(b, h)
}

var errChecksum = errors.New("wrong checksum")

// verifyChecksum verifies the checksum in the TLVs of h, if there is one, since the parser
// does not. It covers all of b, with zeros in its own place, which b has afterwards.
func verifyChecksum(b []byte, h *proxyproto.Header) error {
	tlvs, err := h.TLVs()
	if err != nil {
		return err
	}
	at := prefixV2 + [4]int{0, 12, 36, 216}[h.TransportProtocol>>4] // after the addresses
	for _, tlv := range tlvs {
		n := int(binary.BigEndian.Uint16(b[at+1:])) // tlv has no value if it is a no-op
		value := b[at+3 : at+3+n]
		at += 3 + n
		if tlv.Type != proxyproto.PP2_TYPE_CRC32C {
			continue
		}
		want := slices.Clone(value)
		clear(value)
		got := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
		if !bytes.Equal(want, binary.BigEndian.AppendUint32(nil, got)) {
			return errChecksum
		}
		break
	}
	return nil
}
