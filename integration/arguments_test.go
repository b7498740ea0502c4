//go:build linux

package integration

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// refuse starts a program that is to end at once, with one line of complaint,
// which it returns.
func refuse(t *testing.T, l launch) string {
	t.Helper()
	p := l.start(t)
	if code := p.exit(); code <= 0 {
		t.Errorf("exit code %d", code)
	}
	said := p.complaint()
	p.silent()
	for _, trace := range []string{"goroutine ", "panic", ".go:"} {
		if strings.Contains(said, trace) {
			t.Errorf("on standard error: %q, which users cannot read", said)
		}
	}
	return said
}

// Ports and numbers of arguments that make no sense are the conformance kit's.
func TestUnknownFlagsAreRefusedAtOnce(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		args := []string{"54321"}
		if program == "server" {
			args = append(args, "files")
		}
		for _, flag := range []string{"--frobnicate", "--frob\nnicate", "-x", "--help=x"} {
			for _, args := range [][]string{append([]string{flag}, args...), append(slices.Clone(args), flag)} {
				work := newDirectory(t)
				refuse(t, launch{program: program, args: args, workDir: work.path, plain: true})
				work.holds(nil) // nothing is created for what makes no sense
			}
		}
	})
}

func TestProgramsTellHowTheyAreUsed(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		for flag, want := range map[string]string{"--help": "PORT", "-h": "PORT", "--version": program + " "} {
			t.Run(flag, func(t *testing.T) {
				work := newDirectory(t)
				p := launch{program: program, args: []string{flag}, workDir: work.path}.start(t)
				if code := p.exit(); code != 0 {
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
		if said := refuse(t, l); !strings.Contains(said, "80") {
			t.Errorf("on standard error: %q, which does not name the port", said)
		}
		work.holds(nil)
	})
}
