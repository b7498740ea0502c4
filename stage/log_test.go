package stage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// logged is what Log writes of a connection, as JSON.
func logged(t *testing.T, chain Chain, h Handler, peer ...act) map[string]any {
	t.Helper()
	var out bytes.Buffer
	log := Log{Logger: slog.New(slog.NewJSONHandler(&out, nil))}
	server, client := net.Pipe()
	done := play(client, peer...)
	Serve(t.Context(), server, 42, append(Chain{Recover{}, log}, chain...).Then(h))
	client.Close()
	<-done
	var record map[string]any
	if err := json.Unmarshal(out.Bytes(), &record); err != nil { // also if there are two
		t.Fatalf("logged %q: %v", &out, err)
	}
	return record
}

func TestLog(t *testing.T) {
	for _, tt := range []struct {
		name  string
		chain Chain
		h     Handler
		peer  []act
		want  map[string]any
	}{
		{"a payload", nil, Receive, []act{says("pay"), pauses(2 * time.Second), says("load"), ends},
			map[string]any{"level": "INFO", "outcome": "received", "bytes": 7., "duration": 2e9, "rate": 3.}},
		{"no payload", nil, Receive, []act{ends},
			map[string]any{"level": "INFO", "outcome": "empty", "bytes": 0., "duration": 0., "rate": 0.}},
		{"a silent peer", Chain{Idle{Limit: 10 * time.Second}}, Receive, []act{says("pay"), pauses(time.Hour)},
			map[string]any{"level": "WARN", "outcome": "idle", "bytes": 3., "cause": "peer is silent: no byte for 10s"}},
		{"a peer that breaks a rule", Chain{Handshake{Script: Accio}}, Receive, []act{hears(accioGreeting), says("x")},
			map[string]any{"level": "WARN", "outcome": "protocol", "bytes": 0.}},
		{"a store that fails", nil, stops(fmt.Errorf("1.file %w: %w", ErrStorage, errOne)), nil,
			map[string]any{"level": "ERROR", "outcome": "storage", "cause": "1.file could not be stored: one failure"}},
		{"no known cause", nil, stops(errOne), nil,
			map[string]any{"level": "ERROR", "outcome": "failed", "cause": "one failure"}},
		{"a panic", nil, handlerThatPanics("x"), nil, map[string]any{"level": "ERROR", "outcome": "panic"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := logged(t, tt.chain, tt.h, tt.peer...)
				tt.want["msg"], tt.want["connection"], tt.want["peer"] = "connection ended", 42., "pipe"
				for key, want := range tt.want {
					if got[key] != want {
						t.Errorf("%s is %v, want %v", key, got[key], want)
					}
				}
				if _, ok := got["cause"]; ok != (got["level"] != "INFO") {
					t.Errorf("level %v, cause %v", got["level"], got["cause"])
				}
				for _, key := range []string{"frame", "stack"} {
					if v, ok := got[key]; ok {
						t.Errorf("%s is %v", key, v)
					}
				}
			})
		})
	}
}

func TestLogStackOfAPanic(t *testing.T) {
	got := logged(t, Chain{Recover{}}, handlerThatPanics("x"))
	if stack, _ := got["stack"].(string); !strings.Contains(stack, "handlerThatPanics") {
		t.Errorf("stack is %q", stack)
	}
}

