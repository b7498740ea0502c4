package cli

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// grammar has flags and arguments of each kind.
type grammar struct {
	Port  Port
	Dir   string
	Size  Size
	Drain time.Duration
	Grace time.Duration
	Level string
	Conns int
	Ratio int
	Names []string
	Title string
	Log   string
	Quiet bool
}

func (g *grammar) Flags(f *FlagSet) {
	f.Argument(Text(&g.Port), "PORT", "A port.")
	f.Argument(Dir(&g.Dir), "FILE-DIR", "A directory.")
	m := f.Group("More")
	m.Add(Text(&g.Size), "max-size", "", "Up to `SIZE`.")
	m.Add(Duration(&g.Drain, 0, 0), "drain", "", "Wait `TIME`.")
	m.Add(Duration(&g.Grace, 10*time.Second, 1), "grace", "", "Wait more `TIME`.")
	m.Add(Enum(&g.Level, "low", "high"), "level", "", "It's a `LEVEL`: [low] or \"high\". More of it.")
	m.Add(List(&g.Names), "names", "", "Some `NAME`, *such* as a_b_c.")
	plain := f.Group("Flags")
	plain.Add(Int(&g.Conns, 0, 0, math.MaxInt32), "conns", "", ".5 of a \\ or more, `N`. 'Quoted' $HOME <x>.")
	plain.Add(Int(&g.Ratio, 3, 1, 9), "ratio", "", "A `N`.")
	plain.Add(String(&g.Title), "title", "", "A `TEXT`.")
	plain.Add(File(&g.Log), "log", "", "A `FILE`.")
	plain.Add(Bool(&g.Quiet), "quiet", "q", "Say nothing.")
}

// Validate returns an error if the flags do not fit together.
func (g *grammar) Validate() error {
	if g.Quiet && g.Level == "high" {
		return FlagError("quiet", errors.New("it needs --level=low"))
	}
	return nil
}

func (*grammar) Check(context.Context) error { return nil }

var program = Program{
	Name:     "pro-gram",
	Summary:  "Do things.",
	Examples: []Item{{"pro-gram 5000 dir", "do it"}, {"$0 -q 5000 .", "do it quietly"}},
	Config:   "port = 5000\n.5 = \"\\\\n\"\n",
	Exits:    []Item{{"0", "done"}, {"1", "not done"}},
	Signals:  ServerSignals,
}

func (*grammar) Run(context.Context) error { return nil }

// read parses into a fresh grammar, with a configuration file if text is not "-".
func read(t *testing.T, text string, env []string, args ...string) (*grammar, error) {
	t.Helper()
	f, err := readSet(t, text, env, args...)
	if err != nil {
		return nil, err
	}
	return f.command.(*grammar), nil
}

func readSet(t *testing.T, text string, env []string, args ...string) (*FlagSet, error) {
	t.Helper()
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		t.Setenv(name, value)
	}
	if text != "-" {
		name := filepath.Join(t.TempDir(), "accio.toml")
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		args = append([]string{"--config=" + name}, args...)
	}
	f, err := Parse(new(grammar), program, args)
	if err != nil {
		var e *exitError
		if !errors.As(err, &e) || e.code != ExitUsage || !strings.HasSuffix(err.Error(), "; see pro-gram --help") {
			t.Errorf("the error %v is not one of usage", err)
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("the error is not one line: %q", err)
		}
	}
	return f, err
}

// samples holds a value for each flag and argument: on the command line, in TOML, and as
// Value.String returns it.
var samples = map[string][3]string{
	"PORT":     {"5000", `5000`, "5000"},
	"FILE-DIR": {"some dir", `"some dir"`, "some dir"},
	"max-size": {"10MiB", `"10MiB"`, "10485760"},
	"drain":    {"1.5s", `"1.5s"`, "1.5s"},
	"grace":    {"1m30s", `'1m30s'`, "1m30s"},
	"level":    {"high", `"high"`, "high"},
	"names":    {"a,b", `["a", "b"]`, "a,b"},
	"conns":    {"7", `0x07`, "7"},
	"ratio":    {"7", `7`, "7"},
	"title":    {"a,b # \\", `"a,b # \\"`, "a,b # \\"},
	"log":      {"x.log", "'''x.log'''", "x.log"},
	"quiet":    {"yes", `true`, "true"},
}

