//go:build linux

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

func TestServerCreatesItsDirectory(t *testing.T) {
	busy(t)
	for _, path := range []string{"files", "files/", "./files", "a/b/c/files", "a//b/../files", "with blank", "-files", "ф☃"} {
		t.Run(path, func(t *testing.T) {
			work := newDirectory(t)
			if strings.Contains(path, "..") {
				check(t, os.MkdirAll(work.join("a/b"), 0o777))
			}
			args := "./" + path
			if path[0] != '-' {
				args = path
			}
			s := serve(t, "server", workingIn(work.path), in(&directory{t, args}))
			s.dir = &directory{t, work.join(path)}
			check(t, upload(s.port, "hello"))
			s.outcome(received("hello"))
			s.stop()
		})
	}
	t.Run("unless it is there", func(t *testing.T) {
		work := newDirectory(t)
		check(t, os.Mkdir(work.join("files"), 0o700))
		check(t, os.Symlink("files", work.join("link")))
		for _, path := range []string{"files", "link", "link/", "."} {
			s := serve(t, "server", workingIn(work.path), in(&directory{t, path}))
			check(t, upload(s.port, path))
			s.halt(os.Interrupt)
			s.silent()
			at := work.join("files")
			if path == "." {
				at = work.path
			}
			(&directory{t, at}).holdsAt("1.file", path)
		}
		if fi, err := os.Stat(work.join("files")); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("the directory's mode has become %v, %v", fi.Mode(), err)
		}
	})
}

func TestADirectoryThatCannotBeWrittenIsRefusedAtOnce(t *testing.T) {
	busy(t)
	tests := []struct {
		name, path string
		make       func(work *directory) error
	}{
		{"it is a file", "file", func(d *directory) error { return os.WriteFile(d.join("file"), nil, 0o666) }},
		{"its parent is a file", "file/files", func(d *directory) error { return os.WriteFile(d.join("file"), nil, 0o666) }},
		{"it is a named pipe", "pipe", func(d *directory) error { return syscall.Mkfifo(d.join("pipe"), 0o666) }},
		{"it is a device", "/dev/null", func(*directory) error { return nil }},
		{"it is a link to nowhere", "link", func(d *directory) error { return os.Symlink("nowhere", d.join("link")) }},
		{"it is a link to itself", "link", func(d *directory) error { return os.Symlink("link", d.join("link")) }},
		{"it has no name", "", func(*directory) error { return nil }},
		{"it is a file with a line end in its name", "line\nend", func(d *directory) error { return os.WriteFile(d.join("line\nend"), nil, 0o666) }},
		{"its name is too long", strings.Repeat("x", 256), func(*directory) error { return nil }},
		{"it may not be written", "files", func(d *directory) error { return os.Mkdir(d.join("files"), 0o555) }},
		{"it may not be searched", "files", func(d *directory) error { return os.Mkdir(d.join("files"), 0o666) }},
		{"its parent may not be written", "parent/files", func(d *directory) error { return os.Mkdir(d.join("parent"), 0o555) }},
		{"its parent may not be searched", "parent/files", func(d *directory) error { return os.Mkdir(d.join("parent"), 0o666) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			work := newDirectory(t)
			check(t, tt.make(work))
			names := work.names()
			port := freePort(t)
			l := launch{program: "server", args: []string{strconv.Itoa(port), tt.path}, workDir: work.path}
			unprivileged(t, &l, work)
			refuse(t, l, 1, strings.Trim(strconv.Quote(tt.path), `"`))
			if got := work.names(); len(got) != len(names) {
				t.Errorf("there is %q now where %q was", got, names)
			}
		})
	}
}

// unprivileged has a program run as a user who may do nothing that permissions
// do not allow, in a directory that anybody may write.
func unprivileged(t *testing.T, l *launch, work *directory) {
	t.Helper()
	if os.Geteuid() != 0 {
		return // as the tests themselves do
	}
	const nobody = 65534
	l.attr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	check(t, errors.Join(os.Chmod(filepath.Dir(work.path), 0o755), os.Chmod(work.path, 0o777)))
}

