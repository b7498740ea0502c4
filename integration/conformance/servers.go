package conformance

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// silence is how long a client may say nothing.
	silence = 10 * time.Second

	// soon is what "within a second" may be on a machine that is busy.
	soon = 1250 * time.Millisecond

	// sometime is as long as anybody would wait for what should be at once.
	sometime = 5 * time.Second
)

const mib = 1 << 20

// sizes are those of the payloads.
var sizes = []struct {
	name  string
	bytes int64
	load  load
}{
	{"500-bytes", 500, light},
	{"1-mib", mib, light},
	{"10-mib", 10 * mib, heavy},
	{"100-mib", 100 * mib, heavy},
}

// everyByte is all values a byte can have.
var everyByte = func() string {
	var b [256]byte
	for i := range b {
		b[i] = byte(i)
	}
	return string(b[:])
}()

// serverCriteria are those of server-s and of server.
func serverCriteria(p Program) []section {
	all := []section{
		{"arguments", argumentCriteria(p)},
		{"signals", signalCriteria(p)},
		{"handshake", handshakeCriteria(p)},
		{"payload", payloadCriteria(p)},
		{"silence", silenceCriteria(p)},
		{"how a connection ends", endingCriteria()},
	}
	if p == ServerS {
		all = append(all, section{"one at a time", countCriteria()})
	} else {
		all = append(all, section{"many at a time", concurrencyCriteria()}, section{"files", fileCriteria()})
	}
	return append(all,
		section{"sizes", sizeCriteria(p)},
		section{"slow networks", networkCriteria(p)},
		section{"service", serviceCriteria(p)})
}

// arguments are those of the program, with another port.
func (t *trial) arguments(port string) []string {
	if t.program == Server {
		return []string{port, t.directory()}
	}
	return []string{port}
}

func argumentCriteria(p Program) []Criterion {
	refuses := func(within time.Duration, strict bool, lists func(t *trial) [][]string) func(*trial) {
		return func(t *trial) {
			all := lists(t)
			t.sideBySide(len(all), func(i int) {
				why := fmt.Sprintf("for the arguments %q", all[i])
				c := t.start(launch{args: all[i]})
				c.fails(within, why)
				if strict {
					c.complains(why)
					c.ensure(c.out.String() == "", "nothing on stdout "+why, "%s", oneLine(c.out.String()))
				}
			})
		}
	}
	ports := func(ports ...string) func(*trial) [][]string {
		return func(t *trial) (all [][]string) {
			for _, port := range ports {
				all = append(all, t.arguments(port))
			}
			return all
		}
	}
	counts := func(t *trial) [][]string {
		port, err := freePort()
		if err != nil {
			t.cannot("looking for a port", err)
		}
		full := t.arguments(strconv.Itoa(port))
		return [][]string{nil, full[:len(full)-1], append(slices.Clone(full), "more")}
	}
	all := []Criterion{
		{Name: "incorrect-port", Weight: 3, Required: true,
			Sentence: "A port that is none (`abc`, `-1`, `65536`) ends the program with a non-zero exit code.",
			try:      refuses(sometime, false, ports("abc", "-1", "65536"))},
		{Name: "incorrect-port-complaint", Weight: 1,
			Sentence: "For any such port, also `0` and an empty one, it ends within a second, with one line `ERROR: …` on stderr.",
			try: refuses(soon, true, ports("abc", "-1", "65536", "0", "", "80x", "00000", "-0", "99999", "4294967297",
				"18446744073709551617", "8080.0", "1e3", "0x1f90", "8080/tcp", "localhost:8080", ":8080", "http"))},
		{Name: "incorrect-arguments", Weight: 1,
			Sentence: "Missing and extra arguments are refused the same way.",
			try:      refuses(soon, true, counts)},
		{Name: "port-in-use", Weight: 1,
			Sentence: "So is a port that is in use; who uses it is not disturbed.",
			try: func(t *trial) {
				s := t.serve(serving{})
				t.reserve()
				first := s.connect().greet().say("un")
				t.pace(2 * moment)
				c := t.serve(serving{port: s.port, files: s.files, unstarted: true})
				c.fails(soon, "for a port in use")
				c.complains("for a port in use")
				first.say("disturbed").halfClose().ends(orderly, "once the client has ended its stream")
				s.tells(received(text("undisturbed")))
				s.holds(settling, "after a second server on the same port", "1.file")
			}},
		{Name: "forbidden-port", Weight: 1,
			Sentence: "So is one that it may not use.",
			try: func(t *trial) {
				how := serving{port: 81, unstarted: true, launch: launch{prelude: t.without("net_bind_service")}}
				if !privileged(how.port) {
					t.skip(fmt.Sprintf("anybody may use port %d here", how.port))
				}
				c := t.serve(how)
				c.fails(soon, "for a port that it may not use")
				c.complains("for a port that it may not use")
			}},
		{Name: "listens-everywhere", Weight: 1,
			Sentence: "It listens on all IPv4 addresses.",
			try: func(t *trial) {
				s := t.serve(serving{})
				for _, a := range localAddresses() {
					t.dial(nil, net.JoinHostPort(a, strconv.Itoa(s.port))).upload(text("from " + a))
				}
			}},
	}
	if p == Server {
		all = append(all,
			Criterion{Name: "directory-created", Weight: 1,
				Sentence: "FILE-DIR is created if it is missing, and its parents.",
				try: func(t *trial) {
					s := t.serve(serving{files: filepath.Join(t.directory(), "a", "b")})
					s.connect().upload(text("hello"))
					s.tells(received(text("hello")))
				}},
			Criterion{Name: "directory-unusable", Weight: 1,
				Sentence: "A FILE-DIR that is a file, or lies below one, is an error at the start.",
				try: func(t *trial) {
					file := filepath.Join(t.directory(), "file")
					t.put(file, text("not a directory"))
					for _, dir := range []string{file, filepath.Join(file, "below")} {
						c := t.serve(serving{files: dir, unstarted: true})
						c.fails(soon, "if FILE-DIR is no directory")
						c.complains("if FILE-DIR is no directory")
					}
				}},
			Criterion{Name: "directory-forbidden", Weight: 1,
				Sentence: "So is one in which it may not write.",
				try: func(t *trial) {
					dir := t.directory()
					if err := os.Chmod(dir, 0o555); err != nil {
						t.cannot("forbidding a directory", err)
					}
					c := t.serve(serving{files: dir, unstarted: true, launch: launch{prelude: t.without("dac_override")}})
					c.fails(soon, "if it may not write in FILE-DIR")
					c.complains("if it may not write in FILE-DIR")
				}})
	}
	return all
}

