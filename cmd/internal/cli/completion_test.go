package cli

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// script has the program print its completion, and returns a file of it, in a
// directory with other files.
func script(t *testing.T, shell string) (dir, name string) {
	t.Helper()
	parser, err := newParser(new(grammar), program)
	if err != nil {
		t.Fatal(err)
	}
	out, code := new(strings.Builder), -1
	parser.Stdout, parser.Exit = out, func(c int) { code = c }
	parse(parser, []string{"--completion=" + shell})
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	dir, name = t.TempDir(), filepath.Join(t.TempDir(), "script")
	for _, file := range []string{"file one", "file*"} {
		if err := os.WriteFile(filepath.Join(dir, file), nil, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "files dir"), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(out.String()), 0o666); err != nil {
		t.Fatal(err)
	}
	return dir, name
}

// run runs a shell without the user's own configuration.
func run(t *testing.T, dir, shell string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(shell)
	if err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CACHE_HOME="+dir, "TERM=dumb", "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return string(out)
}

// completions are lines, and what is to be offered for their last word.
var completions = []struct {
	words []string
	want  []string // nil: nothing
}{
	{[]string{"--dr"}, []string{"--drain"}},
	{[]string{"--max"}, []string{"--max-duration", "--max-size"}},
	{[]string{"--no-such"}, nil},
	{[]string{"--no-"}, []string{"--no-loud"}},
	{[]string{"--level", ""}, []string{"high", "low"}},
	{[]string{"--level", "h"}, []string{"high"}},
	{[]string{"--level", "x"}, nil},
	{[]string{"--drain", "fil"}, nil},
	{[]string{"--log", "fil"}, []string{"file one", "file*", "files dir"}},
	{[]string{"--log", "file "}, []string{"file one"}},
	{[]string{"fil"}, nil},
	{[]string{"5000", "fil"}, []string{"files dir"}},
	{[]string{"-q", "--drain=1s", "5000", "fil"}, []string{"files dir"}},
	{[]string{"5000", "--dr"}, []string{"--drain"}},
}

func TestBashCompletion(t *testing.T) {
	dir, name := script(t, "bash")
	// A word such as --flag=value is three to the function.
	const ask = `source "$1"; shift; COMP_WORDS=(pro-gram "$@"); COMP_CWORD=$#; _accio_pro_gram
		for word in "${COMPREPLY[@]}"; do echo "$word"; done; complete -p pro-gram`
	tests := slices.Clone(completions)
	for _, tt := range []struct{ words, want string }{
		{"--level = h", "high"}, {"--level = x", ""}, {"--level =", "high low"}, {"--dr 5000 x", ""}, {"--level = low 5000 files", "files dir"},
		{"--drain = 1s 5000 files", "files dir"}, {"--drain 1s 5000 files", "files dir"}, {"--drain 1s files", ""}, {"5000 dir files", ""},
	} {
		want := strings.Fields(tt.want)
		if tt.want == "files dir" {
			want = []string{tt.want}
		}
		tests = append(tests, struct{ words, want []string }{strings.Fields(tt.words), want})
	}
	for _, tt := range tests {
		out := run(t, dir, "bash", append([]string{"--norc", "-c", ask, "bash", name}, tt.words...)...)
		got := strings.Split(strings.TrimSpace(out), "\n")
		if last := got[len(got)-1]; last != "complete -F _accio_pro_gram pro-gram" {
			t.Fatalf("it is not installed: %q", out)
		}
		got = got[:len(got)-1]
		slices.Sort(got)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.words, got, tt.want)
		}
	}
}