// All that the server needs is a directory that it may write.
func TestAServerNeedsNoRights(t *testing.T) {
	busy(t)
	s := serve(t, "server", func(l *launch, s *service) { unprivileged(t, l, s.dir) }, with("--durability=full", "--min-free=1KiB", "--continue"))
	check(t, upload(s.port, "hello"))
	s.outcome(received("hello"))
	check(t, s.connect().hear(greeting).send("x").rst())
	s.stop(failed)
}

// Whatever stands at the name of a result is replaced: not written through, and
// what else leads to it not changed.
func TestWhatStandsAtTheNameOfAResultIsReplaced(t *testing.T) {
	busy(t)
	const old = "from an earlier run, and longer than what comes now"
	tests := []struct {
		name string
		put  func(dir *directory, name string) error
	}{
		{"a file of an earlier run", func(d *directory, name string) error { return os.WriteFile(d.join(name), []byte(old), 0o666) }},
		{"a file that may not be written", func(d *directory, name string) error { return os.WriteFile(d.join(name), []byte(old), 0o400) }},
		{"a symbolic link to a file", func(d *directory, name string) error { return os.Symlink(d.join("foreign"), d.join(name)) }},
		{"a symbolic link to a file of the directory", func(d *directory, name string) error { return os.Symlink("foreign", d.join(name)) }},
		{"a symbolic link to a directory", func(d *directory, name string) error { return os.Symlink("foreign directory", d.join(name)) }},
		{"a symbolic link to nowhere", func(d *directory, name string) error { return os.Symlink("nowhere", d.join(name)) }},
		{"a symbolic link to itself", func(d *directory, name string) error { return os.Symlink(name, d.join(name)) }},
		{"another name of a file", func(d *directory, name string) error { return os.Link(d.join("foreign"), d.join(name)) }},
		{"a named pipe", func(d *directory, name string) error { return syscall.Mkfifo(d.join(name), 0o666) }},
	}
	scripts := []struct {
		run  func(c *client) *client
		want outcome
	}{
		{func(c *client) *client { return c.greet().send("hello").halfClose() }, received("hello")},
		{func(c *client) *client { return c.greet().halfClose() }, received("")},
		{func(c *client) *client { return c.hear(greeting).halfClose() }, received("")},
		{func(c *client) *client { return c.hear(greeting).send("nonsense") }, failed},
		{func(c *client) *client { return c.greet().send("hello").taken().reset() }, failed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, "server")
			s.dir.put("foreign", old)
			check(t, os.Mkdir(s.dir.join("foreign directory"), 0o777))
			for n := range scripts {
				check(t, tt.put(s.dir, numbered(n+1)))
			}
			for n, script := range scripts {
				c := script.run(s.connect())
				if script.want != failed {
					check(t, c.fin())
				}
				s.dir.awaitThat(numbered(n+1)+" is replaced", func() bool {
					fi, err := os.Lstat(s.dir.join(numbered(n + 1)))
					return err == nil && fi.Mode().IsRegular() && fi.Size() == int64(len(script.want.file))
				})
				s.outcome(script.want)
			}
			s.dir.holdsAt("foreign", old)
			(&directory{t, s.dir.join("foreign directory")}).holds(nil)
			check(t, os.Remove(s.dir.join("foreign directory")))
			s.beside = map[string]string{"foreign": old}
			s.stop()
		})
	}
}

