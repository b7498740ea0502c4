package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Checker is a Command with the flag --check.
//
// Check returns all reasons, joined, why Run would fail. It changes nothing and disturbs
// no running program. If the command has a method Warning() error, its error is shown as
// a warning only.
type Checker interface {
	Command
	Check(context.Context) error
}

// runCheck runs the program with --check.
func (f *FlagSet) runCheck(ctx context.Context, c Checker) error {
	EndInTime(ctx, errors.New("stopped before the check was complete"))
	if err := c.Check(ctx); err != nil {
		return err
	}
	warnings := f.unknownVariables(os.Environ())
	if w, ok := c.(interface{ Warning() error }); ok {
		if warning := w.Warning(); warning != nil {
			warnings = append(warnings, warning.Error())
		}
	}
	checked := "everything"
	for _, warning := range warnings {
		if _, err := fmt.Printf("%s: warning: %s\n", f.program.Name, Printable(warning, 0)); err != nil {
			return err
		}
		checked = "everything else"
	}
	_, err := fmt.Printf("%s: %s is fine\n", f.program.Name, checked)
	return err
}

// unknownVariables returns a warning for each variable of env that has the prefix of ours
// and sets no flag. It is no error, since it may belong to another program. Variables
// with the names of arguments are common (ACCIO_PORT on Kubernetes) and ignored.
func (f *FlagSet) unknownVariables(env []string) (warnings []string) {
	known := []string{envName(configFlag)}
	for _, flag := range f.settable()[len(f.arguments):] {
		known = append(known, envName(flag.Name))
	}
	for _, e := range slices.Sorted(slices.Values(env)) {
		name, value, _ := strings.Cut(e, "=")
		isArgument := func(arg *pflag.Flag) bool { return envName(arg.Name) == name }
		if value == "" || !strings.HasPrefix(name, envPrefix) || slices.Contains(known, name) || slices.ContainsFunc(f.arguments, isArgument) {
			continue
		}
		warnings = append(warnings, fmt.Sprintf("%s sets no flag of %s%s", name, f.program.Name, suggest(name, known)))
	}
	return warnings
}