// privileged says whether only root may listen on a port: on Linux as ip(7) has
// it, and of the others FreeBSD has it so, and macOS lets anybody.
func privileged(port int) bool {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil {
		return runtime.GOOS == "freebsd"
	}
	first, err := strconv.Atoi(strings.TrimSpace(string(b)))
	return err == nil && port < first
}

// localAddresses are addresses of this machine: all of 127.0.0.0/8 on Linux, and
// elsewhere only the first.
func localAddresses() []string {
	if runtime.GOOS != "linux" {
		return []string{"127.0.0.1"}
	}
	return []string{"127.0.0.1", "127.0.0.2", "127.1.2.3"}
}

// stopSignals are those that end a program in order.
var stopSignals = []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT}

func signalCriteria(p Program) []Criterion {
	// crowded is a server with more clients than it can serve: it lacks the
	// descriptors, if it does not serve them one by one.
	crowded := func(t *trial) (s *server, waiting []*peer) {
		how := serving{}
		if p == Server {
			how.prelude = "ulimit -n 64"
		}
		s = t.serve(how)
		s.connect().greet().say("some payload")
		return s, s.crowd(150)
	}
	var all []Criterion
	for _, sig := range stopSignals {
		all = append(all, Criterion{Name: strings.ToLower(signalName(sig)), Weight: 2, Required: true,
			Sentence: signalName(sig) + " ends the program with exit code 0.",
			try: func(t *trial) {
				s := t.serve(serving{})
				t.pace(4 * moment) // it may listen before it looks after signals
				s.stops(sig, sometime)
			}})
	}
	all = append(all,
		Criterion{Name: "stops-within-a-second", Weight: 2,
			Sentence: "Each signal ends it with exit code 0 within a second whatever goes on: nothing, a handshake, a payload, a full queue.",
			try: func(t *trial) {
				occupations := []func() *server{
					func() *server { return t.serve(serving{}) },
					func() *server {
						s := t.serve(serving{})
						s.connect().hear(greeting).say(confirm[:3])
						return s
					},
					func() *server {
						s := t.serve(serving{})
						s.connect().greet().say("some payload")
						return s
					},
					func() *server {
						s, _ := crowded(t)
						return s
					},
				}
				t.sideBySide(len(occupations), func(i int) {
					for _, sig := range stopSignals {
						s := occupations[i]()
						t.pace(4 * moment) // it may listen before it looks after signals
						s.stops(sig, soon)
					}
				})
			}},
		Criterion{Name: "stop-ends-waiting", Weight: 1,
			Sentence: "A client that waits for its turn sees the end of its connection when the server stops, not silence.",
			try: func(t *trial) {
				s, waiting := crowded(t)
				s.signal(syscall.SIGTERM)
				s.wait(sometime, "after SIGTERM")
				t.sideBySide(len(waiting), func(i int) {
					waiting[i].awaitEnd(soon, greeting, "since the server has stopped")
				})
			}},
		Criterion{Name: "stop-tells-the-sender", Weight: 1,
			Sentence: "A client whose payload is cut short by a signal sees a reset.",
			try: func(t *trial) {
				s := t.serve(serving{})
				c := s.connect().greet().say("some payload")
				t.pace(2 * moment)
				s.signal(syscall.SIGTERM)
				c.ends(reset, "since what was sent is lost")
			}},
		Criterion{Name: "stop-leaves-error", Weight: 1,
			Sentence: "And its outcome is `ERROR`, with nothing else left.",
			try: func(t *trial) {
				for _, sig := range stopSignals {
					s := t.serve(serving{})
					s.connect().greet().say("some payload")
					t.pace(2 * moment)
					s.signal(sig)
					s.wait(sometime, "after "+signalName(sig))
					s.tells(failed)
					s.holds(0, "after "+signalName(sig), "1.file")
				}
			}},
		Criterion{Name: "restart", Weight: 1, load: idle,
			Sentence: "It can be started again on the same port at once, also if it was the first to close a connection.",
			try: func(t *trial) {
				s := t.serve(serving{})
				s.connect().upload(text("before"))
				// Whoever closes first keeps the connection in TIME_WAIT, and with
				// it the port (RFC 9293, 3.6.1). All else than silence the server may
				// answer by a reset, after which nothing is kept.
				s.connect().awaitEnd(silence+sometime, greeting, "since the client is silent").close()
				s.connect().greet().say("some payload")
				t.pace(moment)
				s.signal(syscall.SIGTERM)
				s.wait(sometime, "after SIGTERM")
				again := t.serve(serving{port: s.port})
				again.connect().upload(text("after"))
				again.tells(received(text("after")))
			}})
	return all
}

