package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode/utf8"
)

var logger atomic.Pointer[slog.Logger]

func init() { SetLog(NewLines(os.Stderr)) }

// Log returns the log of the program. By default it is NewLines of standard error.
func Log() *slog.Logger { return logger.Load() }

// SetLog sets the log.
func SetLog(h slog.Handler) { logger.Store(slog.New(h)) }

// Failed is the message of the records of Complain.
const Failed = "failed"

// Complain shows err to the user. It is for errors that end the program, and for files
// that could not be stored.
func Complain(err error) { Log().Error(Failed, "cause", err) }

// ComplainOf returns a function that shows errors that may repeat. A log may
// limit records with the same message, so use few messages.
func ComplainOf(message string) func(error) {
	return func(err error) { Log().Error(message, "cause", err) }
}

// NewLines returns a slog.Handler that writes errors only, each as one line: the
// attribute cause, or the message.
func NewLines(w io.Writer) slog.Handler { return lines{w} }

type lines struct{ w io.Writer }

func (l lines) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelError }
func (l lines) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l lines) WithGroup(string) slog.Handler                    { return l }

func (l lines) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "cause" {
			text = a.Value.String()
		}
		return a.Key != "cause"
	})
	text = strings.ReplaceAll(strings.TrimSpace(text), "\n", "; ")
	_, err := fmt.Fprintf(l.w, "ERROR: %s\n", Printable(text, 0))
	return err
}

// Printable escapes the runes from least on that a terminal does not show.
func Printable(text string, least rune) string {
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
