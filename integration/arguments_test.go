//go:build linux

package integration

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// refuse starts a program that is to end at once, with an exit code and one line
// of complaint that holds words.
func refuse(t *testing.T, l launch, code int, words ...string) {
	t.Helper()
	p, got := l.run(t)
	if got != code {
		t.Errorf("exit code %d; want %d", got, code)
	}
	said := p.complaint()
	p.silent()
	for _, trace := range []string{"goroutine ", "panic", ".go:"} {
		if strings.Contains(said, trace) {
			t.Errorf("on standard error: %q, which users cannot read", said)
		}
	}
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("on standard error: %q, without %q", said, w)
		}
	}
}

// eachProgram runs a test with each of the programs, and arguments that are right
// for it.
func eachProgram(t *testing.T, test func(t *testing.T, program string, args []string)) {
	for program, args := range map[string][]string{
		"server-s": {"54321"},
		"server":   {"54321", "files"},
		"client":   {"localhost", "54321", "file"},
		"conform":  {"--list"},
	} {
		t.Run(program, func(t *testing.T) { test(t, program, args) })
	}
}

// Ports and numbers of arguments that make no sense are the conformance kit's.
func TestUnknownFlagsAreRefusedAtOnce(t *testing.T) {
	busy(t)
	eachProgram(t, func(t *testing.T, program string, args []string) {
		for _, flag := range []string{"--frobnicate", "--frob\nnicate", "-x", "--help=x"} {
			for _, args := range [][]string{append([]string{flag}, args...), append(slices.Clone(args), flag)} {
				work := newDirectory(t)
				refuse(t, launch{program: program, args: args, workDir: work.path, plain: true}, 2)
				work.holds(nil) // nothing is created for what makes no sense
			}
		}
	})
}

func TestProgramsTellHowTheyAreUsed(t *testing.T) {
	busy(t)
	eachProgram(t, func(t *testing.T, program string, args []string) {
		for flag, want := range map[string]string{"--help": "Usage: " + program + " ", "-h": "--version", "--version": program + " "} {
			t.Run(flag, func(t *testing.T) {
				work := newDirectory(t)
				p, code := launch{program: program, args: []string{flag}, workDir: work.path}.run(t)
				if code != 0 {
					t.Errorf("exit code %d", code)
				}
				if said := strings.Join(p.stdout.rest(), ""); !strings.Contains(said, want) {
					t.Errorf("on standard output: %q, without %q", said, want)
				}
				p.silent()
				work.holds(nil)
			})
		}
	})
}

// shows is what each program prints for who asks.
var shows = []string{"--help", "--version", "--man", "--completion=bash"}

// Who has read enough, as head(1), has a program end without a word, but not well.
func TestWhatNobodyReadsIsNoComplaint(t *testing.T) {
	busy(t)
	eachProgram(t, func(t *testing.T, program string, _ []string) {
		flags := shows
		if program == "conform" {
			flags = append([]string{"--list", "--markdown"}, shows...)
		}
		for _, flag := range flags {
			r, w, err := os.Pipe()
			check(t, err)
			check(t, r.Close())
			p, code := launch{program: program, args: []string{flag}, stdout: w}.run(t)
			if code != 1 {
				t.Errorf("%s: exit code %d", flag, code)
			}
			p.silent()
			check(t, w.Close())
		}
	})
}

// That it cannot be written for another reason is told, and not that the flag is wrong.
func TestWhatCannotBeShownIsTold(t *testing.T) {
	busy(t)
	eachProgram(t, func(t *testing.T, program string, _ []string) {
		for _, flag := range shows {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			check(t, err)
			p, code := launch{program: program, args: []string{flag}, stdout: full}.run(t)
			if code != 1 {
				t.Errorf("%s: exit code %d", flag, code)
			}
			lines := p.stderr.rest()
			if len(lines) != 1 || !strings.HasPrefix(lines[0], "ERROR: ") || !strings.Contains(lines[0], "no space") || strings.Contains(lines[0], "--help") {
				t.Errorf("%s: on standard error: %q", flag, lines)
			}
			check(t, full.Close())
		}
	})
}

func TestAForbiddenPortIsRefusedAtOnce(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		// In a network of its own, whose low ports are the system's as they
		// are everywhere unless somebody has changed it, and as a user without
		// any privileges there.
		work := newDirectory(t)
		l := launch{program: program, args: []string{"80"}, attr: &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 1000, HostID: os.Getgid(), Size: 1}},
		}}
		if program == "server" {
			l.args = append(l.args, work.join("files"))
		}
		refuse(t, l, 1, "80")
		work.holds(nil)
	})
}
