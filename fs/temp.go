package fs

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
)

// A pending file of name is called "." + name + a random number, as renameio
// calls it. renameio's numbers are below 2^63 and mostly of 18 or 19 digits;
// names with fewer than minDigits are not used, so that a sweep need not touch
// what only happens to look like one: .1.file2024, say.
const (
	minDigits = 15
	maxDigits = 19
)

// tempName returns a name for a pending file of name.
func tempName(name string) string { return fmt.Sprintf(".%s%019d", name, rand.Int64()) }

// isTemp reports whether temp is the name of a pending file of a name for which
// own reports true.
func isTemp(temp string, own func(name string) bool) bool {
	if temp == "" || temp[0] != '.' {
		return false
	}
	digits := 0
	for i := len(temp) - 1; i > 0 && temp[i] >= '0' && temp[i] <= '9' && digits < maxDigits; i-- {
		digits++
		if name := temp[1:i]; digits >= minDigits && checkName(name) == nil && own(name) {
			return true
		}
	}
	return false
}

func ignoreNotExist(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// hasRandom reports whether temp, a pending file of name, has digits enough.
func hasRandom(temp, name string) bool { return len(temp)-len(".")-len(name) >= minDigits }

// emptyFile makes a file as it was when it was created.
func emptyFile(f interface {
	io.Seeker
	Truncate(size int64) error
}) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}
