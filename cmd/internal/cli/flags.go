package cli

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// FlagSet holds the flags of a program, in groups, and its arguments.
//
// Each flag is also an environment variable and a key of the configuration file. The
// flags that only the command line has, such as --help, are in the last group.
type FlagSet struct {
	command   Command
	program   Program
	groups    []*Group
	all       *pflag.FlagSet
	arguments []*pflag.Flag
	own       *Group            // flags of the command line only
	given     []string          // the command line
	config    string            // name of the configuration file, or empty
	places    map[string]string // where each flag was set: a flag, a variable, a line of the file

	check, help, version, man bool
	completion                string
}

// Group is a list of flags that --help shows under one title.
type Group struct {
	*pflag.FlagSet
	title string
	all   *pflag.FlagSet
}

// newFlagSet returns the flags of cmd with their default values.
func newFlagSet(cmd Command, p Program) *FlagSet {
	f := &FlagSet{command: cmd, program: p, all: newSet(p.Name), places: make(map[string]string)}
	f.own = &Group{newSet(""), "Configuration and help", f.all}
	f.Group("Flags")
	cmd.Flags(f)
	f.own.Add(File(&f.config), configFlag, "", "Read flags and missing arguments from the TOML file `FILE`. "+envName(configFlag)+" can name it, too.")
	if _, ok := cmd.(Checker); ok {
		f.own.Add(Bool(&f.check), "check", "", "Check the flags, the environment, the configuration file, the port and the directory, and exit. This changes nothing and does not disturb a running server.")
	}
	f.own.Add(Bool(&f.version), "version", "", "Print the version and exit.")
	f.own.Add(Enum(&f.completion, shells...), "completion", "", "Print the completion script for `SHELL` ("+alternatives(shells)+") and exit.")
	f.own.Add(Bool(&f.man), "man", "", "Print the man page and exit.")
	f.own.Add(Bool(&f.help), "help", "h", "Print this help and exit.")
	f.groups = append(f.groups, f.own)
	return f
}

func newSet(name string) *pflag.FlagSet {
	set := pflag.NewFlagSet(name, pflag.ContinueOnError)
	set.SortFlags = false
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	return set
}

// Group returns the group of that title. The first call for a title creates the group.
func (f *FlagSet) Group(title string) *Group {
	for _, g := range f.groups {
		if g.title == title {
			return g
		}
	}
	g := &Group{newSet(""), title, f.all}
	f.groups = append(f.groups, g)
	return g
}

// Add adds a flag. The usage has the placeholder of the value in backquotes.
func (g *Group) Add(value pflag.Value, name, short, usage string) {
	flag := g.VarPF(value, name, short, usage)
	if value.Type() == "bool" {
		flag.NoOptDefVal = "true"
	}
	g.all.AddFlag(flag)
}

// Argument adds a positional argument, which the configuration file can set as well.
func (f *FlagSet) Argument(value pflag.Value, name, usage string) {
	f.arguments = append(f.arguments, &pflag.Flag{Name: name, Usage: usage, Value: value})
}

// settable returns the flags and arguments that the file can set.
func (f *FlagSet) settable() []*pflag.Flag {
	all := slices.Clone(f.arguments)
	f.all.VisitAll(func(flag *pflag.Flag) {
		if f.own.Lookup(flag.Name) == nil {
			all = append(all, flag)
		}
	})
	return all
}

// ConfigFile returns the name of the configuration file, or an empty string.
func (f *FlagSet) ConfigFile() string { return f.config }

// Value returns the value of a flag as text.
func (f *FlagSet) Value(name string) string { return f.all.Lookup(name).Value.String() }

// Reread reads the configuration again, into a new Command.
func (f *FlagSet) Reread(fresh Command) (*FlagSet, error) { return Parse(fresh, f.program, f.given) }

// Changes returns the keys whose values differ from those in newer.
func (f *FlagSet) Changes(newer *FlagSet) (keys []string) {
	after := newer.settable()
	for i, flag := range f.settable() {
		if flag.Value.String() != after[i].Value.String() {
			keys = append(keys, keyName(flag.Name))
		}
	}
	return keys
}

// value is a pflag.Value that a function parses.
type value[T comparable] struct {
	to    *T
	parse func(string) (T, error)
	kind  string
	words []string // the only values, for completion
}

