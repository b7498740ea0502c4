package conformance

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// late is how long a client may take that is to give up after ten seconds at
// the most: some, for a language that takes its time to start and to end.
const late = silence + 3*time.Second

// undaunted is how long a client that has been kept waiting must at least go on:
// who gives up at once has not waited.
const undaunted = 2 * time.Second

// keepsOn expects that the program does not end for a while.
func (p *process) keepsOn(during time.Duration, why string) {
	p.t.pace(during)
	if p.t.over() {
		return
	}
	select {
	case <-p.done:
		p.fail(fmt.Sprintf("the program to go on for %v at least, %s", during, why), "it ended: %s; on stderr: %s", p.exit(), oneLine(p.err.String()))
	default:
	}
}

// sending is how a client is started: to send a payload to a listener, if
// nothing else is said.
type sending struct {
	launch
	host, port, file string
	payload          payload
}

func (t *trial) send(ln *listener, how sending) *process {
	if t.over() {
		return t.start(launch{})
	}
	if ln != nil {
		addr := ln.Addr().(*net.TCPAddr)
		if how.host == "" {
			how.host = addr.IP.String()
		}
		if how.port == "" {
			how.port = strconv.Itoa(addr.Port)
		}
	}
	if how.file == "" {
		how.file = filepath.Join(t.directory(), "payload")
		t.put(how.file, how.payload)
	}
	how.args = []string{how.host, how.port, how.file}
	c := t.start(how.launch)
	if ln != nil {
		ln.client = c
	}
	return c
}

// hearHeader is a server's half of the handshake.
func (p *peer) hearHeader() *peer {
	return p.say(greeting).hear(confirm).say(greeting).hear(again)
}

// welcomes returns a port at which whoever connects is served well until the trial
// is over: a client that has nothing to send is to find that out by itself.
func (t *trial) welcomes() (port string) {
	ln := t.listen(nil)
	if t.over() {
		return ""
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(t.deadline(late))
			// What the client makes of it is seen by how it ends.
			io.WriteString(conn, greeting)
			io.CopyN(io.Discard, conn, int64(len(confirm)))
			io.WriteString(conn, greeting)
			io.Copy(io.Discard, conn)
			conn.Close()
		}
	})
	t.later(func() { // the clients are killed by now
		ln.Close()
		work.Wait()
	})
	return strconv.Itoa(ln.Addr().(*net.TCPAddr).Port)
}

// receive is what a server does, from the beginning to the end.
func (p *peer) receive(want payload) *peer { return p.hearHeader().take(want).close() }

func clientCriteria() []section {
	return []section{
		{"arguments", clientArguments()},
		{"handshake", clientHandshake()},
		{"payload", clientPayload()},
		{"time-outs", clientTimeouts()},
		{"how it ends", clientEndings()},
		{"slow networks", clientNetworks()},
		{"service", clientService()},
	}
}

