package transport

import (
	"errors"
	"strings"
	"testing"
)

func TestParsePort(t *testing.T) {
	ports := []struct {
		why, text string
		want      uint16
	}{
		{"the first", "1", 1},
		{"that of the web", "80", 80},
		{"the last", "65535", 65535},
		{"zeros in front, which change nothing", "00080", 80},
	}
	for _, p := range ports {
		t.Run(p.why, func(t *testing.T) {
			if got, err := ParsePort(p.text); got != p.want || err != nil {
				t.Errorf("ParsePort(%q) = %d, %v", p.text, got, err)
			}
		})
	}
	refused := []struct{ why, text string }{
		{"nothing", ""},
		{"zero, which leaves the choice to the system", "0"},
		{"zero in many digits", "0000"},
		{"one too many", "65536"},
		{"what would be 80 in 16 bits", "65616"},
		{"what would be 1 in 64 bits", "18446744073709551617"},
		{"a very long number", strings.Repeat("9", 10_000)},
		{"below zero", "-1"},
		{"a plus", "+1"},
		{"letters", "abc"},
		{"the name of a service", "http"},
		{"a space in front", " 80"},
		{"a space behind", "80 "},
		{"a space between", "8 0"},
		{"a newline behind", "80\n"},
		{"a NUL behind", "80\x00"},
		{"base 16", "0x50"},
		{"base 16 without its sign", "5f"},
		{"base 8", "0o120"},
		{"base 2", "0b1010000"},
		{"an underscore", "8_0"},
		{"a comma", "8,080"},
		{"a fraction", "80.0"},
		{"an exponent", "8e1"},
		{"digits of full width", "８０"},
		{"digits of another script", "٨٠"},
		{"an address with it", "127.0.0.1:80"},
		{"a colon in front", ":80"},
		{"bytes that are no text", "\xff\xfe"},
	}
	for _, r := range refused {
		t.Run(r.why, func(t *testing.T) {
			got, err := ParsePort(r.text)
			if got != 0 || !errors.Is(err, ErrPort) {
				t.Fatalf("ParsePort(%q) = %d, %v", r.text, got, err)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("the error is not one line: %v", err)
			}
		})
	}
}