func TestWhoReadsAFileWhileItIsReplacedSeesItWhole(t *testing.T) {
	busy(t)
	dir := newDirectory(t)
	// What is saved in one run of the server can be told from what is saved in
	// another, and a part of it from the whole.
	const files, runs, size = 3, 8, 200_000
	content := func(run int) string { return strings.Repeat(strconv.Itoa(run), size+run) }
	whole := func(b []byte) bool {
		run := len(b) - size
		return 0 <= run && run <= runs && bytes.Count(b, []byte(strconv.Itoa(run))) == len(b)
	}
	for n := range files {
		dir.put(numbered(n+1), content(0))
	}
	var stop atomic.Bool
	seen := make([]int, files)
	read := make(chan error)
	for i := range files {
		go func() {
			var err error
			for ; err == nil && !stop.Load(); seen[i]++ {
				err = examine(dir.join(numbered(i+1)), func(b []byte) error {
					if !whole(b) {
						return fmt.Errorf("%s was seen with %d bytes, %.20q…", numbered(i+1), len(b), b)
					}
					return nil
				})
			}
			read <- err
		}()
	}
	for run := 1; run <= runs; run++ {
		s := serve(t, "server", plain, in(dir))
		clients := queue(t, s.port, files)
		together(t, files, func(i int) error {
			halves := cutAt(content(run), size/2)
			return clients[i].greet().sendApart(halves[0]).send(halves[1]).halfClose().fin()
		})
		var want []outcome
		for range files {
			want = append(want, received(content(run)))
		}
		s.stop(want...)
	}
	stop.Store(true)
	for range files {
		check(t, <-read)
	}
	for i, n := range seen {
		if n < runs {
			t.Errorf("%s was read %d times only", numbered(i+1), n)
		}
	}
}

// Results of an earlier run stay until there are others of their name.
func TestServerLeavesAloneWhatIsNotItsOwn(t *testing.T) {
	busy(t)
	s := serve(t, "server")
	s.beside = map[string]string{
		"3.file": "of an earlier run", "10.file": "of an earlier run", "0.file": "", "01.file": "", "-1.file": "", "1.FILE": "",
		"1.file.bak": "", "1.file~": "", "file": "", "a.file": "", ".hidden": "", ".1.file": "", ".1.file.swp": "", "...": "",
	}
	for name, content := range s.beside {
		s.dir.put(name, content)
	}
	check(t, upload(s.port, "hello"))
	s.outcome(received("hello"))
	s.connect().reset()
	s.outcome(failed)
	s.stop()
}

func TestAStartSweepsWhatAKilledServerLeftAndNothingElse(t *testing.T) {
	busy(t)
	s := serve(t, "server")
	check(t, upload(s.port, "hello"))
	for range 3 {
		s.connect().greet().pour(3, block).taken().must(t)
	}
	s.dir.awaitHidden(3)
	s.kill()
	left := s.dir.hidden()
	if len(left) != 3 {
		t.Fatalf("%q is left", left)
	}
	// What looks like what is left, but is not.
	one := left[0]
	name, random, _ := strings.Cut(one[1:], ".file")
	name, random = name+".file", strings.TrimLeft(random, ".-_")
	s.beside = map[string]string{"1.file": "hello"}
	for _, like := range []string{
		one[1:], "x" + one, ".x" + one[1:], "." + one, one + "x", one + ".bak", one + "~", one + ".", one + " ", one + "-1",
		"." + name, "." + name + "1", "." + name + "2026", "." + name + "20260131", "." + name + random[:8], "." + name + random + random,
		"." + name + "." + random, "." + name + "-" + random, "." + name + "x" + random[1:], "." + name + random[:5] + "x" + random[6:],
		"." + name + "s" + random, "." + name + ".txt" + random, ".0" + name + random, ".-" + name + random, ".+" + name + random,
		".0.file" + random, "..file" + random, ".file" + random, ".a.file" + random, ".1a.file" + random, ".99999999999999999999.file" + random,
		".1.FILE" + random, ".1.fil" + random, ".1file" + random, ".1.file.file" + random, ".1.txt" + random, ".notes" + random, "." + random, ".",
		".1.file.swp", ".nfs" + random, "1.file" + random, ".1.file" + random + "\n", ".1.file ٣" + random,
	} {
		if like == "." || s.beside[like] != "" {
			continue
		}
		s.beside[like] = "not ours: " + like
		s.dir.put(like, s.beside[like])
	}
	// Nor is what only a server's file could be called, but is no file.
	other := func(digit string) string { return one[:len(one)-1] + digit }
	digits := strings.ReplaceAll("0123456789", one[len(one)-1:], "")
	check(t, os.Mkdir(s.dir.join(other(digits[0:1])), 0o777))
	check(t, os.Symlink("1.file", s.dir.join(other(digits[1:2]))))
	check(t, os.Symlink("nowhere", s.dir.join(other(digits[2:3]))))
	check(t, syscall.Mkfifo(s.dir.join(other(digits[3:4])), 0o666))

	next := serve(t, "server", in(s.dir))
	next.beside = s.beside
	for _, digit := range digits[:4] {
		if err := os.Remove(s.dir.join(other(string(digit)))); err != nil {
			t.Errorf("what is no file is gone: %v", err)
		}
	}
	check(t, upload(next.port, "hello again"))
	delete(next.beside, "1.file")
	next.stop(received("hello again"))
}

