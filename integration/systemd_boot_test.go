//go:build linux

package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// booted is a Debian over which everything can be done, as [system] is, whose first process
// is its systemd: in namespaces of its own, its network included.
type booted struct {
	t   *testing.T
	pid int
}

// bootScript has systemd be the process that runs it, over the root $1, with its changes
// below $2. What would set up a machine is left out, and what is the kernel's cannot be
// written: that is everybody's.
const bootScript = `
	mount --make-rprivate /
	mount -t tmpfs -o mode=755 tmpfs "$2"
	mkdir "$2/upper" "$2/work" "$2/root"
	mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"
	cd "$2/root"
	mount -t proc proc proc
	mount --bind proc/sys proc/sys
	mount -o remount,ro,bind proc/sys
	mount -t sysfs -o ro sysfs sys
	mount -t cgroup2 cgroup2 sys/fs/cgroup
	mount -t tmpfs -o mode=755 tmpfs dev
	mkdir dev/pts dev/shm
	mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
	ln -s pts/ptmx dev/ptmx
	ln -s /proc/self/fd dev/fd
	for name in null zero full random urandom tty; do
		: >"dev/$name"
		mount --bind "/dev/$name" "dev/$name"
	done
	for name in run tmp etc/systemd/system usr/lib/systemd/system/sysinit.target.wants usr/lib/systemd/system/local-fs.target.wants; do
		mkdir -p "$name"
		mount -t tmpfs -o mode=755 tmpfs "$name"
	done
	chmod 1777 tmp
	[ ! -d etc/dpkg/dpkg.cfg.d ] || mount -t tmpfs tmpfs etc/dpkg/dpkg.cfg.d
	mkdir -p .old
	pivot_root . .old
	umount -l /.old
	# Credentials are mounted by a process in a namespace of its own.
	mount --make-rshared /
	exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin /usr/lib/systemd/systemd --unit=basic.target --log-target=journal --show-status=no`

// bootSystemd skips the test where there is no systemd, or no namespace for it.
func bootSystemd(t *testing.T, lower string) *booted {
	t.Helper()
	needs(t, "unshare")
	needs(t, "nsenter")
	needs(t, "pivot_root")
	if os.Getuid() != 0 {
		t.Skip("only root can start a systemd of its own")
	}
	for _, name := range []string{"usr/lib/systemd/systemd", "usr/bin/systemctl", "usr/bin/dpkg"} {
		if _, err := os.Stat(filepath.Join(lower, name)); err != nil {
			t.Skipf("there is no Debian with systemd: %v", err)
		}
	}
	group := newControlGroup(t)
	// With the thread that has started it, it is killed.
	runtime.LockOSThread()
	said := &bytes.Buffer{}
	cmd := exec.Command("unshare", "--cgroup", "sh", "-euc", bootScript, "sh", lower, t.TempDir())
	cmd.Stdout, cmd.Stderr = said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWNET,
		UseCgroupFD: true, CgroupFD: int(group.Fd()),
		Pdeathsig: syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		t.Skipf("there are no namespaces for a systemd: %v", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-ended
	})
	b := &booted{t, cmd.Process.Pid}
	up := poll(func() bool {
		select {
		case <-ended:
			return true
		default:
		}
		state, _ := b.command("systemctl is-system-running 2>/dev/null").Output()
		return slices.Contains([]string{"running\n", "degraded\n"}, string(state))
	})
	select {
	case <-ended:
		t.Skipf("no systemd can be started in namespaces: %v: %s", cmd.ProcessState, said)
	default:
	}
	if !up {
		t.Fatalf("systemd is not up; list-jobs says %s", b.run("systemctl list-jobs; systemctl list-units --failed"))
	}
	check(t, b.raiseLoopback())
	return b
}

