package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func manOf(t *testing.T) string {
	t.Helper()
	parser, err := newParser(new(grammar), program)
	if err != nil {
		t.Fatal(err)
	}
	out, code := new(strings.Builder), -1
	parser.Stdout, parser.Exit = out, func(c int) { code = c }
	parse(parser, []string{"--man"})
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	return out.String()
}

func TestManPage(t *testing.T) {
	page := manOf(t)
	for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "ENVIRONMENT", "FILES", "EXIT STATUS", "SIGNALS", "EXAMPLES", "SEE ALSO"} {
		_, rest, ok := strings.Cut(page, "\n.SH "+section+"\n")
		if !ok {
			t.Fatalf("section %s is not there, or not in its place", section)
		}
		page = rest
	}
	parser, err := newParser(new(grammar), program)
	if err != nil {
		t.Fatal(err)
	}
	page = manOf(t)
	for _, v := range values(parser) {
		if want := roff(v.Name); !strings.Contains(page, want) {
			t.Errorf("nothing is said of %s", v.Name)
		}
		if env := envName(v); env != "" && !strings.Contains(page, `\fB`+env+`\fR`) {
			t.Errorf("nothing is said of %s", env)
		}
	}
}

// What there is to judge a page has nothing to say.
func TestManPageIsRight(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pro-gram.1")
	if err := os.WriteFile(name, []byte(manOf(t)), 0o666); err != nil {
		t.Fatal(err)
	}
	tried := false
	for _, judge := range [][]string{{"groff", "-man", "-ww", "-z"}, {"man", "--warnings", "-l"}, {"mandoc", "-Tlint", "-Wwarning"}} {
		if _, err := exec.LookPath(judge[0]); err != nil {
			continue
		}
		tried = true
		cmd := exec.Command(judge[0], append(judge[1:], name)...)
		var said strings.Builder
		cmd.Stderr = &said
		if judge[0] == "mandoc" {
			cmd.Stdout = &said
		}
		cmd.Run() // mandoc's exit code counts what is excused below
		for line := range strings.Lines(said.String()) {
			// A date would be that of the build, and change with it.
			if !strings.Contains(line, "missing date") {
				t.Errorf("%s: %s", judge[0], line)
			}
		}
	}
	if !tried {
		t.Skip("there is neither groff nor man nor mandoc")
	}
	for width, wants := range map[string][]string{
		"78": {"pro-gram - do things", ".Second 'quoted'.", `.5 of a \ or more. 'Quoted' $HOME.`, `.5 = "\\n"`, "SIGINT, SIGTERM, SIGQUIT", `--level="low"`},
	} {
		cmd := exec.Command("man", "-l", name)
		cmd.Env = append(os.Environ(), "MANWIDTH="+width, "MANPAGER=cat", "LC_ALL=C", "GROFF_NO_SGR=1", "MAN_KEEP_FORMATTING=")
		out, err := cmd.Output()
		if err != nil {
			t.Skip(err)
		}
		for _, want := range wants {
			if !strings.Contains(string(out), want) {
				t.Errorf("%q is not in the page:\n%s", want, out)
			}
		}
	}
}

// A program says of itself, and of those beside it, the names under which they are installed.
func TestAProgramIsCalledAsItIsInstalled(t *testing.T) {
	p := Program{Name: "server", Summary: "Do things.", Examples: []Item{{"cat server | $0 5000 $HOME", "do it"}}}
	for argv0, want := range map[string]string{
		"server": "server", "/usr/bin/accio-server": "accio-server", "accio-server.exe": "accio-server",
		"bin/accio-server-s": "server", "accio-": "server", "": "server", "copy-of-server": "server",
	} {
		got := p.as(argv0)
		if got.Name != want || p.Name != "server" {
			t.Errorf("%q is called %q", argv0, got.Name)
		}
		parser, err := newParser(new(grammar), got)
		if err != nil {
			t.Fatal(err)
		}
		help, example := got.description(firstFlag(parser)), "cat server | "+want+" 5000 $"
		if !strings.Contains(help, "\t"+example) {
			t.Errorf("%q: the help has no %q", argv0, example)
		}
		page := manPage(parser, got)
		other := strings.TrimSuffix(want, "server") + "client"
		for _, s := range []string{"\n.SH NAME\n" + roff(want) + " ", roff(example), `\fB` + roff(other) + `\fR(1)`} {
			if !strings.Contains(page, s) {
				t.Errorf("%q: the man page has no %q", argv0, s)
			}
		}
		if self := `\fB` + roff(want) + `\fR(1)`; strings.Contains(page, self) {
			t.Errorf("%q: the page refers to itself", argv0)
		}
		if script := bashCompletion(parser); !strings.HasSuffix(script, "\ncomplete -F _accio_server "+want+"\n") {
			t.Errorf("%q: the completion is for another", argv0)
		}
	}
}
