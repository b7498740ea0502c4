package fs

import (
	"math"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// numbered is what a program would call its own: 1.file, 2.file, ….
func numbered(name string) bool { return numberedName.MatchString(name) }

var numberedName = regexp.MustCompile(`^[1-9][0-9]*\.file$`)

func anything(string) bool { return true }

// left is a name as a killed process leaves it.
func left(name string) string { return "." + name + "1234567890123456789" }

// A lookalike is a name of a file that is none of ours.
var lookalikes = []struct{ why, name string }{
	{"a finished file", "1.file"},
	{"a finished file whose name goes on with digits", "1.file1234567890123456789"},
	{"a hidden file without digits", ".1.file"},
	{"a hidden file with a year", ".1.file2024"},
	{"a digit too few", ".1.file12345678901234"},
	{"a digit too many", ".1.file12345678901234567890"},
	{"many digits too many", ".1.file" + strings.Repeat("1", 100)},
	{"something after the digits", left("1.file") + "~"},
	{"a suffix after the digits", left("1.file") + ".swp"},
	{"a space after the digits", left("1.file") + " "},
	{"a newline after the digits", left("1.file") + "\n"},
	{"a dot before the digits", left("1.file.")},
	{"a sign before the digits", left("1.file-")},
	{"a second dot at the front", "." + left("1.file")},
	{"a space at the front", " " + left("1.file")},
	{"another name", left("notes.txt")},
	{"a name in capitals", left("1.FILE")},
	{"a number with a zero in front", left("01.file")},
	{"no number", left(".file")},
	{"nothing but digits", ".1234567890123456789"},
	{"digits of another script", ".1.file" + strings.Repeat("１", 19)},
	{"digits in base 16", ".1.file0x1234567890abcdef"},
}

func TestOnlyNamesOfPendingFilesAreTakenForTheirs(t *testing.T) {
	type row struct {
		why, name string
		own       func(string) bool
		want      bool
	}
	rows := []row{
		{"as few digits as there may be", ".1.file123456789012345", numbered, true},
		{"as renameio makes it, mostly", ".1.file123456789012345678", numbered, true},
		{"as many digits as there may be", ".1.file9223372036854775807", numbered, true},
		{"as an afero store makes it", ".1.file0000000000000000001", numbered, true},
		{"a name that ends in digits itself", ".a7123456789012345", func(name string) bool { return name == "a7" }, true},
		{"a name of digits only", left("42"), func(name string) bool { return name == "42" }, true},
		{"nothing", "", anything, false},
		{"a dot", ".", anything, false},
		{"two dots", "..", anything, false},
		{"no name at all before the digits, though anything is own", ".123456789012345", anything, false},
		{"a hidden name before the digits, though anything is own", "..bashrc123456789012345", anything, false},
	}
	for _, l := range lookalikes {
		rows = append(rows, row{l.why, l.name, numbered, false})
	}
	for _, r := range rows {
		t.Run(r.why, func(t *testing.T) {
			if got := isTemp(r.name, r.own); got != r.want {
				t.Errorf("isTemp(%q) = %v", r.name, got)
			}
		})
	}
}

func TestTemporaryNamesAreHiddenAndFoundAgain(t *testing.T) {
	seen := make(map[string]bool)
	for range 10_000 {
		name := tempName("1.file")
		if !strings.HasPrefix(name, ".1.file") || len(name) != len(".1.file")+maxDigits {
			t.Fatalf("tempName made %q", name)
		}
		if !isTemp(name, numbered) || !hasDigits(name, "1.file") {
			t.Fatalf("%q is not taken for a pending file", name)
		}
		if seen[name] {
			t.Fatalf("%q came twice", name)
		}
		seen[name] = true
	}
}

// What renameio makes is the number as it stands, of whatever length. Each of
// its names has to be one that a sweep finds, or one that is not used.
func TestEveryNameOfRenameioIsRefusedOrFoundAgain(t *testing.T) {
	numbers := []int64{0, 1, 9, 10, 99_999_999_999_999, 100_000_000_000_000, 999_999_999_999_999_999, math.MaxInt64}
	for range 20_000 {
		numbers = append(numbers, rand.Int64()>>rand.IntN(63))
	}
	for _, name := range []string{"1.file", "a", "7", "a123456789012345678", "0"} {
		own := func(s string) bool { return s == name }
		used := 0
		for _, n := range numbers {
			temp := "." + name + strconv.FormatInt(n, 10)
			if hasDigits(temp, name) {
				used++
				if !isTemp(temp, own) {
					t.Fatalf("%q would be used, and never swept", temp)
				}
			}
		}
		if used == 0 || used == len(numbers) {
			t.Errorf("of %d names for %q, %d would be used", len(numbers), name, used)
		}
	}
}

func TestNamesTooShortToBeToldApartAreNotUsed(t *testing.T) {
	for digits, want := range map[int]bool{0: false, 1: false, minDigits - 1: false, minDigits: true, maxDigits: true} {
		temp := ".1.file" + strings.Repeat("7", digits)
		if got := hasDigits(temp, "1.file"); got != want {
			t.Errorf("hasDigits(%q) = %v", temp, got)
		}
	}
}