// newControlGroup makes a group for what is begun in it, which is gone after the test.
func newControlGroup(t *testing.T) *os.File {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	check(t, err)
	for line := range strings.Lines(string(mounts)) {
		words := strings.Fields(line)
		if words[2] != "cgroup2" {
			continue
		}
		dir := filepath.Join(words[1], fmt.Sprintf("accio-test-%d", os.Getpid()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Skipf("there is no control group for a systemd: %v", err)
		}
		f, err := os.Open(dir)
		check(t, err)
		t.Cleanup(func() {
			f.Close()
			if !poll(func() bool { return removeControlGroup(dir) == nil }) {
				t.Errorf("%s is left", dir)
			}
		})
		return f
	}
	t.Skip("there is no cgroup2 for a systemd")
	return nil
}

func removeControlGroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeControlGroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir)
}

// command is a script for root there, which may take a minute.
func (b *booted) command(script string) *exec.Cmd {
	cmd := exec.Command("nsenter", "-t", fmt.Sprint(b.pid), "-m", "-p", "-n", "-u", "-i", "-C", "-r", "-w",
		"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "HOME=/root", "SYSTEMD_PAGER=cat",
		"timeout", "60", "sh", "-euc", script)
	cmd.WaitDelay = 10 * time.Second // for what it has left that runs
	return cmd
}

// run runs a script, and returns all that it says. If it fails so does the test, with what
// the service has said last.
func (b *booted) run(script string) string {
	b.t.Helper()
	said, err := b.command(script).CombinedOutput()
	if err != nil {
		journal, _ := b.command("journalctl -n 20 -o cat").CombinedOutput()
		b.t.Fatalf("%s: %v\n%s\nthe journal says\n%s", script, err, said, journal)
	}
	return string(said)
}

// eventually runs a script until it succeeds.
func (b *booted) eventually(script string) {
	b.t.Helper()
	if !poll(func() bool { return b.command(script).Run() == nil }) {
		b.run(script)
	}
}

// put writes a file there.
func (b *booted) put(name string, content []byte) {
	b.t.Helper()
	cmd := b.command(`mkdir -p "$(dirname ` + name + `)"; cat >` + name)
	cmd.Stdin = bytes.NewReader(content)
	if said, err := cmd.CombinedOutput(); err != nil {
		b.t.Fatalf("%s: %v: %s", name, err, said)
	}
}

// configure has the service be configured by what is installed, these lines more, and these
// drop-ins, and restarts it.
func (b *booted) configure(lines string, dropIns ...string) {
	b.t.Helper()
	const dir = "/etc/systemd/system/accio-server.service.d"
	b.run("rm -rf " + dir + " && mkdir -p " + dir)
	for i, text := range dropIns {
		b.put(fmt.Sprintf("%s/%d.conf", dir, i), []byte(text))
	}
	b.put("/tmp/lines", []byte(lines))
	b.run("cat /tmp/lines /tmp/server.toml >/etc/accio/server.toml && systemctl daemon-reload && timeout 20 systemctl restart accio-server")
}

// inNetwork calls f by a thread in the network that is there.
func (b *booted) inNetwork(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the function
		network, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", b.pid))
		if err == nil {
			defer network.Close()
			err = unix.Setns(int(network.Fd()), unix.CLONE_NEWNET)
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// raiseLoopback has 127.0.0.1 be there.
func (b *booted) raiseLoopback() error {
	return b.inNetwork(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		lo, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		lo.SetUint16(unix.IFF_UP)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
	})
}

// get asks a URL there, and returns the answer.
func (b *booted) get(url string) (int, string) {
	b.t.Helper()
	transport := &http.Transport{DialContext: func(_ context.Context, network, address string) (conn net.Conn, err error) {
		err = b.inNetwork(func() error {
			conn, err = net.Dial(network, address)
			return err
		})
		return conn, err
	}}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport, Timeout: patience}).Get(url)
	check(b.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	check(b.t, err)
	return answer.StatusCode, string(text)
}

// readmeBlock is that block of README, of those that are indented, which holds a line.
func readmeBlock(t *testing.T, line string) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	check(t, err)
	for paragraph := range strings.SplitSeq(string(text), "\n\n") {
		if strings.HasPrefix(paragraph, "    ") && strings.Contains(paragraph, line) {
			return strings.ReplaceAll("\n"+paragraph+"\n", "\n    ", "\n")
		}
	}
	t.Fatalf("README has no %q", line)
	return ""
}