func handshakeCriteria(p Program) []Criterion {
	return []Criterion{
		{Name: "accepts", Weight: 3, Required: true,
			Sentence: "It accepts a connection, and does not drop it.",
			try: func(t *trial) {
				c := t.serve(serving{}).connect()
				if !c.over() {
					c.read(time.Second)
					t.ensure(c.end == "", "a connection that stays", "%s", c.end)
				}
			}},
		{Name: "greets", Weight: 3, Required: true,
			Sentence: "It sends `accio\\r\\n` as soon as the connection is served, unasked.",
			try: func(t *trial) {
				t.serve(serving{}).connect().hear(greeting)
			}},
		{Name: "greets-once", Weight: 2, Required: true,
			Sentence: "It sends the second `accio\\r\\n` only after the first confirmation is complete, not a byte earlier.",
			try: func(t *trial) {
				c := t.serve(serving{}).connect().hear(greeting)
				c.hearsNothing(4*moment, "before the client confirms")
				c.say(confirm[:len(confirm)-1]).hearsNoWord(4*moment, "before the first confirmation is complete")
			}},
		{Name: "greets-again", Weight: 3, Required: true,
			Sentence: "It sends the second `accio\\r\\n` after the first confirmation.",
			try: func(t *trial) {
				// Whether it came too early is asked above.
				c := t.serve(serving{}).connect()
				c.hear(greeting).say(confirm).hear(greeting)
			}},
		{Name: "greetings-in-one-piece", Weight: 1, Required: true,
			Sentence: "Each `accio\\r\\n` leaves in one write of its own.",
			try: func(t *trial) {
				c := t.serve(serving{}).connect()
				c.hearAtOnce(greeting).say(confirm).hearAtOnce(greeting)
			}},
		{Name: "header-byte-by-byte", Weight: 2, Required: true,
			Sentence: "The confirmations may come a byte at a time.",
			try: func(t *trial) {
				s := t.serve(serving{})
				c := s.connect().hear(greeting).sayApart(5*time.Millisecond, strings.Split(confirm, "")...)
				c.hear(greeting).sayApart(5*time.Millisecond, strings.Split(again, "")...)
				t.pace(moment)
				c.say("hello").halfClose().ends(orderly, "once the client has ended its stream")
				s.tells(received(text("hello")))
			}},
		{Name: "header-cut-anywhere", Weight: 1,
			Sentence: "The confirmations and the payload may be cut into segments at any place.",
			try: func(t *trial) {
				s := t.serve(serving{})
				const all = confirm + again + "\r\naccio\r\n"
				want := received(text("\r\naccio\r\n"))
				var wants []outcome
				for at := 1; at < len(all); at++ {
					c := s.connect().sayApart(5*time.Millisecond, all[:at], all[at:]).halfClose()
					c.hear(greeting).hear(greeting).ends(orderly, "once the client has ended its stream")
					wants = append(wants, want)
				}
				s.tells(wants...)
			}},
		{Name: "header-with-payload", Weight: 2, Required: true,
			Sentence: "The second confirmation may come in one segment with the payload: no byte of it is lost, none of the header kept.",
			try: func(t *trial) {
				s := t.serve(serving{})
				s.connect().hear(greeting).say(confirm).hear(greeting).say(again+"hello").halfClose().
					ends(orderly, "once the client has ended its stream")
				s.tells(received(text("hello")))
			}},
		{Name: "everything-at-once", Weight: 2, Required: true,
			Sentence: "Both confirmations, the payload and the end of stream may come before the server has asked.",
			try: func(t *trial) {
				s := t.serve(serving{})
				c := s.connect().say(confirm + again + "hello").halfClose()
				c.hear(greeting).hear(greeting).ends(orderly, "once the client has ended its stream")
				s.tells(received(text("hello")))
			}},
	}
}

func payloadCriteria(p Program) []Criterion {
	receives := func(payloads ...payload) func(*trial) {
		return func(t *trial) {
			s := t.serve(serving{})
			var want []outcome
			for _, p := range payloads {
				s.connect().upload(p)
				want = append(want, received(p))
			}
			s.tells(want...)
		}
	}
	return []Criterion{
		{Name: "receives", Weight: 3, Required: true,
			Sentence: "It receives a small payload; the header does not count.",
			try:      receives(text("hello"))},
		{Name: "receives-another", Weight: 3, Required: true,
			Sentence: "It accepts another client after the first.",
			try:      receives(text("hello"), text("the second one"))},
		{Name: "empty-payload", Weight: 2, Required: true,
			Sentence: "A payload may be empty.",
			try:      receives(text(""))},
		{Name: "binary-payload", Weight: 2, Required: true,
			Sentence: "All is binary: every value of a byte comes through as it is.",
			try:      receives(text(everyByte+everyByte), text("\x00"), text("\xff\xfe"), text("\n"), text(" \t\r\n"))},
		{Name: "payload-like-header", Weight: 2, Required: true,
			Sentence: "A payload that holds the words of the protocol, or begins with `\\r\\n`, is payload.",
			try:      receives(text("\r\n"), text(greeting), text(confirm+again), text("\r\n\r\n"+again+again+"."), text(errorMark))},
		{Name: "payload-in-pieces", Weight: 2, Required: true,
			Sentence: "A payload may come in small pieces.",
			try: func(t *trial) {
				s := t.serve(serving{})
				c := s.connect().greet()
				c.sayApart(5*time.Millisecond, strings.SplitAfter(strings.Repeat("piece by piece ", 8), " ")...)
				c.halfClose().ends(orderly, "once the client has ended its stream")
				s.tells(received(text(strings.Repeat("piece by piece ", 8))))
			}},
		{Name: "client-closes", Weight: 2, Required: true,
			Sentence: "The end of stream may be a close as well as a half-close.",
			try: func(t *trial) {
				s := t.serve(serving{})
				c := s.connect().greet()
				c.say("hello").close()
				s.tells(received(text("hello")))
			}},
		{Name: "told-when-closed", Weight: 1,
			Sentence: toldWhenClosed[p],
			try: func(t *trial) {
				s := t.serve(serving{})
				var want []outcome
				for _, p := range []payload{text("hello"), random(1, mib), text("")} {
					s.connect().upload(p)
					want = append(want, received(p))
					s.tellsAtOnce(want...)
				}
			}},
	}
}

var toldWhenClosed = map[Program]string{
	ServerS: "The count is printed as soon as the connection ends, also if stdout is a pipe.",
	Server:  "The server closes only when the whole file is visible under its name.",
}

// silent is a client that has said something, if anything, and now waits for
// the server to give up on it; it says how long that took.
func (c *peer) silent(said string) time.Duration {
	began := c.last
	c.awaitEnd(silence+sometime, said, "since the client is silent")
	return time.Since(began)
}