func TestConfig(t *testing.T) {
	all := newFlagSet(new(grammar), program).settable()
	if len(all) != len(samples) {
		t.Errorf("%d flags and arguments, and %d samples", len(all), len(samples))
	}
	for i, flag := range all {
		sample := samples[flag.Name]
		given, line := []string{"1", "dir"}, []string{"--" + flag.Name + "=" + sample[0], "1", "dir"}
		config, env := keyName(flag.Name)+" = "+sample[1]+"\n", envName(flag.Name)+"="+sample[0]
		switch flag.Name {
		case "PORT":
			given, line, config, env = nil, []string{sample[0], "dir"}, config+"file-dir = 'dir'\n", ""
		case "FILE-DIR":
			given, line, env = []string{"1"}, []string{"1", sample[0]}, ""
		}
		check := func(t *testing.T, f *FlagSet, err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
			if got := f.settable()[i].Value.String(); got != sample[2] {
				t.Errorf("got %q, want %q", got, sample[2])
			}
		}
		t.Run(flag.Name+"/line", func(t *testing.T) {
			f, err := readSet(t, "-", nil, line...)
			check(t, f, err)
		})
		t.Run(flag.Name+"/file", func(t *testing.T) {
			f, err := readSet(t, config, nil, given...)
			check(t, f, err)
		})
		if env != "" {
			t.Run(flag.Name+"/environment", func(t *testing.T) {
				f, err := readSet(t, "-", []string{env}, given...)
				check(t, f, err)
			})
		}
	}
}

