//go:build linux

package conformance

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// programs is where TestMain has built everything: without the race detector,
// since they are judged as users have them.
var programs string

func TestMain(m *testing.M) {
	// Most of what the tests do is to wait; what is not, shared bounds. So they
	// run side by side, unless somebody has chosen otherwise.
	flag.Parse()
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		flag.Set("test.parallel", "100")
	}
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "conformance")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	programs = dir
	build := exec.Command("go", "build", "-o", dir+"/", "./reference", "../../cmd/...")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	return m.Run(), nil
}

func refer(program Program, mistake string) map[Program]string {
	role := string(program)
	if mistake != "" {
		role += "/" + mistake
	}
	return map[Program]string{program: filepath.Join(programs, "reference") + " " + role}
}

// shared is what the suites of all tests share.
var shared = func() *machine {
	m := newMachine(8)
	// Forty suites side by side, and the tests of other packages beside them.
	m.slack = 3 * time.Second
	return m
}()

// grade runs a suite and returns the names of the criteria that do not hold,
// without the program.
func grade(t *testing.T, s Suite) (failed []string, report Report) {
	t.Helper()
	s.machine = shared
	report, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		if r.Verdict == Fail {
			failed = append(failed, strings.TrimPrefix(r.Name, string(r.Program)+"/"))
		}
	}
	return failed, report
}
