//go:build linux

package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var (
	packages = flag.Bool("packages", false, "build packages and try them, in TestPackages: some minutes")
	debian   = flag.String("debian", "/", "the root of a Debian, such as debootstrap makes, in which TestPackages installs one; it is not changed")
)

const (
	packageVersion = "1.2.3"
	packageEpoch   = 1700000000
)

// installedPrograms are the names of the programs in packages.
var installedPrograms = []string{"accio-client", "accio-conform", "accio-server", "accio-server-s"}

func TestPackages(t *testing.T) {
	if !*packages {
		t.Skip("only with -packages: make test-package")
	}
	needs(t, "bash")
	out := buildPackages(t, "..", nil)
	p := packageFiles{
		archive: filepath.Join(out, fmt.Sprintf("accio_%s_linux_%s.tar.gz", packageVersion, runtime.GOARCH)),
		deb:     filepath.Join(out, fmt.Sprintf("accio_%s_%s.deb", packageVersion, runtime.GOARCH)),
		bom:     filepath.Join(out, fmt.Sprintf("accio_%s.cdx.json", packageVersion)),
	}
	rpms, err := filepath.Glob(filepath.Join(out, "accio-"+packageVersion+".*.rpm"))
	check(t, err)
	if len(rpms) != 1 {
		t.Fatalf("the rpms are %q", rpms)
	}
	p.rpm = rpms[0]
	t.Run("sums", func(t *testing.T) { sumsAreRight(t, out, p) })
	t.Run("archive", p.archiveIsRight)
	t.Run("bill of materials", p.bomIsRight)
	t.Run("rpm", p.rpmIsRight)
	t.Run("debian", p.areInstalledInDebian)
	t.Run("systemd", p.runUnderSystemd)
	t.Run("reproducible", func(t *testing.T) { buildsAreTheSame(t, out) })
}

type packageFiles struct{ archive, deb, rpm, bom string }

// buildPackages builds the packages of a source tree for this platform, and returns where
// they are.
func buildPackages(t *testing.T, source string, env []string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	cmd := exec.Command(filepath.Join(source, ".ci/package/build"), out, "linux/"+runtime.GOARCH)
	cmd.Env = slices.Concat(os.Environ(), env, []string{"VERSION=v" + packageVersion, fmt.Sprintf("SOURCE_DATE_EPOCH=%d", packageEpoch)})
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, said)
	}
	return out
}

// buildsAreTheSame builds once more what is in out, elsewhere, by another user's settings
// and without anything that the first has compiled.
func buildsAreTheSame(t *testing.T, out string) {
	source := filepath.Join(t.TempDir(), "another", "place")
	check(t, os.MkdirAll(source, 0o700))
	for _, name := range []string{".ci", "cmd", "fs", "stage", "transport", "integration"} {
		check(t, os.CopyFS(filepath.Join(source, name), os.DirFS(filepath.Join("..", name))))
	}
	for _, name := range []string{"go.mod", "go.sum", "LICENSE", "README.md", "CHANGELOG.md"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		check(t, err)
		check(t, os.WriteFile(filepath.Join(source, name), text, 0o600))
	}
	// What only its owner may read here may be read by all where it is installed.
	check(t, filepath.WalkDir(source, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		return os.Chmod(path, fi.Mode()&0o700)
	}))
	again := buildPackages(t, source, []string{
		"GOCACHE=" + t.TempDir(), "TMPDIR=" + t.TempDir(), "TZ=Asia/Tokyo", "LC_ALL=C.UTF-8", "USER=somebody", "GOAMD64=v3", "CGO_ENABLED=1",
	})
	names := filesOf(t, out)
	if got := filesOf(t, again); !slices.Equal(got, names) {
		t.Fatalf("it is %q the second time, and was %q", got, names)
	}
	for _, name := range names {
		first, err := os.ReadFile(filepath.Join(out, name))
		check(t, err)
		second, err := os.ReadFile(filepath.Join(again, name))
		check(t, err)
		if !bytes.Equal(first, second) {
			t.Errorf("%s is not the same the second time", name)
		}
	}
}

