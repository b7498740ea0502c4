//go:build linux

package integration

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// What is set for the user's own servers is nothing to these.
func init() {
	for _, variable := range os.Environ() {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "ACCIO_") {
			os.Unsetenv(name)
		}
	}
}

// prints is what a program prints that ends at once.
func prints(t *testing.T, program string, args ...string) string {
	t.Helper()
	p, code := launch{program: program, args: args}.run(t)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	out := strings.Join(p.stdout.rest(), "")
	p.silent()
	return out
}

// manFlag matches a flag in a man page.
var manFlag = regexp.MustCompile(`(?m)^\\fB\\-\\-([a-z\\-]+)\\fP`)

// settable returns the flags in the man page of a program that the environment can set.
func settable(t *testing.T, program string) (flags []string) {
	t.Helper()
	for _, m := range manFlag.FindAllStringSubmatch(prints(t, program, "--man"), -1) {
		flag := strings.ReplaceAll(m[1], `\-`, "-")
		if !slices.Contains([]string{"check", "version", "completion", "man", "help"}, flag) {
			flags = append(flags, flag)
		}
	}
	if !slices.Contains(flags, "config") {
		t.Fatalf("the man page has the flags %q", flags)
	}
	return flags
}

// Each program refuses a wrong value of each flag, however it is set, and names the place.
func TestConfig_wrong_values(t *testing.T) {
	busy(t)
	wrong := map[string]struct{ value, allowed string }{
		"config":            {"/no/such/file", "no such file"},
		"max-size":          {"10M", "10MiB"},
		"handshake-timeout": {"soon", "10s"},
		"idle-timeout":      {"10", "10s"},
		"max-duration":      {"-1s", "0 or more"},
		"min-rate":          {"fast", "100KiB/s"},
		"min-rate-grace":    {"0s", "more than 0"},
		"drain":             {"1 m", "10s"},
		"durability":        {"half", "full, file or none"},
		"max-conns":         {"1.5", "whole number"},
		"max-conns-per-ip":  {"-1", "0 or more"},
		"min-free":          {"all", "10MiB"},
		"continue":          {"maybe", "true"},
		"on-saved":          {" ", "must be a shell command"},
		"on-saved-url":      {"localhost:8080", "http://"},
		"on-saved-timeout":  {"0s", "more than 0"},
		"on-saved-jobs":     {"1001", "more than 0 and at most 1000"},
		"on-saved-retry":    {"-1s", "0 or more"},
		"quiet":             {"very", "true"},
		"connect-timeout":   {"0", "more than 0"},
		"greeting-timeout":  {"0s", "more than 0"},
		"stall-timeout":     {"10", "10s"},
		"confirm-timeout":   {"-1s", "more than 0"},
		"log-level":         {"loud", "debug, info, warn or error"},
		"log-format":        {"xml", "text or json"},
		"proxy-protocol":    {"10.1.2.3/8", "10.0.0.0/8"},
		"tls":               {"very", "true"},
		"admin":             {"9100", ":"},
		"admin-pprof":       {"maybe", "true"},
		"follow":            {"maybe", "true"},
	}
	// Any text is right for these, but not without another flag.
	alone := map[string]string{
		"tls-cert":        "--tls",
		"tls-key":         "--tls",
		"tls-client-ca":   "--tls-cert",
		"tls-ca":          "--tls",
		"tls-server-name": "--tls",
	}
	for program, args := range map[string][]string{
		"server-s": {"54321"}, "server": {"54321", "files"}, "client": {"localhost", "54321", "file"},
	} {
		t.Run(program, func(t *testing.T) {
			work := newDirectory(t)
			config := newDirectory(t)
			for _, flag := range settable(t, program) {
				variable := "ACCIO_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
				bad, ok := wrong[flag]
				other := alone[flag]
				if other != "" {
					bad.value = "some text"
				} else if !ok {
					t.Errorf("what would be wrong for --%s? There is nothing in this test", flag)
					continue
				}
				ways := map[string]launch{
					"--" + flag: {args: append(args[:len(args):len(args)], "--"+flag+"="+bad.value)},
					variable:    {args: args, through: []string{"env", variable + "=" + bad.value}},
				}
				if flag != "config" {
					name := flag + ".toml"
					value := "'" + bad.value + "'"
					if flag == "proxy-protocol" {
						value = "[" + value + "]"
					}
					config.put(name, "# "+flag+"\n"+flag+" = "+value+"\n")
					ways[name+":2: "+flag] = launch{args: append(args[:len(args):len(args)], "--config="+config.join(name))}
				}
				for place, l := range ways {
					l.program, l.workDir, l.plain = program, work.path, true
					if other != "" {
						refuse(t, l, 2, place+": it needs "+other, "see "+program+" --help")
						continue
					}
					refuse(t, l, 2, place+": ", bad.value, bad.allowed, "see "+program+" --help")
				}
				// One that is empty is not set: it is refused for what else is wrong.
				refuse(t, launch{program: program, args: []string{"--frobnicate"}, through: []string{"env", variable + "="}, plain: true}, 2, "--frobnicate")
			}
			work.holds(nil) // nothing is created for what makes no sense
		})
	}
}

