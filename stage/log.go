package stage

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// Log is a stage that logs one record for each connection when all that is inside it
// has ended, a commit included. Its message is "connection ended", and its attributes
// are
//
//	connection  Conn.Number
//	frame       Conn.Frame, inside of Frames only
//	peer        the address of the peer, by AddrString
//	outcome     the Outcome, as a string
//	cause       the error, unless the connection ended well
//	bytes       of payload that have reached the sink
//	duration    since this stage was entered, as a time.Duration
//	rate        bytes in a second of that
//	stack       of a panic, where a Recover inside has caught it
//
// The level is that of [Outcome.Level]. What a peer has sent may be a part of cause:
// the handlers of package slog write it with all that cannot be printed escaped, so
// that no peer can forge a line.
//
// It counts the payload (see [Count]) and sees no bytes, so zero-copy survives it. A
// record whose level is not enabled is not made.
type Log struct {
	// Logger takes the records. nil is slog.Default(), as it is at each record.
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
	level := outcome.Level()
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

// perSecond is the rate of n bytes in so much time, 0 if that is none.
func perSecond(n int64, d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return int64(float64(n) / d.Seconds())
}

// Level returns the level at which such an end is worth a line in a log: info for
// what went well; error for what whoever runs the server has to look at (storage, a
// conflict, the report, a panic, space that is lacking, and what has no known cause); warn for the
// rest, which is a peer's doing, a limit that did what it is for, or a stop.
func (o Outcome) Level() slog.Level {
	switch {
	case o.OK():
		return slog.LevelInfo
	case o == OutcomeStorage, o == OutcomeConflict, o == OutcomeReport, o == OutcomePanic, o == OutcomeNoSpace, o == OutcomeFailed:
		return slog.LevelError
	}
	return slog.LevelWarn
}