func clientArguments() []Criterion {
	type refusal struct {
		why   string
		names string // what the complaint has to name, if anything
		args  func(t *trial, file string) []string
	}
	nobody := func(t *trial) string {
		port, err := freePort()
		if err != nil {
			t.cannot("looking for a port", err)
		}
		return strconv.Itoa(port)
	}
	port := func(port string) refusal {
		return refusal{fmt.Sprintf("for the port %q", port), port,
			func(t *trial, file string) []string { return []string{"127.0.0.1", port, file} }}
	}
	var (
		counts = []refusal{
			{"without arguments", "", func(t *trial, file string) []string { return nil }},
			{"without a port and a file", "", func(t *trial, file string) []string { return []string{"127.0.0.1"} }},
			{"without a file", "", func(t *trial, file string) []string { return []string{"127.0.0.1", nobody(t)} }},
		}
		extra = []refusal{
			{"with an argument too many", "", func(t *trial, file string) []string {
				ln := t.listen(nil) // or to be refused would do
				if t.over() {
					return nil
				}
				return []string{"127.0.0.1", strconv.Itoa(ln.Addr().(*net.TCPAddr).Port), file, "more"}
			}},
		}
		ports = []refusal{port("abc"), port("-1"), port("65536")}
		none  = []refusal{port("0"), port("")}
		host  = []refusal{
			{"for an unknown host", "no-such-host.invalid", func(t *trial, file string) []string { return []string{"no-such-host.invalid", "5000", file} }},
		}
		refused = []refusal{
			{"if nobody listens", "127.0.0.1", func(t *trial, file string) []string { return []string{"127.0.0.1", nobody(t), file} }},
		}
		missing = []refusal{
			{"for a file that is missing", "payload.missing", func(t *trial, file string) []string { return []string{"127.0.0.1", t.welcomes(), file + ".missing"} }},
			{"for a file that is a directory", "", func(t *trial, file string) []string { return []string{"127.0.0.1", t.welcomes(), filepath.Dir(file)} }},
		}
	)
	fails := func(within time.Duration, check func(c *process, r refusal), lists ...[]refusal) func(*trial) {
		return func(t *trial) {
			file := filepath.Join(t.directory(), "payload")
			t.put(file, text("hello"))
			all := slices.Concat(lists...)
			t.sideBySide(len(all), func(i int) {
				c := t.start(launch{args: all[i].args(t, file)})
				c.fails(within, all[i].why)
				check(c, all[i])
			})
		}
	}
	exits := func(c *process, r refusal) {}
	complains := func(c *process, r refusal) { c.complains(r.why) }
	return []Criterion{
		{Name: "incorrect-arguments", Weight: 2, Required: true, try: fails(late, exits, counts),
			Sentence: "Missing arguments end the program with a non-zero exit code."},
		{Name: "incorrect-port", Weight: 3, Required: true, try: fails(late, exits, ports),
			Sentence: "So does a port that is none (`abc`, `-1`, `65536`)."},
		{Name: "unknown-host", Weight: 3, Required: true, try: fails(late, exits, host),
			Sentence: "So does a host that nobody knows."},
		{Name: "refused", Weight: 2, Required: true, try: fails(late, exits, refused),
			Sentence: "So does a port at which nobody listens."},
		{Name: "unreadable-file", Weight: 2, Required: true, try: fails(late, exits, missing),
			Sentence: "So does a file that cannot be read."},
		{Name: "forbidden-file", Weight: 1,
			Sentence: "So does one that it may not read; it says so in one line `ERROR: …` on stderr.",
			try: func(t *trial) {
				file := filepath.Join(t.directory(), "payload")
				t.put(file, text("hello"))
				if err := os.Chmod(file, 0); err != nil {
					t.cannot("forbidding a file", err)
				}
				c := t.start(launch{args: []string{"127.0.0.1", t.welcomes(), file}, prelude: t.without("dac_override", "dac_read_search")})
				c.fails(late, "for a file that it may not read")
				c.complains("for a file that it may not read")
			}},
		{Name: "arguments-at-once", Weight: 1, try: fails(soon, exits, counts, extra, ports, none),
			Sentence: "Missing and extra arguments, and a port that is none, also `0` and an empty one, end it within a second."},
		{Name: "complaint", Weight: 1, try: fails(late, complains, counts, extra, ports, none, host, refused, missing),
			Sentence: "Each of these is told in one line `ERROR: …` on stderr."},
		{Name: "complaint-names", Weight: 1,
			Sentence: "That line says where: it names the port, the host or the file that it is about.",
			try: fails(late, func(c *process, r refusal) {
				if !c.t.over() {
					c.ensure(strings.Contains(c.err.String(), r.names), fmt.Sprintf("a line on stderr that names %s", r.names), "%s", oneLine(c.err.String()))
				}
			}, ports, host, refused, missing)},
	}
}