// What makes no sense without another flag, or beside it, is told with its place as well,
// and before anything is created.
func TestFlagsThatDoNotGoTogether(t *testing.T) {
	busy(t)
	work, config := newDirectory(t), newDirectory(t)
	for _, tt := range []struct{ program, flag, value, says string }{
		{"server", "admin-pprof", "true", "it needs --admin"},
		{"server", "follow", "true", "it needs --admin"},
		{"server", "admin", "127.0.0.1:54321", "127.0.0.1:54321 uses the port of the server"},
		{"server-s", "admin-pprof", "true", "it needs --admin"},
		{"server-s", "admin", "127.0.0.1:54321", "127.0.0.1:54321 uses the port of the server"},
	} {
		args := []string{"54321"}
		if tt.program == "server" {
			args = append(args, work.join("files"))
		}
		variable := "ACCIO_" + strings.ToUpper(strings.ReplaceAll(tt.flag, "-", "_"))
		name := tt.program + "." + tt.flag + ".toml"
		config.put(name, "\n"+tt.flag+" = '"+tt.value+"'\n")
		for place, l := range map[string]launch{
			"--" + tt.flag:          {args: append(args[:len(args):len(args)], "--"+tt.flag+"="+tt.value)},
			variable:                {args: args, through: []string{"env", variable + "=" + tt.value}},
			name + ":2: " + tt.flag: {args: append(args[:len(args):len(args)], "--config="+config.join(name))},
		} {
			l.program, l.plain, l.workDir = tt.program, true, work.path
			refuse(t, l, 2, place+": "+tt.says, "; see "+tt.program+" --help")
			l.args = append(l.args[:len(l.args):len(l.args)], "--check")
			refuse(t, l, 2, place+": "+tt.says, "; see "+tt.program+" --help")
		}
	}
	work.holds(nil)
}

// What cannot be without a look at the directory is found before that is created.
func TestAStartThatFailsHasCreatedNothing(t *testing.T) {
	busy(t)
	work := newDirectory(t)
	port := fmt.Sprint(freePort(t))
	for _, tt := range []struct{ prelude, flag, says string }{
		{"", "--admin=192.0.2.1:9100", "192.0.2.1:9100"},
		{"", "--admin=" + newAdminPort(t), "admin address"},
		{"", "--tls-cert=none.pem --tls-key=none.pem", "none.pem"},
		{"", "--on-saved=if true; then", "--on-saved"},
		{few, "--admin=:" + fmt.Sprint(freePort(t)), "ulimit -n"},
	} {
		flags := []string{tt.flag}
		if strings.Contains(tt.flag, " --") {
			flags = strings.Fields(tt.flag)
		}
		l := launch{program: "server", args: append([]string{port, work.join("new/files")}, flags...), prelude: tt.prelude, plain: true}
		refuse(t, l, 1, tt.says)
		work.holds(nil)
	}
}

// The command line counts more than the environment, that more than the file, and that
// more than nothing at all.
func TestWhatCountsMore(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		config := newDirectory(t)
		config.put("accio.toml", "max-size = 10\nidle-timeout = '0'\n")
		file := with("--config=" + config.join("accio.toml"))
		variable := after("export ACCIO_MAX_SIZE=20B")
		for _, tt := range []struct {
			options []option
			most    int
		}{
			{[]option{file}, 10},
			{[]option{file, variable}, 20},
			{[]option{file, variable, with("--max-size=30")}, 30},
			{[]option{after("export ACCIO_MAX_SIZE=20B ACCIO_CONFIG=" + config.join("accio.toml"))}, 20},
			{[]option{after("export ACCIO_MAX_SIZE= ACCIO_CONFIG=" + config.join("accio.toml"))}, 10},
			{[]option{after("export ACCIO_MAX_SIZE= ACCIO_CONFIG=")}, 1000},
		} {
			s := serve(t, program, tt.options...)
			most := strings.Repeat("x", tt.most)
			check(t, upload(s.port, most))
			s.outcome(received(most))
			if tt.most < 1000 {
				check(t, s.connect().greet().send(most, "x").rst())
				s.stop(failed)
			} else {
				s.stop()
			}
		}
	})
}