func (v *value[T]) Set(text string) error {
	parsed, err := v.parse(text)
	if err == nil {
		*v.to = parsed
	}
	return err
}

// String returns an empty string for the zero value, so that help shows no default.
func (v *value[T]) String() string {
	if *v.to == *new(T) {
		return ""
	}
	return fmt.Sprint(*v.to)
}

func (v *value[T]) Type() string    { return v.kind }
func (v *value[T]) Words() []string { return v.words }

func verbatim(text string) (string, error) { return text, nil }

// String returns the value of a flag that takes any text.
func String(to *string) pflag.Value { return &value[string]{to: to, parse: verbatim, kind: "string"} }

// File returns the value of a flag that names a file.
func File(to *string) pflag.Value { return &value[string]{to: to, parse: verbatim, kind: "file"} }

// Dir returns the value of a flag that names a directory.
func Dir(to *string) pflag.Value { return &value[string]{to: to, parse: verbatim, kind: "dir"} }

// Enum returns the value of a flag that takes one of a few words.
func Enum(to *string, words ...string) pflag.Value {
	return &value[string]{to: to, kind: "enum", words: words, parse: func(text string) (string, error) {
		if !slices.Contains(words, text) {
			return "", fmt.Errorf("must be %s, not %q", alternatives(words), text)
		}
		return text, nil
	}}
}

// alternatives joins words as "a, b or c".
func alternatives(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// Bool returns the value of a flag that needs no value on the command line.
func Bool(to *bool) pflag.Value {
	return &value[bool]{to: to, kind: "bool", parse: func(text string) (bool, error) {
		switch strings.ToLower(text) {
		case "true", "yes", "1":
			return true, nil
		case "false", "no", "0":
			return false, nil
		}
		return false, fmt.Errorf("must be true or false, not %q", text)
	}}
}

// Text returns the value of a flag that parses itself.
func Text[T comparable, P interface {
	*T
	encoding.TextUnmarshaler
}](to P) pflag.Value {
	return &value[T]{to: to, kind: "text", parse: func(text string) (parsed T, err error) {
		err = P(&parsed).UnmarshalText([]byte(text))
		return parsed, err
	}}
}

// Duration returns the value of a duration flag: at least least, which is 0 or 1.
func Duration(to *time.Duration, byDefault, least time.Duration) pflag.Value {
	*to = byDefault
	return &value[time.Duration]{to: to, kind: "duration", parse: func(text string) (time.Duration, error) {
		d, err := time.ParseDuration(text)
		if err != nil || d < least {
			err = fmt.Errorf("must be a number with a unit (ms, s, m, h), such as 10s or 1m30s, %s, not %q", atLeast(int(least)), text)
		}
		return d, err
	}}
}

// Int returns the value of a flag that takes a number from least, which is 0 or 1, to most.
func Int(to *int, byDefault, least, most int) pflag.Value {
	*to = byDefault
	return &value[int]{to: to, kind: "int", parse: func(text string) (int, error) {
		n, err := strconv.Atoi(text)
		if err != nil || n < least || n > most {
			allowed := atLeast(least)
			if most < math.MaxInt32 || n > most {
				allowed += fmt.Sprintf(" and at most %d", most)
			}
			return 0, fmt.Errorf("must be a whole number, %s, not %q", allowed, text)
		}
		return n, nil
	}}
}

func atLeast(least int) string {
	if least > 0 {
		return "more than 0"
	}
	return "0 or more"
}

// List returns the value of a flag that can be repeated.
func List(to *[]string) pflag.Value { return &list{to} }

type list struct{ to *[]string }

func (l *list) Set(text string) error        { return l.Append(text) }
func (l *list) String() string               { return strings.Join(*l.to, ",") }
func (l *list) Type() string                 { return "list" }
func (l *list) Append(text string) error     { *l.to = append(*l.to, text); return nil }
func (l *list) Replace(texts []string) error { *l.to = texts; return nil }
func (l *list) GetSlice() []string           { return *l.to }

// CertAndKey returns an error if only one of --tls-cert and --tls-key is set.
func CertAndKey(cert, key string) error {
	switch {
	case cert != "" && key == "":
		return FlagError("tls-cert", errors.New("it needs --tls-key, its private key"))
	case key != "" && cert == "":
		return FlagError("tls-key", errors.New("it needs --tls-cert, its certificate"))
	}
	return nil
}