func TestAStartDoesNotDisturbTheUploadsOfAnotherServer(t *testing.T) {
	busy(t)
	first := serve(t, "server")
	const n = 5
	clients := queue(t, first.port, n)
	for i, c := range clients {
		c.greet().pour(i+1, block).taken().must(t)
	}
	first.dir.awaitHidden(n)
	before := first.dir.hidden()
	for range 3 {
		second := serve(t, "server", in(first.dir))
		check(t, upload(second.port, "")) // its start is over then
		check(t, os.Remove(first.dir.join("1.file")))
		for _, name := range before {
			if now := first.dir.hidden(); !slices.Contains(now, name) {
				t.Errorf("after a start of another server there are %v, and %s is gone", now, name)
			}
		}
		second.halt(os.Interrupt)
		second.silent()
	}
	// Also while the other is at work.
	second := serve(t, "server", in(first.dir))
	check(t, upload(second.port, "of the second server"))
	first.dir.holdsAt("1.file", "of the second server")
	var want []outcome
	for i, c := range clients {
		check(t, c.send("!").halfClose().fin())
		want = append(want, received(strings.Repeat(string(block), i+1)+"!"))
	}
	second.halt(os.Interrupt)
	second.silent()
	first.stop(want...)
}

func TestStartsDoNotDisturbAnotherServerThatIsHardAtWork(t *testing.T) {
	busy(t)
	first := serve(t, "server", plain)
	const starts = 15
	l := first.load(8, 10*starts)
	for range starts {
		second := serve(t, "server", plain, in(first.dir))
		second.halt(os.Interrupt)
		second.silent()
	}
	l.waits(t)
	if n := l.refused(); n > 0 {
		t.Errorf("%d uploads have failed", n)
	}
	first.halt(os.Interrupt)
	first.silent()
	l.judge(first.dir, "ERROR", "")
}

// fails waits for the end of the connection whose file, name, could not be
// saved: the client is told by a reset, and the user by one line.
func (s *service) fails(c *client, name string) {
	s.t.Helper()
	if err := c.rst(); err != nil {
		s.t.Errorf("%s could not be saved: %v", name, err)
	}
	if said := s.complaint(); !strings.Contains(said, name) {
		s.t.Errorf("on standard error: %q, which does not name %s", said, name)
	}
}

func TestAFullDiskFailsTheUploadAndNoOther(t *testing.T) {
	busy(t)
	const size = 4 << 20
	s := serve(t, "server", onDiskOf(size))

	// Larger than the disk. There is room for the five bytes again, when the
	// part that had arrived is gone.
	s.fails(s.connect().greet().pour(16, block).halfClose(), "1.file")
	s.outcome(failed)
	s.dir.awaitHidden(0)
	check(t, upload(s.port, "small"))
	s.outcome(received("small"))

	// Two that only together are too large: one fails.
	a, b := s.connect().greet().pour(3, block).taken(), s.connect().greet().taken()
	s.fails(b.pour(3, block).halfClose(), "4.file")
	check(t, a.halfClose().fin())
	s.outcome(received(strings.Repeat(string(block), 3)))
	s.outcome(failed)

	// When there is no room at all, what an earlier run has left may not be
	// taken for the outcome of this.
	s.dir.put("5.file", "of an earlier run")
	fill(t, s.dir.join("filler"))
	s.fails(s.connect().greet().send("hello").halfClose(), "5.file")
	if _, err := os.Lstat(s.dir.join("5.file")); !errors.Is(err, fs.ErrNotExist) {
		s.dir.holdsAt("5.file", "ERROR")
	} else {
		s.want = append(s.want, lost)
	}

	check(t, os.Remove(s.dir.join("filler")))
	check(t, upload(s.port, "goodbye"))
	s.outcome(received("goodbye"))
	s.stop()
}