// Without arguments, the servers have them from the file.
func TestArgumentsInAFile(t *testing.T) {
	busy(t)
	config := newDirectory(t)
	port := freePort(t)
	work := newDirectory(t)
	config.put("accio.toml", fmt.Sprintf("port = %d\nfile-dir = 'some/files'\n", port))
	p := launch{program: "server", workDir: work.path, through: []string{"env", "ACCIO_CONFIG=" + config.join("accio.toml")}}.start(t)
	if !poll(func() bool { return p.listensOn(port) || !p.running() }) {
		t.Fatal("it does not listen")
	}
	check(t, upload(port, "hello"))
	work.holdsAt("some/files/1.file", "hello")
	if code := p.exitAfter(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p.silent()
	// Only what is missing.
	config.put("half.toml", "file-dir = 'files'\n")
	refuse(t, launch{program: "server", args: []string{"--config=" + config.join("half.toml")}, workDir: work.path, plain: true}, 2, "PORT")
	refuse(t, launch{program: "server-s", args: []string{"1", "--config=" + config.join("half.toml")}, workDir: work.path, plain: true}, 2, "half.toml:1", "file-dir")
}

// A pipe will do, and one that nobody writes does not keep a program from ending.
func TestConfigOfAPipe(t *testing.T) {
	busy(t)
	dir := newDirectory(t)
	check(t, syscall.Mkfifo(dir.join("pipe"), 0o666))
	p := launch{program: "server-s", args: []string{"54321", "--config", dir.join("pipe")}}.start(t)
	// It opens the pipe once it has heard of signals.
	w, err := os.OpenFile(dir.join("pipe"), os.O_WRONLY, 0)
	check(t, err)
	if code := p.exitAfter(syscall.SIGTERM); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if said := p.complaint(); !strings.Contains(said, "configuration") {
		t.Errorf("on standard error: %q", said)
	}
	p.silent()
	check(t, w.Close())

	p = launch{program: "server-s", args: []string{"54321", "--config", dir.join("pipe"), "--check"}}.start(t)
	w, err = os.OpenFile(dir.join("pipe"), os.O_WRONLY, 0)
	check(t, err)
	_, err = w.WriteString("drain = '1m'\n")
	check(t, errors.Join(err, w.Close()))
	if code := p.exit(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if said := strings.Join(p.stdout.rest(), ""); said != "server-s"+fine {
		t.Errorf("it says %q", said)
	}
	p.silent()
}

const fine = ": everything is fine\n"

// A check asks nothing of a server that is running, and changes nothing.
func TestCheckDisturbsNobody(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program)
		check(t, upload(s.port, "first")) // the start is over
		s.outcome(received("first"))
		args := []string{fmt.Sprint(s.port), "--check", "--max-size=1KiB"}
		if program == "server" {
			s.dir.put(".1.file123456789012345678", "left by a server that was killed") // a start would sweep it
			args = append(args, s.dir.path, "--min-free=1KiB", "--continue")
		}
		for range 3 {
			if said := prints(t, program, args...); said != program+fine {
				t.Errorf("it says %q", said)
			}
		}
		if program == "server" {
			s.dir.holds(map[string]string{"1.file": "first", ".1.file123456789012345678": "left by a server that was killed"})
			check(t, os.Remove(s.dir.join(".1.file123456789012345678")))
		}
		check(t, upload(s.port, "hello")) // the second connection
		s.stop(received("hello"))
		if said := prints(t, program, args...); said != program+fine {
			t.Errorf("of a port that is free it says %q", said)
		}
	})
}

// What was meant for a flag and sets none is told, and is no fault: it may be for another
// program.
func TestCheckWarnsOfVariablesThatSetNothing(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		args := []string{program, "54321", "--check"}
		if program == "server" {
			args = append(args, newDirectory(t).path)
		}
		p, code := launch{program: program, args: args[1:], through: []string{"env", "ACCIO_MAXSIZE=1", "ACCIO_QUIET=true", "ACCIO_MAX_SIZE=1", "ACCIO_DRIAN="}}.run(t)
		if code != 0 {
			t.Errorf("exit code %d", code)
		}
		want := program + ": warning: ACCIO_MAXSIZE sets no flag of " + program + " (did you mean \"ACCIO_MAX_SIZE\"?)\n" +
			program + ": warning: ACCIO_QUIET sets no flag of " + program + "\n" + program + ": everything else is fine\n"
		if said := strings.Join(p.stdout.rest(), ""); said != want {
			t.Errorf("it says %q, want %q", said, want)
		}
		p.silent()
	})
}