func filesOf(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func sumsAreRight(t *testing.T, out string, p packageFiles) {
	text, err := os.ReadFile(filepath.Join(out, "SHA256SUMS"))
	check(t, err)
	sums := map[string]string{}
	for line := range strings.Lines(string(text)) {
		sum, name, _ := strings.Cut(strings.TrimSpace(line), "  ")
		sums[name] = sum
	}
	var want []string
	for _, name := range []string{p.archive, p.deb, p.rpm, p.bom} {
		file, err := os.ReadFile(name)
		check(t, err)
		base := filepath.Base(name)
		want = append(want, base)
		if got := fmt.Sprintf("%x", sha256.Sum256(file)); sums[base] != got {
			t.Errorf("the sum of %s is %s, not %s", base, got, sums[base])
		}
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(sums)); !slices.Equal(got, want) {
		t.Errorf("there are sums of %q, want %q", got, want)
	}
	if got := filesOf(t, out); !slices.Equal(got, slices.Insert(want, 0, "SHA256SUMS")) {
		t.Errorf("there is %q", got)
	}
}

// extract returns the files of an archive by their names below its one directory.
func extract(t *testing.T, archive string) map[string][]byte {
	t.Helper()
	f, err := os.Open(archive)
	check(t, err)
	defer f.Close()
	z, err := gzip.NewReader(f)
	check(t, err)
	if z.Name != "" || !z.ModTime.IsZero() {
		t.Errorf("gzip tells of %q, %v", z.Name, z.ModTime)
	}
	root := strings.TrimSuffix(filepath.Base(archive), ".tar.gz") + "/"
	files := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		check(t, err)
		name, ok := strings.CutPrefix(h.Name, root)
		if !ok {
			t.Errorf("%s is not in %s", h.Name, root)
		}
		mode := int64(0o644)
		if h.Typeflag == tar.TypeDir || strings.HasPrefix(name, "bin/") {
			mode = 0o755
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname+h.Gname != "" || h.Mode != mode || h.ModTime.Unix() != packageEpoch {
			t.Errorf("%s is %d:%d, %q:%q, %o, %v", name, h.Uid, h.Gid, h.Uname, h.Gname, h.Mode, h.ModTime)
		}
		if h.Typeflag == tar.TypeReg {
			files[name], err = io.ReadAll(r)
			check(t, err)
		}
	}
}

func (p packageFiles) archiveIsRight(t *testing.T) {
	files := extract(t, p.archive)
	want := []string{"CHANGELOG.md", "LICENSE", "README.md"}
	for _, name := range installedPrograms {
		want = append(want, "bin/"+name, "share/man/man1/"+name+".1.gz", "share/bash-completion/completions/"+name,
			"share/zsh/site-functions/_"+name, "share/fish/vendor_completions.d/"+name+".fish")
		program := filepath.Join(t.TempDir(), name)
		check(t, os.WriteFile(program, files["bin/"+name], 0o755))
		said, err := exec.Command(program, "--version").Output()
		if err != nil || string(said) != name+" v"+packageVersion+"\n" {
			t.Errorf("%s --version: %q, %v", name, said, err)
		}
		image, err := elf.Open(program)
		check(t, err)
		for _, segment := range image.Progs {
			if segment.Type == elf.PT_INTERP {
				t.Errorf("%s is not static", name)
			}
		}
		image.Close()
	}
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
		t.Errorf("it holds %q, want %q", got, want)
	}
}

// purlPattern is what a package URL of a Go module looks like.
var purlPattern = regexp.MustCompile(`^pkg:golang/[a-z0-9./_-]+@v?[0-9][0-9A-Za-z.+-]*(#[a-z/-]+)?$`)

