package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"unicode"

	"github.com/alecthomas/kong"
)

// Program says what a program is, to those who ask for its --help or its man page.
// Its flags are not told here: they are those of its Command.
type Program struct {
	Name     string
	Summary  string // what it does, in one sentence
	Details  string // more of that, in paragraphs with an empty line between them, or ""
	Examples []Item // command lines, in which $0 is the program's name, and what they do
	Config   string // an example of a file for --config
	Exits    []Item // exit codes, and what they mean
	Signals  []Item // signals, and what they do
}

// installedPrefix is what the programs' names begin with where they are installed beside
// those of others, whose names may be as general as theirs.
const installedPrefix = "accio-"

// as is p by the name under which it was started, if it was installed under that.
func (p Program) as(argv0 string) Program {
	if name := strings.TrimSuffix(filepath.Base(argv0), ".exe"); name == installedPrefix+p.Name {
		p.Name = name
	}
	return p
}

// example is the command line of an example.
func (p Program) example(e Item) string { return strings.ReplaceAll(e[0], "$0", p.Name) }

// Item is one of a list in a Program: a term, and what there is to say of it.
type Item [2]string

// What all servers have in their Program.
var (
	ServerExits = []Item{
		{"0", "stopped by a signal, or what was asked for is done"},
		{"1", "it cannot go on, or --check has found a fault"},
		{"2", "the arguments, the environment or the file of --config make no sense"},
	}
	ServerSignals = []Item{
		{"SIGINT, SIGTERM, SIGQUIT", "stop the program, within a second; with --drain, once clients have finished or that time is over. A second one ends that."},
		{"SIGHUP", "read the files of TLS again, and log-level in that of --config. Without such files, and unless a service manager has started it, end the program."},
	}
)

// groupLast is the group of the flags that every program has. It is the last.
const groupLast = "Configuration and help:"

// Flags are the flags that every program has, to be embedded in its Command. Groups
// of other flags are named by their group tags.
//
// Each flag is also a variable of the environment and a key of the file of --config,
// under its own name. That is not so for flags that do something and end the
// program; who adds such a flag gives its type a BeforeReset method, as kong has it,
// or the field the tag `args:"only"`. A flag or argument that names a file or a
// directory has the tag `path:"file"` or `path:"dir"`, for completion.
type Flags struct {
	Config     string          `args:"only" group:"Configuration and help:" path:"file" placeholder:"FILE" help:"Read flags, and arguments that are left out, from a TOML file. ACCIO_CONFIG can name it, too."`
	Version    versionFlag     `group:"Configuration and help:" help:"Print the version and exit."`
	Completion *completionFlag `group:"Configuration and help:" enum:"bash,zsh,fish" placeholder:"bash|zsh|fish" help:"Print the script that has bash, zsh or fish complete the flags of this program, and exit."`
	Man        manFlag         `group:"Configuration and help:" help:"Print the man page and exit."`
}

// newParser returns kong's parser of cmd.
func newParser(cmd any, p Program) (*kong.Kong, error) {
	return kong.New(cmd,
		kong.Name(p.Name),
		kong.Vars{"version": p.Name + " " + BuildVersion()},
		kong.Bind(p),
		durations, numbers,
		kong.Help(func(options kong.HelpOptions, ctx *kong.Context) error {
			return Shown(kong.DefaultHelpPrinter(options, ctx))
		}),
		kong.PostBuild(func(k *kong.Kong) error {
			help := k.Model.HelpFlag
			help.Help, help.Group = "Show this help and exit.", &kong.Group{Key: groupLast, Title: groupLast}
			slices.SortStableFunc(k.Model.Flags, func(a, b *kong.Flag) int { return cmp.Compare(place(a), place(b)) })
			k.Model.Help = p.description(firstFlag(k))
			return nil
		}),
	)
}

// place is where the group of a flag stands: those without one are the first.
func place(f *kong.Flag) int {
	switch {
	case f.Group == nil:
		return 0
	case f.Group.Key == groupLast:
		return 2
	}
	return 1
}