// The units run under a real systemd, with all that README has them changed by.
func (p packageFiles) runUnderSystemd(t *testing.T) {
	lower, err := filepath.Abs(*debian)
	check(t, err)
	b := bootSystemd(t, lower)
	deb, err := os.ReadFile(p.deb)
	check(t, err)
	b.put("/tmp/accio.deb", deb)
	b.run("dpkg -i /tmp/accio.deb && cp /etc/accio/server.toml /tmp/server.toml")
	b.run("systemctl enable --now accio-server.socket accio-server.service")
	b.run("seq 100000 >/tmp/file && accio-client 127.0.0.1 5000 /tmp/file && cmp /tmp/file /var/lib/accio/1.file")
	network := readmeBlock(t, "PrivateNetwork=no")
	const send = "accio-client 127.0.0.1 5000 /tmp/file"

	t.Run("restarts", func(t *testing.T) {
		b := &booted{t, b.pid}
		b.run(`
			trap ': >/tmp/stop' EXIT
			for i in 1 2 3; do
				(while [ ! -e /tmp/stop ]; do ` + send + ` || echo failed >>/tmp/failed; done) &
			done
			for i in 1 2 3 4 5 6 7 8 9; do timeout 20 systemctl restart accio-server; done
			: >/tmp/stop
			wait
			test ! -e /tmp/failed
			! grep -lx ERROR /var/lib/accio/*.file`)
	})
	t.Run("a stop drains", func(t *testing.T) {
		b := &booted{t, b.pid}
		b.run(`
			mkfifo /tmp/fifo
			accio-client 127.0.0.1 5000 - </tmp/fifo & client=$!
			exec 3>/tmp/fifo
			echo begin >&3
			until ls -A /var/lib/accio | grep '^[.]'; do :; done
			systemctl --no-block stop accio-server.socket accio-server.service
			until systemctl show -P ActiveState accio-server | grep deactivating; do :; done
			echo end >&3
			exec 3>&-
			wait $client
			until systemctl show -P ActiveState accio-server | grep -x inactive; do :; done
			printf 'begin\nend\n' | cmp - "/var/lib/accio/$(ls -t /var/lib/accio | head -n 1)"
			if ` + send + ` 2>/dev/null; then exit 1; fi
			systemctl start accio-server.socket
			if systemctl -q is-active accio-server; then exit 1; fi
			` + send + `
			systemctl -q is-active accio-server`)
	})
	t.Run("a configuration that is wrong", func(t *testing.T) {
		b := &booted{t, b.pid}
		b.run(`
			echo 'nonsense = 1' >>/etc/accio/server.toml
			if systemctl restart accio-server 2>/dev/null; then exit 1; fi
			accio-client --greeting-timeout=1m 127.0.0.1 5000 /tmp/file & client=$!
			until [ $(systemctl show -P NRestarts accio-server) -ge 7 ]; do :; done
			cp /tmp/server.toml /etc/accio/server.toml
			wait $client`)
	})
	t.Run("watchdog", func(t *testing.T) {
		b := &booted{t, b.pid}
		b.configure("", "[Service]\nWatchdogSec=1s\n")
		b.run("kill -STOP $(systemctl show -P MainPID accio-server)")
		b.eventually("test $(systemctl show -P NRestarts accio-server) -ge 1")
		b.run(send)
	})
	t.Run("admin", func(t *testing.T) {
		b := &booted{t, b.pid}
		b.configure("admin = ':9100'\n", network)
		b.run(send)
		for path, want := range map[string]string{"readyz": "ready\n", "metrics": "accio_connections_total{outcome=\"received\"} 1\n"} {
			if code, text := b.get("http://127.0.0.1:9100/" + path); code != http.StatusOK || !strings.Contains(text, want) {
				t.Errorf("/%s is %d, %s", path, code, text)
			}
		}
	})
	t.Run("on-saved-url", func(t *testing.T) {
		b := &booted{t, b.pid}
		var ln net.Listener
		check(t, b.inNetwork(func() (err error) {
			ln, err = net.Listen("tcp4", "127.0.0.1:8080")
			return err
		}))
		posts := make(chan string, 100)
		receiver := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			text, _ := io.ReadAll(r.Body)
			posts <- string(text)
		})}
		served := make(chan error)
		go func() { served <- receiver.Serve(ln) }()
		defer func() {
			receiver.Shutdown(context.Background())
			if err := <-served; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		}()
		b.configure("on-saved-url = 'http://127.0.0.1:8080/saved'\n", network)
		b.run(send)
		select {
		case post := <-posts:
			if !strings.Contains(post, `"path":"/var/lib/accio/`) || !strings.Contains(post, `"outcome":"received"`) {
				t.Errorf("it posts %s", post)
			}
		case <-time.After(patience):
			t.Error("nothing is posted")
		}
	})
	t.Run("on-saved", func(t *testing.T) {
		b := &booted{t, b.pid}
		b.run("groupadd uploads && install -d -m 2770 -g uploads /srv/uploads")
		b.configure(`on-saved = 'echo "$SAVED_PATH" >>uploads.log && cp "$SAVED_PATH" /srv/uploads/copy'`+"\n", readmeBlock(t, "ReadWritePaths=/srv/uploads"))
		b.run(send)
		b.eventually("cmp /tmp/file /srv/uploads/copy && grep -q ^/var/lib/accio/ /var/lib/accio/uploads.log")
	})
	t.Run("TLS", func(t *testing.T) {
		b := &booted{t, b.pid}
		authorities := []*authority{newAuthority(t), newAuthority(t)}
		install := func(i int) {
			a := authorities[i]
			a.issue("server", time.Hour)
			for _, name := range []string{"server.pem", "server.key"} {
				text, err := fs.ReadFile(os.DirFS(a.dir.path), name)
				check(t, err)
				b.put("/etc/accio/"+name, text)
			}
			ca, err := os.ReadFile(a.dir.join("ca.pem"))
			check(t, err)
			b.put(fmt.Sprintf("/tmp/ca%d.pem", i), ca)
		}
		trusting := func(i int) string {
			return fmt.Sprintf("accio-client --tls --tls-ca=/tmp/ca%d.pem 127.0.0.1 5000 /tmp/file", i)
		}
		install(0)
		b.run("chmod 600 /etc/accio/server.key")
		b.configure("", readmeBlock(t, "LoadCredential="))
		b.run(trusting(0))
		install(1)
		b.run("systemctl reload accio-server")
		b.run(trusting(0))
		b.run("timeout 20 systemctl restart accio-server")
		b.run(trusting(1))

		b.run("groupadd tls && chgrp tls /etc/accio/server.key && chmod 640 /etc/accio/server.key")
		b.configure("", readmeBlock(t, "SupplementaryGroups=tls"))
		b.run(trusting(1))
		install(0)
		b.run("systemctl reload accio-server && " + trusting(0))
	})
	t.Run("check", func(t *testing.T) {
		b := &booted{t, b.pid}
		asked := readmeBlock(t, "accio-check.service")
		asked = strings.ReplaceAll(asked, "sudo ", "")
		b.configure("")
		pid := b.run("systemctl show -P MainPID accio-server")
		if said := b.run(asked); !strings.Contains(said, "accio-server: everything is fine") {
			t.Errorf("it says %s", said)
		}
		b.run("echo 'admin = \":9100\"' | cat - /tmp/server.toml >/etc/accio/server.toml")
		if said, _ := b.command(asked).CombinedOutput(); !strings.Contains(string(said), "ERROR: cannot listen on the admin address") || strings.Contains(string(said), "port 5000") {
			t.Errorf("it says %s", said)
		}
		if now := b.run("systemctl show -P MainPID accio-server"); now != pid {
			t.Error("the service is another")
		}
		// Nor has a start changed anything of the socket that both have, whatever it starts.
		b.run(strings.ReplaceAll(asked, "& --check", `ExecStart=\/bin\/true`))
		b.run(send + " && cp /tmp/server.toml /etc/accio/server.toml && timeout 20 systemctl restart accio-server")
	})
}
