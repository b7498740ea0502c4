package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tool is a way to receive a file that people use.
type tool struct {
	name  string
	needs []string // programs
	argv  func(port int, dir, work string) ([]string, error)
	// client sends the file at path; nil: it is sent as it is, without a word.
	client func(b *bench, port int, path string) *exec.Cmd
}

var tools = []tool{
	{
		name: "**server** and **client**",
		client: func(b *bench, port int, path string) *exec.Cmd {
			return exec.Command(filepath.Join(b.bin, "client"), "127.0.0.1", strconv.Itoa(port), path)
		},
	},
	{
		name:  "nginx, WebDAV PUT by curl",
		needs: []string{"nginx", "curl"},
		argv: func(port int, dir, work string) ([]string, error) {
			return configured(work, "nginx", fmt.Sprintf(`daemon off; master_process off;
user root root;
pid %[1]s/nginx.pid; error_log %[1]s/nginx.log;
events {}
http {
	access_log off;
	client_body_temp_path %[2]s/.temp;
	server {
		listen 127.0.0.1:%[3]d;
		root %[2]s;
		location / { dav_methods PUT; client_max_body_size 0; }
	}
}
`, work, dir, port), "-p", work, "-c")
		},
		client: func(_ *bench, port int, path string) *exec.Cmd {
			return exec.Command("curl", "-sSf", "-T", path, fmt.Sprintf("http://127.0.0.1:%d/1.file", port))
		},
	},
	{
		name:  "vsftpd, by curl",
		needs: []string{"vsftpd", "curl"},
		argv: func(port int, dir, work string) ([]string, error) {
			if err := os.Mkdir(filepath.Join(dir, "in"), 0o777); err != nil {
				return nil, err
			}
			if err := errors.Join(os.Chmod(dir, 0o555), os.Chmod(filepath.Join(dir, "in"), 0o777)); err != nil {
				return nil, err
			}
			return configured(work, "vsftpd", fmt.Sprintf(`listen=YES
listen_address=127.0.0.1
listen_port=%d
background=NO
anonymous_enable=YES
no_anon_password=YES
anon_root=%s
anon_upload_enable=YES
write_enable=YES
secure_chroot_dir=%s
seccomp_sandbox=NO
`, port, dir, work))
		},
		client: func(_ *bench, port int, path string) *exec.Cmd {
			return exec.Command("curl", "-sSf", "-T", path, fmt.Sprintf("ftp://127.0.0.1:%d/in/1.file", port))
		},
	},
	{
		name:  "socat and cat",
		needs: []string{"socat"},
		argv: func(port int, dir, _ string) ([]string, error) {
			return []string{"socat", "-u", "-b262144", fmt.Sprintf("TCP-LISTEN:%d,fork,reuseaddr", port), "SYSTEM:cat > " + dir + "/1.file"}, nil
		},
	},
	{
		name:  "ncat and cat",
		needs: []string{"ncat"},
		argv: func(port int, dir, _ string) ([]string, error) {
			return []string{"ncat", "-l", "-k", "127.0.0.1", strconv.Itoa(port), "--sh-exec", "cat > " + dir + "/1.file"}, nil
		},
	},
}

// configured writes a configuration, and is the command that goes by it.
func configured(work, program, text string, flags ...string) ([]string, error) {
	name := filepath.Join(work, program+".conf")
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		return nil, err
	}
	return append(append([]string{program}, flags...), name), nil
}

// tools compares with whole tools, from the start of what sends to its end.
func (b *bench) tools() error {
	src, err := newSource(b.size())
	if err != nil {
		return err
	}
	defer src.close()
	// curl wants a file with a name.
	path := filepath.Join(b.tmpfs, fmt.Sprintf("accio-bench-%d", os.Getpid()))
	if err := copyFile(path, src); err != nil {
		return err
	}
	defer os.Remove(path)

	var all []tool
	var contestants []contestant
	for _, tl := range tools {
		if lacking := lacking(tl.needs); len(lacking) > 0 {
			b.missing = append(b.missing, lacking...)
			continue
		}
		c := b.server()
		if tl.needs != nil {
			c = contestant{name: tl.name, forks: true, argv: func(port int, dir string) ([]string, error) {
				return tl.argv(port, dir, b.work)
			}}
		}
		all, contestants = append(all, tl), append(contestants, c)
	}
	servers, stop, err := startAll(contestants, b.tmpfs)
	if err != nil {
		return err
	}
	defer stop()
	samples, err := rounds(b.rounds, len(all), func(i int) (sample, error) {
		p := servers[i]
		s, err := p.once(func() error {
			if all[i].client == nil {
				return src.sendBare(p.port)
			}
			cmd := all[i].client(b, p.port, path)
			cmd.Stderr = os.Stderr
			return cmd.Run()
		})
		return s, errors.Join(err, p.emptied(src.size))
	})
	if err != nil {
		return err
	}
	wall, cpu := perGiB(src.size)
	t := &table{
		title:  fmt.Sprintf("Whole tools: a file of %d MiB, to %s", src.size>>20, filesystem(b.tmpfs)),
		notes:  []string{"From the start of the program that sends to its end. The processor time of tools that fork is known to 10 ms."},
		header: []string{"tools", "wall s/GiB", "× ours", "server CPU s/GiB"},
	}
	for i, tl := range all {
		t.row(tl.name, of(samples[i], wall).String(), ratio(samples[i], samples[0], wall).short(), of(samples[i], cpu).String())
	}
	fmt.Println(t)
	return nil
}

func lacking(programs []string) (missing []string) {
	for _, name := range programs {
		if _, err := exec.LookPath(name); err != nil {
			missing = append(missing, name)
		}
	}
	return missing
}

func copyFile(path string, src *source) error {
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.NewSectionReader(src.file, 0, src.size))
	return errors.Join(err, out.Close())
}

// emptied waits until the server, which may have told nobody, has saved a file of
// this size, and removes it.
func (p *process) emptied(size int64) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		names, _ := filepath.Glob(filepath.Join(p.dir, "*.file"))
		more, _ := filepath.Glob(filepath.Join(p.dir, "in", "*.file"))
		for _, name := range append(names, more...) {
			if fi, err := os.Stat(name); err == nil && fi.Size() == size && !strings.HasPrefix(filepath.Base(name), ".") {
				return os.Remove(name)
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s has not saved %d bytes", p.name, size)
		}
	}
}

// sendBare sends the source without a handshake.
func (s *source) sendBare(port int) error {
	conn, err := dial(port, 0)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.Copy(conn, io.NewSectionReader(s.file, 0, s.size)); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	io.Copy(io.Discard, conn)
	return nil
}
