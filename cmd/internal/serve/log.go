package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/stage"
)

// Logs holds the flags of a server's log. Without any of them, errors are lines on
// standard error that begin with ERROR. With one, everything is a record of package slog
// there.
type Logs struct {
	LogLevel  string
	LogFormat string
}

// Flags adds the flags.
func (l *Logs) Flags(f *cli.FlagSet) {
	g := f.Group("Logs")
	g.Add(cli.Enum(&l.LogLevel, "debug", "info", "warn", "error"), "log-level", "", "Log records of this `LEVEL` and above on stderr: debug, info, warn or error. Each connection is one record when it has ended. The level is error if only --log-format is set.")
	g.Add(cli.Enum(&l.LogFormat, "text", "json"), "log-format", "", "Write log records in this `FORMAT`: text (pairs of keys and values) or json. The format is text if only --log-level is set.")
}

var logLevel slog.LevelVar

// On reports whether the flags ask for a log.
func (l *Logs) On() bool { return l.LogLevel != "" || l.LogFormat != "" }

// StartLog begins the log on w. stop reports the records that were left out.
func (l *Logs) StartLog(w io.Writer) (stop func()) {
	h := cli.NewLines(w)
	if l.On() {
		l.setLevel()
		opts := &slog.HandlerOptions{Level: &logLevel, ReplaceAttr: printableAttr}
		h = slog.NewTextHandler(w, opts)
		if l.LogFormat == "json" {
			h = slog.NewJSONHandler(w, opts)
		}
	}
	limited := newRepeats(h, !l.On())
	cli.SetLog(limited)
	return limited.flush
}

func (l *Logs) setLevel() {
	level := slog.LevelError
	if l.LogLevel != "" {
		level.UnmarshalText([]byte(l.LogLevel))
	}
	logLevel.Set(level)
}

// Level returns the level of the log.
func (l *Logs) Level() string { return strings.ToLower(logLevel.Level().String()) }

// Follow changes the level of the log to the level of newer. It returns an error, and
// changes nothing, if more than the level differs.
func (l *Logs) Follow(newer Logs) error {
	if l.On() != newer.On() || (l.LogFormat == "json") != (newer.LogFormat == "json") {
		return errors.New("a restart is needed to start or stop the log or to change its format")
	}
	if newer.On() {
		newer.setLevel()
	}
	return nil
}

// Stage logs the end of each connection, and its start at level debug. It belongs outside
// of all other stages. Without a log it does nothing.
func (l *Logs) Stage() stage.Chain {
	if !l.On() {
		return nil
	}
	return stage.Chain{stage.Log{Logger: cli.Log()}, stage.Bracket(logAccepted)}
}

func logAccepted(ctx context.Context, c *stage.Conn) (func(error) error, error) {
	if log := cli.Log(); log.Enabled(ctx, slog.LevelDebug) {
		log.Debug("connection accepted", "connection", c.Number, "peer", stage.AddrString(c.Net.RemoteAddr()))
	}
	return nil, nil
}

// printableAttr escapes characters that package slog does not escape: DEL, and in
// JSON the control characters above it.
func printableAttr(_ []string, a slog.Attr) slog.Attr {
	switch v := a.Value.Any().(type) {
	case string:
		a.Value = slog.StringValue(cli.Printable(v, '\x7f'))
	case error:
		a.Value = slog.StringValue(cli.Printable(strings.TrimSpace(v.Error()), '\x7f'))
	case fmt.Stringer: // such as an address
		if a.Value.Kind() == slog.KindAny {
			a.Value = slog.StringValue(cli.Printable(v.String(), '\x7f'))
		}
	}
	return a
}