func clientHandshake() []Criterion {
	return []Criterion{
		{Name: "connects", Weight: 3, Required: true,
			Sentence: "It connects to the host and port it is given.",
			try: func(t *trial) {
				ln := t.listen(nil)
				t.send(ln, sending{payload: text("hello")})
				t.accept(ln)
			}},
		{Name: "waits-for-greeting", Weight: 3, Required: true,
			Sentence: "It sends nothing before the first `accio\\r\\n` is complete.",
			try: func(t *trial) {
				ln := t.listen(nil)
				t.send(ln, sending{payload: text("hello")})
				s := t.accept(ln).hearsNothing(time.Second, "before the first greeting")
				s.say(greeting[:3]).hearsNoWord(6*moment, "before the first greeting is complete")
			}},
		{Name: "waits-for-second-greeting", Weight: 3, Required: true,
			Sentence: "It sends the second confirmation and the payload only after the second `accio\\r\\n`.",
			try: func(t *trial) {
				ln := t.listen(nil)
				t.send(ln, sending{payload: text("hello")})
				s := t.accept(ln).say(greeting)
				if s.over() {
					return
				}
				// What the first confirmation is exactly is asked below.
				for s.end == "" && len(s.in) < len(confirm) && !t.over() {
					got := s.read(s.patience)
					t.ensure(got != nil, "a confirmation", "%s", s.seen())
					s.in = append(s.in, got...)
				}
				s.in = s.in[min(len(s.in), len(confirm)):]
				s.hearsNothing(time.Second, "more than the first confirmation before the second greeting")
			}},
		{Name: "header", Weight: 3, Required: true,
			Sentence: "The confirmations are exactly `confirm-accio\\r\\n` and `confirm-accio-again\\r\\n\\r\\n`.",
			try: func(t *trial) {
				ln := t.listen(nil)
				t.send(ln, sending{payload: text("")})
				t.accept(ln).hearHeader()
			}},
		{Name: "greeting-in-pieces", Weight: 2, Required: true,
			Sentence: "The greetings may come a byte at a time.",
			try: func(t *trial) {
				ln := t.listen(nil)
				c := t.send(ln, sending{payload: text("hello")})
				s := t.accept(ln)
				for _, words := range []string{confirm, again} {
					s.sayApart(moment, strings.Split(greeting, "")...).hear(words)
				}
				s.take(text("hello")).close()
				c.succeeds(sometime, "after the server has closed")
			}},
	}
}

// sends has the client send a payload to a server that does as it should.
func (t *trial) sends(p payload, address func(ln *listener) string) {
	ln := t.listen(nil)
	if t.over() {
		return
	}
	how := sending{payload: p}
	if address != nil {
		var err error
		if how.host, how.port, err = net.SplitHostPort(address(ln)); err != nil {
			t.cannot("making a proxy", err)
		}
	}
	c := t.send(ln, how)
	t.accept(ln).receive(p)
	c.succeeds(sometime, "after the server has closed")
}

func clientPayload() []Criterion {
	payloads := func(ps ...payload) func(*trial) {
		return func(t *trial) {
			for _, p := range ps {
				t.sends(p, nil)
			}
		}
	}
	all := []Criterion{
		{Name: "sends", Weight: 3, Required: true, try: payloads(text("hello")),
			Sentence: "It sends a small file, ends its stream, and exits with code 0 when the server has closed."},
		{Name: "empty-file", Weight: 2, Required: true, try: payloads(text("")),
			Sentence: "A file may be empty."},
		{Name: "binary-file", Weight: 2, Required: true, try: payloads(text(everyByte+everyByte), text("\r\n"), text(greeting), text("\x00\xff\xfe")),
			Sentence: "All is binary: every value of a byte comes through as it is."},
	}
	for _, size := range sizes {
		all = append(all, Criterion{Name: size.name, Weight: 3, Required: true, load: size.load, try: payloads(random(1, size.bytes)),
			Sentence: fmt.Sprintf("A file of %s arrives right.", sizeName(size.bytes))})
	}
	return append(all, Criterion{Name: "standard-input", Weight: 1,
		Sentence: "`-` is standard input, also if that is a pipe.",
		try: func(t *trial) {
			ln := t.listen(nil)
			c := t.send(ln, sending{file: "-", launch: launch{stdin: random(1, 3*mib).reader()}})
			t.accept(ln).receive(random(1, 3*mib))
			c.succeeds(sometime, "after the server has closed")
		}})
}