func TestCheckCreatesNothing(t *testing.T) {
	busy(t)
	work := newDirectory(t)
	work.put("file", "")
	config := newDirectory(t)
	dir := work.join("new/files")
	config.put("accio.toml", "port = 54321\nfile-dir = '"+dir+"'\nmin-free = '1KiB'\n")
	if said := prints(t, "server", "--check", "--config", config.join("accio.toml")); said != "server"+fine {
		t.Errorf("it says %q", said)
	}
	for _, tt := range []struct {
		args []string
		code int
		says []string
	}{
		{[]string{"54321", work.join("file")}, 1, []string{work.join("file"), "not a directory"}},
		{[]string{"54321", work.join("file/new")}, 1, []string{work.join("file/new"), "not a directory"}},
		{[]string{"54321", dir, "--min-free=8000PiB"}, 1, []string{"--min-free", dir}},
		{[]string{"65536", dir}, 2, []string{"65536"}},
		{[]string{"54321"}, 2, []string{"FILE-DIR"}},
		{[]string{"54321", dir, "--max-conns=x"}, 2, []string{"--max-conns"}},
		{[]string{"--config=" + work.join("file")}, 2, []string{"PORT"}},
	} {
		refuse(t, launch{program: "server", args: append(tt.args, "--check"), plain: true}, tt.code, tt.says...)
	}
	work.put("18446744073709551615.file", "")
	refuse(t, launch{program: "server", args: []string{"54321", work.path, "--continue", "--check"}, plain: true}, 1, "18446744073709551615")
	check(t, os.Remove(work.join("18446744073709551615.file")))
	work.holds(map[string]string{"file": ""})
}

// All that is wrong is told at once.
func TestCheckAsAUserWhoMayNothing(t *testing.T) {
	busy(t)
	base := newDirectory(t)
	for name, mode := range map[string]os.FileMode{"mine": 0o777, "not mine": 0o555} {
		check(t, os.Mkdir(base.join(name), 0o777))
		check(t, os.Chmod(base.join(name), mode))
	}
	l := launch{program: "server", args: []string{"54321", base.join("not mine"), "--check"}, plain: true}
	unprivileged(t, &l, base)
	check(t, os.Chmod(base.path, 0o755))
	refuse(t, l, 1, base.join("not mine"), "permission denied")
	l.args[1] = base.join("not mine/new")
	refuse(t, l, 1, base.join("not mine/new"), "permission denied")
	l.args[1] = base.join("mine/new")
	p, code := l.run(t)
	if code != 0 {
		t.Errorf("exit code %d: %q", code, p.stderr.rest())
	}
	if said := strings.Join(p.stdout.rest(), ""); said != "server"+fine {
		t.Errorf("it says %q", said)
	}

	l.args = []string{"80", base.join("no/such"), "--check"}
	l.attr = &syscall.SysProcAttr{ // see TestAForbiddenPortIsRefusedAtOnce
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getgid(), Size: 1}},
	}
	refuse(t, l, 1, "port 80", "permission denied")
	l.args[1] = base.join("file")
	base.put("file", "")
	refuse(t, l, 1, "port 80", "permission denied", base.join("file"), "not a directory")
}

// The shells and man accept the output for them.
func TestCompletionAndManPages(t *testing.T) {
	busy(t)
	eachProgram(t, func(t *testing.T, program string, _ []string) {
		out := newDirectory(t)
		for _, shell := range []string{"bash", "zsh", "fish"} {
			out.put(shell, prints(t, program, "--completion="+shell))
			takenBy(t, out.join(shell), shell, "-n")
		}
		completed := prints(t, program, "__completeNoDesc", "--")
		for _, flag := range settable(t, program) {
			if !strings.Contains(completed, "--"+flag+"\n") {
				t.Errorf("--%s is not completed", flag)
			}
		}
		out.put("man", prints(t, program, "--man"))
		takenBy(t, out.join("man"), "groff", "-man", "-ww", "-z")
		takenBy(t, out.join("man"), "mandoc", "-Tlint", "-Werror")
	})
}

// takenBy has a tool look at a file, if it is there: it is to have nothing to say.
func takenBy(t *testing.T, name, tool string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath(tool); err != nil {
		t.Log(err)
		return
	}
	cmd := exec.Command(tool, append(args, name)...)
	if said, err := cmd.CombinedOutput(); err != nil || len(said) > 0 {
		t.Errorf("%s of %s: %v, %s", tool, filepath.Base(name), err, said)
	}
}
