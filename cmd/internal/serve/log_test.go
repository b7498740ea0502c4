package serve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"github.com/accio-go/accio/cmd/internal/cli"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"
)

// begin begins a log, until the test is over.
func begin(t *testing.T, level, format string) (l *Logs, b *written, stop func()) {
	t.Helper()
	l, b = &Logs{level, format}, new(written)
	stop = l.StartLog(b)
	t.Cleanup(func() { cli.SetLog(cli.NewLines(os.Stderr)) })
	return l, b, stop
}

func TestLogDefaults(t *testing.T) {
	for _, tt := range []struct {
		level  string
		format string
		shows  []string // of debug, info, warn and error
		json   bool
	}{
		{"", "text", []string{"ERROR"}, false},
		{"", "json", []string{"ERROR"}, true},
		{"info", "", []string{"INFO", "WARN", "ERROR"}, false},
		{"warn", "json", []string{"WARN", "ERROR"}, true},
		{"debug", "text", []string{"DEBUG", "INFO", "WARN", "ERROR"}, false},
	} {
		t.Run(fmt.Sprint(tt.level, tt.format), func(t *testing.T) {
			_, b, stop := begin(t, tt.level, tt.format)
			for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn} {
				cli.Log().Log(context.Background(), level, "something")
			}
			cli.Complain(errors.New("worse"))
			stop()
			lines := strings.SplitAfter(b.String(), "\n")
			if lines = lines[:len(lines)-1]; len(lines) != len(tt.shows) {
				t.Fatalf("it shows %q", lines)
			}
			for i, line := range lines {
				want := "level=" + tt.shows[i]
				if tt.json {
					want = `"level":"` + tt.shows[i] + `"`
				}
				if !strings.Contains(line, want) || json.Valid([]byte(line)) != tt.json {
					t.Errorf("line %d: %q, want %s", i, line, want)
				}
			}
		})
	}
}

func TestLogOff(t *testing.T) {
	l, b, stop := begin(t, "", "")
	cli.Log().Warn("not shown")
	stop()
	if b.String() != "" || l.On() || l.Stage() != nil {
		t.Errorf("there is a log: %q", b)
	}
}

// Without a log, too, what comes again and again fills nothing; but there is a line for
// each file that could not be stored.
func TestLogOff_repeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b, stop := begin(t, "", "")
		hook, other := cli.ComplainOf("hook failed"), cli.ComplainOf("admin error")
		for i := range repeatsShown + 90 {
			hook(fmt.Errorf("--on-saved: %d.file:\n\x1b[2J", i))
			cli.Complain(errors.New("disk full"))
		}
		other(errors.New("of another kind"))
		shown := func(part string) (n int) {
			for line := range strings.Lines(b.String()) {
				if !strings.HasPrefix(line, "ERROR: ") || strings.Contains(line, "\x1b") {
					t.Errorf("told: %q", line)
				}
				if strings.Contains(line, part) {
					n++
				}
			}
			return n
		}
		for part, want := range map[string]int{
			".file:; \\x1b[2J\n": repeatsShown, "ERROR: disk full\n": repeatsShown + 90, "ERROR: of another kind\n": 1, "left out": 0,
		} {
			if n := shown(part); n != want {
				t.Errorf("%d of %q, want %d", n, part, want)
			}
		}
		b.Reset()
		time.Sleep(repeatsTime)
		synctest.Wait()
		if got, want := b.String(), "ERROR: hook failed: 90 more left out within 10s\n"; got != want {
			t.Errorf("later: %q, want %q", got, want)
		}
		b.Reset()
		for range repeatsShown + 1 {
			hook(errors.New("x"))
		}
		time.Sleep(time.Second)
		stop()
		stop()
		if got, want := b.String(), strings.Repeat("ERROR: x\n", repeatsShown)+"ERROR: hook failed: 1 more left out within 1s\n"; got != want {
			t.Errorf("at the end: %q, want %q", got, want)
		}
	})
}

func TestLogLevelFollows(t *testing.T) {
	l, b, _ := begin(t, "error", "text")
	if err := l.Follow(Logs{LogLevel: "info"}); err != nil {
		t.Error(err)
	}
	cli.Log().Info("heard")
	for _, newer := range []Logs{{}, {LogFormat: "json"}} {
		if err := l.Follow(newer); err == nil {
			t.Errorf("it follows to %v", newer)
		}
	}
	cli.Log().Info("still")
	if n := strings.Count(b.String(), "level=INFO"); n != 2 {
		t.Errorf("it shows %q", b)
	}
	if err := new(Logs).Follow(Logs{}); err != nil {
		t.Error(err)
	}
}

// Whatever it is of, a record is one line of what a terminal shows.
func TestLogEscapes(t *testing.T) {
	var all strings.Builder
	for r := range rune(0x300) {
		all.WriteRune(r)
	}
	all.WriteString("\u202e\u2028\u2066\ufeff\xff\x9b\n\r\n{\"level\":\"INFO\"}\nERROR: x\n")
	hostile := all.String()
	for _, format := range []string{"text", "json"} {
		t.Run(format, func(t *testing.T) {
			_, b, stop := begin(t, "info", format)
			cli.Complain(fmt.Errorf("got %s: %w", hostile, errors.Join(errors.New(hostile), errors.New("b"))))
			cli.Log().Info("connection ended", "peer", hostile, "stack", hostile, "address", stringer(hostile))
			stop()
			lines := strings.SplitAfter(b.String(), "\n")
			if len(lines) != 3 || lines[2] != "" {
				t.Fatalf("%d lines", len(lines)-1)
			}
			for _, line := range lines[:2] {
				if !utf8.ValidString(line) {
					t.Error("not UTF-8")
				}
				for _, r := range strings.TrimSuffix(line, "\n") {
					if !strconv.IsPrint(r) {
						t.Errorf("%U is as it was", r)
					}
				}
			}
		})
	}
}

type stringer string

func (s stringer) String() string { return string(s) }

// FuzzPrintable looks for what a terminal would obey, and for what is changed without need.
func FuzzPrintable(f *testing.F) {
	f.Add("plain")
	f.Add("\x1b[2J\xff\u009b\u202e")
	f.Fuzz(func(t *testing.T, text string) {
		got := cli.Printable(text, 0)
		plain := utf8.ValidString(text)
		for _, r := range text {
			plain = plain && strconv.IsPrint(r)
		}
		if plain && got != text {
			t.Errorf("%q became %q", text, got)
		}
		for _, r := range got {
			if !strconv.IsPrint(r) {
				t.Errorf("%q became %q", text, got)
			}
		}
	})
}