func clientTimeouts() []Criterion {
	givesUp := func(big bool, script func(s *peer)) func(*trial) {
		return func(t *trial) {
			ln := t.listen(nil)
			p := text("hello")
			if big {
				p = random(1, 64*mib) // more than the system keeps for it
			}
			c := t.send(ln, sending{payload: p})
			s := t.accept(ln)
			script(s)
			c.keepsOn(undaunted, "since the server may do something yet")
			c.fails(late-undaunted, "since the server does nothing more")
		}
	}
	return []Criterion{
		{Name: "connect-time-out", Weight: 3, Required: true, load: idle,
			Sentence: "It gives up, with a non-zero exit code, if a connection does not come about in ten seconds.",
			try: func(t *trial) {
				if port := t.fullQueue(); !t.over() {
					c := t.send(nil, sending{host: "127.0.0.1", port: strconv.Itoa(port), payload: text("hello")})
					c.keepsOn(undaunted, "since somebody may answer yet")
					c.fails(late-undaunted, "since nobody answers")
				}
			}},
		{Name: "greeting-time-out", Weight: 3, Required: true, load: idle,
			Sentence: "So it does if the first `accio\\r\\n` does not come in ten seconds.",
			try:      givesUp(false, func(s *peer) {})},
		{Name: "second-greeting-time-out", Weight: 3, Required: true, load: idle,
			Sentence: "Or the second.",
			try:      givesUp(false, func(s *peer) { s.say(greeting) })},
		{Name: "greeting-drips", Weight: 1, load: idle,
			Sentence: "Each `accio\\r\\n` has ten seconds in all, and a byte of it restarts nothing.",
			try: func(t *trial) {
				t.sideBySide(2, func(i int) {
					ln := t.listen(nil)
					c := t.send(ln, sending{payload: text("hello")})
					s := t.accept(ln)
					if i == 1 {
						s.say(greeting).hear(confirm)
					}
					const pause = 3 * time.Second
					s.say(greeting[:1])
					c.keepsOn(pause, "since the rest of the greeting may come yet")
					s.sayApart(pause, strings.Split(greeting[1:4], "")...)
					c.fails(late-3*pause, "since the greeting is not there in ten seconds")
				})
			}},
		{Name: "payload-time-out", Weight: 3, Required: true, load: idle,
			Sentence: "Or if the server takes nothing of the payload for ten seconds.",
			try:      givesUp(true, func(s *peer) { s.narrow().hearHeader() })},
		{Name: "close-time-out", Weight: 2, load: idle,
			Sentence: "Or if the server does not close within ten seconds after the client has ended its stream.",
			try:      givesUp(false, func(s *peer) { s.hearHeader().take(text("hello")) })},
		{Name: "patience", Weight: 1, load: idle,
			Sentence: "It is patient: a server may take five seconds for each step.",
			try: func(t *trial) {
				ln := t.listen(nil)
				c := t.send(ln, sending{payload: text("hello")})
				s := t.accept(ln)
				t.pace(5 * time.Second)
				s.say(greeting).hear(confirm)
				t.pace(5 * time.Second)
				s.say(greeting).hear(again).take(text("hello"))
				t.pace(5 * time.Second)
				s.close()
				c.succeeds(sometime, "after the server has closed")
			}},
		{Name: "slow-server", Weight: 1, load: idle,
			Sentence: "A server that takes a little all the time may take as long as it likes.",
			try: func(t *trial) {
				t.sends(random(1, 18*mib), func(ln *listener) string {
					return t.proxy(ln.Addr().String(), shape{rate: 3 * mib / 2})
				})
			}},
		{Name: "slow-end", Weight: 1, load: idle,
			Sentence: "So may one that takes what the client's system still holds when all of the file is written.",
			try: func(t *trial) {
				p := random(1, 3*mib)
				ln := t.listen(nil)
				c := t.send(ln, sending{payload: p})
				s := t.accept(ln).narrow().hearHeader()
				s.takeSlowly(p, 200<<10).close()
				c.succeeds(sometime, "after the server has closed")
			}},
	}
}

