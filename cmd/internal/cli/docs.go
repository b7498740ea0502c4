package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// Program describes a program, for --help and the man page. Its Command adds the
// flags.
type Program struct {
	Name     string
	Summary  string // one sentence
	Examples []Item // command lines, in which $0 is the name of the program, and their purpose
	Config   string // example of a configuration file
	Exits    []Item // exit codes and their meaning
	Signals  []Item // signals and their effect
}

// Item is an entry of a list: a term and its explanation.
type Item [2]string

// Exit codes and signals of all servers.
var (
	ServerExits = []Item{
		{"0", "stopped by a signal, or the request is done"},
		{"1", "failed, or --check found a fault"},
		{"2", "the arguments, the environment or the configuration file are wrong"},
	}
	ServerSignals = []Item{
		{"SIGINT, SIGTERM, SIGQUIT", "stop the program within a second; with --drain, once clients have finished or the drain time is over. A second signal ends the drain."},
		{"SIGHUP", "read the TLS files again, and log-level in the configuration file. Without such files and without a service manager, end the program."},
	}
)

const (
	envHelp = "Each flag can also be set by an environment variable, such as --%s by %s, or by its name in the TOML file of --config. " +
		"The command line overrides the environment, which overrides the file."
	envMan = "Each flag, except those that print something, is also a variable: ACCIO_ and the name of the flag in upper case, with _ for -, such as ACCIO_CONFIG for --config. " +
		"The command line overrides the variable, which overrides the configuration file. An empty variable is ignored."
	fileMan = "The configuration file is TOML. Its keys are the names of the flags without the dashes, and the names of the arguments in lower case. " +
		"Sizes and times are in quotes. Flags without a value are true or false. Flags that can be repeated are lists. " +
		"Relative paths start at the working directory. An unknown key is an error."
)

// installedPrefix begins the names of the programs where a package installs them.
const installedPrefix = "accio-"

// as returns p with the name under which it was started, if a package installed it.
func (p Program) as(argv0 string) Program {
	if name := strings.TrimSuffix(filepath.Base(argv0), ".exe"); name == installedPrefix+p.Name {
		p.Name = name
	}
	return p
}

// example returns the command line of an example.
func (p Program) example(e Item) string { return strings.ReplaceAll(e[0], "$0", p.Name) }

// output returns the function that prints for a flag such as --help. It returns nil
// without such a flag.
func (f *FlagSet) output() func(io.Writer) error {
	text := ""
	switch {
	case f.help:
		text = f.helpText(width())
	case f.version:
		text = f.program.Name + " " + BuildVersion() + "\n"
	case f.man:
		text = f.manPage()
	case f.completion != "":
		return f.writeCompletion
	default:
		return nil
	}
	return func(w io.Writer) error {
		_, err := io.WriteString(w, text)
		return err
	}
}

// width returns the number of columns for --help.
func width() int {
	columns, err := strconv.Atoi(os.Getenv("COLUMNS"))
	if err != nil {
		columns, _, err = term.GetSize(int(os.Stdout.Fd()))
	}
	if err != nil {
		return 80
	}
	return min(max(columns, 40), 120)
}

// fill breaks text into lines.
func fill(text string, width int) string {
	var b strings.Builder
	at := 0
	for _, word := range strings.Fields(text) {
		if at > 0 && at+1+len(word) > width {
			b.WriteByte('\n')
			at = 0
		} else if at > 0 {
			b.WriteByte(' ')
			at++
		}
		b.WriteString(word)
		at += len(word)
	}
	return b.String() + "\n"
}

// usage returns the command line in general.
func (f *FlagSet) usage() string {
	usage := f.program.Name + " [flags]"
	for _, arg := range f.arguments {
		usage += " " + arg.Name
	}
	return usage
}

func (f *FlagSet) helpText(width int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s\n\n%s", f.usage(), fill(f.program.Summary, width))
	fmt.Fprint(&b, "\nFor example:\n\n")
	for _, e := range f.program.Examples {
		fmt.Fprintf(&b, "    %s\n", f.program.example(e))
	}
	if len(f.arguments) > 0 {
		fmt.Fprint(&b, "\nArguments:\n")
		for _, arg := range f.arguments {
			fmt.Fprintf(&b, "  %-10s %s\n", arg.Name, arg.Usage)
		}
	}
	for _, g := range f.groups {
		if g.HasFlags() {
			fmt.Fprintf(&b, "\n%s:\n%s", g.title, g.FlagUsagesWrapped(width))
		}
	}
	first := f.settable()[len(f.arguments)].Name
	fmt.Fprintf(&b, "\n%s\nExit codes:\n", fill(fmt.Sprintf(envHelp, first, envName(first)), width))
	for _, e := range f.program.Exits {
		fmt.Fprintf(&b, "  %s  %s\n", e[0], strings.ReplaceAll(strings.TrimSpace(fill(e[1], width-5)), "\n", "\n     "))
	}
	return b.String()
}