func silenceCriteria(p Program) []Criterion {
	steps := []struct {
		name, when string
		script     func(c *peer) string // what the server may say yet
	}{
		{"silence-at-start", "after it has connected", func(c *peer) string { return greeting }},
		{"silence-after-confirmation", "after the first confirmation", func(c *peer) string {
			c.hear(greeting).say(confirm)
			return greeting
		}},
		{"silence-in-payload", "in the middle of its payload", func(c *peer) string {
			c.greet()
			c.give(random(1, 100_000))
			return ""
		}},
	}
	var all []Criterion
	for _, step := range steps {
		all = append(all, Criterion{Name: step.name, Weight: 3, Required: true, load: idle,
			Sentence: "A client that is silent for over ten seconds " + step.when + " is `ERROR`, and nothing of its input stays.",
			try: func(t *trial) {
				s := t.serve(serving{})
				c := s.connect()
				took := c.silent(step.script(c))
				t.ensure(took > silence-time.Second, "ten seconds of patience", "the server gave up after %.2f s", took.Seconds())
				t.ensure(took < silence+2*time.Second+t.slack(), "the server to give up after ten seconds", "that took %.2f s", took.Seconds())
				s.tells(failed)
				s.holds(settling, "after a client that was silent", "1.file")
			}})
	}
	return append(all,
		Criterion{Name: "served-after-time-out", Weight: 3, Required: true, load: idle,
			Sentence: "Another client is served after one that was silent.",
			try: func(t *trial) {
				s := t.serve(serving{})
				c := s.connect().greet().say("then nothing")
				c.awaitEnd(silence+sometime, "", "since the client is silent")
				s.connect().upload(text("hello"))
				if p == ServerS {
					s.tells(failed, received(text("hello")))
				} else {
					s.saved(settling, 2, received(text("hello")))
				}
			}},
		Criterion{Name: "silence-restarts", Weight: 2, Required: true, load: idle,
			Sentence: "The ten seconds run from the last byte: a slow client that goes on is served for as long as it likes.",
			try: func(t *trial) {
				s := t.serve(serving{})
				c := s.connect().greet().sayApart(9*time.Second, "a", "b")
				t.pace(4 * time.Second)
				c.halfClose().ends(orderly, "once the client has ended its stream")
				s.tells(received(text("ab")))
			}},
		Criterion{Name: "silence-restarts-in-header", Weight: 1, load: idle,
			Sentence: "So they do in the header.",
			try: func(t *trial) {
				s := t.serve(serving{})
				c := s.connect().hear(greeting)
				c.sayApart(7*time.Second, "confirm", "-acc", "io\r\n").hear(greeting).say(again)
				t.pace(moment)
				c.say("hello").halfClose().ends(orderly, "once the client has ended its stream")
				s.tells(received(text("hello")))
			}},
		Criterion{Name: "silence-exact", Weight: 1, load: idle,
			Sentence: "The ten seconds are kept to half a second, in the payload and in the header, also after a byte that restarted them.",
			try: func(t *trial) {
				scripts := []func(c *peer) string{
					func(c *peer) string { return greeting },
					func(c *peer) string { c.greet().sayApart(3*time.Second, "a", "b"); return "" },
					func(c *peer) string { c.greet().give(random(1, mib)); return "" },
					func(c *peer) string { c.hear(greeting).sayApart(time.Second, "conf", "irm"); return "" },
				}
				t.sideBySide(len(scripts), func(i int) {
					c := t.serve(serving{}).connect()
					took := c.silent(scripts[i](c))
					t.missed(0)
					t.ensure(took > silence-500*time.Millisecond && took < silence+750*time.Millisecond+t.slack(),
						"the server to give up after ten seconds, give or take half a second", "that took %.2f s", took.Seconds())
				})
			}},
		Criterion{Name: "silence-orderly-close", Weight: 1, load: idle,
			Sentence: "A client that was silent sees an orderly close.",
			try: func(t *trial) {
				c := t.serve(serving{}).connect().greet().say("then nothing")
				c.ends(orderly, "since the client has not ended its stream, and cannot mistake it for success")
			}})
}

func endingCriteria() []Criterion {
	return []Criterion{
		{Name: "end-before-header", Weight: 1,
			Sentence: "An end of stream before the header is complete, all bytes so far right, is an empty payload and an orderly close.",
			try: func(t *trial) {
				s := t.serve(serving{})
				var want []outcome
				for at := range len(header) {
					s.connect().sayHeader(header[:at]).halfClose().
						ends(orderly, fmt.Sprintf("after %q and the end of stream", header[:at]))
					want = append(want, received(text("")))
				}
				s.tells(want...)
			}},
		{Name: "wrong-bytes", Weight: 2,
			Sentence: "A byte that is not the expected confirmation is `ERROR`, at once.",
			try: func(t *trial) {
				wrong := []string{
					"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "\r\n", " " + confirm, greeting, again,
					"confirm-accio\n", "confirm-accio\r\x00", strings.ToUpper(confirm),
					confirm + confirm, confirm + "confirm-accio-again\r\nx", confirm + strings.ToUpper(again),
				}
				for at := range len(header) {
					wrong = append(wrong, header[:at]+string([]byte{header[at] ^ 1}))
				}
				s := t.serve(serving{})
				var want []outcome
				for _, w := range wrong {
					right := 0
					for w[right] == header[right] {
						right++
					}
					s.connect().sayHeader(w[:right]).say(w[right:]).awaitEnd(soon, "", fmt.Sprintf("after %q", w))
					want = append(want, failed)
				}
				s.tells(want...)
			}},
		{Name: "client-resets", Weight: 2,
			Sentence: "A connection that breaks, at whatever step, is `ERROR`, and nothing of its input stays.",
			try: func(t *trial) {
				s := t.serve(serving{})
				var want []outcome
				var files []string
				for _, step := range []struct {
					said    string
					payload int64
				}{
					{header, 50_000}, {header, 4 * mib}, {header, 5}, {header, 0},
					{header[:len(header)-1], 0}, {confirm, 0}, {confirm[:5], 0}, {"", 0},
				} {
					c := s.connect().sayHeader(step.said)
					c.give(random(1, step.payload))
					t.pace(2 * moment)
					c.breakOff()
					want = append(want, failed)
					files = append(files, fmt.Sprintf("%d.file", len(want)))
				}
				s.tells(want...)
				s.holds(settling, "after connections that broke", files...)
			}},
		{Name: "served-after-accidents", Weight: 2,
			Sentence: "Others are served after garbage, resets and clients that vanish in the handshake.",
			try: func(t *trial) {
				s := t.serve(serving{})
				for range 10 {
					s.connect().say(everyByte).close()
					s.connect().breakOff()
					s.connect().hear(greeting).breakOff()
					s.connect().hear(greeting).say(confirm).breakOff()
					s.connect().close()
				}
				c := s.connect().upload(text("hello"))
				t.ensure(c.conn != nil, "a server that still runs", "it does not")
			}},
	}
}