func TestFishCompletion(t *testing.T) {
	dir, name := script(t, "fish")
	for _, tt := range completions {
		var line []string
		for _, word := range tt.words {
			line = append(line, strings.ReplaceAll(word, " ", `\ `))
		}
		out := run(t, dir, "fish", "-c", `source $argv[1]; complete -C "$argv[2]"`, name, "pro-gram "+strings.Join(line, " "))
		var got []string
		for line := range strings.Lines(out) {
			word, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
			word = strings.TrimSuffix(strings.ReplaceAll(word, `\`, ""), "/")
			got = append(got, word)
		}
		slices.Sort(got)
		if !slices.Equal(got, tt.want) {
			t.Errorf("%q: %q, want %q", tt.words, got, tt.want)
		}
	}
	if out := run(t, dir, "fish", "-c", `source $argv[1]; complete -C "pro-gram --level="`, name); !strings.Contains(out, "--level=high") {
		t.Errorf("%q", out)
	}
	if out := run(t, dir, "fish", "-c", `source $argv[1]; complete -C "pro-gram --lev"`, name); !strings.Contains(out, "It's a level: [low] or \"high\"") {
		t.Errorf("%q", out)
	}
}

// zsh completes only at a terminal: it gets one, and keys are pressed there.
func TestZshCompletion(t *testing.T) {
	dir, name := script(t, "zsh")
	const driver = `
		zmodload zsh/zpty || exit 99
		zpty z "zsh -f -i"
		zpty -w z "PS1= PROMPT_EOL_MARK=; unsetopt zle_bracketed_paste 2>/dev/null; autoload -Uz compinit; compinit -D -u; source ${(q)1}; pro-gram() { print -rl -- BEGIN \"<\${^@}>\" END }; bindkey '^I' complete-word; unsetopt auto_menu auto_list beep; print REA''DY"
		zpty -r -m z out '*READY*'
		shift
		for line in "$@"; do
			zpty -w -n z "pro-gram $line"$'\t\n'
			zpty -r -m z out '*BEGIN*END*'
			print -r -- "${out#*BEGIN}"
		done
		zpty -d z`
	// What it becomes by a tab, where there is but one way to go on.
	tests := []struct {
		line string
		want []string
	}{
		{"--dra", []string{"--drain"}},
		{"--quie", []string{"--quiet"}},
		{"--level=h", []string{"--level=high"}},
		{"--level h", []string{"--level", "high"}},
		{"--level x", []string{"--level", "x"}},
		{"--drain files", []string{"--drain", "files"}},
		{`--log=file\ `, []string{"--log=file one"}},
		{"files", []string{"files"}},
		{"5000 fil", []string{"5000", "files dir"}},
		{"-q --drain=1s 5000 fil", []string{"-q", "--drain=1s", "5000", "files dir"}},
		{"--drain 1s 5000 fil", []string{"--drain", "1s", "5000", "files dir"}},
		{"5000 x fil", []string{"5000", "x", "fil"}},
	}
	args := []string{"-f", "-c", driver, "zsh", name}
	for _, tt := range tests {
		args = append(args, tt.line)
	}
	out := run(t, dir, "zsh", args...)
	var got [][]string
	for answer := range strings.SplitSeq(strings.ReplaceAll(out, "\r", ""), "END") {
		var words []string
		for line := range strings.SplitSeq(answer, "\n") {
			if word, ok := strings.CutPrefix(line, "<"); ok {
				words = append(words, strings.TrimSuffix(word, ">"))
			}
		}
		got = append(got, words)
	}
	for i, tt := range tests {
		if i >= len(got) || !slices.Equal(got[i], tt.want) {
			t.Fatalf("%q has become %q, want %q, of %q", tt.line, got[i], tt.want, out)
		}
	}
	// And as a file of fpath, which is loaded when it is needed.
	script, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "_pro-gram"), script, 0o666); err != nil {
		t.Fatal(err)
	}
	out = run(t, dir, "zsh", "-f", "-c", `fpath=($PWD $fpath); autoload -Uz compinit; compinit -D -u; print -r -- $_comps[pro-gram]`)
	if strings.TrimSpace(out) != "_pro-gram" {
		t.Errorf("%q", out)
	}
}
