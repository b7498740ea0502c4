package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes, with or without a unit: 1048576, 500MB (powers of
// 1000), 10MiB (powers of 1024).
type Size int64

var units = map[string]int64{
	"": 1, "B": 1,
	"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "PB": 1e15,
	"KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40, "PIB": 1 << 50,
}

// UnmarshalText reads a size. Case does not matter.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := parseSize(string(text), "", "such as 10MiB")
	*s = Size(n)
	return err
}

// Rate is a number of bytes per second: 100KiB or 100KiB/s.
type Rate int64

// UnmarshalText reads a rate.
func (r *Rate) UnmarshalText(text []byte) error {
	n, err := parseSize(string(text), "/s", "such as 100KiB/s")
	*r = Rate(n)
	return err
}

func parseSize(text, suffix, example string) (int64, error) {
	size := strings.TrimSuffix(text, suffix)
	number := strings.TrimRight(size, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
	unit, ok := units[strings.ToUpper(size[len(number):])]
	n, err := strconv.ParseUint(strings.TrimSuffix(number, " "), 10, 64)
	if !ok || err != nil || n > uint64(math.MaxInt64/unit) {
		return 0, fmt.Errorf("must be a whole number of bytes, with a unit (kB to PB, KiB to PiB) or without, %s, at most %d, not %q", example, int64(math.MaxInt64), text)
	}
	return int64(n) * unit, nil
}
