//go:build linux

package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// record is the next line of a log that is JSON.
func (p *program) record() map[string]any {
	p.t.Helper()
	line, err := p.stderr.next(patience)
	if err != nil {
		p.t.Fatalf("no record: %v", err)
	}
	return recordOf(p.t, line)
}

func recordOf(t *testing.T, line string) (r map[string]any) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatalf("%q is no record: %v", line, err)
	}
	return r
}

// has checks attributes of a record.
func has(t *testing.T, record map[string]any, want map[string]any) {
	t.Helper()
	for key, value := range want {
		if fmt.Sprint(record[key]) != fmt.Sprint(value) {
			t.Errorf("%s is %v, want %v, in %v", key, record[key], value, record)
		}
	}
}

// quit stops a service that has a log, and returns what is left of that.
func (s *service) quit() []string {
	s.t.Helper()
	if code := s.exitAfter(syscall.SIGTERM); code != 0 {
		s.t.Errorf("exit code %d", code)
	}
	return s.stderr.rest()
}

// shown checks that a line of a log has nothing in it that a terminal would obey.
func shown(t *testing.T, line string) {
	t.Helper()
	if !utf8.ValidString(line) || !strings.HasSuffix(line, "\n") {
		t.Errorf("%q is no line of text", line)
	}
	for _, r := range strings.TrimSuffix(line, "\n") {
		if !unicode.IsPrint(r) {
			t.Errorf("%U in %q", r, line)
		}
	}
}

func TestLogOfConnections(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program, with("--log-level=debug", "--log-format=json", "--max-size=1KiB"))
		start := s.record()
		has(t, start, map[string]any{"level": "INFO", "msg": "listening", "address": fmt.Sprintf("0.0.0.0:%d", s.port), "tls": false})
		limits, _ := start["limits"].(map[string]any)
		has(t, limits, map[string]any{"max_size": 1024, "idle_timeout": 10e9})
		if s.dir != nil {
			has(t, start, map[string]any{"directory": s.dir.path, "durability": "full"})
		}
		number := 0
		ended := func(c *client, script error, level, outcome string, bytes int, causes string) {
			t.Helper()
			number++
			if script != nil {
				t.Error(script)
			}
			peer := strings.TrimPrefix(c.name, "client ")
			has(t, s.record(), map[string]any{"level": "DEBUG", "msg": "connection accepted", "connection": number, "peer": peer})
			r := s.record()
			has(t, r, map[string]any{"level": level, "msg": "connection ended", "connection": number, "peer": peer, "outcome": outcome, "bytes": bytes})
			if cause, ok := r["cause"].(string); ok != (causes != "") || !strings.Contains(cause, causes) {
				t.Errorf("the cause is %q, without %q", cause, causes)
			}
			duration, rate := r["duration"].(float64), r["rate"].(float64)
			if duration <= 0 || rate < 0 || bytes > 0 && rate == 0 {
				t.Errorf("the duration is %v, and the rate %v", duration, rate)
			}
		}
		c := s.connect()
		ended(c, c.greet().send("hello").halfClose().fin(), "INFO", "received", 5, "")
		s.outcome(received("hello"))
		c = s.connect()
		ended(c, c.greet().halfClose().fin(), "INFO", "empty", 0, "")
		s.outcome(received(""))
		c = s.connect()
		ended(c, c.hear(greeting).send("wrong").rst(), "WARN", "protocol", 0, `"wrong"`)
		s.outcome(failed)
		c = s.connect()
		ended(c, c.greet().send(strings.Repeat("x", 1025)).rst(), "WARN", "too-large", 1024, "too large")
		s.outcome(failed)
		c = s.connect()
		ended(c, c.greet().reset().err, "WARN", "reset", 0, "reset by peer")
		s.outcome(failed)
		s.connect().greet().must(t)
		s.record() // it is accepted
		if code := s.exitAfter(syscall.SIGTERM); code != 0 {
			t.Errorf("exit code %d", code)
		}
		stopping, ended6 := s.record(), s.record() // which go on at the same time
		if stopping["msg"] != "stopping" {
			stopping, ended6 = ended6, stopping
		}
		has(t, stopping, map[string]any{"level": "INFO", "msg": "stopping"})
		has(t, ended6, map[string]any{"level": "WARN", "outcome": "shutdown", "connection": 6})
		has(t, s.record(), map[string]any{"level": "INFO", "msg": "stopped"})
		s.left(failed)
	})
}

