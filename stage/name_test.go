package stage

import (
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"math"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestNumberedFile(t *testing.T) {
	for n, want := range map[uint64]string{
		1:              "1.file",
		10:             "10.file",
		math.MaxUint64: "18446744073709551615.file",
	} {
		got := NumberedFile(&Conn{Number: n})
		if got != want {
			t.Errorf("connection %d is %q, want %q", n, got, want)
		}
		if !IsNumberedFile(got) {
			t.Errorf("%q is not known again", got)
		}
	}
}

func TestIsNumberedFile(t *testing.T) {
	for name, want := range map[string]bool{
		"1.file":                    true,
		"9.file":                    true,
		"1234567890.file":           true,
		"0.file":                    false,
		"18446744073709551615.file": true,
		"18446744073709551616.file": false,
		"":                          false,
		".file":                     false,
		"file":                      false,
		"1":                         false,
		"1.":                        false,
		"1file":                     false,
		"1.fil":                     false,
		"1.File":                    false,
		"1.file ":                   false,
		" 1.file":                   false,
		"1.file.file":               false,
		"1.file1":                   false,
		".1.file":                   false,
		"01.file":                   false,
		"00.file":                   false,
		"+1.file":                   false,
		"-1.file":                   false,
		"1_0.file":                  false,
		"0x1.file":                  false,
		"1e1.file":                  false,
		"a.file":                    false,
		"1a.file":                   false,
		"1/2.file":                  false,
		"../1.file":                 false,
		"dir/1.file":                false,
		"١.file":                    false,
		"1.file\x00":                false,
	} {
		if got := IsNumberedFile(name); got != want {
			t.Errorf("%q: %t, want %t", name, got, want)
		}
		n, frame, ok := ParseNumberedFile(name)
		if ok != want || ok != (n > 0) || frame != 0 || ok && NumberedFile(&Conn{Number: n}) != name {
			t.Errorf("%q: number %d, frame %d, %t, want %t", name, n, frame, ok, want)
		}
	}
}

func TestNumbersOfFrames(t *testing.T) {
	for name, want := range map[string]struct{ Number, Frame uint64 }{
		"7-3.file": {Number: 7, Frame: 3}, "1-1.file": {Number: 1, Frame: 1},
		"18446744073709551615-18446744073709551615.file": {Number: math.MaxUint64, Frame: math.MaxUint64},
		"7-0.file": {}, "7-.file": {}, "-3.file": {}, "7-03.file": {}, "7-3-1.file": {}, "0-3.file": {}, "7-x.file": {},
	} {
		n, frame, ok := ParseNumberedFile(name)
		if n != want.Number || frame != want.Frame || ok != (n > 0) || IsNumberedFile(name) {
			t.Errorf("%q: number %d, frame %d, %t", name, n, frame, ok)
		}
		if again := NumberedFile(&Conn{Number: want.Number, Frame: want.Frame}); ok && again != name {
			t.Errorf("%q becomes %q", name, again)
		}
	}
	if name := TimeName("2006", ".log")(&Conn{Number: 7, Frame: 3}); !strings.HasSuffix(name, "-7-3.log") {
		t.Errorf("by time it is %q", name)
	}
}

func TestTimeName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // whose time begins at midnight, 2000-01-01 in UTC
		name := TimeName("20060102T150405Z", ".file")
		time.Sleep(25*time.Hour + 2*time.Second)
		for n, want := range map[uint64]string{
			1:              "20000102T010002Z-1.file",
			math.MaxUint64: "20000102T010002Z-18446744073709551615.file",
		} {
			if got := name(&Conn{Number: n}); got != want {
				t.Errorf("connection %d is %q, want %q", n, got, want)
			}
		}
		time.Sleep(time.Second)
		if got, want := name(&Conn{Number: 1}), "20000102T010003Z-1.file"; got != want {
			t.Errorf("a second later it is %q, want %q", got, want)
		}
	})
}

func TestNoTwoRandomNamesAreTheSame(t *testing.T) {
	name, seen := RandomName(".file"), map[string]bool{}
	shape := regexp.MustCompile(`^[A-Z2-7]{26}\.file$`)
	for range 1000 {
		got := name(&Conn{Number: 1})
		if !shape.MatchString(got) || seen[got] {
			t.Fatalf("%q", got)
		}
		seen[got] = true
	}
}

func TestHashName(t *testing.T) {
	tests := []struct {
		name    string
		hash    func() hash.Hash
		payload string
		want    string
	}{
		{"SHA-256", sha256.New, "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad.bin"}, // FIPS 180-4
		{"of nothing", sha256.New, "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855.bin"},
		{"MD5", md5.New, "abc", "900150983cd24fb0d6963f7d28e17f72.bin"}, // RFC 1321
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &Conn{Out: io.Discard}
			if err := (Hash{New: tt.hash}).Wrap(receives(nil, tt.payload)).Serve(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			for range 2 { // it may be asked for more than once
				if got, err := HashName(".bin")(c); got != tt.want || err != nil {
					t.Errorf("%q, %v; want %q", got, err, tt.want)
				}
			}
		})
	}
	if got, err := HashName("")(&Conn{}); got != "" || !errors.Is(err, ErrStorage) {
		t.Errorf("without a digest: %q, %v", got, err)
	}
}