func clientEndings() []Criterion {
	fails := func(big bool, why string, script func(s *peer)) func(*trial) {
		return func(t *trial) {
			p := text("hello")
			if big {
				p = random(1, 64*mib)
			}
			ln := t.listen(nil)
			c := t.send(ln, sending{payload: p})
			s := t.accept(ln)
			script(s)
			c.fails(late, why)
		}
	}
	return []Criterion{
		{Name: "server-closes-at-once", Weight: 2, Required: true,
			Sentence: "A server that closes before it has greeted ends the program with a non-zero exit code.",
			try:      fails(false, "since the server closed before it greeted", func(s *peer) { s.close() })},
		{Name: "server-closes-in-handshake", Weight: 2, Required: true,
			Sentence: "So does one that closes before its second greeting.",
			try:      fails(false, "since the server closed in the handshake", func(s *peer) { s.say(greeting).hear(confirm).close() })},
		{Name: "server-resets-in-payload", Weight: 2, Required: true,
			Sentence: "So does one that resets in the middle of the payload.",
			try: fails(true, "since the server reset the connection", func(s *peer) {
				s.hearHeader()
				if !s.over() {
					s.read(patience)
					s.breakOff()
				}
			})},
		{Name: "reset-at-end", Weight: 2,
			Sentence: "So does one that resets after it has received all: a reset says that it was not saved.",
			try: fails(false, "since the server reset the connection", func(s *peer) {
				s.hearHeader().take(text("hello")).breakOff()
			})},
		{Name: "closes-too-early", Weight: 1,
			Sentence: "So does one that closes in an orderly way before the client has ended its stream.",
			try: fails(true, "since the server closed before it had the whole payload", func(s *peer) {
				s.hearHeader().halfClose()
				s.t.pace(4 * moment)
				s.discard().close() // whether it goes on sending or not, nobody stops it
			})},
		{Name: "wrong-greeting", Weight: 1,
			Sentence: "So does one that greets wrongly.",
			try: func(t *trial) {
				for _, words := range [][]string{{"hello\r\n"}, {"accio\n\n"}, {greeting, "ACCIO\r\n"}} {
					ln := t.listen(nil)
					c := t.send(ln, sending{payload: text("hello")})
					s := t.accept(ln)
					s.say(words[0])
					if len(words) > 1 {
						s.hear(confirm).say(words[1])
					}
					c.fails(sometime, fmt.Sprintf("since the server greeted by %q", words))
				}
			}},
		{Name: "stops-within-a-second", Weight: 1,
			Sentence: "SIGINT, SIGTERM and SIGQUIT end it within a second wherever it is, with one line on stderr at the most.",
			try: func(t *trial) {
				places := []struct {
					payload payload
					script  func(s *peer)
				}{
					{text("hello"), func(s *peer) {}},
					{random(1, 64*mib), func(s *peer) { s.narrow().hearHeader() }},
					{text("hello"), func(s *peer) { s.hearHeader().take(text("hello")) }},
				}
				t.sideBySide(len(places), func(i int) {
					for _, sig := range stopSignals {
						ln := t.listen(nil)
						c := t.send(ln, sending{payload: places[i].payload})
						places[i].script(t.accept(ln))
						t.pace(2 * moment)
						c.signal(sig)
						// The exit code is not asked: a program that a signal stops is
						// to exit with 0, and a client only if its file was confirmed.
						if c.wait(soon, "after "+signalName(sig)) {
							c.ensure(strings.Count(c.err.String(), "\n") <= 1, "one line on stderr at the most, after "+signalName(sig), "%s", oneLine(c.err.String()))
						}
					}
				})
			}},
		{Name: "stop-is-no-end", Weight: 1,
			Sentence: "A server sees a reset, and no end of stream, if such a signal comes in the middle of the payload: it is not to take a part for the whole.",
			try: func(t *trial) {
				for _, sig := range stopSignals {
					ln := t.listen(nil)
					c := t.send(ln, sending{payload: random(1, 64*mib)})
					s := t.accept(ln).narrow().hearHeader()
					t.pace(2 * moment)
					c.signal(sig)
					s.discard().ends(reset, "after "+signalName(sig)+" in the middle of the payload")
				}
			}},
		{Name: "abort-is-no-end", Weight: 1, load: idle,
			Sentence: "So it does if the client gives up since the server has taken nothing for ten seconds.",
			try: func(t *trial) {
				ln := t.listen(nil)
				c := t.send(ln, sending{payload: random(1, 64*mib)})
				s := t.accept(ln).narrow().hearHeader()
				c.wait(late, "since the server does nothing more")
				s.discard().ends(reset, "since the client has given up in the middle of the payload")
			}},
		{Name: "waits-for-close", Weight: 2,
			Sentence: "It does not end before the server has closed.",
			try: func(t *trial) {
				ln := t.listen(nil)
				c := t.send(ln, sending{payload: text("hello")})
				s := t.accept(ln).hearHeader().take(text("hello"))
				c.keepsOn(time.Second, "since the server has not closed")
				s.close()
				c.succeeds(sometime, "after the server has closed")
			}},
		{Name: "failure-complaint", Weight: 1,
			Sentence: "A failure on the way is told in one line `ERROR: …` on stderr.",
			try: func(t *trial) {
				for _, script := range []func(s *peer){
					func(s *peer) { s.close() },
					func(s *peer) { s.say("hello\r\n") },
					func(s *peer) { s.hearHeader().take(text("hello")).breakOff() },
				} {
					ln := t.listen(nil)
					c := t.send(ln, sending{payload: text("hello")})
					script(t.accept(ln))
					c.fails(late, "after a failure on the way")
					c.complains("after a failure on the way")
				}
			}},
	}
}