// manPage returns the man page in the language of man(7).
func (f *FlagSet) manPage() string {
	p := f.program
	var b strings.Builder
	section := func(name, text string) { fmt.Fprintf(&b, "# %s\n\n%s\n\n", name, text) }
	item := func(term, text string) { fmt.Fprintf(&b, "%s\n: %s\n\n", term, markdown(text)) }
	bold := func(text string) string { return "**" + markdown(text) + "**" }

	fmt.Fprintf(&b, "%% %q \"1\" \"\" %q \"Accio\"\n\n", strings.ToUpper(p.Name), p.Name+" "+BuildVersion())
	summary := []rune(strings.TrimSuffix(p.Summary, "."))
	summary[0] = unicode.ToLower(summary[0])
	section("NAME", markdown(p.Name+" - "+string(summary)))
	section("SYNOPSIS", markdown(f.usage()))
	section("DESCRIPTION", markdown(p.Summary))
	for _, arg := range f.arguments {
		item("*"+markdown(arg.Name)+"*", arg.Usage)
	}
	section("OPTIONS", "")
	for _, g := range f.groups {
		if g.HasFlags() {
			fmt.Fprintf(&b, "### %s\n\n", g.title)
		}
		g.VisitAll(func(flag *pflag.Flag) {
			placeholder, usage := pflag.UnquoteUsage(flag)
			names := bold("--" + flag.Name)
			if flag.NoOptDefVal == "" {
				names += "=*" + markdown(placeholder) + "*"
			}
			if flag.Shorthand != "" {
				names += ", " + bold("-"+flag.Shorthand)
			}
			if flag.DefValue != "" {
				usage += " (default " + flag.DefValue + ")"
			}
			item(names, usage)
		})
	}
	section("ENVIRONMENT", markdown(envMan))
	section("FILES", markdown(fileMan)+"\n\n```\n"+p.Config+"```")
	for _, list := range []struct {
		title string
		items []Item
	}{{"EXIT STATUS", p.Exits}, {"SIGNALS", p.Signals}} {
		if len(list.items) > 0 {
			section(list.title, "")
		}
		for _, i := range list.items {
			item(bold(i[0]), sentence(i[1]))
		}
	}
	section("EXAMPLES", "")
	for _, e := range p.Examples {
		fmt.Fprintf(&b, "%s\n\n```\n%s\n```\n\n", markdown(sentence(e[1])), p.example(e))
	}
	prefix := ""
	if strings.HasPrefix(p.Name, installedPrefix) {
		prefix = installedPrefix
	}
	var others []string
	for _, name := range []string{"client", "conform", "server", "server-s"} {
		if prefix+name != p.Name {
			others = append(others, bold(prefix+name)+"(1)")
		}
	}
	section("SEE ALSO", strings.Join(others, ", "))
	page := string(md2man.Render([]byte(b.String())))
	// A plain "-" is a hyphen, which a reader cannot search for or copy to a shell.
	return strings.NewReplacer(`\-`, `\-`, "-", `\-`).Replace(page)
}

// markdown returns text with its special characters escaped.
func markdown(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`, "<", `\<`, "&", `\&`, "#", `\#`).Replace(text)
}

// sentence returns text with a capital letter and a full stop.
func sentence(text string) string {
	runes := []rune(text)
	runes[0] = unicode.ToUpper(runes[0])
	return strings.TrimSuffix(string(runes), ".") + "."
}

var shells = []string{"bash", "zsh", "fish", "powershell"}

// writeCompletion writes the completion script of a shell. The script asks the program
// itself, by a hidden command of package cobra.
func (f *FlagSet) writeCompletion(w io.Writer) error {
	c := f.completer()
	switch f.completion {
	case "bash":
		return c.GenBashCompletionV2(w, true)
	case "zsh":
		return c.GenZshCompletion(w)
	case "fish":
		return c.GenFishCompletion(w, true)
	}
	return c.GenPowerShellCompletionWithDesc(w)
}

// completer returns a command that completes the flags and arguments.
func (f *FlagSet) completer() *cobra.Command {
	c := &cobra.Command{Use: f.program.Name, Args: cobra.ArbitraryArgs, Run: func(*cobra.Command, []string) {}}
	c.CompletionOptions.DisableDefaultCmd = true
	c.SetErr(io.Discard) // names the directive in words
	c.ValidArgsFunction = func(_ *cobra.Command, given []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(given) >= len(f.arguments) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return completions(f.arguments[len(given)].Value)
	}
	c.Flags().AddFlagSet(f.all)
	f.all.VisitAll(func(flag *pflag.Flag) {
		flag.Usage = firstSentence(flag.Usage)
		c.RegisterFlagCompletionFunc(flag.Name, func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return completions(flag.Value)
		})
	})
	return c
}

// completions returns the possible values.
func completions(v pflag.Value) ([]cobra.Completion, cobra.ShellCompDirective) {
	switch v.Type() {
	case "file":
		return nil, cobra.ShellCompDirectiveDefault
	case "dir":
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
	var words []string
	if w, ok := v.(interface{ Words() []string }); ok {
		words = w.Words()
	}
	return words, cobra.ShellCompDirectiveNoFileComp
}

// firstSentence returns the part of a usage that fits into a list, without backquotes.
func firstSentence(usage string) string {
	first, _, _ := strings.Cut(strings.ReplaceAll(usage, "`", ""), ". ")
	return strings.TrimSuffix(first, ".")
}

// Shown returns the error for a program that could not print its output. If the reader
// has gone, as head(1) does, the program fails silently.
func Shown(err error) error {
	if err == nil {
		return nil
	}
	return &showError{err}
}

type showError struct{ error }

func (e *showError) Unwrap() error { return e.error }

// readerGone reports whether err says that the reader of the output has gone.
func readerGone(err error) bool {
	e := (*showError)(nil)
	return errors.As(err, &e) && errors.Is(e, syscall.EPIPE)
}
