package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/accio-go/accio/fs"
)

// Checks is the flag --check, to be embedded in a Command that is a [Checker].
type Checks struct {
	CheckOnly bool `name:"check" args:"only" group:"Configuration and help:" help:"Say whether the program could run so, and exit: the flags, the environment, the file of --config, the port and the directory. Nothing is changed, and a server that is running is not disturbed."`
}

// Checking reports whether the flag is set.
func (c *Checks) Checking() bool { return c.CheckOnly }

// Checker is a Command that can say whether Run could do its work: it embeds [Checks].
//
// Check looks at all that Run depends on, changes nothing, and disturbs no program
// that is running. It returns all that is wrong, joined: each part of a Command checks
// its own, such as [Port.Check].
//
// If it has a method Warning() error as well, what that returns is told, and keeps nothing
// from being fine: the program could run so, though not as somebody may expect. So it is with
// variables of the environment that look as if they set a flag, and set none.
type Checker interface {
	Command
	Check(ctx context.Context) error
	Checking() bool
}

// check is what a program does with --check.
func check(ctx context.Context, c Checker, p Program) error {
	EndInTime(ctx, errors.New("stopped before everything was checked"))
	if err := c.Check(ctx); err != nil {
		return err
	}
	warnings, err := strange(c, p, os.Environ())
	if err != nil {
		return err
	}
	if w, ok := c.(interface{ Warning() error }); ok {
		if warning := w.Warning(); warning != nil {
			warnings = append(warnings, warning)
		}
	}
	what := "everything"
	for _, warning := range warnings {
		if _, err := fmt.Printf("%s: warning: %s\n", p.Name, printable(warning.Error(), 0)); err != nil {
			return err
		}
		what = "everything else"
	}
	_, err = fmt.Printf("%s: %s is fine\n", p.Name, what)
	return err
}

// strange returns a warning for each variable of env that looks as if it was to set a flag of
// c, and sets none. It may well be for another program, or be that of an argument, as some
// systems have it.
func strange(c Command, p Program, env []string) (warnings []error, err error) {
	parser, err := newParser(c, p)
	if err != nil {
		return nil, err
	}
	for _, e := range slices.Sorted(slices.Values(env)) {
		name, value, _ := strings.Cut(e, "=")
		if value == "" || !strings.HasPrefix(name, envPrefix) {
			continue
		}
		warning := fmt.Errorf("%s sets no flag of %s", name, p.Name)
		least := 3
		for _, v := range values(parser) {
			flag := envName(v)
			if flag == name || v.Flag == nil && variable(v) == name {
				warning = nil
				break
			}
			if d := distance(name, flag); flag != "" && d < least {
				least, warning = d, fmt.Errorf("%s sets no flag of %s; is it %s?", name, p.Name, flag)
			}
		}
		if warning != nil {
			warnings = append(warnings, warning)
		}
	}
	return warnings, nil
}

// Check says whether a server may listen on the port, or could serve the socket that the
// service manager has passed. A port that is in use is fine:
// it may be that of the very server that is to be told of a new configuration.
// Whether one may is known on Unix only.
func (p Port) Check() error {
	if ln, err := passed(p); ln != nil || err != nil {
		if err == nil {
			err = ln.Close()
		}
		return err
	}
	if err := bind(uint16(p)); err != nil {
		return fmt.Errorf("cannot listen on port %d: %w", p, err)
	}
	return nil
}

// CheckDir says whether fs.OpenDir could open dir, or create it, and whether there are
// minFree bytes free then. What it creates to try it is gone when it returns.
func CheckDir(dir string, minFree int64) (err error) {
	try := dir
	if _, serr := os.Stat(dir); dir != "" && errors.Is(serr, os.ErrNotExist) {
		parent := filepath.Clean(dir)
		for parent != filepath.Dir(parent) {
			// What is a symbolic link to nothing is there, and in the way.
			if _, err := os.Lstat(parent); !errors.Is(err, os.ErrNotExist) {
				break
			}
			parent = filepath.Dir(parent)
		}
		if try, err = os.MkdirTemp(parent, ".accio-check-"); err != nil {
			if path := (*os.PathError)(nil); errors.As(err, &path) {
				err = path.Err
			}
			return fmt.Errorf("cannot create %q in %q: %w", dir, parent, err)
		}
		defer func() { err = errors.Join(err, os.Remove(try)) }()
	}
	store, err := fs.OpenDir(try, fs.WithDurability(fs.None))
	if err != nil {
		return fmt.Errorf("cannot save files in %q: %w", dir, err)
	}
	defer store.Close()
	if minFree <= 0 {
		return nil
	}
	switch free, err := store.Free(); {
	case err != nil:
		return fmt.Errorf("--min-free cannot be kept: %w", err)
	case free < minFree:
		return fmt.Errorf("--min-free cannot be kept: of %d bytes, %d are free on the disk of %q", minFree, free, dir)
	}
	return nil
}