func TestLogOfFrames(t *testing.T) {
	var out bytes.Buffer
	log := Log{Logger: slog.New(slog.NewTextHandler(&out, nil))}
	err := Chain{log, inFrames("a", "bcd"), log}.Then(Receive).
		Serve(t.Context(), &Conn{Net: noAddr{}, Number: 3, Out: io.Discard})
	if err != nil {
		t.Error(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 {
		t.Fatalf("logged %q", lines)
	}
	for i, want := range []string{"connection=3 frame=1 peer=\"\" outcome=received bytes=1", "connection=3 frame=2 peer=\"\" outcome=received bytes=3", "connection=3 peer=\"\" outcome=received bytes=4"} {
		if !strings.Contains(lines[i], want) {
			t.Errorf("line %d is %s, want %s", i, lines[i], want)
		}
	}
}

// noAddr is a connection without addresses.
type noAddr struct{ net.Conn }

func (noAddr) RemoteAddr() net.Addr { return nil }

// No peer can write a line of its own, or to the terminal of who reads the log, whatever
// is said where a word is expected, or in an error of a handler that quotes nothing.
func TestLogEscapesClientData(t *testing.T) {
	const hostile = "x\n2026-01-01 level=INFO msg=\"forged\" \"\\\r\x1b[2J\x00\x7f\u202e\u2028\xff"
	quotesNothing := HandlerFunc(func(_ context.Context, c *Conn) error {
		b, err := io.ReadAll(c.In)
		return errors.Join(err, errors.New(string(b)))
	})
	handlers := map[string]func(w io.Writer) slog.Handler{
		"text": func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
		"JSON": func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
	}
	for name, handler := range handlers {
		for what, h := range map[string]Handler{
			"a handshake": Handshake{Script: Script{Steps: []Step{{Expect: strings.Repeat("y", 64)}}}}.Wrap(Receive),
			"an error":    quotesNothing,
			"a panic": HandlerFunc(func(_ context.Context, c *Conn) error {
				b, _ := io.ReadAll(c.In)
				panic(string(b))
			}),
		} {
			var out bytes.Buffer
			server, client := net.Pipe()
			done := play(client, says(hostile), ends)
			Serve(t.Context(), server, 1, Chain{Log{Logger: slog.New(handler(&out))}, Recover{}}.Then(h))
			client.Close()
			<-done
			line, ok := strings.CutSuffix(out.String(), "\n")
			if !ok || !strings.Contains(line, "forged") {
				t.Errorf("%s of %s: logged %q", name, what, line)
			}
			for _, bad := range []string{"\n", "\r", "\x1b", "\x00", "\u2028", "\xff", "msg=\"forged\" "} {
				if strings.Contains(line, bad) {
					t.Errorf("%s of %s: %q in %q", name, what, bad, line)
				}
			}
		}
	}
}

func TestLogDefaultLogger(t *testing.T) {
	var out bytes.Buffer
	before := slog.Default()
	defer slog.SetDefault(before)
	h := Log{}.Wrap(Receive)
	slog.SetDefault(slog.New(slog.NewTextHandler(&out, nil)))
	if err := h.Serve(t.Context(), &Conn{Net: noAddr{}, In: strings.NewReader("x"), Out: io.Discard}); err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "outcome=received") {
		t.Errorf("logged %q", &out)
	}
}

// What is not logged costs what counting does, and a closure.
func TestLogDisabled(t *testing.T) {
	var out bytes.Buffer
	var level slog.LevelVar
	h := Log{Logger: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: &level}))}.Wrap(stops(nil))
	bare := Count{}.Wrap(stops(nil))
	allocs := func(h Handler) float64 {
		return testing.AllocsPerRun(100, func() { h.Serve(t.Context(), &Conn{Net: noAddr{}, In: strings.NewReader(""), Out: io.Discard}) })
	}
	if allocs(h); out.Len() == 0 {
		t.Error("nothing is logged")
	}
	level.Set(slog.LevelWarn)
	out.Reset()
	if n, counts := allocs(h), allocs(bare); n > counts+2 || out.Len() > 0 {
		t.Errorf("%v allocations, where counting has %v; logged %q", n, counts, &out)
	}
}

func TestOutcomeLevel(t *testing.T) {
	errors := []error{errOne, ErrStorage, ErrReport, ErrPanic, ErrNoSpace, ErrConflict}
	warnings := []error{ErrIdle, ErrProtocol, ErrReset, ErrShutdown, ErrTooLarge, ErrTooLong, ErrTooSlow, ErrSlowHandshake, ErrTooMany, ErrRejected}
	levels := map[Outcome]slog.Level{OutcomeReceived: slog.LevelInfo, OutcomeEmpty: slog.LevelInfo}
	for _, err := range errors {
		levels[OutcomeOf(err, 0)] = slog.LevelError
	}
	for _, err := range warnings {
		levels[OutcomeOf(err, 0)] = slog.LevelWarn
	}
	for _, o := range Outcomes() {
		if want, ok := levels[o]; !ok || o.level() != want {
			t.Errorf("%v has level %v, want %v", o, o.level(), want)
		}
	}
}
