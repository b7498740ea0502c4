package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/accio-go/accio/stage"
)

// Logs are the flags of a server's log, to be embedded in its Command. If none of them
// is set there is no log, and what [Complain] and [ComplainOf] are told of is one line that
// begins with ERROR. If one is, that and everything else is a record of package slog, on standard
// error.
type Logs struct {
	LogLevel  *LogLevel  `group:"Logs:" enum:"debug,info,warn,error" placeholder:"debug|info|warn|error" help:"Log records of this level and above on stderr: one for each connection that ends well (info) or not (warn, or error where that is a fault of the server's), and what else happens. It is error if only --log-format is set."`
	LogFormat *LogFormat `group:"Logs:" enum:"text,json" placeholder:"text|json" help:"Write the log as pairs of keys and values or as JSON, a line for each record. It is text if only --log-level is set. Without both, errors are lines that begin with ERROR."`
}

// LogLevel is an argument that is the least level of what is logged.
type LogLevel string

// UnmarshalText reads a level.
func (l *LogLevel) UnmarshalText(text []byte) error {
	if _, ok := logLevels[LogLevel(text)]; !ok {
		return fmt.Errorf("a level is debug, info, warn or error, not %q", text)
	}
	*l = LogLevel(text)
	return nil
}

var logLevels = map[LogLevel]slog.Level{"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError}

// LogFormat is an argument that is how records are written.
type LogFormat string

// UnmarshalText reads a format.
func (f *LogFormat) UnmarshalText(text []byte) error {
	*f = LogFormat(text)
	if *f != "text" && *f != "json" {
		return fmt.Errorf("a format is text or json, not %q", text)
	}
	return nil
}

var (
	logger   atomic.Pointer[slog.Logger] // nil: there is no log
	logLevel slog.LevelVar
)

// Log returns the program's log. It takes nothing if there is none.
func Log() *slog.Logger {
	if l := logger.Load(); l != nil {
		return l
	}
	return slog.New(slog.DiscardHandler)
}

// on reports whether there is a log.
func (l *Logs) on() bool { return l.LogLevel != nil || l.LogFormat != nil }

// start begins the log on w, or the lines that there are without one. stop writes what is
// still to be said of what was left out.
func (l *Logs) start(w io.Writer) (stop func()) {
	if !l.on() {
		plain = newLines(w)
		return plain.flush
	}
	l.setLevel()
	opts := &slog.HandlerOptions{Level: &logLevel, ReplaceAttr: printableAttr}
	h := slog.Handler(slog.NewTextHandler(w, opts))
	if l.LogFormat != nil && *l.LogFormat == "json" {
		h = slog.NewJSONHandler(w, opts)
	}
	limited := newRepeats(h)
	logger.Store(slog.New(limited))
	return limited.flush
}

func (l *Logs) setLevel() {
	level := slog.LevelError
	if l.LogLevel != nil {
		level = logLevels[*l.LogLevel]
	}
	logLevel.Set(level)
}

// Follow has the level of newer be that of the log from now on. It changes nothing, and
// returns an error, if more than the level would have to change.
func (l *Logs) Follow(newer *Logs) error {
	if l.on() != newer.on() || l.json() != newer.json() {
		return errors.New("a log is begun, ended or given another --log-format at a start only")
	}
	if newer.on() {
		newer.setLevel()
	}
	return nil
}

func (l *Logs) json() bool { return l.LogFormat != nil && *l.LogFormat == "json" }

// Stage logs each connection: how it ended, and at the level debug that it came. It
// belongs outside of all other stages. Where there is no log it does nothing.
func (l *Logs) Stage() stage.Chain {
	if !l.on() {
		return nil
	}
	return stage.Chain{stage.Log{Logger: Log()}, stage.Bracket(logAccepted)}
}

func logAccepted(ctx context.Context, c *stage.Conn) (func(error) error, error) {
	if log := Log(); log.Enabled(ctx, slog.LevelDebug) {
		log.Debug("connection accepted", "connection", c.Number, "peer", stage.AddrString(c.Net.RemoteAddr()))
	}
	return nil, nil
}

// Complain tells the user of err, in one line on standard error. What a terminal
// would not show, but obey, is escaped. Without a log there is a line for each, so it is for
// what ends the program, and for files that could not be stored.
func Complain(err error) {
	if l := logger.Load(); l != nil {
		l.Error("failed", "cause", err)
		return
	}
	plain.write(err.Error())
}

// ComplainOf returns a function that does what Complain does, for errors that may come
// again and again: with a log or without one, only so many of a message are shown in a
// time, and then how many more there were. The log has the error under the message.
// There are to be few messages.
func ComplainOf(message string) func(error) {
	return func(err error) {
		if l := logger.Load(); l != nil {
			l.Error(message, "cause", err)
			return
		}
		plain.limited(message, err)
	}
}

// plain is where errors go as long as there is no log. It is set before anything runs.
var plain = newLines(os.Stderr)

// lines are errors as they are told without a log.
type lines struct {
	w io.Writer
	*kinds
}

func newLines(w io.Writer) *lines {
	l := &lines{w: w}
	l.kinds = newKinds(func(of recordKind, left int, within time.Duration) {
		l.write(fmt.Sprintf("%s: %d more left out within %v", of.message, left, within.Round(time.Millisecond)))
	})
	return l
}

func (l *lines) limited(message string, err error) {
	if l.passes(recordKind{level: slog.LevelError, message: message}) {
		l.write(err.Error())
	}
}

// write writes one line.
func (l *lines) write(text string) {
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
	fmt.Fprintf(l.w, "ERROR: %s\n", printable(text, 0))
}

// printable is text with all from the character least on escaped that a terminal would
// not show.
func printable(text string, least rune) string {
	shown := func(r rune) bool { return r < least || strconv.IsPrint(r) }
	if utf8.ValidString(text) && strings.IndexFunc(text, func(r rune) bool { return !shown(r) }) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if shown(r) {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
	}
	return b.String()
}

// printableAttr escapes what the handlers of package slog write as it is: DEL, and in JSON
// also the control characters above it.
func printableAttr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case string:
		a.Value = slog.StringValue(printable(v, '\x7f'))
	case error:
		a.Value = slog.StringValue(printable(strings.TrimSpace(v.Error()), '\x7f'))
	case fmt.Stringer: // an address, say
		if a.Value.Kind() == slog.KindAny {
			a.Value = slog.StringValue(printable(v.String(), '\x7f'))
		}
	}
	return a
}
