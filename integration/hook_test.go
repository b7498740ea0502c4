//go:build linux

package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// hooked starts a server with a command for each file, and a directory for what that
// writes, in which both work.
func hooked(t *testing.T, command string, options ...option) (*service, *directory) {
	t.Helper()
	out := newDirectory(t)
	return serve(t, "server", append(options, with("--on-saved="+command), workingIn(out.path))...), out
}

// says waits until a file that a command writes holds lines with these words, in any order.
func (d *directory) says(name string, want ...string) {
	d.t.Helper()
	var got []string
	if !poll(func() bool {
		text, _ := os.ReadFile(d.join(name))
		got = strings.Fields(string(text))
		return len(got) >= len(want)
	}) {
		d.t.Fatalf("%s holds %q, want %q", name, got, want)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		d.t.Errorf("%s holds %q, want %q", name, got, want)
	}
}

// tell writes all that a command is told of a file, and the file itself as it sees it.
const tell = `{ env | grep -E "^(SAVED|ACCIO)_" | grep -v TIME | sort; cat "$SAVED_PATH"; } >$SAVED_NUMBER.new && mv $SAVED_NUMBER.new $SAVED_NUMBER`

func TestACommandIsToldOfEachFile(t *testing.T) {
	busy(t)
	s, out := hooked(t, tell, after("export ACCIO_MAX_SIZE=1KiB SAVED_BY=me"))
	told := func(c *client, how, size, content string) {
		t.Helper()
		n := strconv.Itoa(len(s.want) + 1)
		out.await(n)
		want := fmt.Sprintf("SAVED_NUMBER=%s\nSAVED_OUTCOME=%s\nSAVED_PATH=%s\nSAVED_PEER=%v\nSAVED_SIZE=%s\n%s",
			n, how, s.dir.join(n+".file"), c.conn.LocalAddr(), size, content)
		out.holdsAt(n, want)
		s.outcome(outcome{file: content})
	}
	c := s.connect().greet().send("hello").halfClose()
	check(t, c.fin())
	told(c, "received", "5", "hello")
	c = s.connect().greet().halfClose()
	check(t, c.fin())
	told(c, "empty", "0", "")
	c = s.connect().hear(greeting).send("x")
	check(t, c.rst())
	told(c, "protocol", "0", "ERROR")
	c = s.connect().greet().send(strings.Repeat("x", 1025))
	check(t, c.rst())
	told(c, "too-large", "1024", "ERROR")
	s.stop()
}