func TestConfigPrecedence(t *testing.T) {
	const config = "drain = '1s'\ngrace = '1s'\nmax-size = 1\nnames = ['a,b', 'c\\']\nquiet = true\nport = 1\nfile-dir = 'file'\n"
	env := []string{"ACCIO_DRAIN=2s", "ACCIO_GRACE=2s", "ACCIO_MAX_SIZE=", "ACCIO_QUIET=no"}
	g, err := read(t, config, env, "--drain=3s", "--drain=4s", "5000")
	if err != nil {
		t.Fatal(err)
	}
	if g.Drain != 4*time.Second || g.Grace != 2*time.Second || g.Size != 1 || g.Ratio != 3 || g.Quiet || g.Port != 5000 || g.Dir != "file" {
		t.Errorf("%+v", g)
	}
	if !slices.Equal(g.Names, []string{"a,b", `c\`}) {
		t.Errorf("the list of the file is %q", g.Names)
	}
	// Lists replace each other.
	if g, err := read(t, "names = ['a']", []string{"ACCIO_NAMES=b,c"}, "1", "dir"); err != nil || !slices.Equal(g.Names, []string{"b", "c"}) {
		t.Errorf("%q, %v", g.Names, err)
	}
	if g, err := read(t, "names = ['a']", []string{"ACCIO_NAMES=b"}, "1", "--names=d,e", "dir", "--names", "f"); err != nil || !slices.Equal(g.Names, []string{"d", "e", "f"}) {
		t.Errorf("%q, %v", g.Names, err)
	}
	if g, err := read(t, "names = []", []string{"ACCIO_NAMES="}, "1", "dir"); err != nil || len(g.Names) != 0 {
		t.Errorf("%q, %v", g.Names, err)
	}
}

func TestConfigNamedByVariable(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"1": "drain = '1s'", "2": "drain = '2s'"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("ACCIO_CONFIG", filepath.Join(dir, "1"))
	if g, err := read(t, "-", nil, "1", "dir"); err != nil || g.Drain != time.Second {
		t.Errorf("%v, %v", g.Drain, err)
	}
	if g, err := read(t, "-", nil, "1", "dir", "--config", filepath.Join(dir, "2")); err != nil || g.Drain != 2*time.Second {
		t.Errorf("%v, %v", g.Drain, err)
	}
	if _, err := read(t, "-", nil, "1", "dir", "--config="); err == nil || !strings.Contains(err.Error(), "--config") {
		t.Errorf("a file without a name: %v", err)
	}
}

// An error names the place, the mistake and a remedy.
func TestConfigErrors(t *testing.T) {
	for _, tt := range []struct {
		config, env, arg string
		says             []string
	}{
		{"-", "", "--max-size=10M", []string{"--max-size: ", `"10M"`, "10MiB"}},
		{"-", "", "--drain=soon", []string{"--drain: ", `"soon"`, "10s"}},
		{"-", "", "--drain=10", []string{"--drain: ", `"10"`, "unit"}},
		{"-", "", "--grace=0s", []string{"--grace: ", "more than 0", `"0s"`}},
		{"-", "", "--conns=many", []string{"--conns: ", "whole number, 0 or more", `"many"`}},
		{"-", "", "--conns=010.0", []string{"--conns: ", `"010.0"`}},
		{"-", "", "--conns=9999999999", []string{"--conns: ", "0 or more and at most 2147483647", `"9999999999"`}},
		{"-", "", "--ratio=0", []string{"--ratio: ", "more than 0 and at most 9", `"0"`}},
		{"-", "", "--ratio=10", []string{"--ratio: ", "more than 0 and at most 9", `"10"`}},
		{"-", "", "--level=high --quiet", []string{"--quiet: it needs --level=low"}},
		{"-", "ACCIO_QUIET=yes", "--level=high", []string{"ACCIO_QUIET: it needs --level=low"}},
		{"\nquiet = true", "", "--level=high", []string{"accio.toml:2: quiet: it needs --level=low"}},
		{"quiet = true", "ACCIO_QUIET=yes", "--level=high", []string{"ACCIO_QUIET: it needs --level=low"}},
		{"quiet = false", "", "--level=high --quiet", []string{"--quiet: it needs --level=low"}},
		{"-", "", "--level=mid", []string{"--level: ", "low or high", `"mid"`}},
		{"-", "", "-x", []string{"unknown", "-x"}},
		{"-", "", "-1", []string{"unexpected argument", "-1"}},
		{"-", "", "--max-size -1", []string{"--max-size: ", `"-1"`}},
		{"-", "", "--quiet=maybe", []string{"--quiet: ", "true", `"maybe"`}},
		{"-", "", "--drain", []string{"--drain", "argument"}},
		{"-", "", "--completion", []string{"--completion", "argument"}},
		{"-", "", "--completion=csh", []string{"--completion: ", "bash, zsh, fish", `"csh"`}},
		{"-", "", "--drian=1s", []string{"--drian", `did you mean "--drain"?`}},
		{"-", "ACCIO_MAX_SIZE=10M", "", []string{"ACCIO_MAX_SIZE: ", `"10M"`, "10MiB"}},
		{"-", "ACCIO_DRAIN=-1s", "", []string{"ACCIO_DRAIN: ", `"-1s"`, "0 or more"}},
		{"-", "ACCIO_LEVEL=mid", "", []string{"ACCIO_LEVEL: ", "low or high", `"mid"`}},
		{"-", "ACCIO_QUIET=maybe", "", []string{"ACCIO_QUIET: ", `"maybe"`}},
		{"-", "ACCIO_CONFIG=/no/such/file", "", []string{"ACCIO_CONFIG: ", "/no/such/file"}},
		{"-", "", "--config=/no/such/file", []string{"--config: ", "/no/such/file"}},
		{"-", "", "--config=/dev/zero", []string{"--config: ", "/dev/zero", "larger than 1048576"}},
		{"-", "", "--config=/", []string{"--config: ", "directory"}},
		{"\nmax-size = 10MiB", "", "", []string{"accio.toml:2:14: "}},
		{"\nmax-size = \"10M\"", "", "", []string{"accio.toml:2: max-size: ", `"10M"`, "10MiB"}},
		{"drain = 60", "", "", []string{"accio.toml:1: drain: ", `"60"`, "unit"}},
		{"drain = 1.5", "", "", []string{"accio.toml:1: drain: ", `"1.5"`}},
		{"drain = 2026-01-01", "", "", []string{"accio.toml:1: drain: ", `"2026-01-01"`}},
		{"drain = true", "", "", []string{"accio.toml:1: drain: ", `"true"`}},
		{"drain = ''", "", "", []string{"accio.toml:1: drain: ", `""`}},
		{"drain = ['1s']", "", "", []string{"accio.toml:1: drain: ", "not a list"}},
		{"drain = {}", "", "", []string{"accio.toml:1: drain: ", "not a table"}},
		{"drain.x = 1", "", "", []string{`accio.toml:1: unknown key "drain.x"`}},
		{"\n[drain]\nx = 1", "", "", []string{"accio.toml:2: drain: ", "not a table"}},
		{"\n\n[server]\ndrain = '1s'", "", "", []string{`accio.toml:3: unknown key "server"`, "such as max-size"}},
		{"conns = -1", "", "", []string{"accio.toml:1: conns: ", `"-1"`, "0 or more"}},
		{"conns = inf", "", "", []string{"accio.toml:1: conns: ", `Inf`}},
		{"title = 5", "", "", []string{"accio.toml:1: title: ", "quotes", "5"}},
		{"log = false", "", "", []string{"accio.toml:1: log: ", "quotes", "false"}},
		{"level = 'mid'", "", "", []string{"accio.toml:1: level: ", "low or high", `"mid"`}},
		{"quiet = 'maybe'", "", "", []string{"accio.toml:1: quiet: ", `"maybe"`}},
		{"names = 'a'", "", "", []string{"accio.toml:1: names: ", "a list"}},
		{"names = [1]", "", "", []string{"accio.toml:1: names: ", "quotes"}},
		{"names = [['a']]", "", "", []string{"accio.toml:1: names: "}},
		{"port = 65536", "", "", []string{"accio.toml:1: port: ", `"65536"`, "65535"}}, // also if it is not used
		{"max_size = 1", "", "", []string{`accio.toml:1: unknown key "max_size"`, `did you mean "max-size"?`}},
		{"MAX-SIZE = 1", "", "", []string{`accio.toml:1: unknown key "MAX-SIZE"`, `did you mean "max-size"?`}},
		{"dran = '1s'", "", "", []string{`accio.toml:1: unknown key "dran"`, `did you mean "drain"?`}},
		{"'a\\nb' = '1s'", "", "", []string{`accio.toml:1: unknown key "a\\nb"`}},
		{"\"a\\nb\" = '1s'", "", "", []string{`accio.toml:1: unknown key "a\nb"`}},
		{"'' = 1", "", "", []string{`accio.toml:1: unknown key ""`}},
		{"help = true", "", "", []string{"accio.toml:1: help belongs on the command line"}},
		{"version = true", "", "", []string{"accio.toml:1: version belongs on the command line"}},
		{"config = 'x'", "", "", []string{"accio.toml:1: config belongs on the command line"}},
		{"check = true", "", "", []string{"accio.toml:1: check belongs on the command line"}},
		{"drain = '1s'\ndrain = '1s'", "", "", []string{"accio.toml:2:", "drain"}},
		{"title = '\xff'", "", "", []string{"accio.toml:1:"}},
		{"\x00", "", "", []string{"accio.toml:1:"}},
	} {
		name := strings.Join([]string{tt.config, tt.env, tt.arg}, " ")
		t.Run(name, func(t *testing.T) {
			var env []string
			if tt.env != "" {
				env = []string{tt.env}
			}
			args := []string{"1", "dir"}
			if tt.arg != "" {
				args = append(args, strings.Fields(tt.arg)...)
			}
			_, err := read(t, tt.config, env, args...)
			if err == nil {
				t.Fatal("it is not refused")
			}
			for _, s := range tt.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("the error %q does not say %q", err, s)
				}
			}
		})
	}
}

func TestConfigUnused(t *testing.T) {
	// It may be meant for another program, where the file is for this one.
	if g, err := read(t, "-", []string{"ACCIO_DRAIN=soon", "ACCIO_VERSION=1", "ACCIO_HELP=1", "ACCIO_CHECK=1", "ACCIO_PORT=tcp://10.0.0.1:80", "ACCIO_NO_FLAG=x"}, "--drain=1s", "1", "dir"); err != nil || g.Drain != time.Second || g.Quiet {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := read(t, "drain = 'soon'", nil, "--drain=1s", "1", "dir"); err == nil {
		t.Error("a file with a mistake is fine")
	}
}

func TestArguments(t *testing.T) {
	for _, tt := range []struct {
		config string
		args   []string
		says   string
	}{
		{"", nil, "PORT"},
		{"", []string{"1"}, "FILE-DIR"},
		{"port = 1", nil, "FILE-DIR"},
		{"file-dir = 'x'", nil, "PORT"},
		{"port = 1\nfile-dir = 'x'", []string{"1", "x", "y"}, "y"},
		{"port = 1\nfile-dir = 'x'", []string{""}, "PORT"},
	} {
		if _, err := read(t, tt.config, nil, tt.args...); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%q, %q: %v, without %s", tt.config, tt.args, err, tt.says)
		}
	}
	if g, err := read(t, "\ufeffport = 1\r\nfile-dir = '-x'\r\n", nil); err != nil || g.Port != 1 || g.Dir != "-x" {
		t.Errorf("%+v, %v", g, err)
	}
}

// A file that has changed is read anew, and leaves nothing of what it was.
func TestConfigReread(t *testing.T) {
	name := filepath.Join(t.TempDir(), "accio.toml")
	for i, tt := range []struct {
		text string
		want time.Duration
	}{{"drain = '1s'", time.Second}, {"drain = '2s'", 2 * time.Second}, {"", 0}} {
		if err := os.WriteFile(name, []byte(tt.text), 0o666); err != nil {
			t.Fatal(err)
		}
		if g, err := read(t, "-", nil, "--config", name, "1", "dir"); err != nil || g.Drain != tt.want {
			t.Errorf("%d: %v, %v", i, g.Drain, err)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"kitten", "sitting", 3}, {"max_size", "max-size", 1}, {"same", "same", 0}} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("%q and %q: %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func FuzzConfig(f *testing.F) {
	for name, s := range samples {
		f.Add(strings.ToLower(name) + " = " + s[1])
	}
	f.Add("[a]\nb.c = [1, {x = 2}]")
	f.Fuzz(func(t *testing.T, text string) {
		name := filepath.Join(t.TempDir(), "accio.toml")
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(new(grammar), program, []string{"--config", name, "1", "dir"}); err != nil && !strings.Contains(err.Error(), "accio.toml") {
			t.Errorf("the error %q does not say where", err)
		}
	})
}

func TestConfigChanges(t *testing.T) {
	set := func(args ...string) *FlagSet {
		t.Helper()
		f, err := readSet(t, "-", nil, args...)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"1", "dir", "--level=low", "--names=a"}, nil},
		{[]string{"1", "dir", "--check", "--level=low", "--names=a"}, nil}, // a file cannot set it
		{[]string{"1", "dir", "--level=high", "--names=b"}, []string{"level", "names"}},
		{[]string{"2", "other", "--max-size=1"}, []string{"port", "file-dir", "max-size", "level", "names"}},
	} {
		if got := set("1", "dir", "--level=low", "--names=a").Changes(set(tt.args...)); !slices.Equal(got, tt.want) {
			t.Errorf("%q: got %q, want %q", tt.args, got, tt.want)
		}
	}
}