func clientNetworks() (all []Criterion) {
	for _, size := range sizes {
		all = append(all, Criterion{Name: size.name + "-slow-network", Weight: 2, Required: true, load: size.load,
			Sentence: fmt.Sprintf("A file of %s arrives right over a network that delays, stalls and cuts into tiny segments (a proxy).", sizeName(size.bytes)),
			try: func(t *trial) {
				t.sends(random(1, size.bytes), func(ln *listener) string { return t.proxy(ln.Addr().String(), shapedNetwork) })
			}})
	}
	all = append(all, Criterion{Name: "reset-on-the-way", Weight: 1, Required: true,
		Sentence: "A connection that is reset on the way ends the program with a non-zero exit code.",
		try: func(t *trial) {
			ln := t.listen(nil)
			if t.over() {
				return
			}
			host, port, err := net.SplitHostPort(t.proxy(ln.Addr().String(), shape{resetAfter: 100_000}))
			if err != nil {
				t.cannot("making a proxy", err)
			}
			c := t.send(ln, sending{host: host, port: port, payload: random(1, 4*mib)})
			t.accept(ln).hearHeader().discard()
			c.fails(late, "since the connection was reset")
		}})
	for _, size := range sizes[:3] {
		load := idle
		if size.bytes > mib {
			load = long
		}
		all = append(all, Criterion{Name: size.name + "-lossy-network", Weight: 2, Required: true, load: load,
			Sentence: fmt.Sprintf("A file of %s arrives right over a network with 50 ms of delay, 10 ms of jitter, 3 %% loss and reordering.", sizeName(size.bytes)),
			try: func(t *trial) {
				sut, kit := t.lossy()
				if t.over() {
					return
				}
				ln := t.listen(&network{enter: kit.enter, host: sut.host})
				c := t.send(ln, sending{payload: random(1, size.bytes), launch: launch{net: sut}})
				s := t.accept(ln)
				s.patience = workload // each segment that is lost again takes twice as long
				s.receive(random(1, size.bytes))
				c.succeeds(workload, "after the server has closed")
			}})
	}
	return all
}

