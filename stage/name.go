package stage

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// NumberedFile returns a name for [Save], such as "7.file" for connection 7. A frame of a
// connection has its own number in the name: "7-3.file".
func NumberedFile(c *Conn) string { return numbered(c) + ".file" }

func numbered(c *Conn) string {
	n := strconv.FormatUint(c.Number, 10)
	if c.Frame == 0 {
		return n
	}
	return n + "-" + strconv.FormatUint(c.Frame, 10)
}

// IsNumberedFile reports whether [NumberedFile] returns name for a connection, not for a
// frame. Connections count from 1.
func IsNumberedFile(name string) bool {
	_, frame, ok := ParseNumberedFile(name)
	return ok && frame == 0
}

// ParseNumberedFile returns the numbers of the connection and the frame in a name of
// [NumberedFile]. Both count from 1; frame is 0 if the name is a connection's. ok is false
// if NumberedFile never returns name.
func ParseNumberedFile(name string) (number, frame uint64, ok bool) {
	rest, ok := strings.CutSuffix(name, ".file")
	if !ok {
		return 0, 0, false
	}
	digits, frames, framed := strings.Cut(rest, "-")
	if number, ok = positive(digits); ok && framed {
		frame, ok = positive(frames)
	}
	if !ok {
		return 0, 0, false
	}
	return number, frame, true
}

// positive parses a number of 1 or more in the form that strconv writes.
func positive(digits string) (uint64, bool) {
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n > 0 && strconv.FormatUint(n, 10) == digits
}

// TimeName returns a Name function for [Save], for names such as "20060102T150405Z-7.file".
// A name is the time, a hyphen, the connection's number, for a frame a hyphen and the
// frame's number, and suffix. The time is when the connection enters Save, in UTC,
// formatted with layout (see time.Layout).
//
// The numbers make names of one server unique. The time distinguishes several servers, or
// runs of one. So layout should contain the second at least. A layout with a path
// separator gives names that package fs refuses.
func TimeName(layout, suffix string) func(c *Conn) string {
	return func(c *Conn) string {
		return time.Now().UTC().Format(layout) + "-" + numbered(c) + suffix
	}
}

// RandomName returns a Name function for [Save], for names that are unique on all servers
// and cannot be guessed. A name is 26 characters of A to Z and 2 to 7 (see
// crypto/rand.Text), and suffix.
func RandomName(suffix string) func(c *Conn) string {
	return func(*Conn) string { return rand.Text() + suffix }
}

// HashName returns a Final function for [Save], for a store addressed by content. A name is
// the digest of the payload in lower-case hexadecimal digits, and suffix. The connection must
// have passed a [Hash], otherwise the function returns an [ErrStorage]. Put Hash outside of a
// [Handshake] that allows an early end.
func HashName(suffix string) func(c *Conn) (string, error) {
	return func(c *Conn) (string, error) {
		if c.Hash == nil {
			return "", fmt.Errorf("%w: %w", ErrStorage, errNoHash)
		}
		return hex.EncodeToString(c.Hash.Sum(nil)) + suffix, nil
	}
}

var errNoHash = errors.New("no digest: the chain has no Hash")
