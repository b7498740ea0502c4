//go:build linux

package integration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const module = "github.com/accio-go/accio"

var exampleServers = []string{"syslog", "blobs", "backup", "echo"}

// An example is to be read and copied.
func TestExampleServersAreShort(t *testing.T) {
	found, err := filepath.Glob("../cmd/examples/*/main.go")
	if err != nil || len(found) != len(exampleServers) {
		t.Errorf("there are %q, %v", found, err)
	}
	for _, name := range exampleServers {
		source, err := os.ReadFile("../cmd/examples/" + name + "/main.go")
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(source, []byte("\n")); n < 30 || n > 85 {
			t.Errorf("%s has %d lines", name, n)
		}
	}
}

func TestExampleServersUseWhatOthersCould(t *testing.T) {
	for _, name := range exampleServers {
		out, err := exec.Command("go", "list", "-deps", module+"/cmd/examples/"+name).Output()
		if err != nil {
			t.Fatal(err)
		}
		for dep := range strings.FieldsSeq(string(out)) {
			ours, found := strings.CutPrefix(dep, module+"/")
			room, _, _ := strings.Cut(ours, "/")
			if found && room != "stage" && room != "fs" && room != "transport" && room != "internal" && ours != "cmd/examples/"+name {
				t.Errorf("%s imports %s", name, dep)
			}
		}
	}
}

// example is an example server that was started.
type example struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr bytes.Buffer
	ended  chan struct{}
}

func startExample(t *testing.T, bin, dir string, args ...string) *example {
	t.Helper()
	e := &example{t: t, cmd: exec.Command(bin, args...), ended: make(chan struct{})}
	e.cmd.Dir, e.cmd.Stderr = dir, &e.stderr
	e.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	check(t, e.cmd.Start())
	go func() {
		e.cmd.Wait()
		close(e.ended)
	}()
	t.Cleanup(func() {
		e.cmd.Process.Kill()
		<-e.ended
	})
	return e
}

// exit waits for the program to exit, and returns its code (-1: a signal).
func (e *example) exit() int {
	e.t.Helper()
	select {
	case <-e.ended:
	case <-time.After(patience):
		e.t.Fatal("it does not exit")
	}
	return e.cmd.ProcessState.ExitCode()
}

