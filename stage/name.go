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

// NumberedFile is a name for [Save]: the connection's number, for a frame of it ([Frames])
// a hyphen and the frame's, and the suffix ".file", as in "7.file" and "7-3.file".
func NumberedFile(c *Conn) string { return numbered(c) + ".file" }

func numbered(c *Conn) string {
	n := strconv.FormatUint(c.Number, 10)
	if c.Frame == 0 {
		return n
	}
	return n + "-" + strconv.FormatUint(c.Frame, 10)
}

// IsNumberedFile reports whether name is one that [NumberedFile] gives to a
// connection as a whole, whose number is 1 or more.
func IsNumberedFile(name string) bool {
	_, frame, ok := ParseNumberedFile(name)
	return ok && frame == 0
}

// ParseNumberedFile returns the number of the connection, which is 1 or more, and that of
// the frame, or 0 for the whole of it, to which [NumberedFile] gives that name. It
// reports false if there is none.
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

// positive reads a number of 1 or more as it is written by strconv.
func positive(digits string) (uint64, bool) {
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil && n > 0 && strconv.FormatUint(n, 10) == digits
}

// TimeName returns names for [Save]: the time at which Save is entered, in UTC, as layout
// has it (see time.Layout), a hyphen, the connection's number, for a frame of it a hyphen
// and the frame's, and suffix, as in "20060102T150405Z-7.file". No two connections of a server have the same, since their
// numbers differ; those of two servers, or of one that was started anew, differ by what
// layout has, so it should go down to the second at least. A layout with a separator in it
// gives no names for files.
func TimeName(layout, suffix string) func(c *Conn) string {
	return func(c *Conn) string {
		return time.Now().UTC().Format(layout) + "-" + numbered(c) + suffix
	}
}

// RandomName returns names for [Save] that nobody can guess, and no two connections of
// whatever server share: 26 characters of A to Z and 2 to 7 (see crypto/rand.Text), with
// the suffix.
func RandomName(suffix string) func(c *Conn) string {
	return func(*Conn) string { return rand.Text() + suffix }
}

// HashName returns final names for [Save]: the digest of the payload in lower-case
// hexadecimal digits, with the suffix. So the store is addressed by content. It is an
// [ErrStorage] if the connection has passed no [Hash]; where a [Handshake] allows an
// early end, Hash has to stand outside of that.
func HashName(suffix string) func(c *Conn) (string, error) {
	return func(c *Conn) (string, error) {
		if c.Hash == nil {
			return "", fmt.Errorf("%w: %w", ErrStorage, errNoHash)
		}
		return hex.EncodeToString(c.Hash.Sum(nil)) + suffix, nil
	}
}

var errNoHash = errors.New("there is no digest without a Hash")
