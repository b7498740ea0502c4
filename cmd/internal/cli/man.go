package cli

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/alecthomas/kong"
)

// manFlag prints the man page.
type manFlag bool

func (manFlag) BeforeReset(k *kong.Kong, p Program) error { return show(k, manPage(k, p)) }

func (manFlag) IsBool() bool { return true }

// manPage is the man page of a program, in the language of man(7).
func manPage(k *kong.Kong, p Program) string {
	var b strings.Builder
	section := func(name string) { fmt.Fprintf(&b, ".SH %s\n", name) }
	paragraph := func(text string) { fmt.Fprintf(&b, "%s\n", roff(text)) }
	item := func(term, text string) { fmt.Fprintf(&b, ".TP\n%s\n%s\n", term, roff(text)) }
	items := func(list []Item) {
		for _, i := range list {
			item(`\fB`+roff(i[0])+`\fR`, sentence(i[1]))
		}
	}
	fmt.Fprintf(&b, ".TH %s 1 \"\" \"%s %s\" \"Accio\"\n", roff(strings.ToUpper(p.Name)), roff(p.Name), roff(BuildVersion()))
	section("NAME")
	does := []rune(strings.TrimSuffix(p.Summary, "."))
	does[0] = unicode.ToLower(does[0])
	fmt.Fprintf(&b, "%s \\- %s\n", roff(p.Name), roff(string(does)))

	section("SYNOPSIS")
	fmt.Fprintf(&b, ".B %s\n[\\fIflags\\fR]", roff(p.Name))
	for _, arg := range k.Model.Positional {
		fmt.Fprintf(&b, " \\fI%s\\fR", roff(arg.Name))
	}
	fmt.Fprintln(&b)

	section("DESCRIPTION")
	paragraph(p.Summary)
	for text := range strings.SplitSeq(p.Details, "\n\n") {
		if text != "" {
			fmt.Fprintln(&b, ".PP")
			paragraph(text)
		}
	}
	for _, arg := range k.Model.Positional {
		item(`\fI`+roff(arg.Name)+`\fR`, arg.Help)
	}

	section("OPTIONS")
	var groups []string
	of := make(map[string][]*kong.Flag)
	for _, f := range flags(k) {
		group := ""
		if f.Group != nil {
			group = f.Group.Title
		}
		if of[group] == nil {
			groups = append(groups, group)
		}
		of[group] = append(of[group], f)
	}
	for _, group := range groups {
		if group != "" {
			fmt.Fprintf(&b, ".SS %s\n", roff(strings.TrimSuffix(group, ":")))
		}
		for _, f := range of[group] {
			var names []string
			for _, name := range spellings(f) {
				names = append(names, `\fB`+roff(name)+`\fR`)
			}
			term := strings.Join(names, ", ")
			if !f.IsBool() {
				term += `=\fI` + roff(f.FormatPlaceHolder()) + `\fR`
			}
			item(term, f.Help)
		}
	}

	section("ENVIRONMENT")
	paragraph("Each variable sets the flag of its name, unless the command line does, and counts more than a file. One that is empty is not set.")
	for _, f := range flags(k) {
		if env := envName(f.Value); env != "" {
			item(`\fB`+roff(env)+`\fR`, "--"+f.Name)
		}
	}

	section("FILES")
	paragraph("The file of --config is TOML. Its keys are the names of the flags, without the dashes, and those of the arguments in small letters. Sizes and times are in quotes; flags without a value are true or false; flags that can be repeated are lists. A relative path is so to where the program runs. What the file does not know is an error.")
	if p.Config != "" {
		fmt.Fprintf(&b, ".PP\n.EX\n%s.EE\n", roff(p.Config))
	}

	section("EXIT STATUS")
	items(p.Exits)
	if len(p.Signals) > 0 {
		section("SIGNALS")
		items(p.Signals)
	}
	if len(p.Examples) > 0 {
		section("EXAMPLES")
		for i, e := range p.Examples {
			if i > 0 {
				fmt.Fprintln(&b, ".PP")
			}
			fmt.Fprintf(&b, "%s\n.PP\n.EX\n%s\n.EE\n", roff(sentence(e[1])), roff(p.example(e)))
		}
	}
	section("SEE ALSO")
	prefix := ""
	if strings.HasPrefix(p.Name, installedPrefix) {
		prefix = installedPrefix
	}
	var others []string
	for _, name := range []string{"client", "conform", "server", "server-s"} {
		if name = prefix + name; name != p.Name {
			others = append(others, `\fB`+roff(name)+`\fR(1)`)
		}
	}
	fmt.Fprintln(&b, strings.Join(others, ",\n"))
	return b.String()
}

// roff is text with nothing in it that would be taken for a command.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`, `"`, `\(dq`).Replace(text)
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") {
			lines[i] = `\&` + line
		}
	}
	return strings.Join(lines, "\n")
}

// sentence is text with a capital letter and a full stop.
func sentence(text string) string {
	runes := []rune(text)
	runes[0] = unicode.ToUpper(runes[0])
	return strings.TrimSuffix(string(runes), ".") + "."
}