// The bill has what CycloneDX and NTIA's minimum elements require, and each program in it
// has those modules that the linker says are in it.
func (p packageFiles) bomIsRight(t *testing.T) {
	type component struct {
		Ref     string `json:"bom-ref"`
		Type    string
		Name    string
		Version string
		PURL    string
		Hashes  []struct{ Alg, Content string }
	}
	var bom struct {
		BOMFormat   string
		SpecVersion string
		Version     int
		Metadata    struct {
			Timestamp string
			Authors   []struct{ Name string }
			Supplier  struct{ Name string }
			Component component
		}
		Components   []component
		Dependencies []struct {
			Ref       string
			DependsOn []string
		}
	}
	text, err := os.ReadFile(p.bom)
	check(t, err)
	check(t, json.Unmarshal(text, &bom))
	if bom.BOMFormat != "CycloneDX" || bom.SpecVersion != "1.6" || bom.Version != 1 {
		t.Errorf("it is %s %s, version %d", bom.BOMFormat, bom.SpecVersion, bom.Version)
	}
	meta := bom.Metadata
	if when, err := time.Parse(time.RFC3339, meta.Timestamp); err != nil || when.Unix() != packageEpoch {
		t.Errorf("its time is %q, %v", meta.Timestamp, err)
	}
	if len(meta.Authors) != 1 || meta.Authors[0].Name == "" || meta.Supplier.Name == "" || meta.Component.Name != "accio" || meta.Component.Version != packageVersion {
		t.Errorf("it is of %+v", meta)
	}
	components := map[string]component{meta.Component.Ref: meta.Component}
	for _, c := range bom.Components {
		if _, twice := components[c.Ref]; twice || c.Ref == "" || c.Name == "" || c.Version == "" || !purlPattern.MatchString(c.PURL) {
			t.Errorf("a component is %+v", c)
		}
		if len(c.Hashes) == 0 && c.Name != "std" {
			t.Errorf("%s has no hash", c.Ref)
		}
		for _, h := range c.Hashes {
			if h.Alg != "SHA-256" || len(h.Content) != 2*sha256.Size {
				t.Errorf("%s has the hash %+v", c.Ref, h)
			}
		}
		components[c.Ref] = c
	}
	uses := map[string][]string{}
	used := map[string]bool{meta.Component.Ref: true}
	for _, d := range bom.Dependencies {
		uses[d.Ref] = d.DependsOn
		for _, ref := range d.DependsOn {
			used[ref] = true
			if components[ref].Ref == "" {
				t.Errorf("%s uses %s, which is no component", d.Ref, ref)
			}
		}
	}
	for ref := range components {
		if !used[ref] {
			t.Errorf("nothing uses %s", ref)
		}
	}
	for name, program := range extract(t, p.archive) {
		if !strings.HasPrefix(name, "bin/") {
			continue
		}
		ref := strings.TrimSuffix(filepath.Base(p.archive), ".tar.gz") + "/" + name
		if c := components[ref]; c.Ref == "" || c.Hashes[0].Content != fmt.Sprintf("%x", sha256.Sum256(program)) {
			t.Errorf("%s is %+v", ref, c)
		}
		info, err := buildinfo.Read(bytes.NewReader(program))
		check(t, err)
		want := []string{"pkg:golang/std@" + strings.TrimPrefix(info.GoVersion, "go")}
		for _, m := range info.Deps {
			want = append(want, "pkg:golang/"+m.Path+"@"+m.Version)
		}
		if got := uses[ref]; len(want) < 5 || !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			t.Errorf("%s uses %q, want %q", ref, got, want)
		}
	}
}

// installedFiles are what packages install, but for what is only in one kind of them.
func installedFiles() []string {
	files := []string{
		"/etc/accio/server.toml",
		"/usr/lib/systemd/system/accio-server.service", "/usr/lib/systemd/system/accio-server.socket",
		"/usr/share/doc/accio/README.md", "/usr/share/doc/accio/CHANGELOG.md.gz",
	}
	for _, name := range installedPrograms {
		files = append(files, "/usr/bin/"+name, "/usr/share/man/man1/"+name+".1.gz",
			"/usr/share/bash-completion/completions/"+name, "/usr/share/fish/vendor_completions.d/"+name+".fish")
	}
	return files
}

