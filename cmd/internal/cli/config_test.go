package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

// grammar has arguments of each kind.
type grammar struct {
	Flags
	Checks
	Limits
	Port  Port      `arg:"" name:"PORT" help:"A port."`
	Dir   string    `arg:"" name:"FILE-DIR" path:"dir" help:"A directory."`
	Level string    `group:"More:" enum:"low,high" default:"low" help:"It's a level: [low] or \"high\"."`
	Conns int       `placeholder:"N" help:".5 of a \\ or more. 'Quoted' ${default=$HOME}."`
	Ratio *int      `placeholder:"N" positive:"" most:"9" help:"A pointer."`
	Word  *LogLevel `enum:"debug,info,warn,error" help:"A pointer that reads text."`
	Names []string
	Sizes []Size
	Title string
	Log   *string `path:"file" help:"A file."`
	Quiet bool    `short:"q" help:"Say nothing."`
	Loud  bool    `negatable:"" default:"true"`
	Map   map[string]int
}

// Validate is called when the flags are read.
func (g *grammar) Validate() error {
	if g.Quiet && g.Level == "high" {
		return FlagError("quiet", errors.New("it needs --level=low"))
	}
	return nil
}

var program = Program{
	Name:     "pro-gram",
	Summary:  "Do things.",
	Details:  "First.\n\n.Second 'quoted'.",
	Examples: []Item{{"pro-gram 5000 dir", "do it"}, {"pro-gram -q 5000 .", "do it quietly"}},
	Config:   "port = 5000\n.5 = \"\\\\n\"\n",
	Exits:    []Item{{"0", "done"}, {"1", "not done"}},
	Signals:  ServerSignals,
}

func (*grammar) Run(context.Context) error { return nil }

// read parses into a fresh grammar, with a configuration file if text is not "-".
func read(t *testing.T, text string, env []string, args ...string) (*grammar, error) {
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
	g := new(grammar)
	err := Parse(g, program, args)
	if err != nil {
		var e *exitError
		if !errors.As(err, &e) || e.code != ExitUsage || !strings.HasSuffix(err.Error(), "; see pro-gram --help") {
			t.Errorf("the error %v is not one of usage", err)
		}
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("the error is not one line: %q", err)
		}
	}
	return g, err
}

// samples are, for each flag and argument that can be set: what to write on the command
// line and in a file, and what it is then.
var samples = map[string]struct {
	line, toml string
	want       any
}{
	"PORT":              {"5000", `5000`, Port(5000)},
	"FILE-DIR":          {"some dir", `"some dir"`, "some dir"},
	"max-size":          {"10MiB", `"10MiB"`, Size(10 << 20)},
	"handshake-timeout": {"5s", `"5s"`, 5 * time.Second},
	"idle-timeout":      {"0", `0`, time.Duration(0)},
	"max-duration":      {"1h", `'1h'`, time.Hour},
	"min-rate":          {"1024", `1_024`, Rate(1024)},
	"min-rate-grace":    {"1m30s", `"1m30s"`, 90 * time.Second},
	"drain":             {"1.5s", `"1.5s"`, 1500 * time.Millisecond},
	"level":             {"high", `"high"`, "high"},
	"conns":             {"7", `0x07`, 7},
	"ratio":             {"7", `7`, 7},
	"word":              {"info", `"info"`, LogLevel("info")},
	"names":             {"a,b", `["a", "b"]`, []string{"a", "b"}},
	"sizes":             {"1KiB,2", `["1KiB", 2]`, []Size{1024, 2}},
	"title":             {"a,b # \\", `"a,b # \\"`, "a,b # \\"},
	"log":               {"x.log", "'''x.log'''", "x.log"},
	"quiet":             {"true", `true`, true},
	"loud":              {"false", `false`, false},
	"map":               {"a=1;b=2", `["a=1", "b=2"]`, map[string]int{"a": 1, "b": 2}},
}

