package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestHelp(t *testing.T) {
	text := newFlagSet(new(grammar), program).helpText(60)
	for _, want := range []string{"Usage: pro-gram [flags] PORT FILE-DIR\n\nDo things.\n", "    pro-gram -q 5000 .\n", "\nArguments:", "\nFlags:", "$HOME", "\nMore:", "\nConfiguration and help:", "ACCIO_", "\nExit codes:\n  0  done\n"} {
		_, after, ok := strings.Cut(text, want)
		if !ok {
			t.Errorf("%q is missing, or not in its place", want)
		}
		text = after
	}
	for line := range strings.Lines(newFlagSet(new(grammar), program).helpText(60)) {
		if len(line) > 60+1 {
			t.Errorf("the line %q is too long", line)
		}
	}
}

func TestHelp_despite_mistakes(t *testing.T) {
	t.Setenv("ACCIO_DRAIN", "soon")
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	defer func(stdout *os.File) { os.Stdout = stdout }(os.Stdout)
	os.Stdout = null
	if shown, err := newFlagSet(new(grammar), program).parse([]string{"--config=/no/such/file", "-h"}); !shown || err != nil {
		t.Errorf("shown is %v, %v", shown, err)
	}
}

func TestManPage(t *testing.T) {
	f := newFlagSet(new(grammar), program)
	page := f.manPage()
	rest := page
	for _, section := range []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "ENVIRONMENT", "FILES", "EXIT STATUS", "SIGNALS", "EXAMPLES", "SEE ALSO"} {
		_, after, ok := strings.Cut(rest, "\n.SH "+section+"\n")
		if !ok {
			t.Fatalf("the section %s is missing, or not in its place", section)
		}
		rest = after
	}
	f.all.VisitAll(func(flag *pflag.Flag) {
		if want := `\fB\-\-` + strings.ReplaceAll(flag.Name, "-", `\-`); !strings.Contains(page, want) {
			t.Errorf("%q is missing", want)
		}
	})
	name := filepath.Join(t.TempDir(), "pro-gram.1")
	if err := os.WriteFile(name, []byte(page), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("man"); err != nil {
		t.Skip(err)
	}
	cmd := exec.Command("man", "--warnings", "-l", name)
	cmd.Env = append(os.Environ(), "MANWIDTH=78", "MANPAGER=cat", "LC_ALL=C", "GROFF_NO_SGR=1", "MAN_KEEP_FORMATTING=")
	var warnings strings.Builder
	cmd.Stderr = &warnings
	out, err := cmd.Output()
	if err != nil || warnings.Len() > 0 {
		t.Skipf("%v, %s", err, &warnings)
	}
	for _, want := range []string{"pro-gram - do things", `.5 of a \ or more, N. 'Quoted' $HOME <x>.`, `.5 = "\\n"`, "SIGINT, SIGTERM, SIGQUIT", "*such* as a_b_c", "--grace=TIME", "(default 10s)", "client(1)"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing in the page:\n%s", want, out)
		}
	}
}

// A package installs the programs with a prefix.
func TestProgramName(t *testing.T) {
	p := Program{Name: "server", Summary: "Do things.", Examples: []Item{{"cat server | $0 5000 $HOME", "do it"}}}
	for argv0, want := range map[string]string{
		"server": "server", "/usr/bin/accio-server": "accio-server", "accio-server.exe": "accio-server",
		"bin/accio-server-s": "server", "accio-": "server", "": "server", "copy-of-server": "server",
	} {
		f := newFlagSet(new(grammar), p.as(argv0))
		if f.program.Name != want || !strings.Contains(f.helpText(80), "cat server | "+want+" 5000 $HOME\n") {
			t.Errorf("%q has the name %q", argv0, f.program.Name)
		}
		client := strings.TrimSuffix(want, "server") + "client"
		if page := strings.ReplaceAll(f.manPage(), `\-`, "-"); !strings.Contains(page, `\fB`+client+`\fP(1)`) || strings.Contains(page, `\fB`+want+`\fP(1)`) {
			t.Errorf("%q: wrong references to other pages", argv0)
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, tt := range []struct {
		line string
		want []string // and the directive of package cobra
	}{
		{"--dr", []string{"--drain", ":4"}},
		{"--no-such", []string{":4"}},
		{"--level ", []string{"low", "high", ":4"}},
		{"--level=", []string{"low", "high", ":4"}},
		{"--completion ", []string{"bash", "zsh", "fish", "powershell", ":4"}},
		{"--drain ", []string{":4"}},
		{"--log ", []string{":0"}}, // files
		{"", []string{":4"}},
		{"5000 ", []string{":16"}}, // directories
		{"-q --drain=1s 5000 ", []string{":16"}},
		{"5000 dir ", []string{":4"}},
	} {
		c := newFlagSet(new(grammar), program).completer()
		var out strings.Builder
		c.SetOut(&out)
		c.SetArgs(append([]string{"__completeNoDesc"}, strings.Split(tt.line, " ")...))
		if err := c.Execute(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Fields(out.String()); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.line, got, tt.want)
		}
	}
}

func TestCompletion_has_each_flag(t *testing.T) {
	f := newFlagSet(new(grammar), program)
	c := f.completer()
	var out strings.Builder
	c.SetOut(&out)
	c.SetArgs([]string{"__complete", "--"})
	if err := c.Execute(); err != nil {
		t.Fatal(err)
	}
	f.all.VisitAll(func(flag *pflag.Flag) {
		if !strings.Contains(out.String(), "--"+flag.Name+"\t") {
			t.Errorf("--%s is missing", flag.Name)
		}
	})
}

// Each script is one that its shell understands.
func TestCompletion_scripts(t *testing.T) {
	for _, shell := range shells {
		t.Run(shell, func(t *testing.T) {
			f := newFlagSet(new(grammar), program)
			f.completion = shell
			var script strings.Builder
			if err := f.output()(&script); err != nil || !strings.Contains(script.String(), "pro-gram") {
				t.Fatalf("%v: %q", err, script.String())
			}
			path, err := exec.LookPath(shell)
			if err != nil {
				t.Skip(err)
			}
			name := filepath.Join(t.TempDir(), "script")
			if err := os.WriteFile(name, []byte(script.String()), 0o666); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(path, "-n", name).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}
