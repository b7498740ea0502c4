package main

import (
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed server.py
var pythonServer string

// bench is one run.
type bench struct {
	bin     string // where the programs are
	before  string // where those of an earlier version are, or ""
	self    string
	tmpfs   string // a directory in memory
	disk    string // and one on a disk
	work    string // for what the peers need
	rounds  int
	quick   bool
	python  string // "" if there is none
	missing []string
}

// section is a part of a run. Quick ones are a part of quick runs, too.
type section struct {
	name  string
	quick bool
	run   func(b *bench) error
}

var sections = []section{
	{"receive", true, (*bench).receive},
	{"count", true, (*bench).count},
	{"compose", true, (*bench).compose},
	{"small", true, (*bench).small},
	{"silent", true, (*bench).silent},
	{"growth", false, (*bench).growth},
	{"client", true, (*bench).client},
	{"tools", false, (*bench).tools},
}

func main() {
	// See contestant.start: what this thread starts is to live as long as the
	// process.
	runtime.LockOSThread()
	if len(os.Args) == 5 && os.Args[1] == "peer" {
		runtime.UnlockOSThread()
		port, err := strconv.Atoi(os.Args[3])
		if run := peers[os.Args[2]]; err == nil && run != nil {
			err = run(port, os.Args[4])
		}
		if err != nil {
			fail(err)
		}
		return
	}
	b := &bench{}
	only := flag.String("only", "", "a regular expression for the names of the `sections` to be run")
	flag.StringVar(&b.bin, "bin", "bin", "the `directory` of the programs")
	flag.StringVar(&b.before, "before", "", "a `directory` with the programs of an earlier version, to measure beside these")
	flag.StringVar(&b.tmpfs, "tmpfs", "/dev/shm", "a `directory` in memory")
	flag.StringVar(&b.disk, "disk", ".", "a `directory` on a disk")
	flag.IntVar(&b.rounds, "rounds", 7, "`how often` each thing is measured")
	flag.BoolVar(&b.quick, "quick", false, "less of everything, in under a minute")
	flag.Parse()
	if err := b.run(*only); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintf(os.Stderr, "ERROR: %v\n", err)
	os.Exit(1)
}

func (b *bench) run(only string) error {
	match, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if b.rounds < 1 {
		return errors.New("-rounds must be 1 or more")
	}
	if b.quick {
		b.rounds = min(b.rounds, 3)
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.work, err = os.MkdirTemp("", "accio-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.work)
	if b.python, err = exec.LookPath("python3"); err != nil {
		b.missing = append(b.missing, "python3")
	} else if err := os.WriteFile(b.script(), []byte(pythonServer), 0o644); err != nil {
		return err
	}
	raiseLimit()
	fmt.Println(b.machine())
	for _, s := range sections {
		if !match.MatchString(s.name) || b.quick && !s.quick && only == "" {
			continue
		}
		if err := s.run(b); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	if len(b.missing) > 0 {
		fmt.Printf("Not installed, and so not measured: %s.\n", strings.Join(b.missing, ", "))
	}
	return nil
}

func (b *bench) script() string { return filepath.Join(b.work, "server.py") }

// raiseLimit lets this process have as many descriptors as it may.
func raiseLimit() {
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil {
		lim.Cur = lim.Max
		unix.Setrlimit(unix.RLIMIT_NOFILE, &lim)
	}
}

// server is the program under test, with its own chain.
func (b *bench) server() contestant {
	return contestant{name: "**server**", argv: func(port int, dir string) ([]string, error) {
		return []string{filepath.Join(b.bin, "server"), strconv.Itoa(port), dir}, nil
	}}
}

// withBefore returns c, which runs program, and with -before the same program from there.
func (b *bench) withBefore(c contestant, program string) []contestant {
	if b.before == "" {
		return []contestant{c}
	}
	old := c
	old.name = program + " before"
	old.argv = func(port int, dir string) ([]string, error) {
		argv, err := c.argv(port, dir)
		if err == nil {
			argv[0] = filepath.Join(b.before, program)
		}
		return argv, err
	}
	return []contestant{c, old}
}

func (b *bench) serverS() contestant {
	return contestant{name: "**server-s**", argv: func(port int, _ string) ([]string, error) {
		return []string{filepath.Join(b.bin, "server-s"), strconv.Itoa(port)}, nil
	}}
}

// peer is one of this program's own.
func (b *bench) peer(name, title string) contestant {
	return contestant{name: title, argv: func(port int, dir string) ([]string, error) {
		return []string{b.self, "peer", name, strconv.Itoa(port), dir}, nil
	}}
}

// bare is the one with as little as can be done in Go.
func (b *bench) bare() contestant {
	c := b.peer("bare", "Go, bare: `os.File.ReadFrom`")
	c.descriptors = 4 // ReadFrom takes a pipe before there is anything to be read
	return c
}

// synced is bare, and syncs what it saves.
func (b *bench) synced() contestant {
	return b.peer("synced", "Go, bare, that syncs the file and its directory")
}

// pythons is the server in Python, if there is a Python.
func (b *bench) pythons() []contestant {
	if b.python == "" {
		return nil
	}
	return []contestant{{name: "Python, threads, 64 KiB", threads: true, argv: func(port int, dir string) ([]string, error) {
		return []string{b.python, b.script(), strconv.Itoa(port), dir}, nil
	}}}
}

// machine says what the figures were measured on.
func (b *bench) machine() string {
	cpu := "an unknown processor"
	info, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(info)) {
		if name, ok := strings.CutPrefix(line, "model name"); ok {
			cpu = strings.TrimSpace(strings.TrimLeft(name, "\t :"))
			break
		}
	}
	var uts unix.Utsname
	unix.Uname(&uts)
	python := "no Python"
	if b.python != "" {
		out, _ := exec.Command(b.python, "--version").CombinedOutput()
		python = strings.TrimSpace(string(out))
	}
	version, _ := exec.Command(filepath.Join(b.bin, "server"), "--version").Output()
	return fmt.Sprintf("Measured on %s: %d × %s, Linux %s, %s and %s, %s, %s, %s. %d rounds in turn after one to warm up; median (minimum–maximum).\n",
		time.Now().Format("2006-01-02"), runtime.NumCPU(), cpu, unix.ByteSliceToString(uts.Release[:]),
		filesystem(b.tmpfs), filesystem(b.disk), strings.TrimSpace(string(version)), runtime.Version(), python, b.rounds)
}

// filesystem is the kind that dir is on.
func filesystem(dir string) string {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return "an unknown filesystem"
	}
	names := map[int64]string{unix.TMPFS_MAGIC: "tmpfs", unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs"}
	if name, ok := names[int64(st.Type)]; ok {
		return name
	}
	return fmt.Sprintf("filesystem %#x", st.Type)
}