func TestEachFlagIsSetInEachWay(t *testing.T) {
	parser, err := newParser(new(grammar), program)
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, v := range values(parser) {
		if !settable(v) {
			continue
		}
		seen++
		t.Run(v.Name, func(t *testing.T) {
			sample, ok := samples[v.Name]
			if !ok {
				t.Fatal("there is no sample")
			}
			// What is not asked about is given.
			given := []string{"1", "dir"}
			line := append([]string{"--" + v.Name + "=" + sample.line}, given...)
			switch v.Name {
			case "PORT":
				given, line = nil, []string{sample.line, "dir"}
			case "FILE-DIR":
				given, line = []string{"1"}, []string{"1", sample.line}
			}
			config := strings.ToLower(v.Name) + " = " + sample.toml + "\n"
			if v.Name == "PORT" {
				config += "file-dir = 'dir'\n"
			}
			ways := map[string]func(t *testing.T) (*grammar, error){
				"line": func(t *testing.T) (*grammar, error) { return read(t, "-", nil, line...) },
				"file": func(t *testing.T) (*grammar, error) { return read(t, config, nil, given...) },
			}
			if v.Flag != nil {
				ways["environment"] = func(t *testing.T) (*grammar, error) {
					return read(t, "-", []string{envName(v) + "=" + sample.line}, given...)
				}
			}
			for way, set := range ways {
				t.Run(way, func(t *testing.T) {
					g, err := set(t)
					if err != nil {
						t.Fatal(err)
					}
					again, _ := newParser(g, program)
					for _, got := range values(again) {
						if got.Name == v.Name && !reflect.DeepEqual(reflect.Indirect(got.Target).Interface(), sample.want) {
							t.Errorf("it is %v, want %v", reflect.Indirect(got.Target), sample.want)
						}
					}
				})
			}
		})
	}
	if seen != len(samples) {
		t.Errorf("%d flags and arguments, and %d samples", seen, len(samples))
	}
}