func (p packageFiles) rpmIsRight(t *testing.T) {
	needs(t, "rpm")
	query := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("rpm", append(args, p.rpm)...)
		said, err := cmd.Output()
		if err != nil {
			t.Errorf("%v: %v", cmd, err)
		}
		return string(said)
	}
	files := strings.Fields(query("-qlp"))
	for _, name := range installedFiles() {
		if !slices.Contains(files, name) {
			t.Errorf("it does not install %s", name)
		}
	}
	if got := query("-qcp"); got != "/etc/accio/server.toml\n" {
		t.Errorf("its configuration is %q", got)
	}
	if got := query("-qp", "--queryformat", "%{NAME} %{VERSION} %{BUILDTIME} %{BUILDHOST} %{LICENSE}"); got != fmt.Sprintf("accio %s %d accio MIT", packageVersion, packageEpoch) {
		t.Errorf("it is %q", got)
	}
	query("-K")
}

// system is a Debian in which everything can be done: what changes is in memory, in a mount
// namespace of its own, and gone at the end of the test.
type system struct {
	t    *testing.T
	root string // as seen from outside; the changes are in its /mnt
}

// boot has the namespace held by a process, until its input ends.
func boot(t *testing.T, lower string) *system {
	t.Helper()
	needs(t, "unshare")
	if os.Getuid() != 0 {
		t.Skip("only root can install a package")
	}
	if _, err := os.Stat(filepath.Join(lower, "usr/bin/dpkg")); err != nil {
		t.Skipf("there is no Debian: %v", err)
	}
	const overlay = `
		mount -t tmpfs -o mode=755 tmpfs "$2"
		mkdir "$2/upper" "$2/work" "$2/root"
		mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay "$2/root"`
	if said, err := exec.Command("unshare", "--mount", "sh", "-euc", overlay, "sh", lower, t.TempDir()).CombinedOutput(); err != nil {
		t.Skipf("nothing can be mounted over %s: %v: %s", lower, err, said)
	}
	cmd := exec.Command("unshare", "--mount", "sh", "-euc", overlay+`
		mount --bind "$2/upper" "$2/root/mnt"
		mount --rbind /proc "$2/root/proc"
		mount --rbind /dev "$2/root/dev"
		for dir in tmp run; do mount -t tmpfs tmpfs "$2/root/$dir"; done
		chmod 1777 "$2/root/tmp"
		# Images leave documentation out.
		[ ! -d "$2/root/etc/dpkg/dpkg.cfg.d" ] || mount -t tmpfs tmpfs "$2/root/etc/dpkg/dpkg.cfg.d"
		exec chroot "$2/root" sh -c 'echo up; exec cat'`, "sh", lower, t.TempDir())
	hold, err := cmd.StdinPipe()
	check(t, err)
	up, err := cmd.StdoutPipe()
	check(t, err)
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	check(t, cmd.Start())
	t.Cleanup(func() {
		hold.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the namespace: %v", err)
		}
	})
	if _, err := io.ReadFull(up, make([]byte, len("up\n"))); err != nil {
		hold.Close()
		t.Fatalf("the system is not up: %v\n%s", err, &complaints)
	}
	return &system{t, fmt.Sprintf("/proc/%d/root", cmd.Process.Pid)}
}

// at is a file of the system, for this process. Its name must not go through links that
// begin at the root.
func (s *system) at(name string) string { return s.root + name }

func (s *system) command(name string, args ...string) *exec.Cmd {
	return &exec.Cmd{
		Path: name, Args: append([]string{name}, args...), Dir: "/",
		Env:         []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive", "MANPAGER=cat", "HOME=/root"},
		SysProcAttr: &syscall.SysProcAttr{Chroot: s.root},
	}
}

// run runs a line of shell in the system as root, and returns all that it says.
func (s *system) run(line string) string {
	s.t.Helper()
	said, err := s.command("/bin/sh", "-euc", line).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", line, err, said)
	}
	return string(said)
}

// has reports whether the system has a command.
func (s *system) has(command string) bool {
	return s.command("/bin/sh", "-c", "command -v "+command).Run() == nil
}

