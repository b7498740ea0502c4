package fs

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// checkName returns an os.ErrInvalid unless name is a plain file name.
func checkName(name string) error {
	if name == "" || name[0] == '.' || strings.ContainsAny(name, `/\`) || !filepath.IsLocal(name) {
		return fmt.Errorf("%q is not a plain file name: %w", name, os.ErrInvalid)
	}
	return nil
}

// A pending file of name is called "." + name + a random number, as renameio does it.
// renameio's numbers are below 2^63, and most have 18 or 19 digits. The Store uses no number
// with fewer than minDigits, so that a sweep need not touch a foreign .1.file2024.
const (
	minDigits = 15
	maxDigits = 19
)

// tempName returns a name for a pending file of name.
func tempName(name string) string { return fmt.Sprintf(".%s%019d", name, rand.Int64()) }

// isTemp reports whether temp is the name of a pending file of a name for which own
// returns true.
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

// hasDigits reports whether temp, a pending file of name, has at least minDigits.
func hasDigits(temp, name string) bool { return len(temp)-len(".")-len(name) >= minDigits }

func ignoreNotExist(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// truncateFile makes f empty, and writes begin at its start.
func truncateFile(f interface {
	io.Seeker
	Truncate(size int64) error
}) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}