func TestWhatCountsMore(t *testing.T) {
	const config = "idle-timeout = '1s'\ndrain = '1s'\nmax-duration = '1s'\nnames = ['a,b', 'c\\']\nloud = false\nquiet = true\nport = 1\nfile-dir = 'file'\n"
	env := []string{"ACCIO_IDLE_TIMEOUT=2s", "ACCIO_DRAIN=2s", "ACCIO_MAX_DURATION=", "ACCIO_QUIET=no"}
	g, err := read(t, config, env, "--idle-timeout=3s", "--loud", "5000")
	if err != nil {
		t.Fatal(err)
	}
	if g.IdleTimeout != 3*time.Second || g.Drain != 2*time.Second || g.MaxDuration != time.Second || g.MinRateGrace != 10*time.Second {
		t.Errorf("%v of the command line, %v of the environment, %v of the file, %v by default", g.IdleTimeout, g.Drain, g.MaxDuration, g.MinRateGrace)
	}
	if !g.Loud || g.Quiet || g.Port != 5000 || g.Dir != "file" {
		t.Errorf("%+v", g)
	}
	if !reflect.DeepEqual(g.Names, []string{"a,b", `c\`}) {
		t.Errorf("a list of the file is %q", g.Names)
	}
	// Lists do not add up.
	if g, err := read(t, "names = ['a']", []string{"ACCIO_NAMES=b,c"}, "1", "dir"); err != nil || !reflect.DeepEqual(g.Names, []string{"b", "c"}) {
		t.Errorf("%q, %v", g.Names, err)
	}
	if g, err := read(t, "names = []", []string{"ACCIO_NAMES="}, "1", "dir"); err != nil || len(g.Names) != 0 {
		t.Errorf("%q, %v", g.Names, err)
	}
}

func TestConfigFromTheEnvironment(t *testing.T) {
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

// An error says where and what, and what would be right.
func TestWhatIsWrongIsTold(t *testing.T) {
	for _, tt := range []struct {
		config, env, arg string
		says             []string
	}{
		{"-", "", "--max-size=10M", []string{"--max-size: ", `"10M"`, "10MiB"}},
		{"-", "", "--drain=soon", []string{"--drain: ", `"soon"`, "10s"}},
		{"-", "", "--drain=10", []string{"--drain: ", `"10"`, "unit"}},
		{"-", "", "--min-rate-grace=0s", []string{"--min-rate-grace: ", "more than 0", `"0s"`}},
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
		{"-", "", "--level=mid", []string{"--level ", "low", "high", `"mid"`}},
		{"-", "", "--quiet=maybe", []string{"--quiet: ", "true", `"maybe"`}},
		{"-", "", "--drain", []string{"--drain ", "TIME"}},
		{"-", "", "--completion", []string{"--completion ", "bash|zsh|fish"}},
		{"-", "", "--completion=csh", []string{"--completion ", "bash, zsh, fish", `"csh"`}},
		{"-", "", "--drian=1s", []string{"--drian", "--drain"}},
		{"-", "ACCIO_MAX_SIZE=10M", "", []string{"ACCIO_MAX_SIZE: ", `"10M"`, "10MiB"}},
		{"-", "ACCIO_DRAIN=-1s", "", []string{"ACCIO_DRAIN: ", `"-1s"`, "0 or more"}},
		{"-", "ACCIO_LEVEL=mid", "", []string{"ACCIO_LEVEL: ", "low, high", `"mid"`}},
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
		{"drain.x = 1", "", "", []string{`accio.toml:1: there is no key "drain.x"`}},
		{"\n[drain]\nx = 1", "", "", []string{"accio.toml:2: drain: ", "not a table"}},
		{"\n\n[server]\ndrain = '1s'", "", "", []string{`accio.toml:3: there is no key "server"`, "conns"}},
		{"conns = -1", "", "", []string{"accio.toml:1: conns: ", `"-1"`, "0 or more"}},
		{"conns = inf", "", "", []string{"accio.toml:1: conns: ", `Inf`}},
		{"title = 5", "", "", []string{"accio.toml:1: title: ", "quotes", "5"}},
		{"log = false", "", "", []string{"accio.toml:1: log: ", "quotes", "false"}},
		{"level = 'mid'", "", "", []string{"accio.toml:1: level: ", "low, high", `"mid"`}},
		{"quiet = 'maybe'", "", "", []string{"accio.toml:1: quiet: ", `"maybe"`}},
		{"names = 'a'", "", "", []string{"accio.toml:1: names: ", "a list is wanted"}},
		{"names = [1]", "", "", []string{"accio.toml:1: names: ", "quotes"}},
		{"names = [['a']]", "", "", []string{"accio.toml:1: names: "}},
		{"sizes = ['1', 'x']", "", "", []string{"accio.toml:1: sizes: ", `"x"`}},
		{"port = 65536", "", "", []string{"accio.toml:1: port: ", `"65536"`, "65535"}}, // also if it is not used
		{"max_size = 1", "", "", []string{`accio.toml:1: there is no key "max_size"`, "max-size?"}},
		{"MAX-SIZE = 1", "", "", []string{`accio.toml:1: there is no key "MAX-SIZE"`, "max-size?"}},
		{"dran = '1s'", "", "", []string{`accio.toml:1: there is no key "dran"`, "drain?"}},
		{"'a\\nb' = '1s'", "", "", []string{`accio.toml:1: there is no key "a\\nb"`}},
		{"\"a\\nb\" = '1s'", "", "", []string{`accio.toml:1: there is no key "a\nb"`}},
		{"'' = 1", "", "", []string{`accio.toml:1: there is no key ""`}},
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

func TestWhatIsNotUsedIsNotWrong(t *testing.T) {
	// It may be meant for another program, where the file is for this one.
	if g, err := read(t, "-", []string{"ACCIO_DRAIN=soon", "ACCIO_VERSION=1", "ACCIO_HELP=1", "ACCIO_CHECK=1", "ACCIO_PORT=tcp://10.0.0.1:80", "ACCIO_NO_FLAG=x"}, "--drain=1s", "1", "dir"); err != nil || g.Drain != time.Second || g.CheckOnly {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := read(t, "drain = 'soon'", nil, "--drain=1s", "1", "dir"); err == nil {
		t.Error("a file with a mistake is fine")
	}
}

func TestMissingArguments(t *testing.T) {
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
func TestParseAgain(t *testing.T) {
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

// Names that are not alike are the condition for all of this.
func TestNamesAreUnique(t *testing.T) {
	parser, err := newParser(new(grammar), program)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range values(parser) {
		for _, w := range values(parser)[:i] {
			if v.Name == w.Name || keyName(v) != "" && keyName(v) == keyName(w) {
				t.Errorf("%s and %s", v.Name, w.Name)
			}
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

func TestHelpIsThereWhateverElseIsWrong(t *testing.T) {
	t.Setenv("ACCIO_DRAIN", "soon")
	t.Setenv("COLUMNS", "60")
	parser, err := newParser(new(grammar), program)
	if err != nil {
		t.Fatal(err)
	}
	out, code := new(strings.Builder), -1
	parser.Stdout, parser.Exit = out, func(c int) { code = c }
	parse(parser, []string{"--config=/no/such/file", "--help"})
	if code != 0 || !strings.HasPrefix(out.String(), "Usage: pro-gram ") {
		t.Errorf("exit code %d, and %q", code, out)
	}
	last := -1
	for _, want := range []string{"\nDo things.\n", "    pro-gram 5000 dir\n", "ACCIO_CONNS", "Exit codes: 0 done; 1 not done.", "\nArguments:", "\nFlags:", "$HOME", "\nLimits:", "\nMore:", "\nConfiguration and help:"} {
		at := strings.Index(out.String(), want)
		if at < last {
			t.Errorf("%q is not there, or not in its place: %s", want, out)
		}
		last = at
	}
	for line := range strings.Lines(out.String()) {
		if len(line) > 60+1 && !strings.Contains(line, "--") && !strings.HasPrefix(line, "   ") {
			t.Errorf("a line is too long: %q", line)
		}
	}
}

func FuzzConfig(f *testing.F) {
	for name, s := range samples {
		f.Add(strings.ToLower(name) + " = " + s.toml)
	}
	f.Add("[a]\nb.c = [1, {x = 2}]")
	f.Fuzz(func(t *testing.T, text string) {
		parser, err := newParser(new(grammar), program)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(t.TempDir(), "accio.toml")
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if err := parse(parser, []string{"--config", name, "1", "dir"}); err != nil && !strings.Contains(err.Error(), "accio.toml") {
			t.Errorf("the error %q does not say where", err)
		}
	})
}