func countCriteria() []Criterion {
	return []Criterion{
		{Name: "one-at-a-time", Weight: 3, Required: true,
			Sentence: "While one client is served, others are connected and hear nothing; each has its turn in order of arrival.",
			try: func(t *trial) {
				s := t.serve(serving{})
				first := s.connect().greet()
				second, third := s.connect(), s.connect()
				second.hearsNothing(6*moment, "while another client is served")
				third.hearsNothing(moment, "while another client is served")
				first.say("1").halfClose().ends(orderly, "once the client has ended its stream")
				second.upload(text("22"))
				third.upload(text("333"))
				s.tells(received(text("1")), received(text("22")), received(text("333")))
			}},
		{Name: "queue", Weight: 1, load: idle,
			Sentence: "At least 128 clients can wait without being refused.",
			try: func(t *trial) {
				s := t.serve(serving{})
				first := s.connect().greet()
				waiting := s.connectAll(128)
				t.sideBySide(len(waiting), func(i int) {
					waiting[i].hearsNothing(4*moment, "while another client is served")
				})
				first.say("1").halfClose().ends(orderly, "once the client has ended its stream")
				waiting[0].upload(text("22"))
			}},
		{Name: "waiting-is-not-silence", Weight: 1, load: idle,
			Sentence: "A client's ten seconds begin when it is served, however long it has waited for its turn.",
			try: func(t *trial) {
				s := t.serve(serving{})
				first, second := s.connect().greet(), s.connect()
				first.sayApart(6*time.Second, "a", "b", "c").halfClose().ends(orderly, "once the client has ended its stream")
				second.hear(greeting)
				t.pace(5 * time.Second)
				second.say(confirm).hear(greeting).say(again)
				t.pace(moment)
				second.say("hello").halfClose().ends(orderly, "once the client has ended its stream")
				s.tells(received(text("abc")), received(text("hello")))
			}},
		{Name: "stores-nothing", Weight: 1,
			Sentence: "It stores nothing where it was started.",
			try: func(t *trial) {
				s := t.serve(serving{})
				s.connect().upload(random(1, 100_000))
				s.connect().hear(greeting).say("wrong").awaitEnd(patience, "", "after wrong bytes")
				s.tells(received(random(1, 100_000)), failed)
				if !t.over() {
					t.ensure(len(t.names(s.dir)) == 0, "nothing where the server was started", "%v", t.names(s.dir))
				}
			}},
		{Name: "prints-plain-lines", Weight: 1,
			Sentence: "It prints the count in decimal, or `ERROR`, and a line feed, and nothing else.",
			try: func(t *trial) {
				s := t.serve(serving{})
				s.connect().upload(random(1, 12345))
				s.connect().hear(greeting).say("x").awaitEnd(patience, "", "after a wrong byte")
				s.connect().upload(text(""))
				s.tells(received(random(1, 12345)), failed, received(text("")))
				if !t.over() {
					t.ensure(s.out.String() == "12345\nERROR\n0\n", `"12345\nERROR\n0\n" on stdout`, "%q", s.out.String())
				}
			}},
		{Name: "stdout-is-a-file", Weight: 1,
			Sentence: "Each line is printed as soon as its connection ends also if stdout is a file.",
			try: func(t *trial) {
				s := t.serve(serving{launch: launch{toFile: true}})
				s.connect().upload(text("hello"))
				s.tellsAtOnce(received(text("hello")))
				s.connect().hear(greeting).say("wrong").awaitEnd(patience, "", "after wrong bytes")
				s.tellsAtOnce(received(text("hello")), failed)
			}},
		{Name: "stdout-gone", Weight: 1,
			Sentence: "If stdout cannot be written any longer, it says so on stderr and exits non-zero.",
			try: func(t *trial) {
				pipe, w, err := os.Pipe()
				if err != nil {
					t.cannot("making a pipe", err)
					return
				}
				pipe.Close()
				outs := []*os.File{w}
				if full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0); err == nil { // where there is such a thing
					outs = append(outs, full)
				}
				for _, out := range outs {
					s := t.serve(serving{launch: launch{stdout: out}})
					out.Close()
					s.connect().greet().say("hello").halfClose().awaitEnd(patience, "", "once the client has ended its stream")
					s.fails(sometime, "once stdout cannot be written")
					s.complains("once stdout cannot be written")
				}
			}},
	}
}

func concurrencyCriteria() []Criterion {
	// crowds are so many clients that are all in the handshake before the first
	// of them goes on, and all in their payload before the first of them ends.
	// Twenty take a step at a time: if each waited for all before it, the last would
	// be silent for ten seconds on a machine that is busy.
	crowds := func(n int, prelude string) func(*trial) {
		return func(t *trial) {
			if err := exec.CommandContext(t.ctx, "sh", "-c", prelude).Run(); err != nil {
				t.skip(fmt.Sprintf("%s cannot be had here: %v", prelude, err))
			}
			s := t.serve(serving{launch: launch{prelude: prelude}})
			spoke := time.Now()
			ps, clients := many(n, 100), s.connectAll(n)
			each := func(step func(i int, c *peer)) {
				before := spoke
				spoke = time.Now()
				const lanes = 20
				t.sideBySide(lanes, func(lane int) {
					for i := lane; i < n; i += lanes {
						if time.Since(before) > silence/2 {
							t.missed(0) // by the kit
						}
						step(i, clients[i])
					}
				})
			}
			each(func(_ int, c *peer) { c.hear(greeting) })
			each(func(_ int, c *peer) { c.say(confirm).hear(greeting).say(again) })
			t.pace(moment)
			// None waits for another's file to be safe on the disk.
			each(func(i int, c *peer) { c.give(ps[i]).halfClose() })
			each(func(_ int, c *peer) { c.ends(orderly, "once the client has ended its stream") })
			s.savedAll(ps)
		}
	}
	return []Criterion{
		{Name: "ten-at-once", Weight: 3, Required: true,
			Sentence: "Ten clients are served at the same time, each of them in the middle of its payload.",
			try: func(t *trial) {
				s := t.serve(serving{})
				ps, clients := many(10, 5000), s.connectAll(10)
				for _, c := range clients {
					c.greet()
				}
				for i, c := range clients {
					c.give(ps[i])
				}
				for _, c := range clients {
					c.halfClose()
				}
				for _, c := range clients {
					c.ends(orderly, "once the client has ended its stream")
				}
				s.savedAll(ps)
			}},
		{Name: "numbers-by-acceptance", Weight: 2, Required: true,
			Sentence: "Connections are numbered from 1 in order of acceptance, however they end.",
			try: func(t *trial) {
				s := t.serve(serving{})
				var clients []*peer
				for range 4 {
					clients = append(clients, s.connect().greet())
				}
				for i := range clients {
					i = len(clients) - 1 - i // the last is done first
					clients[i].say(label(i)).halfClose().ends(orderly, "once the client has ended its stream")
				}
				s.tells(received(text(label(0))), received(text(label(1))), received(text(label(2))), received(text(label(3))))
			}},
		{Name: "failures-are-numbered", Weight: 1,
			Sentence: "A connection that failed, or was empty, uses its number all the same.",
			try: func(t *trial) {
				s := t.serve(serving{})
				s.connect().hear(greeting).say("wrong").awaitEnd(patience, "", "after wrong bytes")
				s.connect().hear(greeting).halfClose().ends(orderly, "once the client has ended its stream")
				s.connect().hear(greeting).breakOff()
				t.pace(moment)
				s.connect().upload(text("hello"))
				s.tells(failed, received(text("")), failed, received(text("hello")))
			}},
		{Name: "quick-beside-silent", Weight: 1,
			Sentence: "Clients that say nothing, or stop half-way, do not hold up the others.",
			try: func(t *trial) {
				s := t.serve(serving{})
				for i := range 60 {
					s.connect().say([]string{"", confirm[:7], confirm, header + "begun"}[i%4])
				}
				for n := range 10 {
					s.connect().upload(text(label(n)))
					s.saved(settling, 61+n, received(text(label(n))))
				}
			}},
		{Name: "hundreds-at-once", Weight: 1,
			Sentence: "Two hundred clients are served at the same time.",
			try:      crowds(200, "")},
		{Name: "thousands-at-once", Weight: 1, load: heavy,
			Sentence: "So are two thousand, where it may have ten thousand files open.",
			try:      crowds(2000, "ulimit -n 10000")},
	}
}

