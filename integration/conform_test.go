//go:build linux

package integration

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// grading is how conform is started, with a directory of its own for what is
// temporary: by that those that it starts are known, whoever their parents are.
func grading(t *testing.T, args ...string) (l launch, tmp string) {
	t.Helper()
	tmp = t.TempDir()
	return launch{program: "conform", args: args, plain: true, prelude: fmt.Sprintf("export TMPDIR=%q", tmp)}, tmp
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

// Children may leave their group and their parents: they are killed all the same.
func TestConformLeavesNothingWhenItIsStopped(t *testing.T) {
	t.Parallel()
	server := script(t, fmt.Sprintf(`
setsid sleep 1000 &
(setsid sleep 1000 < /dev/null > /dev/null 2>&1 &)
exec %q "$@"
`, filepath.Join(plainPrograms, "server")))
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		t.Run(strings.ToUpper(sig.String()), func(t *testing.T) {
			t.Parallel()
			l, tmp := grading(t, "--server", server, "--only", "silence-at-start")
			p := l.start(t)
			if !poll(func() bool {
				names, _ := family(tmp)
				slices.Sort(names)
				return slices.Equal(names, []string{"conform", "server", "sleep", "sleep"})
			}) {
				t.Fatal("the server does not start")
			}
			p.signal(sig)
			if code := p.exit(); code != 1 {
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
		})
	}
}

func TestProgramsEndWithAConformThatIsKilled(t *testing.T) {
	t.Parallel()
	l, tmp := grading(t, "--server", filepath.Join(plainPrograms, "server"), "--only", "silence-at-start")
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
