package serve

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/accio-go/accio/cmd/internal/admin"
	"github.com/accio-go/accio/cmd/internal/cli"
	"github.com/accio-go/accio/stage"
)

// Limits holds the flags that limit clients. By default a client may be silent for ten
// seconds, and nothing else is limited.
type Limits struct {
	MaxSize          cli.Size
	HandshakeTimeout time.Duration
	IdleTimeout      time.Duration
	MaxDuration      time.Duration
	MinRate          cli.Rate
	MinRateGrace     time.Duration
	Drain            time.Duration
}

// Flags adds the flags.
func (l *Limits) Flags(f *cli.FlagSet) {
	g := f.Group("Limits")
	g.Add(cli.Text(&l.MaxSize), "max-size", "", "Limit the payload to `SIZE`, such as 10MiB. 0 means no limit (default).")
	g.Add(cli.Duration(&l.HandshakeTimeout, 0, 0), "handshake-timeout", "", "Limit the whole handshake to `TIME`, such as 5s. 0 means no limit (default).")
	g.Add(cli.Duration(&l.IdleTimeout, 10*time.Second, 0), "idle-timeout", "", "Limit the silence of a client to `TIME`. 0 means no limit.")
	g.Add(cli.Duration(&l.MaxDuration, 0, 0), "max-duration", "", "Limit a connection to `TIME`, such as 1h. 0 means no limit (default).")
	g.Add(cli.Text(&l.MinRate), "min-rate", "", "Require a payload of at least `SIZE` per second, such as 10KiB. 0 means no limit (default).")
	g.Add(cli.Duration(&l.MinRateGrace, 10*time.Second, 1), "min-rate-grace", "", "Measure the rate over `TIME`.")
	g.Add(cli.Duration(&l.Drain, 0, 0), "drain", "", "Let clients finish within `TIME`, such as 1m, when the server stops. A second signal ends the drain. 0 means no drain (default).")
}

// Stages returns the limits, with the handshake between them. The stage secure, such as
// TLS, precedes the handshake. A stage that sets the sink must be outside of them.
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

// inForce returns the limits for the admin address.
func (l *Limits) inForce() []admin.Limit {
	return []admin.Limit{
		{Name: "max-size", Value: float64(l.MaxSize), Unit: admin.Bytes},
		{Name: "handshake-timeout", Value: l.HandshakeTimeout.Seconds(), Unit: admin.Seconds},
		{Name: "idle-timeout", Value: l.IdleTimeout.Seconds(), Unit: admin.Seconds},
		{Name: "max-duration", Value: l.MaxDuration.Seconds(), Unit: admin.Seconds},
		{Name: "min-rate", Value: float64(l.MinRate), Unit: admin.BytesPerSecond},
		{Name: "min-rate-grace", Value: l.MinRateGrace.Seconds(), Unit: admin.Seconds},
		{Name: "drain", Value: l.Drain.Seconds(), Unit: admin.Seconds},
	}
}

// LogValue returns the limits that are set.
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

// stopping returns a context that ends when a stop no longer waits for clients. That is
// when ctx is done or, with a drain, at the end of that time or a second signal. It
// reports the stop to the service manager. The caller calls release when no client is
// left.
func (l *Limits) stopping(ctx context.Context) (over context.Context, release func()) {
	drained, end := context.WithCancel(context.WithoutCancel(ctx))
	over = ctx
	signals := make(chan os.Signal, 2)
	if l.Drain > 0 {
		over = drained
		signal.Notify(signals, cli.StopSignals...) // receives the first one as well
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer signal.Stop(signals)
		defer end()
		select {
		case <-ctx.Done():
		case <-drained.Done():
			return // the server has failed
		}
		timer := time.NewTimer(l.Drain)
		defer timer.Stop()
		notifyStopping(l.Drain + cli.LastMoment)
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