func fileCriteria() []Criterion {
	// part is a client that has sent half of its payload.
	part := func(s *server, p payload) *peer {
		c := s.connect().greet()
		c.give(p)
		s.t.pace(4 * moment)
		return c
	}
	// Large enough that to write it takes a while.
	earlier, later := random(1, 100_000), random(2, 16*mib)
	// saving is a server about to replace a file, and its client, who only has to
	// end the stream.
	saving := func(t *trial) (*server, *peer) {
		dir := t.directory()
		t.put(filepath.Join(dir, "1.file"), earlier)
		s := t.serve(serving{files: dir})
		c := s.connect().greet()
		return s, c.give(later)
	}
	// watch looks every millisecond until the server has closed, or look has seen
	// enough.
	watch := func(c *peer, look func() (enough bool)) {
		ended := make(chan struct{})
		c.t.sideBySide(2, func(i int) {
			if i == 0 {
				defer close(ended)
				c.awaitEnd(workload, "", "once the client has ended its stream")
				return
			}
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for !c.t.over() && !look() {
				select {
				case <-tick.C:
				case <-ended:
					return
				}
			}
		})
	}
	return []Criterion{
		{Name: "appears-whole", Weight: 2,
			Sentence: "While a payload arrives, its `N.file` is not there yet, and what is there has a hidden name.",
			try: func(t *trial) {
				s := t.serve(serving{})
				c := part(s, random(1, mib))
				t.ensure(len(visible(t.names(s.files))) == 0, "no visible name while a payload arrives", "%v", t.names(s.files))
				c.halfClose().ends(orderly, "once the client has ended its stream")
				s.tells(received(random(1, mib)))
			}},
		{Name: "replaces-whole", Weight: 1,
			Sentence: "An `N.file` from an earlier run stays whole until it is replaced by a whole one, or by `ERROR`.",
			try: func(t *trial) {
				dir := t.directory()
				old := received(text("from an earlier run"))
				for n := 1; n <= 2; n++ {
					t.put(filepath.Join(dir, strconv.Itoa(n)+".file"), old.payload)
				}
				s := t.serve(serving{files: dir})
				one := part(s, random(1, mib))
				two := part(s, random(2, 300_000))
				s.tells(old, old)
				one.halfClose().ends(orderly, "once the client has ended its stream")
				two.breakOff()
				s.tells(received(random(1, mib)), failed)
			}},
		{Name: "killed-leaves-no-part", Weight: 1,
			Sentence: "A server that is killed leaves no `N.file` with a part of a payload.",
			try: func(t *trial) {
				s := t.serve(serving{})
				part(s, random(1, mib))
				s.signal(syscall.SIGKILL)
				s.wait(sometime, "after SIGKILL")
				if !t.over() {
					t.ensure(len(visible(t.names(s.files))) == 0, "no visible name after a kill", "%v", t.names(s.files))
				}
			}},
		{Name: "whole-at-any-moment", Weight: 1,
			Sentence: "Also while the server saves, who reads `N.file` finds the old one whole or the new one whole.",
			try: func(t *trial) {
				s, c := saving(t)
				watch(c.halfClose(), func() bool {
					s.holdsWhole(1, earlier, later)
					return false
				})
				c.ends(orderly, "once the client has ended its stream")
				s.tells(received(later))
			}},
		{Name: "killed-while-it-saves", Weight: 1,
			Sentence: "So does who reads it after the server was killed just then.",
			try: func(t *trial) {
				s, c := saving(t)
				// The worst moment is when the first of it can be seen.
				watch(c.halfClose(), func() bool {
					info, err := os.Stat(s.path(1))
					if err == nil && info.Size() == earlier.length() {
						return false
					}
					s.signal(syscall.SIGKILL)
					return true
				})
				s.signal(syscall.SIGKILL)
				s.wait(sometime, "after SIGKILL")
				s.holdsWhole(1, earlier, later)
			}},
		{Name: "sweeps", Weight: 1,
			Sentence: "What a killed server left is swept at the next start; other files are not touched.",
			try: func(t *trial) {
				dir := t.directory()
				for _, name := range []string{"notes.txt", ".hidden", "7.file"} {
					t.put(filepath.Join(dir, name), text(name))
				}
				s := t.serve(serving{files: dir})
				part(s, random(1, mib))
				s.signal(syscall.SIGKILL)
				s.wait(sometime, "after SIGKILL")
				s = t.serve(serving{files: dir})
				s.holds(settling, "after the next start", "notes.txt", ".hidden", "7.file")
				s.connect().upload(text("hello"))
				s.tells(received(text("hello")))
				s.holds(settling, "after an upload", "1.file", "notes.txt", ".hidden", "7.file")
				s.saved(0, 7, received(text("7.file")))
			}},
		{Name: "leaves-nothing-else", Weight: 1,
			Sentence: "When every connection has ended, the directory holds the `N.file` files and nothing else, and where the server was started nothing is.",
			try: func(t *trial) {
				s := t.serve(serving{})
				s.connect().upload(random(1, 100_000))
				s.connect().hear(greeting).say("wrong").awaitEnd(patience, "", "after wrong bytes")
				part(s, random(3, 100_000)).breakOff()
				s.tells(received(random(1, 100_000)), failed, failed)
				s.holds(settling, "when all connections have ended", "1.file", "2.file", "3.file")
				if !t.over() {
					t.ensure(len(t.names(s.dir)) == 0, "nothing where the server was started", "%v", t.names(s.dir))
				}
			}},
		{Name: "error-is-five-bytes", Weight: 1,
			Sentence: "`ERROR` in a file is exactly these five bytes.",
			try: func(t *trial) {
				s := t.serve(serving{})
				s.connect().hear(greeting).say("wrong").awaitEnd(patience, "", "after wrong bytes")
				s.tells(failed)
				if b, err := os.ReadFile(s.path(1)); err == nil && !t.over() {
					t.ensure(string(b) == errorMark, fmt.Sprintf("%q in 1.file", errorMark), "%q", b)
				}
			}},
		{Name: "symbolic-link", Weight: 1,
			Sentence: "Nothing is written through a symbolic link that stands at `N.file`.",
			try: func(t *trial) {
				dir, targets := t.directory(), t.directory()
				// Each has a target of its own, or what was written through one
				// would be read through the other.
				for n := 1; n <= 2; n++ {
					name := strconv.Itoa(n) + ".file"
					t.put(filepath.Join(targets, name), text("precious"))
					if err := os.Symlink(filepath.Join(targets, name), filepath.Join(dir, name)); err != nil {
						t.cannot("making a symbolic link", err)
					}
				}
				s := t.serve(serving{files: dir})
				s.connect().upload(text("hello"))
				s.connect().hear(greeting).say("wrong").awaitEnd(patience, "", "after wrong bytes")
				s.tells(received(text("hello")), failed)
				for n := 1; n <= 2; n++ {
					if b, err := os.ReadFile(filepath.Join(targets, strconv.Itoa(n)+".file")); !t.over() {
						t.ensure(string(b) == "precious", fmt.Sprintf("the file that the link at %d.file led to as it was", n), "%q, %v", b, err)
					}
				}
			}},
		{Name: "mode", Weight: 1,
			Sentence: "Files have mode 0666 less the umask.",
			try: func(t *trial) {
				s := t.serve(serving{launch: launch{prelude: "umask 027"}})
				s.connect().upload(text("hello"))
				s.connect().hear(greeting).say("wrong").awaitEnd(patience, "", "after wrong bytes")
				s.connect().hear(greeting).halfClose().ends(orderly, "once the client has ended its stream")
				s.connect().upload(random(1, mib))
				s.tells(received(text("hello")), failed, received(text("")), received(random(1, mib)))
				for n := 1; n <= 4; n++ {
					if info, err := os.Stat(s.path(n)); err == nil && !t.over() {
						t.ensure(info.Mode() == 0o640, "mode 0640 under umask 027", "%v", info.Mode())
					}
				}
			}},
		{Name: "cannot-store", Weight: 1,
			Sentence: "A payload that cannot be stored ends in a reset and one line on stderr, with `ERROR` or nothing in its place; others are served.",
			try: func(t *trial) {
				// Files of 64 KiB at the most; the shell counts in halves of a KiB.
				s := t.serve(serving{launch: launch{prelude: "ulimit -f 128"}})
				c := s.connect().greet()
				c.give(random(1, 4*mib)).halfClose().ends(reset, "since the file cannot be stored")
				if t.over() {
					return
				}
				if exists(s.path(1)) {
					s.saved(settling, 1, failed)
				}
				t.await(settling, func() bool { return s.process.err.String() != "" })
				s.complains("since the file cannot be stored")
				s.connect().upload(text("hello"))
				s.saved(settling, 2, received(text("hello")))
			}},
	}
}