// firstFlag is the first that is also set elsewhere.
func firstFlag(k *kong.Kong) *kong.Flag {
	return k.Model.Flags[slices.IndexFunc(k.Model.Flags, func(f *kong.Flag) bool { return settable(f.Value) })]
}

// description is what --help says above the flags, with one of them as an example.
func (p Program) description(f *kong.Flag) string {
	var b strings.Builder
	fmt.Fprintln(&b, p.Summary)
	if p.Details != "" {
		fmt.Fprintf(&b, "\n%s\n", p.Details)
	}
	if len(p.Examples) > 0 {
		fmt.Fprint(&b, "\nFor example:\n\n")
		for _, e := range p.Examples {
			fmt.Fprintf(&b, "\t%s\n", p.example(e))
		}
	}
	fmt.Fprintf(&b, "\nEvery flag can also be set by a variable of the environment, as --%s by %s, and under its name in the TOML file of --config. "+
		"The command line counts more than the environment, and that more than the file.\n", f.Name, envName(f.Value))
	if len(p.Exits) > 0 {
		fmt.Fprint(&b, "\nExit codes: ")
		for i, e := range p.Exits {
			if i > 0 {
				fmt.Fprint(&b, "; ")
			}
			fmt.Fprint(&b, e[0], " ", e[1])
		}
		fmt.Fprintln(&b, ".")
	}
	// What is like a variable is none.
	return strings.ReplaceAll(b.String(), "$", "$$")
}

// settable reports whether the environment and a file may set the flag or argument.
func settable(v *kong.Value) bool {
	return v.Tag.Get("args") != "only" && !acts(v)
}

// acts reports whether a flag does something and ends the program.
func acts(v *kong.Value) bool {
	const hook = "BeforeReset"
	return v.Target.MethodByName(hook).IsValid() || v.Target.Addr().MethodByName(hook).IsValid()
}

// values are the flags and the arguments of a program, in their order.
func values(k *kong.Kong) []*kong.Value { return k.Model.Node.Values() }

// envName is the variable of the environment that sets a flag; arguments have none.
func envName(v *kong.Value) string {
	if v.Flag == nil || !settable(v) && v.Name != configFlag {
		return ""
	}
	return variable(v)
}

// variable is the name of v, as a variable has it.
func variable(v *kong.Value) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(v.Name, "-", "_"))
}

// keyName is the key of a file that sets a flag or an argument.
func keyName(v *kong.Value) string {
	if !settable(v) {
		return ""
	}
	return strings.ToLower(v.Name)
}

// kind is the kind of what v holds, or points to, or is a list of.
func kind(v *kong.Value) reflect.Kind {
	t := v.Target.Type()
	if t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	return t.Kind()
}

// firstSentence is what fits into a list.
func firstSentence(text string) string {
	for i := range text {
		if text[i] == '.' && (i+1 == len(text) || text[i+1] == ' ' && i+2 < len(text) && !unicode.IsLower(rune(text[i+2]))) {
			return text[:i]
		}
	}
	return text
}

// show writes what a flag shows before it ends the program, and ends it.
func show(k *kong.Kong, text string) error {
	if _, err := io.WriteString(k.Stdout, text); err != nil {
		return Shown(err)
	}
	k.Exit(0)
	return nil
}

// versionFlag prints the version.
type versionFlag bool

func (versionFlag) BeforeReset(k *kong.Kong, vars kong.Vars) error {
	return show(k, vars["version"]+"\n")
}

func (versionFlag) IsBool() bool { return true }

// Shown returns what to end a program with that was to show something on standard output,
// such as its help, and for which that ended with err. If nobody reads it any longer, as
// when head(1) has enough, the program fails without a word.
func Shown(err error) error {
	if err == nil {
		return nil
	}
	return &showError{err}
}

type showError struct{ error }

func (e *showError) Unwrap() error { return e.error }

// unread reports whether err says that nobody reads what was to be shown.
func unread(err error) bool {
	e := (*showError)(nil)
	return errors.As(err, &e) && errors.Is(e, syscall.EPIPE)
}
