//go:build unix

package conformance

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCommandsAreSplitIntoWords(t *testing.T) {
	for _, tt := range []struct {
		text string
		want []string
		says string // by the error
	}{
		{"", nil, ""},
		{" \t", nil, ""},
		{"python3 server.py", []string{"python3", "server.py"}, ""},
		{"\ta  b\t", []string{"a", "b"}, ""},
		{`'a b'"c d"e\ f`, []string{"a bc de f"}, ""},
		{`a '' ""`, []string{"a", "", ""}, ""},
		{`sh -c 'ulimit -n 64; exec "$@" | x' sh`, []string{"sh", "-c", `ulimit -n 64; exec "$@" | x`, "sh"}, ""},
		{`'\' "\a\"\\\$" \'`, []string{`\`, `\a"\$`, "'"}, ""},
		{"a\\\nb \"c\\\nd\" 'e\nf'", []string{"ab", "cd", "e\nf"}, ""},
		{`\; "&|<>()*?~#" a~ a#`, []string{";", "&|<>()*?~#", "a~", "a#"}, ""},
		{"héllo 'wörld'", []string{"héllo", "wörld"}, ""},
		{`'a`, nil, "' is not closed"},
		{`"a\"`, nil, `" is not closed`},
		{`a\`, nil, `\`},
		{`"$HOME"`, nil, `'$'`},
		{"a\nb", nil, `'\n'`},
		{"# a", nil, `'#'`},
		{"~/server", nil, `'~'`},
		{"cd x && ./server", nil, "sh -c"},
	} {
		words, err := split(tt.text)
		var got []string
		for _, w := range words {
			got = append(got, w.text)
		}
		if !slices.Equal(got, tt.want) || (err != nil) != (tt.says != "") || err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q is %q, %v; want %q, %q", tt.text, got, err, tt.want, tt.says)
		}
	}
	for _, c := range ";&|<>()$`*?\n" {
		if words, err := split("a" + string(c) + "b"); err == nil {
			t.Errorf("%q stands in %+v", c, words)
		}
	}
}

func FuzzQuotedWordsStayWhatTheyAre(f *testing.F) {
	f.Add("a b", `'\"$`, "")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		single := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
		double := func(s string) string {
			return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(s) + `"`
		}
		words, err := split(single(a) + " " + double(b) + "\t" + single(c))
		if want := []word{{text: a}, {text: b}, {text: c}}; err != nil || !slices.Equal(words, want) {
			t.Errorf("%+v, %v; want %+v", words, err, want)
		}
		split(a + b + c) // whatever it is
	})
}

func TestCommandsNameAProgram(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	for name, mode := range map[string]os.FileMode{"run": 0o755, "text": 0o644} {
		if err := os.WriteFile(name, []byte("#!/bin/sh\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir("server", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		text string
		env  []string
		argv []string // nil: refused
		says string
	}{
		{"./run text none", nil, []string{dir + "/run", dir + "/text", "none"}, ""},
		{"sh -m server", nil, []string{"sh", "-m", "server"}, ""},
		{"sh --file=text ./text ./server", nil, []string{"sh", "--file=text", dir + "/text", "./server"}, ""},
		{"A=1 _b2='x y' sh C=3", []string{"A=1", "_b2=x y"}, []string{"sh", "C=3"}, ""},
		{"", nil, nil, "no program"},
		{"A=1", nil, nil, "no program"},
		{"''", nil, nil, ""},
		{"'A'=1", nil, nil, "A=1"},
		{"2A=1", nil, nil, "2A=1"},
		{"no-such-program-anywhere 1", nil, nil, "no-such-program-anywhere"},
		{"run", nil, nil, "./run"},
		{"./none", nil, nil, "./none"},
		{"./text", nil, nil, "permission denied"},
		{"./server", nil, nil, "directory"},
		{`"`, nil, nil, "not closed"},
	} {
		got, err := parseCommand(tt.text)
		if !slices.Equal(got.env, tt.env) || !slices.Equal(got.argv, tt.argv) {
			t.Errorf("%q is %q, %q; want %q, %q", tt.text, got.env, got.argv, tt.env, tt.argv)
		}
		if refused := tt.argv == nil; refused != errors.Is(err, ErrCommand) || refused && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q: %v; want it to say %q", tt.text, err, tt.says)
		}
	}
}
