//go:build linux

package integration

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/accio-go/accio/integration/conformance"
)

// grading is how conform is started, with a directory of its own for what is
// temporary: by that those that it starts are known, whoever their parents are.
func grading(t *testing.T, args ...string) (l launch, tmp string) {
	t.Helper()
	tmp = t.TempDir()
	return launch{program: "conform", args: args, workDir: t.TempDir(), plain: true, prelude: fmt.Sprintf("export TMPDIR=%q", tmp)}, tmp
}

// family is the names of the programs that have tmp for what is temporary, and
// their process numbers.
func family(tmp string) (names []string, pids []int) {
	environments, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range environments {
		environment, err := os.ReadFile(name)
		if err != nil || !slices.Contains(strings.Split(string(environment), "\x00"), "TMPDIR="+tmp) {
			continue
		}
		proc := filepath.Dir(name)
		comm, err := os.ReadFile(proc + "/comm")
		pid, nerr := strconv.Atoi(filepath.Base(proc))
		if err == nil && nerr == nil {
			names, pids = append(names, string(bytes.TrimSpace(comm))), append(pids, pid)
		}
	}
	return names, pids
}

// script makes a program of shell commands.
func script(t *testing.T, commands string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	check(t, os.WriteFile(path, []byte("#!/bin/sh\n"+commands), 0o755))
	return path
}

// ours is where the program is that users have.
func ours(program string) string { return filepath.Join(plainPrograms, program) }

func TestConformRefusesWhatMakesNoSense(t *testing.T) {
	busy(t)
	dir := newDirectory(t)
	check(t, os.WriteFile(dir.join("text"), nil, 0o666))
	check(t, os.WriteFile(dir.join("no-interpreter"), []byte("print(1)\n"), 0o777))
	check(t, os.WriteFile(dir.join("wrong-interpreter"), []byte("#!/no/such\n"), 0o777))
	for _, tt := range []struct {
		args []string
		says []string
	}{
		{nil, []string{"--server-s", "--server", "--client"}},
		{[]string{"--server", "true", "more"}, []string{"more"}},
		{[]string{"--server", "true", "--only", "nonsense"}, []string{"nonsense", "--list"}},
		{[]string{"--server", "true", "--only", "client/sends"}, []string{"client/sends"}},
		{[]string{"--server", "true", "--only", ""}, []string{"--only", "--list"}},
		{[]string{"--server", "true", "--only", "["}, []string{"["}},
		{[]string{"--server", "true", "--parallel", "0"}, []string{"--parallel", "0"}},
		{[]string{"--server", "true", "--parallel=-1"}, []string{"--parallel", "-1"}},
		{[]string{"--server", "true", "--timeout", "0"}, []string{"--timeout", `"0"`}},
		{[]string{"--server", "true", "--timeout=-1s"}, []string{"--timeout", "-1s"}},
		{[]string{"--server", "true", "--json", "none/report"}, []string{"none/report"}},
		{[]string{"--server", "true", "--junit", "."}, []string{"directory"}},
		{[]string{"--server", "true", "--json", "-", "--junit", "-"}, []string{"--json", "--junit"}},
		{[]string{"--list", "--json", "-"}, []string{"--list"}},
		{[]string{"--server", ""}, []string{"server: ", "no program"}},
		{[]string{"--server", "'true"}, []string{"server: ", "not closed"}},
		{[]string{"--server", "true; true"}, []string{"server: ", "';'", "sh -c", "exec"}},
		{[]string{"--server-s", "no-such-program-anywhere"}, []string{"server-s: ", "no-such-program-anywhere"}},
		{[]string{"--client", "./none"}, []string{"client: ", "./none", "no such file"}},
		{[]string{"--client", "./text"}, []string{"client: ", "./text", "permission", "interpreter"}},
		{[]string{"--client", "text"}, []string{"client: ", "./text"}},
		{[]string{"--client", "./no-interpreter"}, []string{"client: ", "no-interpreter", "first line"}},
		{[]string{"--client", "./wrong-interpreter"}, []string{"client: ", "wrong-interpreter", "first line"}},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			refuse(t, launch{program: "conform", args: tt.args, workDir: dir.path, plain: true}, 2, tt.says...)
		})
	}
}

