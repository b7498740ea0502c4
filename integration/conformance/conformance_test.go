//go:build linux

package conformance

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Where TestMain has built everything: the references, and our own programs as
// users have them, and with the race detector, which makes one that it finds fault
// with say so on standard error and exit with code 66.
var references, plainPrograms, racePrograms string

func TestMain(m *testing.M) {
	// Most of what the tests do is to wait; what is not, shared bounds. So they
	// run side by side, unless somebody has chosen otherwise.
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		flag.Set("test.parallel", "100")
	}
	if flag.Lookup("test.fuzz").Value.String() != "" {
		os.Exit(m.Run()) // in each of many processes, and without any program
	}
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// unwatched keeps the payloads in memory that the race detector of the tests does
// not watch: it would take most of their time.
func unwatched() error {
	b := noise()
	m, err := syscall.Mmap(-1, 0, len(b), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	copy(m, b)
	noise = func() []byte { return m }
	return nil
}

func buildAndRun(m *testing.M) (int, error) {
	if err := unwatched(); err != nil {
		return 0, err
	}
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	references = filepath.Join(dir, "references")
	plainPrograms, racePrograms = filepath.Join(dir, "plain"), filepath.Join(dir, "race")
	for _, args := range [][]string{
		{"-o", references + "/", "./reference"},
		{"-o", plainPrograms + "/", "../../cmd/server-s", "../../cmd/server", "../../cmd/client"},
		{"-o", racePrograms + "/", "-race", "../../cmd/server-s", "../../cmd/server", "../../cmd/client"},
	} {
		build := exec.Command("go", append([]string{"build"}, args...)...)
		if out, err := build.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("%v: %w: %s", build, err, out)
		}
	}
	// Without this the race detector has a program linger for a second.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	return m.Run(), nil
}

func refer(program Program, mistake string) map[Program]string {
	role := string(program)
	if mistake != "" {
		role += "/" + mistake
	}
	return map[Program]string{program: filepath.Join(references, "reference") + " " + role}
}

// shared is what the suites of all tests share.
var shared = func() *machine {
	m := newMachine(0)
	m.light = make(chan struct{}, 8)
	// Forty suites side by side, and the tests of other packages beside them.
	m.slack = 3 * time.Second
	return m
}()

// grade runs a suite and returns the names of the criteria that do not hold,
// without the program.
func grade(t *testing.T, s Suite) (failed []string, report Report) {
	t.Helper()
	s.machine = cmp.Or(s.machine, shared)
	report, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		switch r.Verdict {
		case Fail:
			failed = append(failed, strings.TrimPrefix(r.Name, string(r.Program)+"/"))
		case Error:
			t.Errorf("%s could not be judged: %s", r.Name, r.Error)
		}
	}
	return failed, report
}