// As it comes a log has errors only, and text is the format.
func TestTheLogNamesWhereElseItListensAndWhomItTrusts(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		log := with("--log-level=info", "--log-format=json")
		var a admin
		s := serve(t, program, log, with("--proxy-protocol=10.0.0.0/8,192.0.2.1"), withAdmin(t, &a))
		start := s.record()
		has(t, start, map[string]any{"msg": "listening", "admin": strings.TrimPrefix(a.url, "http://")})
		if trusted := fmt.Sprint(start["proxy_protocol"]); trusted != "[10.0.0.0/8 192.0.2.1]" {
			t.Errorf("it trusts %s", trusted)
		}
		s.quit()
		s = serve(t, program, log)
		start = s.record()
		for _, key := range []string{"admin", "proxy_protocol"} {
			if value, ok := start[key]; ok {
				t.Errorf("%s is %v", key, value)
			}
		}
		s.quit()
	})
}

func TestLevelsAndFormatsOfALog(t *testing.T) {
	busy(t)
	for _, tt := range []struct {
		flags []string
		want  []string // of what the lines hold
		json  bool
	}{
		{[]string{"--log-format=text"}, nil, false},
		{[]string{"--log-format=json"}, nil, true},
		{[]string{"--log-level=error"}, nil, false},
		{[]string{"--log-level=warn"}, []string{"level=WARN msg=\"connection ended\" connection=2 "}, false},
		{[]string{"--log-level=info"}, []string{"level=INFO msg=listening ", "outcome=received ", "level=WARN ", "msg=stopping", "msg=stopped"}, false},
	} {
		t.Run(strings.Join(tt.flags, " "), func(t *testing.T) {
			s := serve(t, "server", with(tt.flags...))
			check(t, upload(s.port, "hello"))
			s.outcome(received("hello"))
			check(t, s.connect().hear(greeting).send("wrong").rst())
			s.outcome(failed)
			lines := s.quit()
			if len(lines) != len(tt.want) {
				t.Fatalf("it says %q", lines)
			}
			for i, want := range tt.want {
				if !strings.Contains(lines[i], want) {
					t.Errorf("line %d is %q, without %q", i, lines[i], want)
				}
			}
			s.left()
		})
	}
}

// Errors of the server are records, of either format, once there is a log.
func TestErrorsInALog(t *testing.T) {
	busy(t)
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			s := serve(t, "server", with("--log-format="+format, "--min-free=8000PiB"))
			check(t, s.connect().greet().send("x").rst())
			line, err := s.stderr.next(patience)
			check(t, err)
			for _, want := range []string{"ERROR", "connection ended", "no-space"} {
				if !strings.Contains(line, want) {
					t.Errorf("%q, without %q", line, want)
				}
			}
			s.stop(failed)

			// What keeps it from going on is one as well.
			p, code := launch{program: "server", args: []string{strconv.Itoa(s.port), "/dev/null/no", "--log-format=" + format}}.run(t)
			if code != 1 {
				t.Errorf("exit code %d", code)
			}
			line, err = p.stderr.next(patience)
			check(t, err)
			if strings.HasPrefix(line, "ERROR: ") || !strings.Contains(line, "not a directory") {
				t.Errorf("%q is no record of it", line)
			}
			p.silent()
		})
	}
}

// hostile are bytes that terminals and readers of logs would obey.
var hostile = []string{
	"\x1b[2J\x1b]0;x\x07", "\nlevel=ERROR msg=x\n", "\r\n{\"level\":\"ERROR\"}\r\n", "\x7f\x00\x9b2J",
	"\u009b2J", "\u202e\u2028\u2066\ufeff", "\" = \\ \x1b", "\xff\xfe\xc0\x80", "PROXY \x1b[31m",
}

func TestNothingThatAClientSendsIsObeyed(t *testing.T) {
	busy(t)
	a := newAuthority(t)
	a.issue("server", time.Hour)
	for _, format := range []string{"text", "json"} {
		for name, flags := range map[string][]string{"plain": nil, "TLS": a.show("server"), "PROXY": {"--proxy-protocol=127.0.0.0/8"}} {
			t.Run(format+" "+name, func(t *testing.T) {
				s := serve(t, "server", with(append(flags, "--log-level=warn", "--log-format="+format)...))
				for _, words := range hostile {
					for _, before := range []string{"", confirm, "PROXY TCP4 "} {
						c := s.connect().send(before, words, strings.Repeat("x", 200))
						c.conn.SetReadDeadline(time.Now().Add(patience))
						for c.err == nil {
							if _, err := c.read(patience); err != nil {
								break
							}
						}
						s.outcome(failed)
					}
				}
				lines := s.quit()
				if len(lines) < 5 {
					t.Errorf("%d lines", len(lines))
				}
				for _, line := range lines {
					shown(t, line)
					if format == "json" {
						recordOf(t, line)
					} else if !strings.HasPrefix(line, "time=") || strings.Contains(line, " level=ERROR") && !strings.Contains(line, "\"") {
						t.Errorf("%q is no record", line)
					}
				}
				s.left()
			})
		}
	}
}

