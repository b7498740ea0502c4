package cli

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is an argument that is a number of bytes, with a unit or without: 1048576,
// 500MB (of 1000 times 1000), 10MiB (of 1024 times 1024).
type Size int64

// units are those of a Size.
var units = map[string]int64{
	"": 1, "B": 1,
	"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15,
	"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40, "PIB": 1 << 50,
}

// UnmarshalText reads a size. Small letters are as good as capital ones.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := parseSize(string(text))
	if err != nil {
		if errors.Is(err, strconv.ErrRange) {
			return fmt.Errorf("a size is at most %d bytes, which is just under 8192PiB, not %q", int64(math.MaxInt64), text)
		}
		return fmt.Errorf("a size is a whole number of bytes, with a unit (kB to PB, KiB to PiB) or without, such as 10MiB, not %q", text)
	}
	*s = Size(n)
	return nil
}

func parseSize(text string) (int64, error) {
	number := strings.TrimRight(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
	unit, ok := units[strings.ToUpper(text[len(number):])]
	if !ok {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(strings.TrimSuffix(number, " "), 10, 64)
	if err != nil {
		return 0, err
	}
	if n > uint64(math.MaxInt64/unit) {
		return 0, strconv.ErrRange
	}
	return int64(n) * unit, nil
}

// Rate is an argument that is a Size for each second: 100KiB, or 100KiB/s.
type Rate int64

// UnmarshalText reads a rate.
func (r *Rate) UnmarshalText(text []byte) error {
	n, err := parseSize(strings.TrimSuffix(string(text), "/s"))
	if err != nil {
		if errors.Is(err, strconv.ErrRange) {
			return fmt.Errorf("a rate is at most %d bytes in a second, which is just under 8192PiB/s, not %q", int64(math.MaxInt64), text)
		}
		return fmt.Errorf("a rate is a whole number of bytes in a second, with a unit (kB to PB, KiB to PiB) or without, such as 100KiB or 100KiB/s, not %q", text)
	}
	*r = Rate(n)
	return nil
}