// sendBothWays has ten clients send payloads in a row, and ten more at once, each
// ten to a server that serve has started.
func (t *trial) sendBothWays(size int64, serve func() (*server, func() *peer)) {
	t.sideBySide(2, func(i int) {
		s, connect := serve()
		s.sendMany(10, size, i == 1, connect)
	})
}

// sendMany has n clients send payloads of a size, in a row or at once, and
// expects all outcomes.
func (s *server) sendMany(n int, size int64, together bool, connect func() *peer) {
	s.needsRoom(int64(n) * size)
	ps := many(n, size)
	if together {
		// Each begins at once when it is connected: where that may take long,
		// nobody who waited for the others would be in time.
		s.t.sideBySide(n, func(i int) {
			c := connect()
			c.patience = s.t.suite.Timeout * 3 / 4 // until it is its turn; who hangs is found out before the end
			c.upload(ps[i])
		})
	} else {
		for _, p := range ps {
			connect().upload(p)
		}
	}
	if s.t.program == Server {
		s.savedAll(ps)
		return
	}
	var want []outcome
	for _, p := range ps {
		want = append(want, received(p))
	}
	s.tells(want...)
}

func sizeCriteria(p Program) (all []Criterion) {
	for _, size := range sizes {
		for _, together := range []bool{false, true} {
			name, sentence := size.name+"-in-a-row", "Ten payloads of %s, one after the other, are received right."
			if together {
				name, sentence = size.name+"-at-once", "Ten payloads of %s at once are received right."
			}
			all = append(all, Criterion{Name: name, Weight: 3, Required: true, load: size.load,
				Sentence: fmt.Sprintf(sentence, sizeName(size.bytes)),
				try: func(t *trial) {
					s := t.serve(serving{})
					s.sendMany(10, size.bytes, together, s.connect)
				}})
		}
	}
	return all
}