// dialExample waits until it listens.
func dialExample(t *testing.T, network, address string) net.Conn {
	t.Helper()
	var conn net.Conn
	if !poll(func() (ok bool) {
		var err error
		conn, err = net.Dial(network, address)
		return err == nil
	}) {
		t.Fatalf("nobody listens on %s", address)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return conn
}

func TestExampleServersRun(t *testing.T) {
	busy(t)
	bin := t.TempDir()
	build := exec.Command("go", "build", "-race", "-o", bin+"/", "../cmd/examples/...")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// What each is started with in an empty directory, and where it listens.
	command := func(t *testing.T, name, dir string) (args []string, network, address string) {
		address = fmt.Sprint("127.0.0.1:", freePort(t))
		switch name {
		case "echo":
			return nil, "unix", filepath.Join(dir, "echo.sock")
		case "syslog":
			makeCertificate(t, dir)
		}
		return []string{"-addr", address}, "tcp", address
	}

	for _, name := range exampleServers {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "x") // short, for the sockets
			check(t, err)
			t.Cleanup(func() { os.RemoveAll(dir) })
			args, network, address := command(t, name, dir)
			for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
				e := startExample(t, filepath.Join(bin, name), dir, args...)
				dialExample(t, network, address).Close()

				second := startExample(t, filepath.Join(bin, name), dir, args...)
				if code := second.exit(); code != 1 || strings.Count(second.stderr.String(), "\n") != 1 || !strings.Contains(second.stderr.String(), "cannot listen on ") {
					t.Errorf("a second one exits with %d and says %q", code, &second.stderr)
				}
				check(t, e.cmd.Process.Signal(sig))
				if code := e.exit(); code != 0 {
					t.Errorf("after %v it exits with %d and has said %s", sig, code, &e.stderr)
				}
			}
			wrong := startExample(t, filepath.Join(bin, name), dir, "-nonsense")
			if code := wrong.exit(); code != 2 {
				t.Errorf("with a flag that it has not it exits with %d", code)
			}
		})
	}

	t.Run("what a killed one left is removed", func(t *testing.T) {
		for _, name := range []string{"blobs", "backup"} {
			dir := t.TempDir()
			args, network, address := command(t, name, dir)
			holds := func() int {
				entries, err := os.ReadDir(filepath.Join(dir, filepath.Base(name)))
				if name == "backup" {
					entries, err = os.ReadDir(filepath.Join(dir, "backups"))
				}
				if errors.Is(err, os.ErrNotExist) { // it may listen before it has made it
					return 0
				}
				check(t, err)
				// At its start it tries whether it can create a file, and removes that one.
				return len(slices.DeleteFunc(entries, func(e os.DirEntry) bool {
					return strings.HasPrefix(e.Name(), ".probe")
				}))
			}
			e := startExample(t, filepath.Join(bin, name), dir, args...)
			conn := dialExample(t, network, address)
			// For backup it is the beginning of a frame (RFC 8878), with a raw block of a byte.
			io.WriteString(conn, "\x28\xb5\x2f\xfd\x00\x58\x08\x00\x00x")
			if !poll(func() bool { return holds() > 0 }) {
				t.Fatal("nothing arrives")
			}
			check(t, e.cmd.Process.Kill())
			e.exit()
			if holds() == 0 {
				t.Error("nothing is left, and so nothing is tried")
			}
			e = startExample(t, filepath.Join(bin, name), dir, args...)
			dialExample(t, network, address) // which says nothing
			if !poll(func() bool { return holds() == 0 }) {
				t.Errorf("%s: something is left", name)
			}
			check(t, e.cmd.Process.Signal(syscall.SIGTERM))
			// Whoever is connected has as long as they need: a second signal ends that.
			if !poll(func() bool {
				e.cmd.Process.Signal(syscall.SIGTERM)
				select {
				case <-e.ended:
					return true
				default:
					return false
				}
			}) {
				t.Error("a second signal does not end it")
			}
		}
	})
}

// makeCertificate has a certificate and its key in dir.
func makeCertificate(t *testing.T, dir string) {
	t.Helper()
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, "cert.pem"), []byte(exampleCert), 0o600),
		os.WriteFile(filepath.Join(dir, "key.pem"), []byte(exampleKey), 0o600))
	check(t, err)
}

// A certificate of localhost, for these tests only.
const exampleCert = `-----BEGIN CERTIFICATE-----
MIIBhTCCASygAwIBAgIBATAKBggqhkjOPQQDAjAUMRIwEAYDVQQDEwlsb2NhbGhv
c3QwIBcNMDAwMTAxMDAwMDAwWhgPMjIwMDAxMDEwMDAwMDBaMBQxEjAQBgNVBAMT
CWxvY2FsaG9zdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNlp03BXAX6F37ez
HGEOMIa39h90ENNikVINDrT2SIuiwebVhXCOvtQywpWNqp6U9KDDhDRVLWQHaiyV
BCu+quqjbTBrMA4GA1UdDwEB/wQEAwIChDATBgNVHSUEDDAKBggrBgEFBQcDATAP
BgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBTvlj1mA8OW7fi2eKjhCYfKz2LISzAU
BgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwIDRwAwRAIgTJpSybv91ApR
kzuBQu0sAMQgp1s00K+onnRQhj5dy6cCICZ/Q6BZ7B15IyZN5SBR1KLkxBTyLJ4L
OUxDoGNtuRnQ
-----END CERTIFICATE-----
`

const exampleKey = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgbrB8Id6vZVUVwx5j
TN1vpM4+Xh9H9VMJQ15dVVLK8tehRANCAATZadNwVwF+hd+3sxxhDjCGt/YfdBDT
YpFSDQ609kiLosHm1YVwjr7UMsKVjaqelPSgw4Q0VS1kB2oslQQrvqrq
-----END PRIVATE KEY-----
`
