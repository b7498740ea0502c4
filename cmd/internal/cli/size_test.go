package cli

import (
	"math"
	"strings"
	"testing"
)

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "1048576": 1 << 20, "7B": 7, "7b": 7, "0GiB": 0,
		"500kB": 500_000, "500KB": 500_000, "2MB": 2e6, "3GB": 3e9, "4TB": 4e12, "5PB": 5e15,
		"10KiB": 10 << 10, "10MiB": 10 << 20, "10mib": 10 << 20, "10 MiB": 10 << 20, "3GiB": 3 << 30, "3TiB": 3 << 40, "3PiB": 3 << 50,
		"007": 7, "9223372036854775807": math.MaxInt64, "8191PiB": 8191 << 50,
	} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q is %d, %v; want %d", text, s, err, want)
		}
	}
	for _, text := range []string{
		"", " ", "-1", "+1", "1.5GiB", "1e6", "10M", "10k", "10XiB", "MiB", "10MiBs", "10MiB ", " 10", "10  MiB", "10MiB/s",
		"99999999999999999999M", "0x10", "1_000", "ten", "∞", "10\nMiB",
	} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "10MiB") {
			t.Errorf("%q is %d, %v; want an error that says what would do", text, s, err)
		}
	}
}

func TestSizeTooLarge(t *testing.T) {
	for _, text := range []string{"9223372036854775808", "99999999999999999999", "8192PiB", "99999999999999999999B"} {
		for _, err := range []error{new(Size).UnmarshalText([]byte(text)), new(Rate).UnmarshalText([]byte(text + "/s"))} {
			if err == nil || !strings.Contains(err.Error(), "at most 9223372036854775807") {
				t.Errorf("%q: %v", text, err)
			}
		}
	}
}

func TestRate(t *testing.T) {
	for text, want := range map[string]Rate{"0": 0, "100": 100, "100/s": 100, "100KiB": 100 << 10, "100KiB/s": 100 << 10, "1MB/s": 1e6} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want {
			t.Errorf("%q is %d, %v; want %d", text, r, err, want)
		}
	}
	for _, text := range []string{"", "/s", "-1", "100/h", "100/s/s", "100 /sec", "1.5/s"} {
		var r Rate
		if err := r.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), "100KiB/s") {
			t.Errorf("%q is %d, %v; want an error that says what would do", text, r, err)
		}
	}
}