func sizeName(n int64) string {
	if n < mib {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%d MiB", n/mib)
}

func networkCriteria(p Program) (all []Criterion) {
	for _, size := range sizes {
		few, what := size.bytes > 10*mib, "Payloads of %s, ten in a row and ten at once, are"
		if few {
			what = "Three payloads of %s at once are"
		}
		all = append(all, Criterion{Name: size.name + "-slow-network", Weight: 2, Required: true, load: size.load,
			Sentence: fmt.Sprintf(what, sizeName(size.bytes)) + " received right over a network that delays, stalls and cuts into tiny segments (a proxy).",
			try: func(t *trial) {
				serve := func() (*server, func() *peer) {
					s := t.serve(serving{})
					addr := t.proxy(s.addr(), shapedNetwork)
					return s, func() *peer { return s.connectBy(nil, addr) }
				}
				if few {
					s, connect := serve()
					s.sendMany(3, size.bytes, true, connect)
					return
				}
				t.sendBothWays(size.bytes, serve)
			}})
	}
	all = append(all,
		Criterion{Name: "coalesced-network", Weight: 1, Required: true,
			Sentence: "So they are over one that collects what comes and delivers it in one piece (a proxy).",
			try: func(t *trial) {
				s := t.serve(serving{})
				addr := t.proxy(s.addr(), shape{coalesce: 100 * time.Millisecond})
				c := s.connectBy(nil, addr).hear(greeting).say(confirm).hear(greeting)
				c.say(again).give(random(1, 3000)).halfClose().ends(orderly, "once the client has ended its stream")
				s.tells(received(random(1, 3000)))
			}},
		Criterion{Name: "reset-on-the-way", Weight: 1,
			Sentence: "A connection that is reset on the way, after a part of the payload, is `ERROR`.",
			try: func(t *trial) {
				s := t.serve(serving{})
				addr := t.proxy(s.addr(), shape{resetAfter: 30_000})
				c := s.connectBy(nil, addr).greet()
				c.give(random(1, 100_000)).halfClose().awaitEnd(patience, "", "after a reset on the way")
				s.tells(failed)
			}})
	for _, size := range sizes[:3] {
		one, load, what := size.bytes > mib, idle, "Payloads of %s, ten in a row and ten at once, are"
		if one {
			what = "A payload of %s is"
		}
		if size.bytes >= mib {
			load = long
		}
		all = append(all, Criterion{Name: size.name + "-lossy-network", Weight: 2, Required: true, load: load,
			Sentence: fmt.Sprintf(what, sizeName(size.bytes)) + " received right over a network with 50 ms of delay, 10 ms of jitter, 3 % loss and reordering.",
			try: func(t *trial) {
				sut, kit := t.lossy()
				if t.over() {
					return
				}
				serve := func() (*server, func() *peer) {
					s := t.serve(serving{launch: launch{net: sut}, side: kit})
					return s, func() *peer {
						p := s.connect()
						p.patience = workload // each segment that is lost again takes twice as long
						return p
					}
				}
				if one {
					s, connect := serve()
					s.sendMany(1, size.bytes, false, connect)
					return
				}
				t.sendBothWays(size.bytes, serve)
			}})
	}
	return all
}

// lossy is where the program and its peer are to be for a bad network.
func (t *trial) lossy() (sut, kit *network) {
	sut, kit, note, err := t.suite.lab.networks(t.ctx)
	if err != nil {
		t.skip(err.Error())
	}
	t.note = note
	return sut, kit
}

func serviceCriteria(p Program) []Criterion {
	return []Criterion{
		{Name: "quiet", Weight: 1,
			Sentence: "In normal work it says nothing on stderr, nor more on stdout than it should.",
			try: func(t *trial) {
				s := t.serve(serving{})
				s.connect().upload(text("hello"))
				s.connect().hear(greeting).say("wrong").awaitEnd(patience, "", "after wrong bytes")
				s.connect().hear(greeting).breakOff()
				s.connect().upload(text("hello"))
				s.tells(received(text("hello")), failed, failed, received(text("hello")))
				s.signal(syscall.SIGTERM)
				s.wait(sometime, "after SIGTERM")
				s.quiet()
				if p == Server && !t.over() {
					t.ensure(s.out.String() == "", "nothing on stdout", "%s", oneLine(s.out.String()))
				}
			}},
		{Name: "idle-costs-nothing", Weight: 1, load: idle,
			Sentence: "Connections on which nothing happens cost no processor time.",
			try: func(t *trial) {
				s := t.serve(serving{})
				for i, c := range s.crowd(100) {
					switch i % 3 {
					case 0:
						c.say(confirm)
					case 1:
						c.say(confirm + again + "begun")
					}
				}
				t.pace(time.Second)
				before, _ := s.usage()
				t.pace(4 * time.Second)
				after, _ := s.usage()
				t.ensure(after-before < 200*time.Millisecond, "next to no processor time in four idle seconds", "%v", after-before)
			}},
		{Name: "memory", Weight: 1, load: heavy,
			Sentence: "Memory does not grow with the file.",
			try: func(t *trial) {
				s := t.serve(serving{})
				s.needsRoom(161 * mib)
				// peak looks before the end of the stream, too: a child that
				// served the client may be gone soon after.
				peak := func(what payload) int64 {
					c := s.connect().greet()
					c.give(what)
					_, during := s.usage()
					c.halfClose().ends(orderly, "once the client has ended its stream")
					_, after := s.usage()
					return max(during, after)
				}
				before := peak(random(1, mib))
				more := peak(random(2, 160*mib)) - before
				t.ensure(more < 48*mib, "no more than 48 MiB of memory more for 160 MiB", "%d MiB", more/mib)
			}},
		{Name: "flood", Weight: 1,
			Sentence: "More connections than it has descriptors do not end its service.",
			try: func(t *trial) {
				s := t.serve(serving{launch: launch{prelude: "ulimit -n 64"}})
				for range 2 {
					for _, c := range s.crowd(100) {
						c.close()
					}
				}
				for range 3 {
					s.connect().upload(text("hello"))
				}
			}},
	}
}

// usage is what the program has used so far.
func (s *server) usage() (cpu time.Duration, peak int64) {
	if s.t.over() {
		return 0, 0
	}
	cpu, peak, err := usage(s.cmd.Process.Pid)
	if err != nil {
		s.t.skip("what a program uses cannot be seen here: " + err.Error())
	}
	return cpu, peak
}