// A path that is relative for the server is absolute for the command.
func TestACommandIsToldAnAbsolutePath(t *testing.T) {
	busy(t)
	work := newDirectory(t)
	port := freePort(t)
	p := launch{program: "server", args: []string{fmt.Sprint(port), "a dir", `--on-saved=echo "$SAVED_PATH" | tr " " _ >told`}, workDir: work.path}.start(t)
	if !poll(func() bool { return p.listensOn(port) || !p.running() }) {
		t.Fatal("it does not listen")
	}
	check(t, upload(port, "hello"))
	work.says("told", strings.ReplaceAll(work.join("a dir/1.file"), " ", "_"))
	if code := p.exitAfter(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	p.silent()
}

// Where not even ERROR could be stored, there is nothing to be told of.
func TestNobodyIsToldOfWhatIsNotThere(t *testing.T) {
	busy(t)
	s, out := hooked(t, "echo $SAVED_NUMBER $SAVED_OUTCOME >>told")
	check(t, os.Mkdir(s.dir.join("1.file"), 0o777))
	check(t, os.WriteFile(s.dir.join("1.file/in it"), nil, 0o666))
	s.fails(s.connect().greet().send("hello").halfClose(), "1.file")
	check(t, upload(s.port, "hello"))
	out.says("told", "2", "received")
	s.halt(syscall.SIGTERM)
	out.says("told", "2", "received")
}

func TestACommandThatFailsLosesNothing(t *testing.T) {
	busy(t)
	s, _ := hooked(t, `head -c 10000000 /dev/zero; echo; printf 'no such \033[31mluck' >&2; exit 3`)
	check(t, upload(s.port, "hello"))
	said := s.complaint()
	for _, want := range []string{"--on-saved", "1.file", "exit status 3", `no such \x1b[31mluck`} {
		if !strings.Contains(said, want) {
			t.Errorf("it says %q, without %q", said, want)
		}
	}
	s.outcome(received("hello"))
	s.stop()
}

// Commands that fail, each time, do not fill what keeps standard error; all of them are
// counted.
func TestCommandsThatFailAreNotToldWithoutEnd(t *testing.T) {
	busy(t)
	const n = 40
	s, out := hooked(t, "echo $SAVED_NUMBER >>told; exit 3", plain)
	var want []string
	for i := range n {
		check(t, upload(s.port, "hello"))
		want = append(want, strconv.Itoa(i+1))
	}
	out.says("told", want...)
	if code := s.exitAfter(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	lines, left := 0, 0
	for _, line := range s.stderr.rest() {
		var more int
		if _, err := fmt.Sscanf(line, "ERROR: hook failed: %d more left out within", &more); err == nil {
			left += more
		} else if strings.HasPrefix(line, "ERROR: --on-saved: ") {
			lines++
		} else {
			t.Errorf("it says %q", line)
		}
	}
	if lines < 10 || left == 0 || lines+left != n {
		t.Errorf("%d failures are told, %d more counted, of %d", lines, left, n)
	}
	s.left(slices.Repeat([]outcome{received("hello")}, n)...)
}

// A proxy tells what it likes of a client's Unix socket: nothing of it is obeyed, nor in the
// way of the command.
func TestACommandIsToldAPrintablePeer(t *testing.T) {
	busy(t)
	s, out := hooked(t, `printf '%s' "$SAVED_PEER" >new && mv new told`, with("--proxy-protocol=127.0.0.2"))
	socket := func(name string) string { return name + string(make([]byte, 108-len(name))) }
	header := "\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8" + socket("/run/x\n\x1b[2J\x9b") + socket("/run/y")
	check(t, s.from("127.0.0.2").send(header).greet().send("hello").halfClose().fin())
	s.outcome(received("hello"))
	out.await("told")
	out.holdsAt("told", `/run/x\n\x1b[2J\x9b`)
	s.stop()
}

// A command gets signals as any program does that was started by a shell: a pipe that
// nobody reads ends it (141 is 128 and SIGPIPE), and so does a SIGTERM.
func TestACommandHasTheSignalsThatItExpects(t *testing.T) {
	busy(t)
	s, out := hooked(t, "{ yes; echo $? >>told; } | head -n 1 >/dev/null; sh -c 'kill -TERM $$'; echo $? >>told")
	check(t, upload(s.port, "hello"))
	out.says("told", "141", "143")
	s.stop(received("hello"))
}

// Clients do not wait for commands, of which so many run at a time, and no file is
// forgotten.
func TestCommandsAreBounded(t *testing.T) {
	busy(t)
	const n, most = 200, 4
	s, out := hooked(t, `echo "+$SAVED_NUMBER" >>log; sleep 0.01; echo "-$SAVED_NUMBER" >>log`, plain, with("--on-saved-jobs="+strconv.Itoa(most)))
	together(t, n, func(int) error { return upload(s.port, "hello") })
	var log []string
	if !poll(func() bool {
		text, _ := os.ReadFile(out.join("log"))
		log = strings.Fields(string(text))
		return len(log) >= 2*n
	}) {
		t.Fatalf("%d lines, want %d", len(log), 2*n)
	}
	at, peak := 0, 0
	times := make(map[string]int)
	for _, line := range log {
		times[line]++
		if line[0] == '+' {
			at++
		} else {
			at--
		}
		peak = max(peak, at)
	}
	if peak > most || at != 0 || len(times) != 2*n {
		t.Errorf("%d ran at a time, %d lines differ", peak, len(times))
	}
	for range n {
		s.outcome(received("hello"))
	}
	s.stop()
}

// waits is a command that has begun when its number is in the file begun, and goes on
// until it may end.
const waits = `echo $SAVED_NUMBER >>begun; while [ ! -e end ]; do sleep 0.02; done; echo $SAVED_NUMBER >>ended`

// A command that does not end holds up no client and no stop, and nothing of it is left.
func TestAStopDoesNotWaitForCommands(t *testing.T) {
	busy(t)
	const n = 20
	s, out := hooked(t, `trap "" TERM; sleep 1000 & echo $! >>begun; sleep 1000 >/dev/null 2>&1 & echo $! >>begun; wait; wait`, plain)
	for range n {
		check(t, upload(s.port, "hello"))
	}
	var pids []string
	if !poll(func() bool {
		text, _ := os.ReadFile(out.join("begun"))
		pids = strings.Fields(string(text))
		return len(pids) == 8
	}) {
		t.Fatalf("begun are %q", pids)
	}
	if code := s.exitAfter(syscall.SIGTERM); code != 0 {
		t.Errorf("exit code %d", code)
	}
	said := s.stderr.rest()
	if len(said) != 5 || !strings.Contains(strings.Join(said, ""), "skipped 16 files, from 5.file to 20.file,") {
		t.Errorf("on standard error: %q", said)
	}
	for _, pid := range pids {
		if !poll(func() bool { return gone(pid) }) {
			t.Errorf("process %s is left", pid)
		}
	}
	s.left(slices.Repeat([]outcome{received("hello")}, n)...)
}

// gone reports whether a process has ended.
func gone(pid string) bool {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(rest, "Z")
}

func TestADrainWaitsForCommands(t *testing.T) {
	busy(t)
	t.Run("to the end", func(t *testing.T) {
		s, out := hooked(t, waits, with("--drain=1h", "--on-saved-jobs=1"))
		for range 3 {
			check(t, upload(s.port, "hello"))
		}
		out.says("begun", "1")
		s.signal(syscall.SIGTERM)
		if !poll(func() bool { return !s.listensOn(s.port) }) {
			t.Fatal("it still listens")
		}
		select {
		case <-s.exited:
			t.Fatal("it has ended")
		case <-time.After(1500 * time.Millisecond): // longer than a stop takes
		}
		out.put("end", "")
		if code := s.exit(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		out.says("ended", "1", "2", "3")
		s.left(received("hello"), received("hello"), received("hello"))
	})
	t.Run("until a second signal", func(t *testing.T) {
		s, out := hooked(t, waits, with("--drain=1h"))
		check(t, upload(s.port, "hello"))
		out.says("begun", "1")
		s.signal(syscall.SIGTERM)
		if !poll(func() bool { return !s.listensOn(s.port) }) {
			t.Fatal("it still listens")
		}
		if code := s.exitAfter(syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if said := s.complaint(); !strings.Contains(said, "1.file: interrupted, since the program stops") {
			t.Errorf("it says %q", said)
		}
		s.left(received("hello"))
	})
}

// Files are saved by a server that is killed while commands run, which go on.
func TestAKilledServerLosesNoFileToAHook(t *testing.T) {
	busy(t)
	s, out := hooked(t, waits, with("--on-saved-jobs=1"))
	check(t, upload(s.port, "hello"))
	check(t, upload(s.port, "world"))
	out.says("begun", "1")
	s.kill()
	s.dir.holds(map[string]string{"1.file": "hello", "2.file": "world"})
	out.put("end", "")
	out.says("ended", "1")
}

// listener is somebody to whom files are posted.
type listener struct {
	*httptest.Server
	answer func(number float64, attempt int) (status int)

	mu       sync.Mutex
	attempts map[float64]int
	taken    map[float64]map[string]any
}

func listens(t *testing.T, answer func(number float64, attempt int) int) *listener {
	l := &listener{answer: answer, attempts: make(map[float64]int), taken: make(map[float64]map[string]any)}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var m map[string]any
		if err != nil || json.Unmarshal(body, &m) != nil || r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" || !strings.HasPrefix(r.UserAgent(), "accio-server") {
			t.Errorf("%s %v: %s, %v", r.Method, r.Header, body, err)
			return
		}
		number := m["number"].(float64)
		l.mu.Lock()
		l.attempts[number]++
		attempt := l.attempts[number]
		l.mu.Unlock()
		status := l.answer(number, attempt)
		if status == 200 {
			l.mu.Lock()
			l.taken[number] = m
			l.mu.Unlock()
		}
		if status == 429 {
			w.Header().Set("Retry-After", "1")
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(l.Close)
	return l
}

func (l *listener) has(n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.taken) == n
}

func TestAURLIsToldOfEachFile(t *testing.T) {
	busy(t)
	l := listens(t, func(number float64, attempt int) int {
		if first := map[float64]int{2: 500, 3: 429, 4: 400}[number]; first != 0 && attempt == 1 {
			return first
		}
		return 200
	})
	s, out := hooked(t, "echo $SAVED_NUMBER >>told", with("--on-saved-url="+l.URL+"/saved?key=secret"))
	c := s.connect().greet().send("hello").halfClose()
	check(t, c.fin())
	check(t, upload(s.port))
	check(t, s.connect().hear(greeting).send("x").rst())
	s.dir.await("3.file")
	check(t, upload(s.port, "world"))
	if said := s.complaint(); !strings.Contains(said, "--on-saved-url: 4.file: ") || !strings.Contains(said, "400 Bad Request") || strings.Contains(said, "secret") {
		t.Errorf("it says %q", said)
	}
	if !poll(func() bool { return l.has(3) }) {
		t.Fatalf("posted were %v", l.attempts)
	}
	m := l.taken[1]
	at, err := time.Parse(time.RFC3339, fmt.Sprint(m["time"]))
	if age := time.Since(at); err != nil || age < 0 || age > time.Hour {
		t.Errorf("the time is %v, %v", m["time"], err)
	}
	delete(m, "time")
	if got, want := fmt.Sprint(m), fmt.Sprint(map[string]any{"number": 1, "path": s.dir.join("1.file"), "size": 5, "outcome": "received", "peer": c.conn.LocalAddr().String()}); got != want {
		t.Errorf("posted %s, want %s", got, want)
	}
	if o2, o3 := l.taken[2]["outcome"], l.taken[3]["outcome"]; o2 != "empty" || o3 != "protocol" {
		t.Errorf("the outcomes are %v and %v", o2, o3)
	}
	out.says("told", "1", "2", "3", "4")
	s.stop(received("hello"), received(""), failed, received("world"))
}

// Nobody waits for one that does not answer: neither a client nor a stop.
// A password is in no error, wherever a URL that is wrong was set.
func TestAURLThatIsWrongIsNotTold(t *testing.T) {
	busy(t)
	dir := newDirectory(t)
	for _, url := range []string{"u:s3cret@host/saved", "http://u:s3cret@h ost/", "https://u:s3cret@host:80x/", "ftp://u:s3cret@host/"} {
		quoted, list, bare := dir.join("quoted.toml"), dir.join("list.toml"), dir.join("bare.toml")
		dir.put("quoted.toml", "on-saved-url = '"+url+"'\n")
		dir.put("list.toml", "on-saved-url = ['"+url+"']\n")
		dir.put("bare.toml", "on-saved-url = "+url+"\n")
		for place, l := range map[string]launch{
			"--on-saved-url: must be a URL":              {args: []string{"--on-saved-url=" + url}},
			"ACCIO_ON_SAVED_URL: must be a URL":          {through: []string{"env", "ACCIO_ON_SAVED_URL=" + url}},
			quoted + ":1: on-saved-url: must be a URL":   {args: []string{"--config=" + quoted}},
			list + ":1: on-saved-url: must be one value": {args: []string{"--config=" + list}},
			bare + ":1:16: ":                             {args: []string{"--config=" + bare}},
		} {
			l.program, l.plain = "server", true
			l.args = append(l.args, "54321", dir.join("files"), "--check")
			p, code := l.run(t)
			if code != 2 {
				t.Errorf("exit code %d", code)
			}
			if said := p.complaint(); !strings.Contains(said, place) || strings.Contains(said, "s3cret") {
				t.Errorf("of %q it says %q, want %q and no password", url, said, place)
			}
			p.silent()
		}
	}
}

func TestAURLThatDoesNotAnswer(t *testing.T) {
	busy(t)
	over := make(chan struct{})
	l := listens(t, func(float64, int) int { <-over; return 200 })
	defer close(over)
	dead := freePort(t)
	for _, url := range []string{l.URL, fmt.Sprintf("http://127.0.0.1:%d", dead)} {
		s := serve(t, "server", with("--on-saved-url="+url, "--on-saved-jobs=2"))
		for range 5 {
			check(t, upload(s.port, "hello"))
		}
		if code := s.exitAfter(syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d", code)
		}
		said := s.stderr.rest()
		if len(said) != 3 || !strings.Contains(said[2], "skipped 3 files, from 3.file to 5.file, since the program stops") {
			t.Errorf("on standard error: %q", said)
		}
		s.left(slices.Repeat([]outcome{received("hello")}, 5)...)
	}
}

func TestHooksThatMakeNoSenseAreRefused(t *testing.T) {
	busy(t)
	work := newDirectory(t)
	dir := filepath.Join(work.path, "files")
	l := launch{program: "server", args: []string{fmt.Sprint(freePort(t)), dir, "--on-saved=if true; then touch ran"}, workDir: work.path, plain: true}
	refuse(t, l, 1, "--on-saved", "/bin/sh")
	l.args = append(l.args, "--check")
	refuse(t, l, 1, "--on-saved", "/bin/sh")
	if said := prints(t, "server", "54321", dir, "--check", "--on-saved=touch "+work.join("ran"), "--on-saved-url=http://localhost:1"); said != "server"+fine {
		t.Errorf("it says %q", said)
	}
	work.holds(nil)
	// None at all.
	s := serve(t, "server", with("--on-saved=", "--on-saved-url="))
	check(t, upload(s.port, "hello"))
	s.stop(received("hello"))
}
