package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// server is a server-s or a server that runs and listens.
type server struct {
	*process
	port  int
	files string // FILE-DIR, of a server
	net   *network
	side  *network // where its clients are
}

// serving is how to start one. All of it may be left out.
type serving struct {
	launch
	port      int
	files     string
	side      *network
	unstarted bool // do not wait until it listens
}

// serve starts a server and waits until it listens.
func (t *trial) serve(how serving) *server {
	s := &server{port: how.port, files: how.files, net: how.net, side: how.side}
	var err error
	if s.port == 0 {
		if s.port, err = freePort(); err != nil {
			t.cannot("looking for a port", err)
		}
	}
	how.args = []string{strconv.Itoa(s.port)}
	if t.program == Server {
		if s.files == "" {
			s.files = t.directory()
		}
		how.args = append(how.args, s.files)
	}
	s.process = t.start(how.launch)
	if t.over() || how.unstarted {
		return s
	}
	ended := false
	up := t.await(patience, func() bool {
		select {
		case <-s.done:
			ended = true
			return true
		default:
		}
		up, lerr := listening(s.cmd.Process.Pid, s.port)
		if lerr != nil {
			err = lerr
			return true
		}
		return up
	})
	s.isUp()
	switch {
	case err != nil:
		t.cannot("looking who listens", err)
	case ended:
		s.fail("a server that runs", "it ended at once, %s; on stderr: %s", s.exit(), oneLine(s.err.String()))
	case !up:
		s.fail(fmt.Sprintf("the server to listen on port %d within %v", s.port, patience), "nobody listens there")
	}
	return s
}

// addr is where its clients find it.
func (s *server) addr() string { return net.JoinHostPort(s.side.address(), strconv.Itoa(s.port)) }

func (s *server) connect() *peer { return s.connectBy(s.side, s.addr()) }

// connectBy connects by a proxy, if addr is one's.
func (s *server) connectBy(n *network, addr string) *peer {
	p := s.t.dial(n, addr)
	p.t.process = s.process
	return p
}

// connectAll connects n clients one after the other.
func (s *server) connectAll(n int) []*peer {
	ps := make([]*peer, n)
	for i := range ps {
		ps[i] = s.connect()
	}
	return ps
}

// crowd connects n clients, or as many as find a place in the queue. It does so
// one after the other: of several at once, some would be left half connected
// where the places run out.
func (s *server) crowd(n int) (ps []*peer) {
	for len(ps) < n && !s.t.over() {
		conn, err := s.t.tryDial(s.side, s.addr(), soon)
		if err != nil {
			break
		}
		p := s.t.peer(conn, "connected to "+s.addr())
		p.t.process = s.process
		ps = append(ps, p)
	}
	return ps
}

// moment is how long polite clients wait between the header and the payload, so
// that the two are seen apart by any server.
const moment = 50 * time.Millisecond

// greet takes a client through the handshake, as politely as can be.
func (p *peer) greet() *peer {
	p.hear(greeting).say(confirm).hear(greeting).say(again)
	p.t.pace(moment)
	return p
}

// sayHeader says a part of the header, and hears what is due for it.
func (p *peer) sayHeader(part string) *peer {
	p.hear(greeting)
	if len(part) < len(confirm) {
		return p.say(part)
	}
	return p.say(confirm).hear(greeting).say(part[len(confirm):])
}

// upload is what a polite client does, from the beginning to the end.
func (p *peer) upload(what payload) *peer {
	p.greet()
	return p.give(what).halfClose().ends(orderly, "once the client has ended its stream")
}

// outcome is what is to be told of a connection.
type outcome struct {
	failed bool
	payload
}

var failed = outcome{failed: true}

func received(p payload) outcome { return outcome{payload: p} }

// errorMark is what stands for a connection that failed.
const errorMark = "ERROR"

func (o outcome) line() string {
	if o.failed {
		return errorMark
	}
	return strconv.FormatInt(o.length(), 10)
}

// settling is how long an outcome may take to be told, where nobody asks for
// more. A server-s is stopped after that: it may have kept what it prints.
const settling = 3 * time.Second

// tells expects these outcomes of the connections so far, in their order.
func (s *server) tells(want ...outcome) {
	if s.t.over() {
		return
	}
	if s.t.program == ServerS {
		s.prints(settling, true, want...)
		return
	}
	for i, w := range want {
		s.saved(settling, i+1, w)
	}
}

// tellsAtOnce is tells for who has just seen the connection end.
func (s *server) tellsAtOnce(want ...outcome) {
	if s.t.over() {
		return
	}
	if s.t.program == ServerS {
		s.prints(time.Second+s.t.slack(), false, want...)
		return
	}
	for i, w := range want {
		s.saved(0, i+1, w)
	}
}

func (s *server) printed() []string {
	all := s.out.String()
	end := strings.LastIndexByte(all, '\n') + 1
	return strings.FieldsFunc(all[:end], func(r rune) bool { return r == '\n' || r == '\r' })
}

func (s *server) prints(within time.Duration, stop bool, want ...outcome) {
	var lines []string
	for _, w := range want {
		lines = append(lines, w.line())
	}
	if !s.t.await(within, func() bool { return len(s.printed()) >= len(lines) }) && stop {
		s.signal(syscall.SIGTERM)
		s.t.await(settling, func() bool {
			select {
			case <-s.done:
				return true
			default:
				return false
			}
		})
	}
	got := s.printed()
	for i := range got {
		got[i] = strings.TrimSpace(got[i])
	}
	if len(got) < len(lines) {
		s.t.missed(within)
	}
	s.ensure(slices.Equal(got, lines), fmt.Sprintf("on stdout the lines %s", shorten(lines)), "%s", shorten(got))
}