func clientService() []Criterion {
	return []Criterion{
		{Name: "quiet", Weight: 1,
			Sentence: "On success it prints nothing, neither on stdout nor on stderr.",
			try: func(t *trial) {
				ln := t.listen(nil)
				c := t.send(ln, sending{payload: text("hello")})
				t.accept(ln).receive(text("hello"))
				c.succeeds(sometime, "after the server has closed")
				if !t.over() {
					t.ensure(c.out.String() == "", "nothing on stdout", "%s", oneLine(c.out.String()))
					c.quiet()
				}
			}},
		{Name: "host-name", Weight: 2, Required: true,
			Sentence: "The host may be a name: `localhost`, where the server listens on 127.0.0.1 only.",
			try: func(t *trial) {
				t.sends(text("hello"), func(ln *listener) string {
					return net.JoinHostPort("localhost", strconv.Itoa(ln.Addr().(*net.TCPAddr).Port))
				})
			}},
		{Name: "ipv6", Weight: 1,
			Sentence: "The host may be an IPv6 address.",
			try: func(t *trial) {
				six, err := net.Listen("tcp6", "[::1]:0")
				if err != nil {
					t.skip("there is no IPv6 here")
					return
				}
				t.owns(six)
				ln := &listener{TCPListener: six.(*net.TCPListener)}
				c := t.send(ln, sending{payload: text("hello")})
				t.accept(ln).receive(text("hello"))
				c.succeeds(sometime, "after the server has closed")
			}},
		{Name: "service-name", Weight: 1,
			Sentence: "The port may be the name of a service.",
			try: func(t *trial) {
				for _, name := range []string{"http-alt", "postgresql", "mysql", "amqp", "xmpp-client", "sip"} {
					port, err := net.LookupPort("tcp", name)
					if err != nil {
						continue
					}
					known, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
					if err != nil {
						continue
					}
					t.owns(known)
					ln := &listener{TCPListener: known.(*net.TCPListener)}
					c := t.send(ln, sending{port: name, payload: text("hello")})
					t.accept(ln).receive(text("hello"))
					c.succeeds(sometime, "after the server has closed")
					return
				}
				t.skip("no service is known here whose port is free")
			}},
		{Name: "memory", Weight: 1, load: heavy,
			Sentence: "Memory does not grow with the file.",
			try: func(t *trial) {
				var peaks []int64
				for _, size := range []int64{mib, 160 * mib} {
					ln := t.listen(nil)
					c := t.send(ln, sending{payload: random(1, size)})
					s := t.accept(ln).hearHeader().take(random(1, size))
					if t.over() {
						return
					}
					// It waits for the close now.
					_, peak, err := usage(c.cmd.Process.Pid)
					if err != nil {
						t.skip("what a program uses cannot be seen here: " + err.Error())
					}
					peaks = append(peaks, peak)
					s.close()
					c.succeeds(sometime, "after the server has closed")
					os.Remove(c.cmd.Args[len(c.cmd.Args)-1])
				}
				t.ensure(len(peaks) < 2 || peaks[1]-peaks[0] < 48*mib, "no more than 48 MiB of memory more for 160 MiB", "%v", peaks)
			}},
	}
}