func TestConformListsTheCriteria(t *testing.T) {
	busy(t)
	for _, tt := range []struct {
		args  []string
		shows []string
		lines int // at least
	}{
		{[]string{"--list"}, []string{"server-s: ", "server/greets", "client/sends"}, 100},
		{[]string{"--markdown", "--client", "true"}, []string{"| `client/sends` | 3 | required |"}, 20},
		{[]string{"--list", "--only", "client/memory"}, []string{"client: service\n  client/memory "}, 2},
	} {
		p, code := launch{program: "conform", args: tt.args, plain: true}.run(t)
		if code != 0 {
			t.Errorf("%q: exit code %d", tt.args, code)
		}
		said := p.stdout.rest()
		for _, words := range tt.shows {
			if !strings.Contains(strings.Join(said, ""), words) {
				t.Errorf("%q: on standard output: %q, without %q", tt.args, said, words)
			}
		}
		if len(said) < tt.lines {
			t.Errorf("%q: %d lines", tt.args, len(said))
		}
		p.silent()
	}
}

// grades runs conform to its end, which may take longer than that of other
// programs, and returns its exit code.
func (p *program) grades() int {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
	}
	return p.exit()
}

// junit is what is read of a report as JUnit XML.
type junit struct {
	Suites []struct {
		Name  string `xml:"name,attr"`
		Tests int    `xml:"tests,attr"`
		Cases []struct {
			Name    string  `xml:"name,attr"`
			Failure *string `xml:"failure"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// reports reads the reports that a conform has written for machines.
func reports(t *testing.T, dir string) (asJSON conformance.Report, asJUnit junit) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "report.json"))
	check(t, err)
	check(t, json.Unmarshal(b, &asJSON))
	b, err = os.ReadFile(filepath.Join(dir, "report.xml"))
	check(t, err)
	check(t, xml.Unmarshal(b, &asJUnit))
	return asJSON, asJUnit
}

func TestConformGradesProgramsThatConform(t *testing.T) {
	busy(t)
	l, tmp := grading(t, "--server-s", ours("server-s"), "--server", "sh -c 'exec "+ours("server")+` "$@"' sh`, "--client", ours("client"),
		"--only", "greets", "--only", "receives", "--only", "sends", "--json", "report.json", "--junit", "report.xml")
	p := l.start(t)
	if code := p.grades(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	said := strings.Join(p.stdout.rest(), "")
	for _, words := range []string{"server-s: " + ours("server-s") + "\n", "\nserver: sh -c ", "\n  payload\n", "pass receives", "pass sends", "required: 5 of 5 hold, 15 of 15 points\n"} {
		if !strings.Contains(said, words) {
			t.Errorf("no %q in the report:\n%s", words, said)
		}
	}
	p.silent()
	report, ju := reports(t, l.workDir)
	if !report.Conforms() || report.Required.Passed != 5 || len(report.Results) != 5 || len(report.Commands) != 3 {
		t.Errorf("as JSON it is %+v", report)
	}
	if len(ju.Suites) != 3 || ju.Suites[0].Name != "server-s" || ju.Suites[0].Tests != 2 {
		t.Errorf("as JUnit XML it is %+v", ju)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("%v is left of what was temporary, %v", left, err)
	}
}

func TestConformShowsWhatDoesNotHold(t *testing.T) {
	busy(t)
	// A server that saves, where one should be that counts.
	l, _ := grading(t, "--server-s", "sh -c 'exec "+ours("server")+` "$1" .' sh`, "--only", "greets", "--only", "receives",
		"--json", "report.json", "--junit", "report.xml")
	p := l.start(t)
	if code := p.grades(); code != 1 {
		t.Errorf("exit code %d", code)
	}
	said := strings.Join(p.stdout.rest(), "")
	for _, words := range []string{"pass greets", "FAIL receives", "expected: ", "seen: ", "#1  connected to 127.0.0.1:", `#1  sent 15: "confirm-accio\r\n"`, "required: 1 of 2 hold, 3 of 6 points\n"} {
		if !strings.Contains(said, words) {
			t.Errorf("no %q in the report:\n%s", words, said)
		}
	}
	if said := p.complaint(); !strings.Contains(said, "1 of the required criteria") {
		t.Errorf("on standard error: %q", said)
	}
	p.silent()
	report, ju := reports(t, l.workDir)
	if report.Conforms() || len(report.Results) != 2 || report.Results[1].Failure == nil || len(report.Results[1].Failure.Wire) == 0 {
		t.Errorf("as JSON it is %+v", report)
	}
	if len(ju.Suites) != 1 || len(ju.Suites[0].Cases) != 2 || ju.Suites[0].Cases[0].Failure != nil || ju.Suites[0].Cases[1].Failure == nil {
		t.Errorf("as JUnit XML it is %+v", ju)
	}
}

// A report is written in place of the one for people, or is lost while those for
// people are not.
func TestConformWritesReportsWhereItIsTold(t *testing.T) {
	busy(t)
	for _, tt := range []struct {
		args   []string
		begins string
		code   int
	}{
		{[]string{"--json", "-"}, "{\n", 0},
		{[]string{"--junit", "-"}, "<?xml", 0},
		{[]string{"--json", "/dev/full"}, "server: ", 3},
	} {
		l, _ := grading(t, append(tt.args, "--server", ours("server"), "--only", "greets")...)
		p := l.start(t)
		if code := p.grades(); code != tt.code {
			t.Errorf("%q: exit code %d", tt.args, code)
		}
		if said := strings.Join(p.stdout.rest(), ""); !strings.HasPrefix(said, tt.begins) {
			t.Errorf("%q: on standard output: %q", tt.args, said)
		}
		if tt.code != 0 {
			p.complaint()
		}
		p.silent()
	}
}

// It cannot be said of a program that it conforms if it was not asked all; and those
// who know choose what to ask.
func TestConformSaysWhatItCannotTry(t *testing.T) {
	busy(t)
	for _, tt := range []struct {
		only string
		code int
	}{
		{"500-bytes-*-network", 3},
		{"!*-lossy-network", 0},
	} {
		l, _ := grading(t, "--server", ours("server"), "--only", "greets", "--only", tt.only)
		l.prelude += "; export PATH=/nonexistent" // where no ip(8) is, for networks
		p := l.start(t)
		if code := p.grades(); code != tt.code {
			t.Errorf("%s: exit code %d", tt.only, code)
		}
		said := strings.Join(p.stdout.rest(), "")
		if t.Failed() {
			t.Log(said)
		}
		if strings.Contains(said, "1 required could not be tried here") != (tt.code != 0) {
			t.Errorf("%s: the report is\n%s", tt.only, said)
		}
		if tt.code != 0 {
			p.complaint()
		}
		p.silent()
	}
}

// On a terminal conform shows how far it is, and cleans up after itself.
func TestConformShowsItsProgressOnATerminal(t *testing.T) {
	busy(t)
	user, tty := terminal(t, 100)
	screen := &screen{}
	var looking sync.WaitGroup
	looking.Go(func() { io.Copy(screen, user) }) // until nobody has the terminal: EIO
	l, _ := grading(t, "--server", ours("server"), "--only", "greets")
	l.stderr = tty
	p := l.start(t)
	tty.Close()
	if code := p.grades(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	looking.Wait()
	if shown := screen.String(); !strings.Contains(shown, "1 done, last server/greets: pass") || !strings.HasSuffix(shown, "\r\x1b[K") {
		t.Errorf("on the screen: %q", shown)
	}
}

// Children may leave their group and their parents: they are killed all the same.
func TestConformLeavesNothingWhenItIsStopped(t *testing.T) {
	t.Parallel()
	server := script(t, fmt.Sprintf(`
setsid sleep 1000 &
(setsid sleep 1000 < /dev/null > /dev/null 2>&1 &)
exec %q "$@"
`, ours("server")))
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(strings.ToUpper(sig.String()), func(t *testing.T) {
			t.Parallel()
			l, tmp := grading(t, "--server", server, "--only", "silence-at-start", "--json", "report.json")
			p := l.start(t)
			if !poll(func() bool {
				names, _ := family(tmp)
				slices.Sort(names)
				return slices.Equal(names, []string{"conform", "server", "sleep", "sleep"})
			}) {
				t.Fatal("the server does not start")
			}
			if code := p.exitAfter(sig); code != 3 {
				t.Errorf("exit code %d", code)
			}
			p.complaint()
			p.silent()
			if names, _ := family(tmp); len(names) > 0 {
				t.Errorf("%q are left", names)
			}
			left, err := os.ReadDir(tmp)
			check(t, err)
			if len(left) > 0 {
				t.Errorf("%v is left of what was temporary", left)
			}
			if _, err := os.Stat(filepath.Join(l.workDir, "report.json")); err == nil {
				t.Error("an empty report is left")
			}
		})
	}
}

func TestProgramsEndWithAConformThatIsKilled(t *testing.T) {
	t.Parallel()
	l, tmp := grading(t, "--server", ours("server"), "--only", "silence-at-start")
	p := l.start(t)
	if !poll(func() bool { names, _ := family(tmp); return slices.Contains(names, "server") }) {
		t.Fatal("the server does not start")
	}
	p.kill()
	if !poll(func() bool { names, _ := family(tmp); return len(names) == 0 }) {
		_, pids := family(tmp)
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		t.Errorf("%d programs are left", len(pids))
	}
}
