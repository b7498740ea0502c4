//go:build linux

package integration

import (
	"os"
	"strconv"
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

func TestWrongArgumentsAreRefusedAtOnce(t *testing.T) {
	busy(t)
	type arguments struct {
		name    string
		program string // or both
		args    []string
	}
	const dir, port = "files", "54321"
	tests := []arguments{
		{"no arguments", "", nil},
		{"an unknown flag", "server-s", []string{"--frobnicate", port}},
		{"an unknown flag", "server", []string{"--frobnicate", port, dir}},
		{"an unknown flag with a line end in its name", "server-s", []string{"--frob\nnicate", port}},
		{"an unknown short flag", "server-s", []string{"-x", port}},
		{"an unknown flag after the arguments", "server", []string{port, dir, "--frobnicate"}},
		{"one argument too many", "server-s", []string{port, dir}},
		{"the port twice", "server-s", []string{port, port}},
		{"one argument too many", "server", []string{port, dir, dir}},
		{"no directory", "server", []string{port}},
		{"no port", "server", []string{dir}},
		{"port and directory in the wrong order", "server", []string{dir, port}},
	}
	for _, port := range []string{
		"0", "00000", "-0", "-1", "-8080", "+8080", "65536", "65537", "99999", "131072", "4294967297", "18446744073709551617",
		"100000000000000000000000000000", "abc", "http", "8080x", "x8080", "80 80", " 8080", "8080 ", "8080\n", "", " ",
		"8080.0", "8,080", "8_080", "0x1f90", "0b11", "0o17", "1e3", "٨٠٨٠", "８０８０", "localhost:8080", ":8080", "8080/tcp", "--", "-",
	} {
		tests = append(tests,
			arguments{"the port " + strconv.Quote(port), "server-s", []string{port}},
			arguments{"the port " + strconv.Quote(port), "server", []string{port, dir}})
	}
	bothServers(t, func(t *testing.T, program string) {
		for _, tt := range tests {
			if tt.program != "" && tt.program != program {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				work := newDirectory(t)
				refuse(t, launch{program: program, args: tt.args, workDir: work.path, plain: true})
				work.holds(nil) // nothing is created for what makes no sense
			})
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

func TestAPortInUseIsRefusedAtOnce(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program)
		c := s.connect().greet().send("hello").taken().must(t)
		port := strconv.Itoa(s.port)
		// A second copy does no harm to the first, not even in its directory,
		// and creates none of its own.
		elsewhere := newDirectory(t)
		second := launch{program: program, args: []string{port}}
		if program == "server" {
			second.args = []string{port, s.dir.path}
			third := launch{program: program, args: []string{port, elsewhere.join("files")}}
			if said := refuse(t, third); !strings.Contains(said, port) {
				t.Errorf("on standard error: %q, which does not name the port", said)
			}
		}
		if said := refuse(t, second); !strings.Contains(said, port) {
			t.Errorf("on standard error: %q, which does not name the port", said)
		}
		elsewhere.holds(nil)
		check(t, c.send("!").halfClose().fin())
		s.outcome(received("hello!"))
		s.stop()
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