// A flood of clients that do wrong fills no log, and keeps none from it that do right.
func TestAFloodFillsNoLog(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		s := serve(t, program, with("--log-level=info", "--log-format=json"))
		const n = 100
		for range n {
			check(t, s.connect().hear(greeting).send("wrong").rst())
			s.outcome(failed)
		}
		for range 20 {
			check(t, upload(s.port, "right"))
			s.outcome(received("right"))
		}
		check(t, s.connect().greet().reset().err)
		s.outcome(failed)
		seen := make(map[string]int)
		for _, line := range s.quit() {
			r := recordOf(t, line)
			what := fmt.Sprint(r["msg"], " ", r["outcome"])
			if r["msg"] == "repeated records left out" {
				has(t, r, map[string]any{"of": "connection ended", "outcome": "protocol", "level": "WARN"})
				seen["left out"] += int(r["count"].(float64))
				continue
			}
			seen[what]++
		}
		shown, left := seen["connection ended protocol"], seen["left out"]
		if shown < 10 || shown > n/2 || shown+left != n {
			t.Errorf("of %d, %d are shown and %d were left out", n, shown, left)
		}
		if seen["connection ended received"] != 20 || seen["connection ended reset"] != 1 {
			t.Errorf("the log has %v", seen)
		}
		s.left()
	})
}

// A log that nobody reads keeps no program from ending.
func TestALogThatNobodyReads(t *testing.T) {
	busy(t)
	r, w, err := os.Pipe()
	check(t, err)
	defer r.Close()
	s := serve(t, "server", with("--log-level=info"), func(l *launch, _ *service) { l.stderr = w })
	w.Close()
	// The pipe holds 64 KiB.
	for range 1000 {
		s.connect().send(header, "hello").halfClose()
	}
	s.quit()
}

func TestTheLevelOfTheLogIsReadAgain(t *testing.T) {
	busy(t)
	bothServers(t, func(t *testing.T, program string) {
		config := t.TempDir() + "/accio.toml"
		write := func(text string) { check(t, os.WriteFile(config, []byte(text), 0o600)) }
		write("log-format = \"json\"\n")
		s := serve(t, program, with("--config="+config))
		check(t, upload(s.port, "not logged"))
		s.outcome(received("not logged"))

		for _, tt := range []struct {
			text  string
			has   map[string]any
			cause string // "": there is none
		}{
			{"log-format = \"json\"\nlog-level = \"info\"\n", map[string]any{"level": "INFO", "msg": "reloaded", "log_level": "info"}, ""},
			{"log-format = \"json\"\nlog-level = \"debug\"\ndrain = \"1s\"\nmax-size = 1\n", map[string]any{"level": "ERROR", "msg": "reloaded in part", "log_level": "debug"},
				config + ": restart the program to change max-size, drain; only log-level can change while it runs"},
			{"log-format = \"text\"\n", map[string]any{"level": "ERROR", "msg": "not reloaded", "log_level": nil},
				config + ": a restart is needed to start or stop the log or to change its format"},
			{"log-format = 7\n", map[string]any{"level": "ERROR", "msg": "not reloaded", "log_level": nil}, config + ":1: log-format"},
		} {
			write(tt.text)
			s.signal(syscall.SIGHUP)
			r := s.record()
			has(t, r, tt.has)
			if cause, _ := r["cause"].(string); !strings.HasPrefix(cause, tt.cause) || tt.cause == "" && cause != "" {
				t.Errorf("the cause is %q, want %q", cause, tt.cause)
			}
		}
		// The second of them has been followed as far as it could be.
		check(t, upload(s.port, "logged"))
		s.outcome(received("logged"))
		has(t, s.record(), map[string]any{"level": "DEBUG", "msg": "connection accepted"})
		has(t, s.record(), map[string]any{"level": "INFO", "msg": "connection ended", "bytes": len("logged")})
		s.quit()
	})
}
