package stage

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Log is a stage that logs one record for each connection when the handler inside it has
// returned, a commit included. Its message is "connection ended", and its attributes are
//
//	connection  Conn.Number
//	frame       Conn.Frame, inside of frames.Frames only
//	peer        the address of the client, by AddrString
//	outcome     the Outcome, as a string
//	cause       the error, unless the connection ended well
//	bytes       of payload that have reached the sink
//	duration    since this stage was entered, as a time.Duration
//	rate        bytes a second in that time
//	stack       of a panic, if a Recover inside has caught it
//
// The level is info if all went well, and error if the operator must act (storage, a
// conflict, the report, a panic, missing space, an unknown cause). It is warn for a fault
// of the client, a limit and a shutdown. The cause may contain data from the client. The
// handlers of package slog escape it, so it cannot forge a line.
//
// Log counts the payload (see [Count]) and sees no bytes, so zero-copy survives it. It makes
// no record whose level is not enabled.
type Log struct {
	// Logger takes the records. nil means slog.Default() at the time of each record.
	Logger *slog.Logger
}

// Wrap logs how next ended.
func (s Log) Wrap(next Handler) Handler {
	return Bracket(func(ctx context.Context, c *Conn) (func(error) error, error) {
		begun, n := time.Now(), c.count()
		return func(err error) error {
			s.log(ctx, c, err, n.Count(), time.Since(begun))
			return err
		}, nil
	}).Wrap(next)
}

func (s Log) log(ctx context.Context, c *Conn, err error, n int64, took time.Duration) {
	logger := s.Logger
	if logger == nil {
		logger = slog.Default()
	}
	outcome := OutcomeOf(err, n)
	level := outcome.level()
	if !logger.Enabled(ctx, level) {
		return
	}
	room := [9]slog.Attr{slog.Uint64("connection", c.Number)}
	attrs := room[:1]
	if c.Frame != 0 {
		attrs = append(attrs, slog.Uint64("frame", c.Frame))
	}
	attrs = append(attrs, slog.String("peer", AddrString(c.Net.RemoteAddr())), slog.String("outcome", outcome.String()))
	if err != nil {
		attrs = append(attrs, slog.Any("cause", err))
	}
	attrs = append(attrs, slog.Int64("bytes", n), slog.Duration("duration", took), slog.Int64("rate", perSecond(n, took)))
	if p := (*PanicError)(nil); errors.As(err, &p) {
		attrs = append(attrs, slog.String("stack", string(p.Stack)))
	}
	logger.LogAttrs(ctx, level, "connection ended", attrs...)
}

// perSecond returns the rate of n bytes in d, or 0 if d is 0.
func perSecond(n int64, d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64(float64(n) / d.Seconds())
}

// level returns the level of the record for o.
func (o Outcome) level() slog.Level {
	if o.OK() {
		return slog.LevelInfo
	}
	switch o.cause() {
	case nil, ErrStorage, ErrConflict, ErrReport, ErrPanic, ErrNoSpace:
		return slog.LevelError
	}
	return slog.LevelWarn
}