func (s *system) exists(name string) bool {
	_, err := os.Lstat(s.at(name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Error(err)
	}
	return err == nil
}

func (p packageFiles) areInstalledInDebian(t *testing.T) {
	lower, err := filepath.Abs(*debian)
	check(t, err)
	s := boot(t, lower)
	deb, err := os.ReadFile(p.deb)
	check(t, err)
	check(t, os.WriteFile(s.at("/tmp/accio.deb"), deb, 0o644))
	s.run("dpkg -i /tmp/accio.deb")

	files := installedFiles()
	for _, name := range installedPrograms {
		files = append(files, "/usr/share/zsh/vendor-completions/_"+name)
	}
	files = append(files, "/usr/share/doc/accio/changelog.gz", "/usr/share/doc/accio/copyright", "/usr/share/lintian/overrides/accio")
	slices.Sort(files)
	var installed []string
	for name := range strings.FieldsSeq(s.run("dpkg -L accio")) {
		fi, err := os.Lstat(s.at(name))
		check(t, err)
		stat := fi.Sys().(*syscall.Stat_t)
		mode := fs.FileMode(0o644)
		switch {
		case fi.IsDir():
			mode = 0o755 | fs.ModeDir
		case strings.HasPrefix(name, "/usr/bin/"):
			mode = 0o755
		}
		if stat.Uid != 0 || stat.Gid != 0 || fi.Mode() != mode {
			t.Errorf("%s is %d:%d, %v", name, stat.Uid, stat.Gid, fi.Mode())
		}
		if !fi.IsDir() {
			installed = append(installed, name)
		}
	}
	slices.Sort(installed)
	if !slices.Equal(installed, files) {
		t.Errorf("it installs %q, want %q", installed, files)
	}
	if said := s.run("dpkg --verify accio"); said != "" {
		t.Errorf("dpkg --verify: %s", said)
	}
	if s.has("lintian") {
		s.run("lintian --allow-root --fail-on=error,warning /tmp/accio.deb")
	}
	if s.has("man") {
		if page := strings.Join(strings.Fields(s.run("man accio-server")), " "); !strings.Contains(page, "accio-server - ") || !strings.Contains(page, "accio-client(1)") {
			t.Errorf("the man page says %q", page)
		}
	}

	// Nothing is started unasked.
	links := "find /etc/systemd -name 'accio*'"
	if said := s.run("test ! -d /etc/systemd || " + links); said != "" {
		t.Errorf("it is enabled: %s", said)
	}
	if s.has("systemd-analyze") {
		if said := s.run("systemd-analyze verify accio-server.service accio-server.socket 2>&1 | grep accio || true"); said != "" {
			t.Errorf("systemd-analyze verify: %s", said)
		}
	}
	enabled := s.has("systemctl")
	if enabled {
		s.run("systemctl enable accio-server.socket accio-server.service")
		if said := s.run(links); strings.Count(said, "\n") != 2 {
			t.Errorf("enabled are %s", said)
		}
	}

	// As the unit starts it, but for the port and the socket.
	unit, err := os.ReadFile(s.at("/usr/lib/systemd/system/accio-server.service"))
	check(t, err)
	_, start, _ := strings.Cut(string(unit), "\nExecStart=")
	start, _, _ = strings.Cut(start, "\n")
	port := freePort(t)
	s.run(fmt.Sprintf("sed -i 's/^port = .*/port = %d/' /etc/accio/server.toml", port))
	s.run("mkdir /var/lib/accio && chown 65532:65532 /var/lib/accio")
	if said := s.run(start + " --check"); said != "accio-server: everything is fine\n" {
		t.Errorf("--check says %q", said)
	}
	line := strings.Fields(start)
	server := s.command(line[0], line[1:]...)
	server.SysProcAttr.Credential = &syscall.Credential{Uid: 65532, Gid: 65532}
	serveFor(t, server, port, func() {
		s.run("echo hello >/tmp/file && accio-client 127.0.0.1 " + strconv.Itoa(port) + " /tmp/file")
	})
	data := &directory{t, s.at("/var/lib/accio")}
	data.holds(map[string]string{"1.file": "up", "2.file": "hello\n"})

	// The configuration is the user's: another installation keeps it.
	s.run("dpkg -i /tmp/accio.deb")
	if config := s.run("cat /etc/accio/server.toml"); !strings.Contains(config, fmt.Sprintf("\nport = %d\n", port)) {
		t.Errorf("the configuration is %s", config)
	}
	if enabled && strings.Count(s.run(links), "\n") != 2 {
		t.Error("it is no longer enabled after an upgrade")
	}

	s.run("dpkg -r accio")
	for _, name := range files {
		if s.exists(name) != (name == "/etc/accio/server.toml") {
			t.Errorf("after removal, %s is there: %v", name, s.exists(name))
		}
	}
	s.run("dpkg -P accio")
	data.holds(map[string]string{"1.file": "up", "2.file": "hello\n"})
	check(t, filepath.WalkDir(s.at("/mnt"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(path, s.at("/mnt"))
		switch {
		case name == "/var/lib/accio" || strings.HasPrefix(name, "/var/lib/dpkg/") || strings.HasPrefix(name, "/var/log/") || strings.HasPrefix(name, "/var/cache/"):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case d.IsDir(): // of those that are there anyway, too
			if _, err := os.Lstat(filepath.Join(lower, name)); err == nil {
				return nil
			}
		}
		t.Errorf("it has left %s", name)
		return nil
	}))
}

// serveFor runs a server until it has what is sent here and by the function, and stops it.
func serveFor(t *testing.T, server *exec.Cmd, port int, send func()) {
	t.Helper()
	var complaints bytes.Buffer
	server.Stderr = &complaints
	check(t, server.Start())
	ended := false
	defer func() {
		if !ended { // the test has failed
			server.Process.Kill()
			server.Wait()
		}
	}()
	var err error
	if !poll(func() bool { err = upload(port, "up"); return err == nil }) {
		t.Errorf("no upload is done: %v", err)
	}
	send()
	check(t, server.Process.Signal(syscall.SIGTERM))
	ended = true
	if err := server.Wait(); err != nil || complaints.Len() > 0 {
		t.Errorf("the server ends with %v; it says %s", err, &complaints)
	}
}

// The image of the Containerfile is run without what makes images: it is a directory with
// what the last stage copies, and its user, environment and command.
func TestTheServerRunsWhereThereIsNothingElse(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can change the root directory")
	}
	busy(t)
	text, err := os.ReadFile("../cmd/server/package/Containerfile")
	check(t, err)
	_, last, _ := strings.Cut(string(text), "\nFROM scratch\n")
	root := t.TempDir()
	check(t, os.Chmod(root, 0o755))
	image := &exec.Cmd{Dir: "/", SysProcAttr: &syscall.SysProcAttr{Chroot: root}}
	var copied []string
	var command []string
	uid := 0
	for line := range strings.Lines(last) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "COPY":
			words := strings.Fields(rest)
			copied = append(copied, words[len(words)-1])
		case "USER":
			user, _, _ := strings.Cut(rest, ":")
			uid, err = strconv.Atoi(user)
			check(t, err)
		case "ENV":
			image.Env = append(image.Env, rest)
		case "ENTRYPOINT", "CMD":
			var words []string
			check(t, json.Unmarshal([]byte(rest), &words))
			command = append(command, words...)
		}
	}
	if want := []string{"/etc/ssl/certs/ca-certificates.crt", "/accio-server", "/data"}; !slices.Equal(copied, want) || uid == 0 {
		t.Fatalf("the image has %q, and runs as %d", copied, uid)
	}
	static := exec.Command("go", "build", "-o", filepath.Join(root, "accio-server"), "github.com/accio-go/accio/cmd/server")
	static.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := static.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", static, err, said)
	}
	data := &directory{t, filepath.Join(root, "data")}
	check(t, os.Mkdir(data.path, 0o755))
	check(t, os.Chown(data.path, uid, uid))
	image.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}
	port := freePort(t)
	i := slices.Index(command, "5000")
	if i < 0 {
		t.Fatalf("the command is %q", command)
	}
	command[i] = strconv.Itoa(port)
	image.Path, image.Args = command[0], command
	again := *image // it was not started yet
	serveFor(t, image, port, func() { check(t, upload(port, "hello")) })
	data.holds(map[string]string{"1.file": "up", "2.file": "hello"})
	serveFor(t, &again, port, func() {})
	data.holds(map[string]string{"1.file": "up", "2.file": "hello", "3.file": "up"})
}