func shorten(lines []string) string {
	if len(lines) == 0 {
		return "(none)"
	}
	s := strings.Join(lines, " ")
	if len(s) > 3*shownBytes {
		s = fmt.Sprintf("%s… (%d lines)", s[:3*shownBytes], len(lines))
	}
	return s
}

// needsRoom sees to it that no server is blamed for a disk that was full before.
func (s *server) needsRoom(bytes int64) {
	if s.t.over() || s.t.program != Server {
		return
	}
	if left, err := room(s.files); err == nil && left < bytes {
		s.t.cannot("looking for room", fmt.Errorf("%d MiB are needed in %s, and only %d are left", bytes/mib, s.files, left/mib))
	}
}

func (s *server) path(n int) string { return filepath.Join(s.files, strconv.Itoa(n)+".file") }

// saved expects the outcome of connection n in its file.
func (s *server) saved(within time.Duration, n int, want outcome) {
	if s.t.over() {
		return
	}
	name := filepath.Base(s.path(n))
	if want.failed {
		want.payload = text(errorMark)
	}
	diff := "there is none"
	s.t.await(within, func() bool {
		info, err := os.Stat(s.path(n))
		if err != nil {
			diff = "there is none; the directory holds " + strings.Join(s.t.names(s.files), " ")
			return false
		}
		// White space after ERROR is asked for elsewhere.
		if size := info.Size(); size != want.length() && !(want.failed && size < 64) {
			diff = fmt.Sprintf("%d bytes where %d should be", size, want.length())
			if b, err := os.ReadFile(s.path(n)); err == nil && size < 64 {
				diff = fmt.Sprintf("%q", b)
			}
			return false
		}
		diff, err = s.compare(n, want)
		if err != nil {
			diff += " " + err.Error()
		}
		return diff == ""
	})
	s.ensure(diff == "", fmt.Sprintf("%s to hold %v", name, want.payload), "%s", diff)
}

// holdsWhole expects one of these payloads in the file of connection n.
func (s *server) holdsWhole(n int, whole ...payload) {
	if s.t.over() {
		return
	}
	expected := fmt.Sprintf("%d.file to be there, whole", n)
	f, err := os.Open(s.path(n))
	if err != nil {
		s.fail(expected, "%v", err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		s.fail(expected, "%v", err)
		return
	}
	seen := fmt.Sprintf("%d bytes", info.Size())
	for _, w := range whole {
		if info.Size() == w.length() {
			if seen, err = w.differs(f); seen == "" {
				return
			}
		}
	}
	if err != nil {
		seen += " " + err.Error()
	}
	s.fail(expected, "%s", seen)
}

func (s *server) compare(n int, want outcome) (string, error) {
	f, err := os.Open(s.path(n))
	if err != nil {
		return "", err
	}
	defer f.Close()
	if !want.failed {
		return want.differs(f)
	}
	b, err := os.ReadFile(s.path(n))
	if string(bytes.TrimSpace(b)) != errorMark {
		return quoted(b), err
	}
	return "", err
}

// savedAll expects each payload in one of the files, whichever: who is number
// one is asked elsewhere.
func (s *server) savedAll(payloads []payload) {
	for n := range payloads {
		if s.t.over() {
			return
		}
		// What comes first in each payload names it.
		var head string
		s.t.await(settling, func() bool {
			f, err := os.Open(s.path(n + 1))
			if err != nil {
				return false
			}
			defer f.Close()
			b := make([]byte, len(label(0)))
			m, _ := f.Read(b)
			head = string(b[:m])
			return m == len(b)
		})
		i := slices.IndexFunc(payloads, func(p payload) bool { return p.text == head && head != "" })
		if i < 0 {
			s.fail(fmt.Sprintf("one of the payloads in %d.file", n+1), "%s, in a directory that holds %v", oneLine(head), s.t.names(s.files))
			return
		}
		s.saved(settling, n+1, received(payloads[i]))
		payloads[i].text = "" // is taken
	}
}

func label(i int) string { return fmt.Sprintf("payload %04d\n", i) }

// many are n payloads of the same length that can be told from each other.
func many(n int, size int64) []payload {
	ps := make([]payload, n)
	for i := range ps {
		ps[i] = payload{text: label(i), id: i}
		ps[i].size = size - int64(len(ps[i].text))
	}
	return ps
}

// holds expects these names in the directory, and no others.
func (s *server) holds(within time.Duration, why string, want ...string) {
	if s.t.over() || s.t.program != Server {
		return
	}
	slices.Sort(want)
	var names []string
	if !s.t.await(within, func() bool { names = s.t.names(s.files); return slices.Equal(names, want) }) {
		s.fail(fmt.Sprintf("the directory to hold %v and nothing else %s", want, why), "%v", names)
	}
}

// stops expects a signal to end the server, with exit code 0.
func (s *server) stops(sig syscall.Signal, within time.Duration) {
	s.signal(sig)
	s.succeeds(within, "after "+signalName(sig))
}

func signalName(sig syscall.Signal) string {
	switch sig {
	case syscall.SIGINT:
		return "SIGINT"
	case syscall.SIGTERM:
		return "SIGTERM"
	case syscall.SIGQUIT:
		return "SIGQUIT"
	}
	return sig.String()
}

// exists says whether there is something under a name.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
