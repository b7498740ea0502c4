package cli

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/accio-go/accio/stage"
)

// Limits are the flags of what a server allows its clients, to be embedded in its
// Command. As they come, a client may be silent for ten seconds, and nothing else is
// limited.
type Limits struct {
	MaxSize          Size          `group:"Limits:" placeholder:"SIZE" help:"Largest payload, such as 10MiB. 0 means no limit (default)."`
	HandshakeTimeout time.Duration `group:"Limits:" placeholder:"TIME" help:"How long the whole handshake may take, such as 5s. 0 means no limit (default)."`
	IdleTimeout      time.Duration `group:"Limits:" placeholder:"TIME" default:"10s" help:"How long a client may send nothing (default ${default}). 0 means no limit."`
	MaxDuration      time.Duration `group:"Limits:" placeholder:"TIME" help:"How long a connection may last, such as 1h. 0 means no limit (default)."`
	MinRate          Rate          `group:"Limits:" placeholder:"SIZE" help:"What a client has to send of its payload per second, such as 10KiB. 0 means no limit (default)."`
	MinRateGrace     time.Duration `group:"Limits:" placeholder:"TIME" default:"10s" positive:"" help:"Over how long that is looked at (default ${default})."`
	Drain            time.Duration `group:"Limits:" placeholder:"TIME" help:"How long a stop lets clients finish, such as 1m. A second signal ends that. 0 means not at all (default)."`
}

// Stages are the limits, with the handshake where it belongs among them, and what is to
// be secure, by TLS say, before the handshake. They are to be inside of what sets the sink.
func (l *Limits) Stages(secure stage.Stage) stage.Chain {
	return stage.Chain{
		stage.MaxDuration{Limit: l.MaxDuration},
		stage.Idle{Limit: l.IdleTimeout},
		secure,
		stage.Handshake{Script: stage.Accio, Limit: l.HandshakeTimeout},
		stage.MaxSize{Bytes: int64(l.MaxSize)},
		stage.MinRate{BytesPerSecond: int64(l.MinRate), Grace: l.MinRateGrace},
	}
}

// LogValue is what is limited, for a log.
func (l *Limits) LogValue() slog.Value {
	var set []slog.Attr
	for _, limit := range []slog.Attr{
		slog.Int64("max_size", int64(l.MaxSize)),
		slog.Duration("handshake_timeout", l.HandshakeTimeout),
		slog.Duration("idle_timeout", l.IdleTimeout),
		slog.Duration("max_duration", l.MaxDuration),
		slog.Int64("min_rate", int64(l.MinRate)),
		slog.Duration("drain", l.Drain),
	} {
		if v := limit.Value; !v.Equal(slog.Int64Value(0)) && !v.Equal(slog.DurationValue(0)) {
			set = append(set, limit)
		}
	}
	return slog.GroupValue(set...)
}

// Drained is closed when a stop has let clients finish for long enough: Drain after
// ctx is done, or at a second signal. It is nil if there is no Drain. From then on,
// or once ctx is done if there is none, the program ends in time, as EndInTime has it. The
// caller calls release when there is nothing left to wait for.
func (l *Limits) Drained(ctx context.Context) (drained <-chan struct{}, release func()) {
	over, release := l.stopping(ctx)
	EndInTime(over, nil)
	if l.Drain > 0 {
		drained = over.Done()
	}
	return drained, release
}

// stopping returns a context that is done when a stop has let clients finish for long
// enough, and tells the service manager of the stop.
func (l *Limits) stopping(ctx context.Context) (over context.Context, release func()) {
	drained, end := context.WithCancel(context.WithoutCancel(ctx))
	over = ctx
	signals := make(chan os.Signal, 2)
	if l.Drain > 0 {
		over = drained
		signal.Notify(signals, stopSignals...) // the first one comes to here as well
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer signal.Stop(signals)
		defer end()
		select {
		case <-ctx.Done():
		case <-drained.Done():
		}
		if ctx.Err() == nil {
			return // it does not stop, but has failed
		}
		timer := time.NewTimer(l.Drain)
		defer timer.Stop()
		notifyStopping(l.Drain + lastMoment)
		if l.Drain <= 0 {
			return
		}
		for range 2 {
			select {
			case <-signals:
			case <-timer.C:
				return
			case <-drained.Done():
				return
			}
		}
	}()
	return over, func() {
		end()
		<-ended
	}
}