// A disk that is full leaves no room for what a stop has to say.
func TestASignalEndsAProgramWhoseDiskIsFull(t *testing.T) {
	busy(t)
	s := serve(t, "server", onDiskOf(4<<20))
	clients := queue(t, s.port, 6)
	for i, c := range clients {
		c.greet()
		if i%2 == 0 {
			c.pour(1, block)
		}
		c.taken().must(t)
	}
	s.dir.awaitHidden(3)
	fill(t, s.dir.join("filler"))
	s.haltAndSay(syscall.SIGTERM)
	together(t, len(clients), func(i int) error { return clients[i].rst() })
	check(t, os.Remove(s.dir.join("filler")))
	// Those whose payload made room for it have their mark.
	for i := range clients {
		if i%2 == 0 {
			s.dir.holdsAt(numbered(i+1), "ERROR")
		} else if err := s.dir.has(numbered(i+1), "ERROR"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
	if hidden := s.dir.hidden(); len(hidden) > 0 {
		t.Errorf("%q is left", hidden)
	}
	s.silent()
}

// haltAndSay stops the service, which may tell of what it cannot store.
func (s *service) haltAndSay(sig os.Signal) {
	s.t.Helper()
	if code := s.exitAfter(sig); code != 0 {
		s.t.Errorf("exit code %d after %v; want 0", code, sig)
	}
	for _, line := range s.stderr.rest() {
		if !strings.HasPrefix(line, "ERROR: ") || !strings.Contains(line, ".file") {
			s.t.Errorf("on standard error: %q", line)
		}
	}
}

// fill makes a file that leaves no room.
func fill(t *testing.T, path string) {
	t.Helper()
	filler, err := os.Create(path)
	check(t, err)
	for piece := len(block); piece > 0; {
		if _, err := filler.Write(block[:piece]); errors.Is(err, syscall.ENOSPC) {
			piece /= 2
		} else {
			check(t, err)
		}
	}
	check(t, filler.Close())
}

// As a system does to a disk that has begun to fail. It does not while a file there
// is open to be written (mount_setattr(2), EBUSY).
func TestADiskThatBecomesReadOnlyFailsTheUploadAndNoOther(t *testing.T) {
	if _, err := exec.LookPath("nsenter"); err != nil {
		t.Skip("nsenter, of util-linux, is not there, and nobody else can get at the disk")
	}
	busy(t)
	dir := newDirectory(t)
	path := dir.path
	s := serve(t, "server", in(dir), onDiskOf(4<<20))
	s.dir.put("3.file", "of an earlier run")
	check(t, upload(s.port, "hello"))
	s.outcome(received("hello"))
	greeted := s.connect().greet().taken().must(t)

	s.remount(path, "ro")
	s.fails(greeted.send("hello").halfClose(), "2.file")
	s.fails(s.connect().greet().send("hello").halfClose(), "3.file")
	s.fails(s.connect().hear(greeting).halfClose(), "4.file")
	s.fails(s.connect().hear(greeting).send("nonsense"), "5.file")
	s.want = append(s.want, lost, outcome{file: "of an earlier run"}, lost, lost)
	silent := s.connect().hear(greeting).must(t)

	s.remount(path, "rw")
	check(t, s.connect().greet().send("hello").halfClose().fin())
	s.fail(silent)
	s.outcome(received("hello"))

	// And a stop meanwhile.
	begun := s.connect().greet().taken().must(t)
	s.remount(path, "ro")
	s.haltAndSay(syscall.SIGTERM)
	check(t, begun.rst())
	s.left(lost)
}

// remount changes the disk that the program has at path.
func (s *service) remount(path, how string) {
	s.t.Helper()
	// A file of which a client has just been told is closed, or about to be.
	var out []byte
	if !poll(func() bool {
		cmd := exec.Command("nsenter", "--target", strconv.Itoa(s.cmd.Process.Pid), "--user", "--mount", "mount", "-o", "remount,"+how, path)
		var err error
		out, err = cmd.CombinedOutput()
		return err == nil
	}) {
		s.t.Fatalf("remounting %s: %s", how, out)
	}
}

// onDiskOf has the program save files on a disk of so many bytes, which nobody
// else sees, and which is gone when it and the test are.
func onDiskOf(bytes int) option {
	return func(l *launch, s *service) {
		// What the shell sees of the arguments: $1 is the port, $2 FILE-DIR.
		l.prelude = fmt.Sprintf(`mount -t tmpfs -o size=%d accio "$2"`, bytes)
		l.attr = &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		s.started = func() {
			disk, err := os.Open(fmt.Sprintf("/proc/%d/root%s", s.cmd.Process.Pid, s.dir.path))
			if err != nil {
				s.t.Fatal(err)
			}
			s.t.Cleanup(func() { disk.Close() })
			s.dir = &directory{s.t, fmt.Sprintf("/proc/self/fd/%d", disk.Fd())}
		}
	}
}

func TestADirectoryAtTheNameOfAResultFailsTheUploadAndNoOther(t *testing.T) {
	busy(t)
	s := serve(t, "server")
	for n := 1; n <= 3; n++ {
		check(t, os.Mkdir(s.dir.join(numbered(n)), 0o777))
	}
	(&directory{t, s.dir.join("3.file")}).put("foreign", "not ours")
	// The client has done all right: only the reset tells it.
	s.fails(s.connect().greet().send("hello").halfClose(), "1.file")
	s.fails(s.connect().hear(greeting).halfClose(), "2.file")
	s.fails(s.connect().hear(greeting).send("nonsense"), "3.file")
	s.want = append(s.want, lost, lost, lost)
	check(t, upload(s.port, "hello"))
	s.outcome(received("hello"))
	(&directory{t, s.dir.join("3.file")}).holds(map[string]string{"foreign": "not ours"})
	for n := 1; n <= 3; n++ {
		check(t, os.RemoveAll(s.dir.join(numbered(n))))
	}
	s.stop()
}

func TestADirectoryThatMayNoLongerBeWrittenFailsTheUploadAndNoOther(t *testing.T) {
	busy(t)
	s := serve(t, "server", func(l *launch, s *service) {
		unprivileged(t, l, s.dir)
	})
	check(t, upload(s.port, "hello")) // it listens before it looks at the directory
	s.outcome(received("hello"))
	check(t, os.Chmod(s.dir.path, 0o555))
	s.fails(s.connect().greet().send("hello").halfClose(), "2.file")
	s.want = append(s.want, lost)
	check(t, os.Chmod(s.dir.path, 0o777))
	check(t, upload(s.port, "hello"))
	s.outcome(received("hello"))
	s.stop()
}

func TestADirectoryThatIsGoneFailsUploadsAndStopsNothing(t *testing.T) {
	busy(t)
	s := serve(t, "server")
	check(t, upload(s.port, "hello"))
	begun := s.connect().greet().send("hello").taken().must(t)
	s.dir.awaitHidden(1)
	check(t, os.RemoveAll(s.dir.path))
	s.fails(begun.halfClose(), "2.file")
	s.fails(s.connect().greet().send("hello").halfClose(), "3.file")
	s.fails(s.connect().hear(greeting).halfClose(), "4.file")
	s.halt(os.Interrupt)
	s.silent()
}

// Another directory at its path is nothing to a server, which holds on to its own.
func TestADirectoryThatIsReplacedStaysTheServers(t *testing.T) {
	busy(t)
	s := serve(t, "server", in(&directory{t, t.TempDir() + "/files"}))
	check(t, upload(s.port, "hello"))
	s.outcome(received("hello"))
	begun := s.connect().greet().send("hel").taken().must(t)
	s.dir.awaitHidden(1)
	other := &directory{t, s.dir.path}
	s.dir = &directory{t, other.path + " that was moved"}
	check(t, os.Rename(other.path, s.dir.path))
	check(t, os.Mkdir(other.path, 0o777))
	other.put("2.file", "not the server's")
	check(t, begun.send("lo").halfClose().fin())
	s.outcome(received("hello"))
	check(t, upload(s.port, "hello again"))
	s.outcome(received("hello again"))
	other.holds(map[string]string{"2.file": "not the server's"})
	s.stop()
}
